"""Keeping a command inside its term: signals go in, and it is dead before the deadline."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from drumbeat.cli._signals import ENDING, FORWARDED, STOPPING
from drumbeat.cli._terminal import Terminal
from drumbeat.cli._window import seconds_left

if TYPE_CHECKING:
    from drumbeat import Clock, Term
    from drumbeat.cli._command import Command
    from drumbeat.cli._notes import Notes
    from drumbeat.cli._signals import Inbox
    from drumbeat.cli._window import Window

#: Seconds between two looks at a process group whose leader has ended: nothing tells when the rest has.
GROUP_POLL: Final = 0.01
#: Seconds after SIGKILL until what still runs is told of, and given up unless it is the command itself.
SURVIVORS: Final = 1.0


class Supervisor:
    """Watches one command during one term, from the main thread, which waits for nothing but its inbox.

    It never asks the server: what it needs is the deadline, which the session's own threads move on.
    """

    def __init__(
        self, command: Command, term: Term, *, window: Window, clock: Clock, inbox: Inbox, notes: Notes
    ) -> None:
        self._command = command
        self._term = term
        self._window = window
        self._clock = clock
        self._inbox = inbox
        self._notes = notes
        self._terminal = Terminal()
        self._kill_at: float | None = None
        self._killed_at: float | None = None
        self._told_of_survivors = False
        #: Whether the command was running when the end of the term stopped it.
        self.stopped = False
        #: Whether somebody asked this process to end while the command ran.
        self.asked_to_end = False

    def run(self) -> None:
        """Return once nothing is left of the command's process group."""
        self._terminal.lend(self._command.group)
        try:
            while not self._is_over():
                signals = self._inbox.wait(self._pause())
                self._command.collect()
                # Before any signal is passed on: after a long sleep the term may be over.
                self._keep_in_time()
                for number in signals:
                    self._take(number)
        except BaseException:
            self._command.send(signal.SIGKILL)
            raise
        finally:
            self._terminal.take_back()

    def _is_over(self) -> bool:
        if self._command.is_gone():
            return True
        if self._killed_at is None:
            if self._command.status is not None:
                self._stop_rest()
            return False
        if self._clock.now() < self._killed_at + SURVIVORS:
            return False
        self._tell_of_survivors()
        return self._command.status is not None

    def _pause(self) -> float:
        if self._command.status is not None or self._killed_at is not None:
            return self._window.tick if self._told_of_survivors else GROUP_POLL
        left = seconds_left(self._term, self._clock)
        if self._kill_at is None:
            due = left - self._window.length
        else:
            due = min(left - self._window.kill_margin, self._kill_at - self._clock.now())
        return min(max(due, 0.0), self._window.tick)

    def _keep_in_time(self) -> None:
        if self._killed_at is not None or self._command.is_gone():
            return
        left = seconds_left(self._term, self._clock)
        if left <= self._window.kill_margin:
            self._end(left)
        elif self._kill_at is None:
            if left <= self._window.length:
                self._stop(left)
        elif self._clock.now() >= self._kill_at:
            self._kill()
            self._notes.tell(
                "killed", f"the command did not end within {self._window.stop_timeout:g} s of SIGTERM: SIGKILL"
            )

    def _stop(self, left: float) -> None:
        self.stopped = True
        self._kill_at = self._clock.now() + self._window.stop_timeout
        self._command.stop()
        self._notes.tell(
            "stopping",
            f"no heartbeat is answered and the term {self._term.token} is certain for {left:.3f} s only: SIGTERM",
            token=self._term.token,
            seconds_left=round(left, 6),
        )

    def _stop_rest(self) -> None:
        if self._kill_at is None:
            self._kill_at = self._clock.now() + self._window.stop_timeout
            self._command.stop()

    def _end(self, left: float) -> None:
        self.stopped = self.stopped or self._command.status is None
        self._kill()
        self._notes.tell(
            "lost",
            f"the term {self._term.token} is lost or about to be: SIGKILL",
            token=self._term.token,
            seconds_left=round(left, 6),
        )

    def _tell_of_survivors(self) -> None:
        if not self._told_of_survivors:
            self._told_of_survivors = True
            self._notes.tell(
                "survivors",
                "something of the command outlived SIGKILL: it changed its user, or hangs in the kernel. "
                f"It may run beside others; look for process group {self._command.group}",
                pid=self._command.group,
            )

    def _kill(self) -> None:
        self._command.send(signal.SIGKILL)
        self._killed_at = self._clock.now()

    def _take(self, number: signal.Signals) -> None:
        if number in ENDING:
            self.asked_to_end = True
        if number is signal.SIGCONT:
            self._terminal.lend(self._command.group)
        if number in FORWARDED:
            self._command.send(number)
        suspended = number is signal.SIGCHLD and self._terminal.lent and self._command.was_suspended()
        if suspended:
            self._command.send(signal.SIGCONT)
        if suspended or number in STOPPING:
            self._notes.tell("awake", "nothing is suspended during a term: a lease does not wait")
