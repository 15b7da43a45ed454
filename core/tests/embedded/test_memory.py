"""What the memory backend promises beyond the contract."""

from __future__ import annotations

import os
import signal
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest
from harness import KINDS, World

from drumbeat._clock import SystemClock
from drumbeat._errors import ConfigurationError
from drumbeat._plugins import make_backend
from drumbeat._url import BackendURL
from drumbeat.hookspecs import BackendConfig, Bound, CandidacySubject, GroupSubject, SessionRequest, Vacant
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock
from drumbeat_conformance.actor import TIMEOUT, Actor, leader_id, plugin_of

if TYPE_CHECKING:
    from pathlib import Path

    from drumbeat.hookspecs import Subject

(MEMORY,) = (kind for kind in KINDS if kind.name == "memory")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh store in memory."""
    return World(MEMORY, tmp_path)


def config(url: str, clock: FakeClock | SystemClock) -> BackendConfig:
    """Return what the core would give to the backend's factory."""
    return BackendConfig(url=BackendURL.parse(url), namespace="tests", clock=clock)


def test_sessions_of_one_name_meet_and_others_do_not() -> None:
    """The name in the URL is the store: two backend objects share it, another name is another store."""
    clock, name = FakeClock(), str(uuid.uuid4())
    request = SessionRequest(incarnation="i", member_id="a", ttl=10.0)
    backends = {
        url: make_backend(MemoryBackend, config(url, clock))
        for url in (f"memory://{name}", f"memory://{name}/", f"memory://{name}-2")
    }
    lease = backends[f"memory://{name}"].open_session(request, timeout=TIMEOUT)
    backends[f"memory://{name}"].join_group(lease, "g", attempt=1, value=b"", timeout=TIMEOUT)
    seen = [len(backend.read_group(lease, "g", timeout=TIMEOUT).members) for backend in backends.values()]
    assert seen == [1, 1, 0]


def test_a_store_has_one_clock() -> None:
    """A second clock on one store is refused by the store's name; the machine's clock is one clock."""
    url = f"memory://{uuid.uuid4()}"
    MemoryBackend(config(url, FakeClock()))
    for other in (FakeClock(), SystemClock()):
        with pytest.raises(ConfigurationError, match=f"{url} already runs on another clock"):
            MemoryBackend(config(url, other))
    real = f"memory://{uuid.uuid4()}"
    MemoryBackend(config(real, SystemClock()))
    MemoryBackend(config(real, SystemClock()))


def test_a_forgotten_store_starts_empty_with_any_clock() -> None:
    """After forget_store the next session meets an empty store, and may bring another clock."""
    name = str(uuid.uuid4())
    MemoryBackend(config(f"memory://{name}", FakeClock()))
    assert MemoryBackend.forget_store(name) is True
    assert MemoryBackend.forget_store(name) is False
    MemoryBackend(config(f"memory://{name}", FakeClock()))


@pytest.mark.parametrize(
    "url", ["memory://a,b", "memory://a:80", "memory://a/b", "memory://user@a", "memory://user:secret@a"]
)
def test_what_is_no_store_name_is_refused(url: str) -> None:
    """SAFE-1: ports, paths, several hosts and credentials are refused with how to write it, without the password."""
    with pytest.raises(ConfigurationError, match="write memory:// or memory://NAME") as refusal:
        MemoryBackend(config(url, FakeClock()))
    assert "secret" not in str(refusal.value)


def test_a_lease_ends_exactly_one_ttl_after_the_last_heartbeat(world: World) -> None:
    """BEAT-5: one moment before its TTL has passed a session is alive, and at that moment it is gone."""
    silent, other = world.actor("a"), world.actor("b")
    silent.win("e")
    assert isinstance(world.clock, FakeClock)
    last = world.clock.now()
    for _ in range(2):
        silent.beat()
        last = world.clock.now()
        waiting = other.wait_for("e")
        assert waiting.retry_after == world.ttl
        other.beat()
        world.clock.advance(world.ttl - 0.001)
        other.beat()
        assert leader_id(other.leader("e")) == "a"
    world.clock.advance(last + world.ttl - world.clock.now())
    assert other.leader("e") == Vacant()
    assert Bound(1.0, 0.5) == world.profile().failover


def test_who_notices_a_death_tells_the_others(world: World) -> None:
    """WATCH-4: whichever call finds a lease run out, watchers of what it held get their hints."""
    silent, waiting, third = world.actor("a"), world.actor("b"), world.actor("c")
    silent.join("g")
    silent.win("e")
    waiting.wait_for("e")
    hints: list[str] = []
    watches: dict[str, Subject] = {"group": GroupSubject("g"), "turn": CandidacySubject("e", waiting.newest_attempt)}
    for name, subject in watches.items():
        waiting.backend.watch(waiting.lease, subject, partial(hints.append, name), timeout=TIMEOUT)
    world.pass_time(0.75, waiting, third)
    assert hints == []
    world.wait(world.ttl / 4)
    third.members("unrelated")
    assert sorted(hints) == ["group", "turn"]


def test_only_the_candidate_whose_turn_it_is_is_woken(world: World) -> None:
    """WATCH-4: a freed seat wakes the first in the queue and nobody behind it; a new group member wakes nobody."""
    leader, second, third = (world.actor(name) for name in "abc")
    seat = leader.win("e")
    woken: list[str] = []
    for candidate in (second, third):
        candidate.wait_for("e")
        subject = CandidacySubject("e", candidate.newest_attempt)
        name = candidate.member_id
        candidate.backend.watch(candidate.lease, subject, partial(woken.append, name), timeout=TIMEOUT)
    third.join("e")
    assert woken == []
    leader.resign(seat)
    assert woken == ["b"]
    second.win("e")
    assert woken == ["b"]


def test_a_forked_child_has_stores_of_its_own(world: World) -> None:
    """FAULT-8: in a forked child the same URL is an empty store, even if the fork froze the parent's lock."""
    actor = world.actor("a")
    actor.join("g")
    backend = plugin_of(actor.backend)
    assert isinstance(backend, MemoryBackend)
    with backend._store.lock:
        child = os.fork()
        if child == 0:
            signal.alarm(int(TIMEOUT))
            actor.backend.drop_session(actor.lease, forked=True)
            alone = Actor(world, "a", backend=world.backend())
            alone.open()
            os._exit(len(alone.members("g")))
    assert os.waitpid(child, 0) == (child, 0)
    assert actor.beat().lost == ()


def test_names_of_servers_are_for_people(world: World) -> None:
    """The profile names the store and the process in which it lives, since no other process can see it."""
    assert str(os.getpid()) in world.profile().server
