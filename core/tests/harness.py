"""What the tests of backends share: a fresh store of each kind, and sessions that a test plays hook by hook."""

from __future__ import annotations

import importlib.util
import time
import uuid
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from drumbeat._clock import SystemClock
from drumbeat._errors import Conflict
from drumbeat._facade import Backend
from drumbeat._plugins import make_backend
from drumbeat._url import BackendURL
from drumbeat.cas import MemoryCasBackend
from drumbeat.hookspecs import (
    BackendConfig,
    BackendFactory,
    Beat,
    Candidacy,
    Capability,
    Holdings,
    LeaderRecord,
    Lease,
    Membership,
    Seat,
    SessionRequest,
    Vacant,
    Waiting,
    Won,
)
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drumbeat.hookspecs import BackendProfile

#: Seconds of real time that a hook gets.
TIMEOUT = 5.0
EXAMPLE = Path(__file__).parents[2] / "examples" / "cas_backend.py"

_incarnations = (f"incarnation-{number}" for number in count(1))


def load_example() -> BackendFactory:
    """Return the backend that `examples/cas_backend.py` defines."""
    spec = importlib.util.spec_from_file_location("cas_backend", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("BackendFactory", module.FolderBackend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One backend as the contract tests need to know it."""

    name: str
    factory: Callable[[], BackendFactory]
    #: From an empty folder to the URL of a store that nobody has used.
    url: Callable[[Path], str]
    claims: frozenset[Capability] = frozenset()
    #: Whether the backend runs on the machine's clock, so that a test must wait.
    real_time: bool = False
    ttl: float = 10.0
    #: Whether other tests use the same store, so that each world needs namespaces of its own.
    shared: bool = False
    on_empty_store: Literal["wait", "trust"] | None = None


_PUSHING = frozenset({Capability.PUSH_WATCH, Capability.FIFO_CANDIDATES})

#: The backends that keep the contract; each line adds one to every contract test.
KINDS = (
    Kind(name="memory", factory=lambda: MemoryBackend, url=lambda _: f"memory://{uuid.uuid4()}", claims=_PUSHING),
    Kind(name="memory-cas", factory=lambda: MemoryCasBackend, url=lambda _: f"memory-cas://{uuid.uuid4()}"),
    Kind(name="example", factory=load_example, url=lambda folder: f"folder://{folder}"),
)


class World:
    """One store and its time."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.ttl = kind.ttl
        self.clock = SystemClock() if kind.real_time else FakeClock()
        self._url = BackendURL.parse(kind.url(folder))
        self._factory = kind.factory()
        self._prefix = f"{uuid.uuid4().hex[:8]}-" if kind.shared else ""
        self._actors: list[Actor] = []

    def backend(
        self,
        *,
        namespace: str = "tests",
        on_empty_store: Literal["wait", "trust"] | None = None,
        interceptors: Sequence[object] = (),
    ) -> Backend:
        """Return a backend object of its own, as each session has one."""
        config = BackendConfig(
            url=self._url,
            namespace=f"{self._prefix}{namespace}",
            clock=self.clock,
            on_empty_store=on_empty_store or self.kind.on_empty_store,
        )
        return make_backend(self._factory, config, interceptors=interceptors)

    def actor(self, member_id: str, *, backend: Backend | None = None, namespace: str = "tests") -> Actor:
        """Return a session that has been opened."""
        actor = Actor(self, member_id, backend=backend or self.backend(namespace=namespace))
        actor.open()
        return actor

    def enter(self, actor: Actor) -> None:
        """Let go of what this actor opens when the test is over."""
        self._actors.append(actor)

    def close(self) -> None:
        """Let go of every session, so that no client library keeps one alive."""
        for actor in self._actors:
            actor.backend.drop_session(actor.lease)

    def profile(self) -> BackendProfile:
        """Return what the backend says of itself."""
        return self.backend().describe(timeout=TIMEOUT)

    def pass_time(self, ttls: float, *beating: Actor) -> None:
        """Let some TTLs pass, in which some sessions beat four times a TTL, the last time at the end."""
        steps = max(1, round(ttls * 4))
        for _ in range(steps):
            self.wait(self.ttl * ttls / steps)
            for actor in beating:
                actor.beat()

    def wait(self, seconds: float) -> None:
        """Let time pass, in which nobody does anything."""
        if isinstance(self.clock, FakeClock):
            self.clock.advance(seconds)
        else:
            time.sleep(seconds)


class Actor:
    """A session that does only what a test says, and remembers what it holds as the core would."""

    def __init__(self, world: World, member_id: str, *, backend: Backend) -> None:
        self.world = world
        self.member_id = member_id
        self.backend = backend
        self.lease = Lease("", member_id, world.ttl)
        self.newest_attempt = 0
        self.places: dict[str, int] = {}
        self.candidacies: dict[str, int] = {}
        self.seats: dict[str, Seat] = {}
        world.enter(self)

    def request(self, *, supersedes: str | None = None, replace: bool = False) -> SessionRequest:
        """Return the wish for a new incarnation."""
        return SessionRequest(
            incarnation=next(_incarnations),
            member_id=self.member_id,
            ttl=self.world.ttl,
            supersedes=supersedes,
            replace=replace,
        )

    def open(self, request: SessionRequest | None = None) -> Lease:
        """Open a new incarnation, which holds nothing."""
        self.lease = self.backend.open_session(request or self.request(), timeout=TIMEOUT)
        self.places, self.candidacies, self.seats = {}, {}, {}
        return self.lease

    def open_when_possible(self) -> float:
        """Open as a restarted process does, until the old one with its member id is dead; return the seconds."""
        started = self.world.clock.now()
        request = self.request()
        while True:
            try:
                self.open(request)
            except Conflict:
                self.world.wait(self.world.ttl / 20)
            else:
                return self.world.clock.now() - started

    def holdings(self) -> Holdings:
        """Return what the session believes it holds."""
        return Holdings(
            memberships=tuple(Membership(group, attempt) for group, attempt in self.places.items()),
            candidacies=tuple(Candidacy(election, attempt) for election, attempt in self.candidacies.items()),
            seats=tuple(self.seats.values()),
            newest_attempt=self.newest_attempt,
        )

    def beat(self) -> Beat:
        """Send a heartbeat."""
        return self.backend.heartbeat(self.lease, self.holdings(), timeout=TIMEOUT)

    def next_attempt(self) -> int:
        """Return a new attempt's number."""
        self.newest_attempt += 1
        return self.newest_attempt

    def join(self, group: str, value: bytes = b"value") -> bool:
        """Join a group; return whether the session had been a member."""
        self.places[group] = self.next_attempt()
        answer = self.backend.join_group(self.lease, group, attempt=self.places[group], value=value, timeout=TIMEOUT)
        return answer.was_member

    def update(self, group: str, value: bytes) -> bool:
        """Replace the own value; return whether the session is a member."""
        return self.backend.update_member(self.lease, group, value=value, timeout=TIMEOUT).was_member

    def leave(self, group: str) -> bool:
        """Leave a group; return whether the session was a member."""
        self.places.pop(group, None)
        return self.backend.leave_group(self.lease, group, timeout=TIMEOUT).was_member

    def members(self, group: str) -> dict[str, bytes]:
        """Return the members of a group with their values."""
        record = self.backend.read_group(self.lease, group, timeout=TIMEOUT)
        found = {member.member_id: member.value for member in record.members}
        assert len(found) == len(record.members)
        return found

    def groups(self) -> set[str]:
        """Return the names of the groups."""
        return set(self.backend.list_groups(self.lease, timeout=TIMEOUT))

    def campaign(self, election: str, value: bytes = b"") -> Won | Waiting:
        """Try once, with the attempt that waits already if there is one."""
        attempt = self.candidacies.setdefault(election, 0) or self.next_attempt()
        self.candidacies[election] = attempt
        answer = self.backend.campaign(self.lease, election, attempt=attempt, value=value, timeout=TIMEOUT)
        if isinstance(answer, Won):
            self.seats[election] = answer.seat
            del self.candidacies[election]
        return answer

    def win(self, election: str, value: bytes = b"") -> Seat:
        """Win, or fail the test."""
        answer = self.campaign(election, value)
        assert isinstance(answer, Won), answer
        return answer.seat

    def wait_for(self, election: str) -> Waiting:
        """Campaign and not win, or fail the test."""
        answer = self.campaign(election)
        assert isinstance(answer, Waiting), answer
        return answer

    def resign(self, seat: Seat) -> bool:
        """Give up a seat; return whether it was held."""
        self.seats.pop(seat.election, None)
        return self.backend.resign(self.lease, seat, timeout=TIMEOUT).was_held

    def proclaim(self, seat: Seat, value: bytes) -> bool:
        """Replace a seat's value; return whether it is held."""
        return self.backend.proclaim(self.lease, seat, value=value, timeout=TIMEOUT).was_held

    def withdraw(self, election: str, attempt: int) -> bool:
        """Give up an attempt; return whether the store knew it."""
        self.candidacies.pop(election, None)
        return self.backend.withdraw(self.lease, election, attempt=attempt, timeout=TIMEOUT).was_candidate

    def leader(self, election: str) -> LeaderRecord | Vacant:
        """Return who leads."""
        return self.backend.read_leader(self.lease, election, timeout=TIMEOUT)

    def close(self) -> bool:
        """Close the session; return whether it was open."""
        return self.backend.close_session(self.lease, timeout=TIMEOUT).was_open


def leader_id(found: LeaderRecord | Vacant) -> str | None:
    """Return the member id of a leader, or None."""
    return found.member_id if isinstance(found, LeaderRecord) else None


def plugin_of(backend: Backend) -> object:
    """Return the backend object behind a facade."""
    (implementation,) = backend._hooks.heartbeat.get_hookimpls()
    plugin: object = implementation.plugin
    return plugin
