"""The commands that run a command while they hold a seat: lead and lock."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

import typer

from drumbeat import DrumbeatError, SystemClock
from drumbeat.cli import _options as options
from drumbeat.cli._command import Command, check_command
from drumbeat.cli._connect import Target, timing_of
from drumbeat.cli._notes import Notes
from drumbeat.cli._report import BY_SIGNAL, TRY_LATER
from drumbeat.cli._signals import ENDING, Inbox
from drumbeat.cli._supervise import Supervisor
from drumbeat.cli._window import Window, seconds_left

if TYPE_CHECKING:
    from drumbeat import Leader, Session, Term

T = TypeVar("T")

#: Seconds allowed for leaving; a server that is down ends the lease by itself.
CLOSE_TIMEOUT: Final = 2.0

_COMMAND = typer.Argument(metavar="COMMAND", help="The command and its arguments; write -- before it.")
_STOP_TIMEOUT = typer.Option(
    None,
    "--stop-timeout",
    metavar="SECONDS",
    help="From SIGTERM to SIGKILL when the term runs out; must fit the TTL. [default: a fifth of the TTL, at most 10]",
)
_QUIET = options.flag("--quiet", "-q", meaning="Tell only of trouble.")


def lead(
    election: str = typer.Argument(metavar="ELECTION"),
    command: list[str] = _COMMAND,
    *,
    once: bool = options.flag("--once", meaning="Exit with 75 when leadership is lost, rather than campaign again."),
    stop_timeout: float | None = _STOP_TIMEOUT,
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    ttl: float | None = options.TTL,
    member_id: str | None = options.MEMBER_ID,
    quiet: bool = _QUIET,
    as_json: bool = options.JSON,
) -> int:
    """Run COMMAND only while this process leads ELECTION, and exit with its status when it ends by itself.

    The command finds the fencing token of its term in DRUMBEAT_TOKEN, and the name in DRUMBEAT_ELECTION. A command
    that was stopped because leadership was lost is started again at the next win, with a new token: leading is a
    standing role. With --once the loss is reported by status 75 instead, for a supervisor that restarts this program.

    Before the term ends without a heartbeat being answered, the command's process group gets SIGTERM, and SIGKILL
    while the term still holds; if the server says that the seat is gone, SIGKILL at once. What is left of the group
    after the command has ended is stopped too, and only then the seat is given up. Signals to this process (HUP, INT,
    QUIT, TERM, USR1, USR2, WINCH, CONT) go to the group. Standard input, output and error are the command's; on a
    terminal it runs in the foreground.

    This cannot stop processes that leave the group or change their user, nor anything while this process itself is
    frozen or after it was killed with SIGKILL: send DRUMBEAT_TOKEN with each write, and let the resource refuse a
    lower one than it has seen.

    --json: events as JSON lines on standard error, {"drumbeat": EVENT, "at", "election" or "lock", ...}. EVENT is one
    of waiting (with "holder"), won ("member_id", "token"), started ("pid", "token"), stopping and lost ("token",
    "seconds_left"), killed, survivors ("pid"), late ("token"), awake, exited ("status"), interrupted ("signal"),
    warning and error.
    """
    target = Target(url=url, namespace=namespace, ttl=ttl, member_id=member_id)
    errand = Errand(
        kind="election", name=election, command=tuple(command), again=not once, timeout=None, stop_timeout=stop_timeout
    )
    return run(errand, target, notes=Notes(as_json=as_json, quiet=quiet, about={"election": election}))


def lock(
    name: str = typer.Argument(metavar="NAME"),
    command: list[str] = _COMMAND,
    *,
    timeout: float | None = typer.Option(
        None, "--timeout", metavar="SECONDS", min=0, help="Wait so long at most, then exit with 124; 0 tries once."
    ),
    stop_timeout: float | None = _STOP_TIMEOUT,
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    ttl: float | None = options.TTL,
    member_id: str | None = options.MEMBER_ID,
    quiet: bool = _QUIET,
    as_json: bool = options.JSON,
) -> int:
    """Wait for the lock NAME, run COMMAND while holding it, and exit with its status.

    As `drumbeat lead`, with DRUMBEAT_LOCK in place of DRUMBEAT_ELECTION, and with one difference: a lock guards one
    piece of work, which may be half done when the lock is lost, so the command is not started again; the status is 75.
    """
    target = Target(url=url, namespace=namespace, ttl=ttl, member_id=member_id)
    errand = Errand(
        kind="lock", name=name, command=tuple(command), again=False, timeout=timeout, stop_timeout=stop_timeout
    )
    return run(errand, target, notes=Notes(as_json=as_json, quiet=quiet, about={"lock": name}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What to run, and for which seat."""

    kind: Literal["election", "lock"]
    name: str
    command: tuple[str, ...]
    #: Whether a command whose term was lost is started again at the next win.
    again: bool
    timeout: float | None
    stop_timeout: float | None

    def environment(self, token: int) -> dict[str, str]:
        """Return what the command finds in its environment.

        Not the member id: that is this process's own, and a command that connects would be refused under it.
        """
        ours = {"DRUMBEAT_TOKEN", "DRUMBEAT_ELECTION", "DRUMBEAT_LOCK", "DRUMBEAT_MEMBER_ID"}
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return {**inherited, "DRUMBEAT_TOKEN": str(token), f"DRUMBEAT_{self.kind.upper()}": self.name}


class Interrupted(Exception):
    """This process was asked to end while it waited."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


def run(errand: Errand, target: Target, *, notes: Notes) -> int:
    """Return the exit status of an errand."""
    check_command(errand.command)
    settings = target.settings()
    with Inbox() as inbox:
        try:
            session = wait_for(lambda: target.connect(settings), inbox)
            try:
                window = Window.fit(timing_of(session, settings), errand.stop_timeout)
                return Runner(errand, session, window=window, inbox=inbox, notes=notes).run()
            finally:
                session.close(CLOSE_TIMEOUT)
        except Interrupted as interrupted:
            notes.tell("interrupted", f"{interrupted.number.name} while waiting", signal=interrupted.number.name)
            return BY_SIGNAL + interrupted.number
        finally:
            notes.close()


class Runner:
    """Waits for the seat, has the command supervised, and begins again where that is wanted."""

    def __init__(self, errand: Errand, session: Session, *, window: Window, inbox: Inbox, notes: Notes) -> None:
        self._errand = errand
        self._session = session
        self._window = window
        self._inbox = inbox
        self._notes = notes
        self._clock = SystemClock()

    def run(self) -> int:
        """Return the exit status: the command's, or TRY_LATER if it was stopped for good."""
        while True:
            term = wait_for(self._win, self._inbox)
            status = self._run_command(term)
            if status is not None:
                return status
            wait_for(partial(_resign, term), self._inbox)

    def _win(self) -> Term:
        self._tell_who_is_in_the_way()
        if self._errand.kind == "lock":
            lock = self._session.lock(self._errand.name)
            return lock.acquire(timeout=self._errand.timeout, on_lost=self._wake)
        return self._session.election(self._errand.name).campaign(on_lost=self._wake)

    def _wake(self, _term: Term) -> None:
        self._inbox.nudge()

    def _tell_who_is_in_the_way(self) -> None:
        with suppress(DrumbeatError):
            holder = self._holder()
            if holder is not None:
                text = f"waiting for {self._errand.name}, which {holder.member_id} holds with token {holder.token}"
                self._notes.tell("waiting", text, holder={"member_id": holder.member_id, "token": holder.token})

    def _holder(self) -> Leader | None:
        if self._errand.kind == "lock":
            return self._session.lock(self._errand.name).holder()
        return self._session.election(self._errand.name).leader()

    def _run_command(self, term: Term) -> int | None:
        """Return the exit status, or None if it is all to begin again."""
        member_id = self._session.member_id
        self._notes.tell(
            "won",
            f"{member_id} holds {self._errand.name} with token {term.token}",
            member_id=member_id,
            token=term.token,
        )
        if seconds_left(term, self._clock) <= self._window.length:
            self._notes.tell("lost", "the term is lost or about to be; nothing was started", token=term.token)
            return None if self._errand.again else TRY_LATER
        command = Command(self._errand.command, self._errand.environment(term.token))
        self._notes.tell("started", f"process {command.group} runs", pid=command.group, token=term.token)
        supervisor = Supervisor(
            command, term, window=self._window, clock=self._clock, inbox=self._inbox, notes=self._notes
        )
        supervisor.run()
        self._notes.tell("exited", f"the command ended with {command.status}", status=command.status)
        if not supervisor.stopped:
            self._tell_if_late(term)
            return command.status
        return None if self._errand.again and not supervisor.asked_to_end else TRY_LATER

    def _tell_if_late(self, term: Term) -> None:
        if seconds_left(term, self._clock) <= 0:
            self._notes.tell(
                "late",
                f"the term {term.token} was over when the command was seen to have ended by itself; "
                "if it ended late, others may have run beside it",
                token=term.token,
            )


class _Job(Generic[T]):
    """A call that runs on a thread of its own, so that the main thread stays free for signals."""

    def __init__(self, call: Callable[[], T], *, nudge: Callable[[], None]) -> None:
        self._call = call
        self._nudge = nudge
        self._result: T | None = None
        self._error: BaseException | None = None
        self.done = threading.Event()
        threading.Thread(target=self._run, name="drumbeat-waiting", daemon=True).start()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        self.done.set()
        self._nudge()


def wait_for(call: Callable[[], T], inbox: Inbox) -> T:
    """Return what `call` returns or raise what it raises; raise Interrupted at once if asked to end meanwhile."""
    job = _Job(call, nudge=inbox.nudge)
    while not job.done.is_set():
        for number in inbox.wait(None):
            if number in ENDING:
                raise Interrupted(number)
    return job.result()


def _resign(term: Term) -> None:
    with suppress(DrumbeatError):
        term.resign()
