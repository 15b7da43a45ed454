"""The hazards of etcd that can be provoked on a real one, and what becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import pytest

import drumbeat
from drumbeat import SessionLost, Unavailable, Vacant
from drumbeat._facade import Backend
from drumbeat.hookspecs import (
    BackendURL,
    CandidacySubject,
    GroupSubject,
    Holdings,
    LeaderSubject,
    Lease,
    Membership,
    SessionRequest,
    Subject,
    Waiting,
    Won,
)
from drumbeat_conformance.actor import TIMEOUT, leader_id, plugin_of
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.servers import EtcdCluster, Server
from drumbeat_conformance.waiting import Background, eventually
from drumbeat_etcd._client import Client
from drumbeat_etcd._findings import Look
from drumbeat_etcd._operations import Place
from drumbeat_etcd._options import read_options
from drumbeat_etcd._watches import Watch, Watches

if TYPE_CHECKING:
    from backends.etcd.tests.conftest import Operator

#: Seconds: the lease of sessions that a test plays without beating.
LONG = 30.0

T = TypeVar("T")
#: Seconds.
TTL = 2.0
OperatorOf = Callable[[Server], "Operator"]
MakeArena = Callable[..., Arena]
StartEtcd = Callable[..., Server]


class Hints:
    """Counts the hints of one watch."""

    def __init__(self, actor: object, subject: Subject) -> None:
        self.count = 0
        actor.backend.watch(actor.lease, subject, self._hint, timeout=TIMEOUT)  # type: ignore[attr-defined]

    def _hint(self) -> None:
        self.count += 1

    def came_since(self, count: int) -> bool:
        """Wait for a hint."""
        return eventually(lambda: self.count > count, within=5 * TTL)


# Leases -----------------------------------------------------------------------------------------------------


def test_the_granted_ttl_is_the_one_that_counts(start_etcd: StartEtcd, arena_on: MakeArena) -> None:
    """A server that grants 2 s for the 1 s asked for says so in the lease, at opening, again, and at each heartbeat."""
    arena = arena_on(start_etcd(quick=False).url, ttl=1.0)
    actor = arena.actor("a")
    assert actor.lease.ttl == 2.0
    request = replace(actor.request(), incarnation=actor.lease.incarnation)
    assert actor.backend.open_session(request, timeout=TIMEOUT) == actor.lease
    assert actor.beat().lease == actor.lease


def test_a_fraction_of_a_second_is_rounded_up(etcd_server: Server, arena_on: MakeArena) -> None:
    """A lease lasts whole seconds: one and a half become two, never one."""
    assert arena_on(etcd_server.url, ttl=1.5).actor("a").lease.ttl == 2.0


def test_a_revoked_lease_is_a_lost_session(operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena) -> None:
    """A heartbeat on a lease that an operator has revoked raises SessionLost now, and creates nothing."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    actor = arena.actor("a")
    actor.join("g")
    root = f"{arena._prefix}tests/"
    operator.ask("lease/revoke", ID=operator.lease_of(f"{root}session/a"))
    with pytest.raises(SessionLost, match="no lease"):
        actor.beat()
    assert list(operator.read(root)) == [f"{root}birth"]


def test_a_session_key_that_is_gone_is_a_lost_session(
    operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena
) -> None:
    """A session whose key an operator has deleted is lost, though its lease is alive: its id may be taken by now."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    actor = arena.actor("a")
    assert operator.delete(f"{arena._prefix}tests/session/a")
    with pytest.raises(SessionLost, match="gone"):
        actor.beat()


def test_failed_attempts_leak_no_lease(operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena) -> None:
    """Neither a refused opening nor any number of campaigns leaves a lease behind: there is one for each session."""
    server = start_etcd()
    arena, operator = arena_on(server.url, ttl=LONG), operator_of(server)
    leader, candidate = arena.actor("a"), arena.actor("b")
    leader.win("e")
    for _ in range(5):
        with pytest.raises(drumbeat.Conflict):
            arena.actor("a")
        candidate.wait_for("e")
        candidate.withdraw("e", candidate.newest_attempt)
    assert operator.leases() == 2
    candidate.close()
    assert operator.leases() == 1


def test_a_race_for_a_member_id_leaks_no_lease(
    operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena
) -> None:
    """Of ten sessions that open under one id at the same moment one lives, and there is one lease."""
    server = start_etcd()
    arena, operator = arena_on(server.url, ttl=60.0), operator_of(server)
    backends = [arena.backend() for _ in range(10)]
    requests = [SessionRequest(incarnation=f"racer-{number}", member_id="a", ttl=60.0) for number in range(10)]
    start = threading.Barrier(10)

    def race(number: int) -> Lease:
        start.wait()
        return backends[number].open_session(requests[number], timeout=TIMEOUT)

    racers = [Background(partial(race, number)) for number in range(10)]
    assert sum(_opened(racer) for racer in racers) == 1
    assert operator.leases() == 1


# Seats ------------------------------------------------------------------------------------------------------


def test_a_lost_reply_of_a_win_is_one_win(operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena) -> None:
    """A campaign whose answer was lost raises with outcome unknown; repeated it has the same seat, won once."""
    operator = operator_of(etcd_server)
    with Proxy(etcd_server.host, etcd_server.port) as proxy:
        arena = arena_on(f"etcd://{proxy.address}", ttl=LONG)
        actor = arena.actor("a")
        proxy.drop_replies()
        with pytest.raises(Unavailable) as failure:
            actor.backend.campaign(actor.lease, "e", attempt=1, value=b"1", timeout=TTL / 4)
        assert failure.value.outcome == "unknown"
        proxy.restore()
        won = eventually(lambda: _answer(lambda: actor.campaign("e")), within=TTL)
        assert isinstance(won, Won)
        root = f"{arena._prefix}tests/"
        assert [key for key in operator.read(root) if key.startswith((f"{root}cand", f"{root}lead"))] == [
            f"{root}candidate/e/{actor.lease.incarnation}/1",
            f"{root}leader/e",
        ]
        assert actor.beat().lost == ()


@pytest.mark.parametrize("kind", ["leader", "candidate"])
def test_a_seat_that_an_operator_deletes_is_lost(
    operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena, kind: str
) -> None:
    """BEAT-10: either of the two keys of a seat may vanish; the holder is told at once, and the next one wins."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    holder, other = arena.actor("a"), arena.actor("b")
    seat = holder.win("e")
    other.wait_for("e")
    key = f"{arena._prefix}tests/leader/e"
    if kind == "candidate":
        key = key.replace("/leader/", "/candidate/") + f"/{holder.lease.incarnation}/{seat.attempt}"
    assert operator.delete(key)
    assert holder.beat().lost == (seat,)
    assert not isinstance(other.campaign("e"), Won)
    holder.seats.clear()
    assert holder.beat().lost == ()
    assert other.win("e").token > seat.token


def test_a_membership_that_an_operator_deletes_is_lost(
    operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena
) -> None:
    """BEAT-10: the heartbeat tells of a membership whose key is gone."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    actor = arena.actor("a")
    actor.join("g")
    assert operator.delete(f"{arena._prefix}tests/member/g/{actor.lease.incarnation}/{1:016}")
    assert actor.beat().lost == (Membership("g", 1),)


def test_a_join_that_comes_late_does_not_undo_a_newer_one(etcd_server: Server, arena_on: MakeArena) -> None:
    """GROUP-1: of two joins of one session the later attempt counts, in whatever order they are applied."""
    actor = arena_on(etcd_server.url, ttl=LONG).actor("a")
    newest = Holdings(memberships=(Membership("g", 10),), newest_attempt=10)
    for attempt in (2, 10, 9, 10, 1):
        value = str(attempt).encode()
        actor.backend.join_group(actor.lease, "g", attempt=attempt, value=value, timeout=TIMEOUT)
        assert actor.members("g") == {"a": b"2" if attempt == 2 else b"10"}
    assert actor.backend.heartbeat(actor.lease, newest, timeout=TIMEOUT).lost == ()
    assert actor.members("g") == {"a": b"10"}


def test_what_a_server_lists_late_is_not_lost(
    etcd_server: Server, arena_on: MakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's server may list keys without the newest ones: what is missing is read before it is called lost."""
    actor = arena_on(etcd_server.url, ttl=LONG).actor("a")
    actor.join("g")
    seat = actor.win("e")
    beat = Client.beat
    monkeypatch.setattr(Client, "beat", lambda *given: replace(beat(*given), keys=frozenset()))
    assert actor.beat().lost == ()
    actor.backend.resign(actor.lease, seat, timeout=TIMEOUT)
    assert actor.beat().lost == (seat,)


def test_two_candidates_of_one_session_have_keys_of_their_own(
    operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena
) -> None:
    """Two attempts of a session never share a key: the second waits behind the first, and wins after it."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    actor = arena.actor("a")
    first = actor.win("e")
    waiting = actor.wait_for("e")
    assert leader_id(waiting.holder) == "a"
    assert len(operator.read(f"{arena._prefix}tests/candidate/e/")) == 2
    actor.resign(first)
    assert actor.win("e").token > first.token


def test_a_candidate_whose_key_is_gone_does_not_win(
    operator_of: OperatorOf, etcd_server: Server, arena_on: MakeArena
) -> None:
    """Who lost its place in the queue unknowingly queues again, behind who came meanwhile."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    leader, second, third = (arena.actor(name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    assert operator.delete(f"{arena._prefix}tests/candidate/e/{second.lease.incarnation}/1")
    leader.resign(seat)
    assert isinstance(second.campaign("e"), Waiting)
    third.win("e")


# Watches ----------------------------------------------------------------------------------------------------


def test_watches_survive_a_compaction(operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena) -> None:
    """Each kind of watch goes on when the history that it began in has been forgotten."""
    server = start_etcd()
    arena, operator = arena_on(server.url, ttl=LONG), operator_of(server)
    leader, candidate, watcher = arena.actor("a"), arena.actor("b"), arena.actor("c")
    seat = leader.win("e")
    candidate.wait_for("e")
    subjects = (GroupSubject("g"), LeaderSubject("e"))
    hints = [Hints(watcher, subject) for subject in subjects]
    hints.append(Hints(candidate, CandidacySubject("e", candidate.newest_attempt)))
    for number in range(100):
        operator.put("elsewhere", str(number))
    operator.compact()
    counts = [each.count for each in hints]
    watcher.join("g")
    leader.resign(seat)
    assert all(each.came_since(count) for each, count in zip(hints, counts, strict=True))


def test_watches_survive_a_compaction_while_they_were_cut_off(
    operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena
) -> None:
    """What happened and was compacted while the link was down is hinted once it is back, and so is what comes later."""
    server = start_etcd()
    operator = operator_of(server)
    with Proxy(server.host, server.port) as proxy:
        near, arena = arena_on(server.url, ttl=LONG), arena_on(f"etcd://{proxy.address}", ttl=LONG)
        arena._prefix = near._prefix
        leader, candidate = near.actor("a"), arena.actor("b")
        seat = leader.win("e")
        candidate.wait_for("e")
        subjects: tuple[Subject, ...] = (GroupSubject("g"), CandidacySubject("e", candidate.newest_attempt))
        hints = [Hints(candidate, subject) for subject in subjects]
        counts = [each.count for each in hints]
        proxy.cut()
        leader.join("g")
        leader.resign(seat)
        operator.compact()
        proxy.restore()
        assert all(each.came_since(count) for each, count in zip(hints, counts, strict=True))
        counts = [each.count for each in hints]
        leader.leave("g")
        assert hints[0].came_since(counts[0])


def test_a_watch_that_was_compacted_away_is_placed_anew(
    operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena
) -> None:
    """When the server ends a watch since what it should tell is compacted, it is placed at what is there now."""
    server = start_etcd()
    operator = operator_of(server)
    watches: Watches = plugin_of(_watching(arena_on(server.url, ttl=LONG)))._watches  # type: ignore[attr-defined]
    operator.put("x", "1")
    operator.put("x", "2")
    operator.compact()
    starts = [0, operator.revision() - 1]
    hints: SimpleQueue[None] = SimpleQueue()
    watch = Watch(lambda _: (Place("x", start=starts.pop()), False), lambda: hints.put(None))
    cancel = watches.add(watch, TIMEOUT)
    hints.get(timeout=TIMEOUT)
    eventually(lambda: not starts, within=TTL)
    operator.put("x", "3")
    hints.get(timeout=TIMEOUT)
    cancel()


def test_a_candidate_waits_for_its_predecessor_alone(etcd_server: Server, arena_on: MakeArena) -> None:
    """No herd: when the seat changes hands, only the next candidate is woken."""
    arena = arena_on(etcd_server.url, ttl=LONG)
    leader, second, third = (arena.actor(name) for name in "abc")
    seat = leader.win("e")
    hints = []
    for actor in (second, third):
        actor.wait_for("e")
        hints.append(Hints(actor, CandidacySubject("e", actor.newest_attempt)))
    leader.resign(seat)
    assert hints[0].came_since(0)
    second.win("e")
    # What the third was told of until now has come by the time that a later event has.
    later = Hints(third, GroupSubject("g"))
    third.join("g")
    assert later.came_since(0)
    assert hints[1].count == 0


# Servers that stop ------------------------------------------------------------------------------------------


def test_a_session_survives_a_restart_within_its_ttl(start_etcd: StartEtcd, arena_on: Callable[..., Arena]) -> None:
    """FAULT-1: a server that comes back with its data before the TTL has passed takes nothing away."""
    server = start_etcd()
    session = arena_on(server.url, ttl=20.0).connect("a")
    session.group("g").join()
    before = session.incarnation
    with session.election("e").campaign(timeout=TIMEOUT) as term:
        server.kill()
        server.start()
        eventually(lambda: _answer(lambda: session.election("e").leader()), within=TIMEOUT)
        eventually(lambda: _beats(session), within=TIMEOUT)
        assert session.incarnation == before
        assert term.held
        assert [member.member_id for member in session.group("g").members()] == ["a"]


@pytest.mark.parametrize("wiped", [False, True], ids=["with-data", "without-data"])
def test_a_session_recovers_after_a_long_outage(
    start_etcd: StartEtcd, arena_on: Callable[..., Arena], *, wiped: bool
) -> None:
    """FAULT-1 and 2: after an outage of more than the TTL the term is lost, the group rejoined, a leader elected."""
    server = start_etcd()
    session = arena_on(server.url).connect("a")
    session.group("g").join()
    term = session.election("e").campaign(timeout=TIMEOUT)
    server.kill()
    eventually(lambda: not term.held, within=2 * TTL)
    if wiped:
        server.wipe()
    server.start()
    eventually(lambda: session.state.name == "CONNECTED", within=5 * TTL)
    assert eventually(lambda: _answer(lambda: [m.member_id for m in session.group("g").members()]), within=5 * TTL)
    assert not term.held
    again = session.election("e").campaign(timeout=5 * TTL)
    assert wiped or again.token > term.token


def test_an_empty_store_grants_no_seat_before_the_longest_ttl(
    start_etcd: StartEtcd, arena_on: MakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With on_empty_store=wait nobody wins in a new store until every session from before a wipe must be over."""
    monkeypatch.setattr("drumbeat_etcd._backend.LONGEST_WAIT", 3.0)
    arena = arena_on(start_etcd().url)
    started = time.monotonic()
    actor = arena.actor("a", backend=arena.backend(on_empty_store="wait"))
    while isinstance(waiting := actor.campaign("e"), Waiting):
        assert waiting.holder == Vacant()
        arena.wait(arena.ttl / 20)
        actor.beat()
    assert 3.0 <= time.monotonic() - started <= 3.0 + 2 * arena.ttl
    arena.actor("b").win("f")


def test_a_frozen_server_delays_nothing_beyond_the_timeout(start_etcd: StartEtcd, arena_on: MakeArena) -> None:
    """FAULT-3 and 9: with a server that has stopped answering each hook returns in time, and dropping is immediate."""
    server = start_etcd()
    actor = arena_on(server.url, ttl=LONG).actor("a")
    Hints(actor, GroupSubject("g"))
    server.pause()
    try:
        for call in (
            actor.backend.heartbeat,
            lambda lease, _, timeout: actor.backend.close_session(lease, timeout=timeout),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                call(actor.lease, actor.holdings(), timeout=TTL / 4)
            assert time.monotonic() - started < TTL
        started = time.monotonic()
        assert actor.backend.drop_session(actor.lease).was_open
        assert time.monotonic() - started < TTL / 4
    finally:
        server.resume()


def test_a_cluster_that_loses_its_leader_keeps_its_sessions(
    operator_of: OperatorOf, start_etcd_cluster: Callable[..., EtcdCluster], arena_on: Callable[..., Arena]
) -> None:
    """With several endpoints a session outlives the server that it talks to, the leader of the cluster included."""
    nodes = start_etcd_cluster().nodes
    leader = operator_of(nodes[0]).leader()
    first = sorted(nodes, key=lambda node: operator_of(node).member() != leader)
    session = arena_on(f"etcd://{','.join(node.address for node in first)}", ttl=5.0).connect("a")
    session.group("g").join()
    changes = session.group("g").watch()
    next(changes)
    term = session.election("e").campaign(timeout=TIMEOUT)
    first[0].kill()
    found = eventually(lambda: _answer(lambda: session.election("e").leader()), within=10.0)
    assert eventually(
        lambda: _answer(lambda: operator_of(first[1]).leader() and session.state.name == "CONNECTED"), within=10.0
    )
    assert term.held
    assert getattr(found, "token", None) == term.token
    session.group("g").update({"after": 1})
    assert next(changes).view.members[0].metadata == {"after": 1}


def test_a_server_cut_off_from_the_majority_says_so(
    start_etcd_cluster: Callable[..., EtcdCluster], arena_on: MakeArena
) -> None:
    """Without a majority nothing is renewed, read or won, and the error comes at once, with nothing changed."""
    first, *others = start_etcd_cluster().nodes
    actor = arena_on(first.url, ttl=5.0).actor("a")
    actor.win("e")
    for node in others:
        node.kill()
    failure = eventually(lambda: _failure(actor.beat, outcome="not_applied"), within=10.0)
    assert "no leader" in str(failure)
    for call in (lambda: actor.leader("e"), lambda: actor.campaign("f"), lambda: actor.members("g")):
        assert _failure(call, outcome="not_applied")


# What an operator is told -----------------------------------------------------------------------------------


def test_doctor_tells_of_the_cluster(start_etcd_cluster: Callable[..., EtcdCluster], arena_on: MakeArena) -> None:
    """`doctor` tells version and servers, which of them are silent, and that a URL leaves some out."""
    cluster = start_etcd_cluster()
    first = cluster.nodes[0]
    told = [arena_on(url, ttl=LONG).backend().diagnose(timeout=TIMEOUT) for url in (cluster.url, first.url)]
    assert [each[0].level for each in told] == ["ok", "ok"]
    assert "3 of the 3 servers in the URL answer, and the cluster has 3" in told[0][0].message
    assert not any("does not answer" in finding.message for finding in told[0])
    assert "the URL names one server, and the cluster has 3" in told[1][-1].message
    cluster.nodes[-1].kill()
    silent = f"{cluster.nodes[-1].address} does not answer"
    assert silent in [
        finding.message for finding in arena_on(cluster.url, ttl=LONG).backend().diagnose(timeout=TIMEOUT)
    ]


def test_doctor_tells_of_an_alarm(operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena) -> None:
    """`doctor` tells that the only server is full."""
    server = start_etcd()
    operator = operator_of(server)
    operator.ask("maintenance/alarm", action="ACTIVATE", memberID=operator.member(), alarm="NOSPACE")
    good, alone, full = arena_on(server.url, ttl=LONG).backend().diagnose(timeout=TIMEOUT)
    assert [each.level for each in (good, alone, full)] == ["ok", "warning", "warning"]
    assert "only server" in alone.message
    assert "NOSPACE" in full.message


@pytest.mark.parametrize(
    ("version", "members", "is_told"),
    [
        ("3.4.30", 3, True),
        ("3.4.30", None, True),
        ("3.4.30", 1, False),
        ("3.4.31", 3, False),
        ("3.5.12", 3, True),
        ("3.5.13-rc.0", 3, False),
        ("3.6.0", 3, False),
    ],
)
def test_doctor_tells_of_a_version_whose_leader_may_end_leases(
    version: str, members: int | None, *, is_told: bool
) -> None:
    """The issue 15247 of etcd is told of where it can happen, and only there."""
    options = read_options(BackendURL.parse("etcd://h"))
    findings = Look({"h:2379": version}, members, frozenset()).findings(options)
    assert any("freezes" in finding.message for finding in findings) is is_told


# What it costs ----------------------------------------------------------------------------------------------


def test_a_heartbeat_costs_the_same_whatever_is_held(
    operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena
) -> None:
    """BEAT-6: three requests, sent together, with 1 and with 50 groups and seats."""
    server = start_etcd()
    operator = operator_of(server)
    actor = arena_on(server.url, ttl=10.0).actor("a")
    costs = []
    for count in (1, 50):
        for number in range(len(actor.seats), count):
            actor.join(f"g{number}")
            actor.win(f"e{number}")
        before = operator.requests()
        assert actor.beat().lost == ()
        costs.append(operator.requests() - before)
    assert costs == [3, 3]


def test_a_heartbeat_takes_one_round_trip_on_a_connection_of_its_own(etcd_server: Server, arena_on: MakeArena) -> None:
    """BEAT-6 and 11: where an answer takes a second, so does a heartbeat, and it shares no connection with reads."""
    with Proxy(etcd_server.host, etcd_server.port) as proxy:
        actor = arena_on(f"etcd://{proxy.address}", ttl=10.0).actor("a")
        actor.win("e")
        connections = len(proxy.connections)
        actor.beat()
        assert len(proxy.connections) == connections + 1
        proxy.delay(1.0)
        started = time.monotonic()
        actor.beat()
        assert 1.0 <= time.monotonic() - started < 2.0


def test_a_view_of_a_thousand_is_one_request(
    operator_of: OperatorOf, start_etcd: StartEtcd, arena_on: MakeArena
) -> None:
    """A view costs one request, however many members with metadata it has."""
    server = start_etcd()
    operator = operator_of(server)
    arena = arena_on(server.url, ttl=LONG)
    actor = arena.actor("a")
    actor.join("g", b"x" * 100)
    ((key, value),) = operator.read(f"{arena._prefix}tests/member/g/").items()
    for number in range(999):
        operator.put(key.replace(f"/{1:016}", f"/{number + 2:016}"), value.replace('"a"', f'"a{number}"'))
    before = operator.requests()
    assert len(actor.members("g")) == 1000
    assert operator.requests() - before == 1


def _opened(racer: Background[Lease]) -> bool:
    try:
        racer.result()
    except drumbeat.Conflict:
        return False
    return True


def _watching(arena: Arena) -> Backend:
    actor = arena.actor("a")
    Hints(actor, GroupSubject("g"))
    return actor.backend


def _beats(session: drumbeat.Session) -> bool:
    try:
        session.beat()
    except Unavailable:
        return False
    return True


def _answer(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Unavailable:
        return None


def _failure(call: Callable[[], object], *, outcome: str) -> Unavailable | None:
    try:
        call()
    except Unavailable as error:
        return error if error.outcome == outcome else None
    return None
