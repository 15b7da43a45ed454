"""Sessions to test the hooks of the local backend with: in this process, and in real ones that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from support import eventually

from drumbeat._clock import Clock, SystemClock
from drumbeat._plugins import make_backend
from drumbeat._url import BackendURL
from drumbeat.hookspecs import (
    BackendConfig,
    Cancel,
    Candidacy,
    CandidacySubject,
    GroupSubject,
    Holdings,
    LeaderRecord,
    LeaderSubject,
    Lease,
    Membership,
    Seat,
    SessionRequest,
    Subject,
    Won,
)
from drumbeat.local import LocalBackend

if TYPE_CHECKING:
    from drumbeat._facade import Backend
    from drumbeat.local._opened import Opened

#: Seconds for one call.
TIMEOUT = 5.0
#: Seconds that a session lives without heartbeats, where a test does not wait for its end.
LONG = 60.0

Simple = str | int | float | bool | None
OnEmpty = Literal["wait", "trust"] | None


def backend_for(
    path: Path | str, *, namespace: str = "ns", clock: Clock | None = None, on_empty_store: OnEmpty = None
) -> Backend:
    """Return a backend of its own, as `connect` would make it."""
    config = BackendConfig(
        url=BackendURL.parse(f"local://{path}"),
        namespace=namespace,
        clock=clock or SystemClock(),
        on_empty_store=on_empty_store,
    )
    return make_backend(LocalBackend, config)


class Actor:
    """One session on a backend of its own; every method takes and gives plain values."""

    def __init__(self, path: Path | str, *, namespace: str = "ns", on_empty_store: OnEmpty = None) -> None:
        self.backend = backend_for(path, namespace=namespace, on_empty_store=on_empty_store)
        self.lease = Lease("", "", 0.0)
        self.cancels: list[Cancel] = []
        self.hinted = threading.Event()

    @property
    def opened(self) -> Opened:
        """What the backend keeps of the session, for tests that go behind its hooks."""
        plugin = self.backend._hooks.read_group.get_hookimpls()[0].plugin
        assert isinstance(plugin, LocalBackend)
        return plugin._opened[self.lease.incarnation]

    def open(
        self,
        member_id: str,
        *,
        ttl: float = LONG,
        incarnation: str | None = None,
        supersedes: str | None = None,
        replace: bool = False,
    ) -> str:
        """Open the session; return its incarnation."""
        request = SessionRequest(
            incarnation=incarnation or uuid.uuid4().hex,
            member_id=member_id,
            ttl=ttl,
            supersedes=supersedes,
            replace=replace,
        )
        self.lease = self.backend.open_session(request, timeout=TIMEOUT)
        return self.lease.incarnation

    def beat(self, holdings: Holdings | None = None) -> list[Seat | Membership]:
        """Send a heartbeat; return what is lost."""
        return list(self.backend.heartbeat(self.lease, holdings or Holdings(), timeout=TIMEOUT).lost)

    def beat_for(self, seats: list[list[Simple]], newest: int) -> int:
        """Send a heartbeat for seats given as lists; return how many are lost."""
        held = tuple(Seat(str(name), int(attempt or 0), int(token or 0)) for name, attempt, token in seats)
        return len(self.beat(Holdings(seats=held, newest_attempt=newest)))

    def join(self, group: str, attempt: int = 1, value: str = "") -> bool:
        """Join; return whether the session had been a member."""
        answer = self.backend.join_group(self.lease, group, attempt=attempt, value=value.encode(), timeout=TIMEOUT)
        return answer.was_member

    def leave(self, group: str) -> bool:
        """Leave; return whether the session was a member."""
        return self.backend.leave_group(self.lease, group, timeout=TIMEOUT).was_member

    def members(self, group: str) -> list[str]:
        """Return the ids of the members, sorted."""
        return sorted(m.member_id for m in self.backend.read_group(self.lease, group, timeout=TIMEOUT).members)

    def campaign(self, election: str, attempt: int = 1, timeout: float = TIMEOUT) -> int:
        """Try once; return the token, or 0 if the attempt waits."""
        answer = self.backend.campaign(self.lease, election, attempt=attempt, value=b"", timeout=timeout)
        return answer.seat.token if isinstance(answer, Won) else 0

    def withdraw(self, election: str, attempt: int = 1) -> bool:
        """Withdraw; return whether the store knew the attempt."""
        return self.backend.withdraw(self.lease, election, attempt=attempt, timeout=TIMEOUT).was_candidate

    def resign(self, election: str, attempt: int, token: int) -> bool:
        """Resign; return whether the seat was held."""
        return self.backend.resign(self.lease, Seat(election, attempt, token), timeout=TIMEOUT).was_held

    def leader(self, election: str) -> str | None:
        """Return the member id of the holder."""
        answer = self.backend.read_leader(self.lease, election, timeout=TIMEOUT)
        return answer.member_id if isinstance(answer, LeaderRecord) else None

    def watch(self, kind: str, name: str, attempt: int = 1) -> None:
        """Watch a group, a leader or a candidacy from now on; `hint` waits for a hint."""
        subjects: dict[str, Subject] = {
            "group": GroupSubject(name),
            "leader": LeaderSubject(name),
            "candidacy": CandidacySubject(name, attempt),
        }
        self.cancels.append(self.backend.watch(self.lease, subjects[kind], self.hinted.set, timeout=TIMEOUT))

    def hint(self, within: float = 10.0) -> bool:
        """Wait for a hint, and forget it; return whether one came."""
        came = self.hinted.wait(within)
        self.hinted.clear()
        return came

    def cancel(self) -> None:
        """End the watches."""
        while self.cancels:
            self.cancels.pop()()

    def close(self) -> bool:
        """Close the session; return whether it was there."""
        return self.backend.close_session(self.lease, timeout=TIMEOUT).was_open

    def drop(self, *, forked: bool = False) -> bool:
        """Let go of the session here; return whether there was something to let go."""
        return self.backend.drop_session(self.lease, forked=forked).was_open


class Refused(Exception):
    """An error of Drumbeat in another process; `kind` is its class's name."""

    def __init__(self, kind: str, text: str, outcome: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.outcome = outcome


class Process:
    """A real process with one session, which does what it is told; see `local.worker`."""

    def __init__(self, path: Path | str, *, namespace: str = "ns") -> None:
        search = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "local.worker", str(path), namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.pid = self._popen.pid

    def tell(self, do: str, **arguments: object) -> None:
        """Give an order without waiting for the answer."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
        self._popen.stdin.flush()

    def answer(self) -> Simple | list[Simple]:
        """Wait for the answer to the order before; raise Refused if it was an error of Drumbeat."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, f"process {self.pid} ended with {self._popen.wait()}"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["text"], answer["outcome"])
        value: Simple | list[Simple] = answer["value"]
        return value

    def ask(self, do: str, **arguments: object) -> Simple | list[Simple]:
        """Give an order and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer()

    def number(self, do: str, **arguments: object) -> int:
        """Give an order whose answer is a number."""
        value = self.ask(do, **arguments)
        assert isinstance(value, int)
        return value

    def kill(self) -> None:
        """End the process with SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._popen.wait()

    def freeze(self) -> None:
        """Stop the process, and wait until it stands."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(self._stands, within=TIMEOUT)

    def thaw(self) -> None:
        """Let the process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill the process if it still runs, and close the pipes to it."""
        self.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            pipe.close()

    def _stands(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def candidacies(*attempts: tuple[str, int]) -> tuple[Candidacy, ...]:
    """Return candidacies by election and attempt."""
    return tuple(Candidacy(election, attempt) for election, attempt in attempts)
