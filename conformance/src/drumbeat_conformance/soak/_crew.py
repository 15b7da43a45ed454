"""The processes of a soak, as their conductor sees them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from drumbeat import SystemClock
from drumbeat.history import note, terms
from drumbeat_conformance.checker import parse_recording
from drumbeat_conformance.faults import freeze, thaw
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.soak._work import ELECTION, Orders

#: Characters that are told of what a process wrote to its errors.
_TOLD: Final = 2000
#: Lines of its history that are looked at for whether it leads.
_NEWEST: Final = 200


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where a crew works."""

    url: str
    namespace: str
    ttl: float
    #: For the histories, the counter and what goes wrong.
    folder: Path


@final
class Worker:
    """One member: a process, and after its death another one under the same id."""

    def __init__(self, number: int, ground: Ground, *, link: Proxy | None, draw: random.Random) -> None:
        self.member_id = f"m{number}"
        #: The way to the server, if it can be disturbed.
        self.link = link
        self._ground = ground
        self._draw = draw
        self._lives = 0
        self._process = self._start()

    @property
    def leads(self) -> bool:
        """Whether it has the seat, as the newest lines of its history tell."""
        return self._history.exists() and tells_of_leading(self._history, now=SystemClock().now())

    def kill(self) -> None:
        """End the process by SIGKILL, and note so."""
        self._killed = True
        self._note("killed")
        self._process.kill()
        self._process.communicate()

    def restart(self) -> None:
        """Start another one."""
        self._process.communicate()
        self._process = self._start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the process as by SIGSTOP, and let it go on at the end of the block."""
        self._note("stopped")
        try:
            with suppress(ProcessLookupError):
                freeze(self._process.pid)
            yield
        finally:
            with suppress(ProcessLookupError):
                thaw(self._process.pid)
            self._note("continued")

    def problem(self) -> str | None:
        """Return how the process ended, if nobody killed it."""
        status = None if self._killed else self._process.poll()
        if status is None:
            return None
        errors = self._errors.read_text(errors="replace")[-_TOLD:].strip()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return f"{self.member_id} ended by itself with {how}: {errors}"

    def finish(self, *, within: float) -> str | None:
        """Have the process end in good order; return what was wrong with that."""
        early = self.problem()
        if early is not None:
            return early
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"end\n")
            self._process.stdin.close()
        try:
            status = self._process.wait(within)
        except subprocess.TimeoutExpired:
            # The stacks of its threads, by faulthandler.
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            return f"{self.member_id} did not end within {within:g} s: {self._errors.read_text()[-_TOLD:]}"
        return None if status == 0 else self.problem()

    def end(self) -> None:
        """Kill what is left of it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        self._lives += 1
        self._killed = False
        name = f"{self.member_id}-{self._lives}"
        self._errors = self._ground.folder / f"{name}.errors"
        self._history = self._ground.folder / f"{name}.jsonl"
        orders = Orders(
            url=self._ground.url,
            namespace=self._ground.namespace,
            member_id=self.member_id,
            ttl=self._ground.ttl,
            history=str(self._history),
            counter=str(self._ground.folder / "counter.json"),
            seed=self._draw.randrange(2**32),
        )
        command = [sys.executable, "-X", "faulthandler", "-m", "drumbeat_conformance.soak", orders.as_argument()]
        with self._errors.open("wb") as errors:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=errors, stderr=errors, env=os.environ, start_new_session=True
            )

    def _note(self, kind: str) -> None:
        path = self._ground.folder / "conductor.jsonl"
        note(path, kind=kind, member_id=self.member_id, at=SystemClock().now(), pid=self._process.pid)


def tells_of_leading(history: Path, *, now: float) -> bool:
    """Whether the newest lines of a history, which may just be written, tell that its process has the seat."""
    # The first of these pieces may be many lines, and the last one lacks its end.
    newest = history.read_bytes().rsplit(b"\n", _NEWEST)[1:-1]
    events = parse_recording((history.name, line) for line in newest).events
    return any(term.subject == f"election/{ELECTION}" and term.until > now for term in terms(events))
