"""A member process as the test that started it sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast, final

from drumbeat import SystemClock
from drumbeat.history import note
from drumbeat_conformance.faults import freeze, thaw

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Answer", "Look", "Member", "MemberEnded", "MemberRaised", "Place"]

R = TypeVar("R")

#: Seconds in which a process starts and connects, or answers, on a machine that is busy with other things.
PATIENCE: Final = 60.0
#: Characters of its errors that are told when a member ended.
_TOLD: Final = 4000


class MemberEnded(AssertionError):
    """A member process ended that nobody had ended; the message says how, and what it wrote to its errors."""


class MemberRaised(AssertionError):
    """What a member was told to do raised; `kind` is the name of the error's class."""

    def __init__(self, command: str, kind: str, message: str) -> None:
        super().__init__(f"{command}: {kind}: {message}")
        #: For example `"Timeout"`.
        self.kind = kind


@final
@dataclass(frozen=True, slots=True)
class Look:
    """What a member saw when it looked at its term: `at` is on CLOCK_BOOTTIME, and was read before `held`."""

    at: float
    held: bool


class Place(Protocol):
    """Where members meet; `drumbeat_conformance.arena.Arena` is one."""

    url: str
    ttl: float

    def namespace(self, name: str = ...) -> str:
        """Return the namespace of that name."""
        ...

    def use(self, resource: AbstractContextManager[R]) -> R:
        """Enter a context, and leave it when the test is over."""
        ...


@final
class Answer:
    """What will come of something that a member was told to do."""

    def __init__(self, command: str) -> None:
        #: What was told to whom, for people.
        self.command = command
        self._done = threading.Event()
        self._value: object = None
        self._error: AssertionError | None = None

    @property
    def running(self) -> bool:
        """Whether nothing has come of it yet."""
        return not self._done.is_set()

    def result(self, *, within: float = PATIENCE) -> object:
        """Return what the command returned.

        Raises MemberRaised for what it raised, MemberEnded if the process ended first, and AssertionError if neither
        happened within so many seconds.
        """
        assert self._done.wait(within), f"{self.command} was not done within {within:g} s"
        if self._error is not None:
            raise self._error
        return self._value

    def settle(self, value: object, error: AssertionError | None = None) -> None:
        """Wake who waits; what comes first counts."""
        if self.running:
            self._value, self._error = value, error
            self._done.set()


@final
class Member:
    """A process with one session, for as long as the `with` block, or until `close()`.

    It connects at once; what it is told before that is done waits. It records the session's events in `history`, which
    `drumbeat.history` reads, its own killing included. No call waits for ever: one that takes longer than it may fails,
    and so does any that waits for a process that has ended. `DRUMBEAT_CONFORMANCE_PRELOAD` in the environment, as
    `module:function`, is imported and called in it first.
    """

    def __init__(self, url: str, member_id: str, *, namespace: str, ttl: float, **options: object) -> None:
        """Start the process, and return before it has connected; `ready()` waits for that, and tells what went wrong.

        `ttl` is how many seconds its lease lasts. `options` are those of `drumbeat.connect` that JSON can hold; unless
        they say otherwise, `connect_timeout` is 60 s, and an empty store is trusted to be a new one.
        """
        self.member_id = member_id
        self._folder = TemporaryDirectory(prefix="drumbeat-member-")
        #: The file in which it records what happens to its session.
        self.history = Path(self._folder.name) / f"{member_id}.jsonl"
        self._errors = Path(self._folder.name) / "errors"
        self._answers: dict[int, Answer] = {}
        self._lock = threading.Lock()
        self._ended: MemberEnded | None = None
        _, self._ready = self._expect("connect")
        given: dict[str, object] = {"connect_timeout": PATIENCE, "on_empty_store": "trust"} | options
        given |= {"url": url, "member_id": member_id, "namespace": namespace, "lease_ttl": ttl}
        self._process = self._start(given | {"history": str(self.history)})
        self._reader = threading.Thread(target=self._read, name=f"drumbeat-member-{member_id}", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, place: Place, member_id: str, *, ttl: float | None = None, **options: object) -> Member:
        """Start a member on a test's store, which ends with the test; `options` are those of `drumbeat.connect`.

        `url` is among them for one that reaches the store by another way.
        """
        url = str(options.pop("url", place.url))
        namespace = place.namespace()
        return place.use(cls(url, member_id, namespace=namespace, ttl=ttl or place.ttl, **options))

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    # What it is told ----------------------------------------------------------------------------------------

    def tell(self, command: str, *arguments: object) -> Answer:
        """Have it do something, and return at once; `drumbeat_conformance.members` says what it can do."""
        number, answer = self._expect(command)
        line = json.dumps([number, command, arguments])
        assert self._process.stdin is not None
        # The reader tells how it ended.
        with suppress(OSError), self._lock:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return answer

    def ask(self, command: str, *arguments: object, within: float = PATIENCE) -> object:
        """Have it do something, and return what came of it, as `Answer.result` does."""
        return self.tell(command, *arguments).result(within=within)

    def ready(self, *, within: float = PATIENCE) -> Self:
        """Return once it has connected."""
        self._ready.result(within=within)
        return self

    def win(self, election: str, *, within: float = PATIENCE) -> int:
        """Have it win, and return the token."""
        return cast("int", self.ask("campaign", election, within=within))

    def looks(self, election: str) -> list[Look]:
        """Return what it saw since the last time, once it was told to `look` at a term."""
        seen = cast("Sequence[tuple[float, bool]]", self.ask("looks", election))
        return [Look(at, held) for at, held in seen]

    def owned(self) -> dict[int, int]:
        """Return the tokens of the shards that it holds, by number."""
        held = cast("Mapping[str, int]", self.ask("owned"))
        return {int(number): token for number, token in held.items()}

    def share(self, group: str, count: int) -> list[int]:
        """Return its own share of so many items, by the members of a group."""
        return cast("list[int]", self.ask("partition", group, count))

    # What befalls it ----------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stop the process as by SIGSTOP; return once it stands still."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Let it go on after `freeze()`."""
        thaw(self.pid)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process, and let it go on at the end of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def kill(self) -> None:
        """End the process as a crash does, frozen or not, and say so in its history; harmless when repeated."""
        if self._process.poll() is not None:
            return
        at = SystemClock().now()
        self._process.kill()
        self._process.wait(PATIENCE)
        note(self.history, kind="killed", member_id=self.member_id, pid=self.pid, at=at)

    def close(self) -> None:
        """End the process and remove its history."""
        self.kill()
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Member {self.member_id!r}, process {self.pid}>"

    # The process --------------------------------------------------------------------------------------------

    def _start(self, options: Mapping[str, object]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "drumbeat_conformance.members", json.dumps(options)]
        # It finds what the test finds, installed or not.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self._errors.open("w") as errors:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def _expect(self, command: str) -> tuple[int, Answer]:
        answer = Answer(f"{command!r} of the member {self.member_id!r}")
        with self._lock:
            number = len(self._answers)
            self._answers[number] = answer
            if self._ended is not None:
                answer.settle(None, self._ended)
        return number, answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):
            for line in self._process.stdout:
                number, outcome, value = json.loads(line)
                answer = self._answers[number]
                error = MemberRaised(answer.command, *value) if outcome == "raised" else None
                answer.settle(None if error else value, error)
        status = self._process.wait()
        told = self._errors.read_text(errors="replace")[-_TOLD:]
        ended = MemberEnded(f"the process of the member {self.member_id!r} ended with status {status}\n{told}")
        with self._lock:
            self._ended = ended
            for answer in self._answers.values():
                answer.settle(None, ended)
