"""Replicas: min_replicas, and failovers by real Sentinels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from drumbeat import State, Unavailable
from drumbeat.hookspecs import LeaderRecord, Won
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.servers import Sentinels, Server, start_redis_sentinel
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from drumbeat import Session, Term
    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena

Peek = Callable[..., Callable[..., object]]
TTL = 2.0


@pytest.fixture(scope="module")
def steady() -> Iterator[Sentinels]:
    """A primary with one replica, behind Sentinels."""
    with start_redis_sentinel() as group:
        yield group


@pytest.fixture
def replica(steady: Sentinels) -> Iterator[Server]:
    """The replica, which may be paused."""
    yield steady.replicas[0]
    steady.replicas[0].resume()


def test_the_sentinels_name_the_primary(steady: Sentinels, arena_on: Callable[..., Arena]) -> None:
    """The session lives on the primary that the Sentinels name, though a dead Sentinel comes first."""
    url = steady.url.replace("redis+sentinel://", "redis+sentinel://127.0.0.1:1,")
    named = arena_on(url, ttl=30.0)
    named.actor("a").win("e")
    arena = arena_on(f"redis://{steady.primary.address}", ttl=30.0)
    arena._prefix = named._prefix
    assert isinstance(arena.actor("b").leader("e"), LeaderRecord)


def test_a_heartbeat_with_replicas_is_one_round_trip(steady: Sentinels, arena_on: Callable[..., Arena]) -> None:
    """BEAT-6: EVALSHA and WAIT go in one pipeline."""
    with Proxy(steady.primary.host, steady.primary.port) as proxy:
        actor = arena_on(f"redis://{proxy.address}?min_replicas=1", ttl=30.0).actor("a")
        actor.win("e")
        before = proxy.turns
        assert actor.beat().lost == ()
        assert proxy.turns == before + 1


def test_what_replicas_do_not_acknowledge_does_not_count(
    steady: Sentinels, replica: Server, arena_on: Callable[..., Arena]
) -> None:
    """With min_replicas a win or heartbeat that too few replicas have is Unavailable, until a repetition is on them."""
    actor = arena_on(f"{steady.url}?min_replicas=1", ttl=10.0).actor("a")
    actor.win("f")
    replica.pause()
    attempt = actor.candidacies["e"] = actor.next_attempt()
    # The second time nothing changes on the primary, and yet the replica does not have the win.
    for _ in range(2):
        with pytest.raises(Unavailable, match="min_replicas") as failure:
            actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"", timeout=0.4)
        assert failure.value.outcome == "unknown"
    with pytest.raises(Unavailable, match="min_replicas"):
        actor.backend.heartbeat(actor.lease, actor.holdings(), timeout=0.4)
    replica.resume()
    answer = eventually(lambda: _campaign(actor), within=10.0)
    assert isinstance(answer, Won)
    assert actor.beat().lost == ()


def _campaign(actor: Actor) -> object:
    try:
        return actor.campaign("e")
    except Unavailable:
        return None


def test_a_leader_without_replicas_suspends_and_loses(
    steady: Sentinels, replica: Server, arena_on: Callable[..., Arena]
) -> None:
    """The deadline moves only if replicas acknowledge: without them a session is SUSPENDED, then LOST, then back."""
    session = arena_on(f"redis://{steady.primary.address}?min_replicas=1", ttl=TTL / 2).connect("a")
    states: list[State] = []
    session.on_state(states.append)
    term = session.election("e").campaign(timeout=5.0)
    replica.pause()
    eventually(lambda: not term.held, within=2 * TTL)
    eventually(lambda: State.LOST in states, within=TTL)
    assert states.index(State.SUSPENDED) < states.index(State.LOST)
    replica.resume()
    assert session.election("e").campaign(timeout=20.0).token > term.token


# Failover ---------------------------------------------------------------------------------------------------


class Rivals:
    """Sessions that campaign for one election again and again, and whether two of them ever held it at once."""

    def __init__(self, sessions: list[Session]) -> None:
        self.tokens: list[int] = []
        self.overlaps = 0
        self._terms: dict[str, Term | None] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._campaign, args=(session,)) for session in sessions]
        self._threads.append(threading.Thread(target=self._look))
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop, and wait for the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _campaign(self, session: Session) -> None:
        while not self._stop.is_set():
            try:
                term = session.election("e").campaign(timeout=0.5)
            except TimeoutError:
                continue
            self.tokens.append(term.token)
            self._terms[session.member_id] = term
            while term.held and not self._stop.is_set():
                time.sleep(0.01)
            self._terms[session.member_id] = None

    def _look(self) -> None:
        while not self._stop.is_set():
            terms = [term for term in list(self._terms.values()) if term is not None]
            self.overlaps += sum(term.held for term in terms) > 1
            time.sleep(0.002)


def test_a_failover_has_no_two_leaders(
    start_redis_sentinel: Callable[..., Sentinels], arena_on: Callable[..., Arena]
) -> None:
    """The primary is killed: sessions go on at its successor or are LOST, never two lead, and tokens rise."""
    group = start_redis_sentinel(replicas=2)
    cluster = arena_on(f"{group.url}?min_replicas=1", ttl=TTL)
    sessions = [cluster.connect(name) for name in "abc"]
    sessions[0].group("g").join({"n": 1})
    rivals = Rivals(sessions)
    try:
        eventually(lambda: rivals.tokens, within=10.0)
        group.primary.kill()
        before = len(rivals.tokens)
        eventually(lambda: len(rivals.tokens) > before or _leads(sessions[1]), within=40.0)
        eventually(lambda: sessions[0].state is State.CONNECTED, within=10.0)
        eventually(lambda: sessions[0].group("g").members().ids == ("a",), within=10.0)
    finally:
        rivals.end()
    assert rivals.overlaps == 0
    assert rivals.tokens == sorted(set(rivals.tokens))


def _leads(session: Session) -> bool:
    """Return whether the servers answer again, and say that somebody leads."""
    try:
        return session.election("e").leader() is not None
    except Unavailable:
        return False
