"""What goes wrong with Redis, each provoked on a real server: lost and late answers, lost scripts, dead connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from drumbeat import ConfigurationError, SessionLost, Unavailable, Vacant
from drumbeat.hookspecs import GroupSubject, LeaderRecord, LeaderSubject, Won
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.waiting import Background, eventually

if TYPE_CHECKING:
    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Server
    from drumbeat_redis import RedisBackend

Peek = Callable[..., Callable[..., object]]


@pytest.fixture
def link(redis_server: Server) -> Iterator[Proxy]:
    """A link to the shared server that can be disturbed."""
    with Proxy(redis_server.host, redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def far(link: Proxy, arena_on: Callable[..., Arena]) -> Arena:
    """Sessions whose link can be disturbed."""
    return arena_on(f"redis://{link.address}")


def keys(arena: Arena, peek: Peek, server: Server) -> set[str]:
    """Return the keys of an arena's namespace, without what they all begin with."""
    found = peek(server.port)("KEYS", f"drumbeat:{{{arena._prefix}tests}}:*")
    assert isinstance(found, list)
    return {key.split("}:", 1)[1] for key in found}


def key(arena: Arena, rest: str) -> str:
    """Return a key of an arena's namespace."""
    return f"drumbeat:{{{arena._prefix}tests}}:{rest}"


# Answers that are lost or late ------------------------------------------------------------------------------


def test_a_win_whose_answer_was_lost_is_won_by_the_repetition(link: Proxy, far: Arena) -> None:
    """LEAD-9: the client's own retry would say no here; the repeated campaign has the same seat, and no other."""
    actor = far.actor("a")
    actor.leader("e")
    link.drop_replies(1)
    attempt = actor.candidacies["e"] = actor.next_attempt()
    with pytest.raises(Unavailable) as failure:
        actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"v", timeout=0.3)
    assert failure.value.outcome == "unknown"
    link.restore()
    leader = actor.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert actor.win("e").token == leader.token
    assert actor.beat().lost == ()


def test_a_win_that_nobody_knows_of_is_freed_by_the_next_heartbeat(link: Proxy, far: Arena) -> None:
    """LEAD-15: a campaign that was given up, and was won all the same, frees its seat within one heartbeat."""
    actor = far.actor("a")
    actor.leader("e")
    link.drop_replies(1)
    with pytest.raises(Unavailable):
        actor.backend.campaign(actor.lease, "e", attempt=actor.next_attempt(), value=b"", timeout=0.3)
    link.restore()
    assert isinstance(actor.leader("e"), LeaderRecord)
    actor.beat()
    assert actor.leader("e") == Vacant()


def test_an_opening_whose_answer_was_lost_is_the_same_session(link: Proxy, far: Arena) -> None:
    """A repeated open_session is no Conflict with itself."""
    backend = far.backend()
    actor = far.actor("watcher")
    request = replace(actor.request(), member_id="a")
    # One turn says what the server is, the next one opens the session.
    link.drop_replies(2)
    with pytest.raises(Unavailable):
        backend.open_session(request, timeout=0.3)
    link.restore()
    assert backend.open_session(request, timeout=5.0).incarnation == request.incarnation


def test_a_late_answer_is_never_taken_for_the_next_one(link: Proxy, far: Arena) -> None:
    """After a timeout the connection is dropped, so that answers stay with their questions."""
    actor = far.actor("a")
    seat = actor.win("e", b"mine")
    link.delay(0.4)
    with pytest.raises(Unavailable):
        actor.backend.read_group(actor.lease, "g", timeout=0.2)
    link.delay(0.0)
    leader = actor.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert (seat.token, b"mine") == (leader.token, leader.value)


def test_an_older_join_that_comes_late_does_not_undo_a_newer_one(redis_server: Server, far: Arena) -> None:
    """A join that was given up and is applied after the next one changes nothing."""
    actor = far.actor("a")
    late = actor.next_attempt()
    actor.join("g", b"new")
    actor.backend.join_group(actor.lease, "g", attempt=late, value=b"old", timeout=5.0)
    assert actor.members("g") == {"a": b"new"}
    assert actor.beat().lost == ()


def test_a_call_keeps_its_timeout_however_slowly_the_answer_trickles(arena_on: Callable[..., Arena]) -> None:
    """Every hook ends within its timeout in total, also if each byte comes before the socket's own timeout."""

    def trickle() -> None:
        with suppress(OSError), listener.accept()[0] as client:
            client.sendall(b"$1000\r\n")
            for _ in range(100):
                time.sleep(0.05)
                client.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = Background(trickle)
        backend = arena_on(f"redis://127.0.0.1:{listener.getsockname()[1]}").backend()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            backend.describe(timeout=0.5)
        assert time.monotonic() - started < 2.0
        answering.result()


# Connections that die ---------------------------------------------------------------------------------------


def test_killed_connections_cost_nobody_anything(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """CLIENT KILL of all connections: the next calls succeed, since dead ones are noticed before they are used."""
    server = start_redis()
    actor = arena_on(server.url, ttl=30.0).actor("a")
    seat = actor.win("e")
    actor.join("g")
    for kind in ("normal", "pubsub"):
        peek(server.port)("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    backend = cast("RedisBackend", actor.backend._hooks.heartbeat.get_hookimpls()[0].plugin)
    own = backend._own[actor.lease.incarnation]
    idle = [*own.beats._idle, *own.calls._idle]
    assert len(idle) >= 2
    # The end of a connection travels like any byte, through a container's port forwarding too.
    eventually(lambda: not any(connection.is_idle() for connection in idle), within=5.0)
    assert actor.beat().lost == ()
    assert actor.proclaim(seat, b"v")
    assert set(actor.members("g")) == {"a"}


def test_a_slow_view_does_not_delay_a_heartbeat(link: Proxy, far: Arena) -> None:
    """BEAT-11: the heartbeat has a connection of its own, and passes a call that hangs."""
    actor = far.actor("a")
    actor.join("g")
    link.drop_replies(1)
    view = Background(lambda: actor.backend.read_group(actor.lease, "g", timeout=2.0))
    eventually(lambda: any(connection.broken for connection in link.connections), within=2.0)
    actor.beat()
    assert view.running
    with pytest.raises(Unavailable):
        view.result()


def test_connections_end_with_their_session(start_redis: Callable[..., Server], arena_on: Callable[..., Arena]) -> None:
    """A dropped session leaves no connection behind, its subscription's included."""
    server = start_redis()
    with Proxy(server.host, server.port) as proxy:
        actor = arena_on(f"redis://{proxy.address}", ttl=30.0).actor("a")
        actor.backend.watch(actor.lease, GroupSubject("g"), lambda: None, timeout=5.0)
        actor.close()
        actor.backend.drop_session(actor.lease)
        eventually(lambda: not any(thread.is_alive() for thread in _subscribers("a")), within=5.0)
        with pytest.raises(SessionLost):
            actor.members("g")
        eventually(lambda: _clients(server) == 1, within=5.0)


def _subscribers(member_id: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"drumbeat-redis-{member_id}"]


def _clients(server: Server) -> int:
    import redis

    with redis.Redis(port=server.port) as client:
        return len(client.client_list())


# Push -------------------------------------------------------------------------------------------------------


class Hints:
    """Counts the hints of a watch."""

    def __init__(self, actor: Actor) -> None:
        self.count = 0
        actor.backend.watch(actor.lease, GroupSubject("g"), self._hint, timeout=5.0)

    def came(self, *, within: float) -> None:
        """Wait for another hint."""
        before = self.count
        eventually(lambda: self.count > before, within=within)

    def _hint(self) -> None:
        self.count += 1


def test_a_killed_subscription_comes_back_and_hints(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """A subscription that is dropped is made again, and everybody is hinted, since something may have been missed."""
    server = start_redis()
    arena = arena_on(server.url, ttl=30.0)
    one, two = arena.actor("a"), arena.actor("b")
    hints = Hints(one)
    count = hints.count
    peek(server.port)("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(lambda: hints.count > count, within=5.0)
    count = hints.count
    two.join("g")
    eventually(lambda: hints.count > count, within=5.0)


def test_a_silent_subscription_is_noticed(link: Proxy, far: Arena) -> None:
    """A link that swallows everything is found out by pings, and hints come once it is sound again."""
    one, two = far.actor("a"), far.actor("b")
    hints = Hints(one)
    before = len(link.connections)
    link.black_hole()
    # Nobody calls: the only one to connect again is the subscription.
    eventually(lambda: len(link.connections) > before, within=5 * far.ttl)
    count = hints.count
    link.restore()
    eventually(lambda: hints.count > count, within=5 * far.ttl)
    # Its TTL may have passed meanwhile.
    two.open(two.request(replace=True))
    count = hints.count
    two.join("g")
    eventually(lambda: hints.count > count, within=5.0)


def test_a_watch_that_the_server_does_not_confirm_is_unavailable(link: Proxy, far: Arena) -> None:
    """`watch` returns only once the server has confirmed it; otherwise nothing is left behind."""
    actor = far.actor("a")
    actor.leader("e")
    link.cut()
    with pytest.raises(Unavailable):
        actor.backend.watch(actor.lease, LeaderSubject("e"), lambda: None, timeout=0.3)
    link.restore()
    actor.backend.watch(actor.lease, LeaderSubject("e"), lambda: None, timeout=5.0)()


def test_two_watches_of_a_group_share_a_subscription(redis_server: Server, far: Arena) -> None:
    """The end of one watch does not end another one of the same group."""
    one, two = far.actor("a"), far.actor("b")
    cancel = one.backend.watch(one.lease, GroupSubject("g"), lambda: None, timeout=5.0)
    hints = Hints(one)
    cancel()
    count = hints.count
    two.join("g")
    eventually(lambda: hints.count > count, within=5.0)


# What the server loses --------------------------------------------------------------------------------------


def test_a_lost_script_is_sent_again_in_the_same_attempt(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """SCRIPT FLUSH, as after a failover: no call fails."""
    server = start_redis()
    actor = arena_on(server.url, ttl=30.0).actor("a")
    for _ in range(2):
        peek(server.port)("SCRIPT", "FLUSH")
        assert actor.beat().lost == ()
        actor.join("g")
        peek(server.port)("SCRIPT", "FLUSH")
        assert set(actor.members("g")) == {"a"}


def test_a_flushed_server_knows_no_session(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """FLUSHALL: heartbeats and calls say SessionLost, and later tokens are greater than those that were lost."""
    server = start_redis()
    actor = arena_on(server.url, ttl=30.0).actor("a")
    token = actor.win("e").token
    peek(server.port)("FLUSHALL")
    with pytest.raises(SessionLost, match="lost with the data"):
        actor.beat()
    with pytest.raises(SessionLost):
        actor.join("g")
    actor.open()
    assert actor.win("e").token > token


def test_a_session_of_another_epoch_is_lost(redis_server: Server, far: Arena, peek: Peek) -> None:
    """A server that lost the birth record alone has lost data, so no session from before counts."""
    one, two = far.actor("a"), far.actor("b")
    one.win("e")
    peek(redis_server.port)("DEL", key(far, "birth"))
    with pytest.raises(SessionLost):
        one.beat()
    two.open(two.request())
    with pytest.raises(SessionLost, match="lost with the data"):
        one.beat()
    two.win("e")


def test_an_empty_volatile_server_grants_nothing_for_the_longest_ttl(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], caplog: pytest.LogCaptureFixture
) -> None:
    """A server without AOF that lost its data: no seat until whoever held one before must have noticed."""
    server = start_redis(persistent=False)
    arena = arena_on(f"{server.url}?longest_ttl=2")
    backend = arena.backend(on_empty_store=None)
    before = time.monotonic()
    actor = arena.actor("a", backend=backend)
    waiting = actor.wait_for("e")
    assert waiting.holder == Vacant()
    assert waiting.retry_after is not None
    assert 0 < waiting.retry_after <= 2.01
    assert "no seat is granted" in caplog.text
    actor.join("g")
    eventually(lambda: actor.beat().lost == () and isinstance(actor.campaign("e"), Won), within=10.0)
    assert time.monotonic() - before >= 2.0
    server.kill()
    server.start()
    with pytest.raises(SessionLost):
        actor.beat()
    actor.open()
    assert actor.wait_for("e").holder == Vacant()


def test_everybody_must_agree_on_the_longest_ttl(redis_server: Server, arena_on: Callable[..., Arena]) -> None:
    """The namespace keeps the longest TTL that it was made with; who says otherwise is refused with both numbers."""
    arena = arena_on(redis_server.url)
    arena.actor("a")
    other = arena_on(f"{redis_server.url}?longest_ttl=120")
    other._prefix = arena._prefix
    with pytest.raises(ConfigurationError, match=r"120.* 60"):
        other.actor("b")


def test_a_seat_or_membership_that_an_operator_deletes_is_lost(redis_server: Server, far: Arena, peek: Peek) -> None:
    """BEAT-10: what vanishes from the store alone comes back as lost from the next heartbeat."""
    actor = far.actor("a")
    seat = actor.win("e")
    actor.join("g")
    places = actor.holdings().memberships
    peek(redis_server.port)("DEL", key(far, "seat:e"), key(far, "group:g"))
    assert set(actor.beat().lost) == {seat, *places}
    actor.seats.clear()
    actor.places.clear()
    assert actor.beat().lost == ()


def test_a_token_rises_above_the_last_one_when_the_clock_is_behind(
    redis_server: Server, far: Arena, peek: Peek
) -> None:
    """A token is the greater of the clock's microseconds and the last one plus one, with every digit."""
    actor = far.actor("a")
    seat = actor.win("e")
    assert abs(seat.token / 1e6 - time.time()) < 60
    actor.resign(seat)
    ahead = 2**53 - 3
    peek(redis_server.port)("HSET", key(far, "seat:e"), "token", ahead)
    assert actor.win("e").token == ahead + 1


# What the server refuses ------------------------------------------------------------------------------------


def test_a_full_server_refuses_what_grows_and_keeps_sessions(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """Out of memory: a join is Unavailable with the reason, and heartbeats go on."""
    server = start_redis()
    actor = arena_on(server.url, ttl=30.0).actor("a")
    seat = actor.win("e")
    peek(server.port)("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(Unavailable, match="out of memory"):
        actor.backend.join_group(actor.lease, "g", attempt=actor.next_attempt(), value=b"", timeout=5.0)
    assert actor.beat().lost == ()
    assert actor.resign(seat)


def test_a_demoted_primary_has_done_nothing(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """A server that becomes a replica is Unavailable, nothing was changed, and all goes on once it is primary again."""
    server = start_redis()
    actor = arena_on(server.url, ttl=30.0).actor("a")
    actor.join("g")
    peek(server.port)("REPLICAOF", "127.0.0.1", "1")
    for call in (actor.beat, lambda: actor.update("g", b"2"), lambda: actor.members("h")):
        with pytest.raises(Unavailable, match="replica") as failure:
            call()
        assert failure.value.outcome == "not_applied"
    peek(server.port)("REPLICAOF", "NO", "ONE")
    assert actor.beat().lost == ()


def test_a_server_that_waits_for_replicas_of_its_own_is_unavailable(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Peek
) -> None:
    """min-replicas-to-write on the server: what it refuses was not applied."""
    server = start_redis()
    actor = arena_on(server.url, ttl=30.0).actor("a")
    peek(server.port)("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(Unavailable, match="too few replicas") as failure:
        actor.join("g")
    assert failure.value.outcome == "not_applied"


# Costs and leavings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("holdings", [1, 50])
def test_a_heartbeat_is_one_round_trip(link: Proxy, far: Arena, holdings: int) -> None:
    """BEAT-6: with 1 or 50 groups and seats, one turn at the wire, on a connection that stands already."""
    actor = far.actor("a")
    for number in range(holdings):
        actor.join(f"g{number}")
        actor.win(f"e{number}")
    for _ in range(3):
        before = link.turns
        assert actor.beat().lost == ()
        assert link.turns == before + 1


@pytest.mark.parametrize("size", [10, 1000])
def test_a_view_is_one_round_trip(redis_server: Server, link: Proxy, arena_on: Callable[..., Arena], size: int) -> None:
    """A view with metadata is one turn at the wire, with 10 members or 1000."""
    arena = arena_on(f"redis://{link.address}", ttl=50.0)
    reader = arena.actor("reader")
    reader.groups()
    crowd = arena.backend(url=redis_server.url)
    for number in range(size):
        lease = crowd.open_session(replace(reader.request(), member_id=f"m{number}"), timeout=5.0)
        crowd.join_group(lease, "g", attempt=1, value=b'{"zone": "a"}' * 5, timeout=5.0)
        crowd.drop_session(lease)
    before = link.turns
    assert len(reader.members("g")) == size
    assert link.turns == before + 1


def test_nothing_is_left_but_vacant_seats(redis_server: Server, far: Arena, peek: Peek) -> None:
    """After all sessions have closed only the birth record is left, and a seat's token for a week."""
    for name in "ab":
        actor = far.actor(name)
        actor.join("g")
        actor.campaign("e")
        actor.close()
    assert keys(far, peek, redis_server) == {"birth", "seat:e"}
    left = peek(redis_server.port)("PTTL", key(far, "seat:e"))
    assert isinstance(left, int)
    assert 6 * 24 * 3600 * 1000 < left <= 7 * 24 * 3600 * 1000
    far.actor("c").win("e")
    assert peek(redis_server.port)("PTTL", key(far, "seat:e")) == -1


def test_what_dead_members_leave_goes_with_the_next_look(redis_server: Server, far: Arena, peek: Peek) -> None:
    """A group whose members all died is gone from the server once somebody has looked."""
    dead, reader = far.actor("a"), far.actor("b")
    dead.join("g")
    dead.join("h")
    far.pass_time(1.5, reader)
    assert "group:g" in keys(far, peek, redis_server)
    assert reader.members("g") == {}
    assert reader.groups() == set()
    assert keys(far, peek, redis_server) == {"birth", "session:b"}
