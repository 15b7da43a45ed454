"""Real `drumbeat` processes: started, read while they run, and ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

#: Seconds; the lease of every session here, and the unit of the bounds.
TTL: Final = 1.0
#: Seconds that starting an interpreter, or anything else that no lease governs, may take on a busy machine.
PATIENCE: Final = 30.0

#: How each event begins.
EVENT: Final = '{"drumbeat": "'

#: Appends its token and CLOCK_BOOTTIME to a file every 5 ms; `stubborn` ignores SIGTERM, otherwise it is noted.
TICKER: Final = """
import os, signal, sys, time
path, manners = sys.argv[1:]
log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def tick(what):
    line = f"{os.environ['DRUMBEAT_TOKEN']} {time.clock_gettime(time.CLOCK_BOOTTIME):.6f} {what} {os.getpid()}\\n"
    os.write(log, line.encode())
def end(*_):
    tick("told")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if manners == "stubborn" else end)
while True:
    tick("runs")
    time.sleep(0.005)
"""


def now() -> float:
    """Return CLOCK_BOOTTIME, on which tickers write."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Ticker:
    """A command that leaves a trace for as long as it runs."""

    def __init__(self, folder: Path, *, manners: str = "polite") -> None:
        self.path = folder / f"ticks-{manners}"
        self.command = [sys.executable, "-ISc", TICKER, str(self.path), manners]

    def ticks(self) -> list[tuple[int, float, str, int]]:
        """Return token, time, what was noted, and the process id, of every tick so far."""
        if not self.path.exists():
            return []
        rows = [line.split() for line in self.path.read_text().splitlines() if line.count(" ") == 3]
        return [(int(token), float(at), what, int(pid)) for token, at, what, pid in rows]

    def tokens(self) -> list[int]:
        """Return the tokens under which it ran, in order of appearance."""
        return list(dict.fromkeys(token for token, *_ in self.ticks()))

    def last(self, token: int) -> float:
        """Return when it was last seen running under a token."""
        return max(at for other, at, *_ in self.ticks() if other == token)

    def wait_for_token(self, number: int, *, within: float) -> int:
        """Return the token of the `number`th term in which it runs, counted from 1."""
        return eventually(lambda: self.tokens()[number - 1 :], within=within)[0]


class Drumbeat:
    """One running `drumbeat`, with what it has written so far."""

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "drumbeat.cli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def events(self, kind: str) -> list[dict[str, object]]:
        """Return the events of a kind that it has told as JSON so far."""
        # A terminal may have echoed a key before it.
        found = [mark + rest for line in [*self.err, *self.out] for _, mark, rest in [line.partition(EVENT)] if mark]
        return [event for event in map(json.loads, found) if event["drumbeat"] == kind]

    def wait_for_event(self, kind: str, *, number: int = 1, within: float = PATIENCE) -> dict[str, object]:
        """Return the `number`th event of a kind, counted from 1."""
        return eventually(lambda: self.events(kind)[number - 1 :], within=within)[0]

    def answers(self, number: int = 1, *, within: float = PATIENCE) -> list[dict[str, object]]:
        """Return its answers on standard output, once there are `number` of them."""
        eventually(lambda: len(self.out) >= number, within=within)
        return [json.loads(line) for line in list(self.out)]

    def type(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def status(self, *, within: float = PATIENCE) -> int:
        """Return its exit status, once it has ended and everything that it wrote is read."""
        status = self.process.wait(within)
        for reader in self._readers:
            reader.join(within)
        return status

    def close(self) -> None:
        """End it and the commands that it started."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        for child in self._children():
            kill_group(child)
        self.process.kill()
        self.process.wait()
        for event in self.events("started"):
            kill_group(int(str(event["pid"])))
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _children(self) -> list[int]:
        """Stop it for good, and return its children: also a command that it has not told of yet."""
        if self.process.poll() is not None:
            return []
        found = psutil.Process(self.process.pid)
        found.suspend()
        eventually(lambda: found.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}, within=PATIENCE)
        return [child.pid for child in found.children()]

    @staticmethod
    def _collect(stream: IO[str], lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))


class Desk:
    """Starts `drumbeat` processes on one store, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store.db"
        self.url = f"local://{self.store}"
        self._running: list[Drumbeat] = []

    def start(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> Drumbeat:
        """Start `drumbeat` with these arguments, on the desk's store unless they name another."""
        given = {"DRUMBEAT_URL": self.url, **environment}
        started = Drumbeat(arguments, environment=given, prefix=prefix)
        self._running.append(started)
        return started

    def lead(self, election: str, command: Sequence[str], *options: str, **environment: str) -> Drumbeat:
        """Start `drumbeat lead` that tells its events as JSON."""
        given = ["--json", "--ttl", str(TTL), *options]
        return self.start("lead", election, *given, "--", *command, **environment)

    def lock(self, name: str, command: Sequence[str], *options: str, **environment: str) -> Drumbeat:
        """Start `drumbeat lock` that tells its events as JSON."""
        given = ["--json", "--ttl", str(TTL), *options]
        return self.start("lock", name, *given, "--", *command, **environment)

    def close(self) -> None:
        """End everything that was started here."""
        for started in self._running:
            started.close()


def desk(folder: Path) -> Iterator[Desk]:
    """Yield a desk, and clear it up."""
    made = Desk(folder)
    try:
        yield made
    finally:
        made.close()


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def kill_group(group: int) -> None:
    """Kill what is left of a process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
