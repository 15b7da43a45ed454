"""What a Memcached can do to those who coordinate through it, on a real one, where a missing seat is not trusted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

import pytest

import drumbeat
from drumbeat import BadData, State, Unavailable
from drumbeat._cas.records import Keys
from drumbeat.hookspecs import Capability, Holdings, SessionRequest, Waiting, Won
from drumbeat_conformance.actor import TIMEOUT, plugin_of
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.waiting import Background, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat._facade import Backend
    from drumbeat_conformance.servers import Server
    from drumbeat_memcached import MemcachedBackend

    Ask = Callable[[int, bytes], bytes]
    MakeArena = Callable[[str], Arena]
    Start = Callable[..., Server]
    Store = Callable[[str], MemcachedBackend]

#: Seconds of a lease.
TTL = 1.0
#: A server that evicts what was stored first, as soon as a size of items fills its one page.
EVICTING = ("-m", "1", "-I", "512k", "-o", "no_lru_maintainer,no_lru_crawler")


def connect(cluster: Arena, member_id: str, *, lease_ttl: float = TTL, heartbeat: str = "auto") -> drumbeat.Session:
    """Open a session as this backend does by itself: what is missing is not trusted."""
    return cluster.connect(member_id, on_empty_store=None, lease_ttl=lease_ttl, heartbeat=heartbeat)


def lead(session: drumbeat.Session) -> drumbeat.Term:
    """Win `e`, as soon as the namespace's birth lets anybody."""
    return session.election("e").campaign(timeout=20 * TTL)


def succeed(session: drumbeat.Session, term: drumbeat.Term) -> drumbeat.Term:
    """Win `e` after `term`; fail if both were held at one moment, or if the token is not higher."""
    waiting = Background(lambda: (lead(session), time.monotonic()))
    last_held = 0.0
    while waiting.running:
        if term.held:
            last_held = time.monotonic()
        time.sleep(0.002)
    won = waiting.result()
    assert isinstance(won, tuple)
    successor, at = won
    assert last_held < at
    assert not term.held
    assert successor.token > term.token
    assert isinstance(successor, drumbeat.Term)
    return successor


def keys_of(session: drumbeat.Session) -> Keys:
    """Return the keys of the session's namespace."""
    return Keys(session.namespace)


def evict(ask: Ask, server: Server, key: str) -> None:
    """Store items of the same size as that of `key` until the server has no room left for it.

    Each batch fills the page: what a session writes anew at every heartbeat would never be the oldest otherwise.
    """
    found = ask(server.port, f"gets {key}\r\n".encode()).split()
    assert found[0] == b"VALUE"
    value = b"x" * int(found[3])
    for batch in range(20):
        names = (f"{batch}-{number}".rjust(len(key), "f") for number in range(3000))
        ask(server.port, b"".join(f"set {name} 0 0 {len(value)}\r\n".encode() + value + b"\r\n" for name in names))
        if ask(server.port, f"gets {key}\r\n".encode()) == b"END\r\n":
            return
    pytest.fail(f"{key} was not evicted")


# Time to live -----------------------------------------------------------------------------------------------


def test_a_term_shorter_than_the_granularity_of_expiry_is_held(start_memcached: Start, arena_on: MakeArena) -> None:
    """BEAT-1: a TTL of 0.6 s is kept, though the server's own expiry may come a whole second early."""
    session = connect(arena_on(start_memcached().url), "a", lease_ttl=0.6)
    term = lead(session)
    until = time.monotonic() + 10 * 0.6
    while time.monotonic() < until:
        assert term.held
        time.sleep(0.01)


def test_only_session_records_expire(start_memcached: Start, arena_on: MakeArena, ask: Ask) -> None:
    """Seats, rosters, values and the birth record stay; a session's record goes long after its lease."""
    server = start_memcached()
    session = connect(arena_on(server.url), "a")
    session.group("g").join({})
    lead(session)
    keys = keys_of(session)
    kept = (keys.birth, keys.groups, keys.roster("g"), keys.value("g", "a"), keys.seat("election/e"))
    answers = ask(server.port, "".join(f"mg {key} t\r\n" for key in kept).encode()).splitlines()
    assert set(answers) == {b"HD t-1"}
    left = ask(server.port, f"mg {keys.session('a')} t\r\n".encode())
    assert int(left.split()[1][1:]) > 60


# Losing everything ------------------------------------------------------------------------------------------


def test_an_empty_server_makes_the_first_leader_wait(start_memcached: Start, arena_on: MakeArena) -> None:
    """Nothing is granted in a new store until every session that it may have forgotten is over; joins are at once."""
    here = arena_on(start_memcached().url)
    started = time.monotonic()
    session = connect(here, "a")
    session.group("g").join({})
    assert "a" in session.group("g").members()
    lead(session)
    assert time.monotonic() - started >= 2 * TTL


@pytest.mark.parametrize("how", ["flush_all", "restart"])
def test_everything_is_lost(start_memcached: Start, arena_on: MakeArena, ask: Ask, how: str) -> None:
    """FAULT-2: the leader is told, rejoins its groups, and nobody leads before its term is over."""
    server = start_memcached()
    here = arena_on(server.url)
    leader, other = connect(here, "a"), connect(here, "b")
    leader.group("g").join({"n": 1})
    term, before = lead(leader), leader.incarnation
    if how == "flush_all":
        assert ask(server.port, b"flush_all\r\n") == b"OK\r\n"
    else:
        server.kill()
        server.start()
    succeed(other, term)
    eventually(lambda: leader.incarnation != before and leader.state is State.CONNECTED, within=20 * TTL)
    eventually(lambda: "a" in other.group("g").members(), within=20 * TTL)


def test_everything_is_lost_while_the_leader_is_silent(start_memcached: Start, arena_on: MakeArena, ask: Ask) -> None:
    """LEAD-8: a leader that does not look for a while still has its term to itself until its own deadline."""
    server = start_memcached()
    here = arena_on(server.url)
    leader, other = connect(here, "a", heartbeat="manual"), connect(here, "b")
    term = _lead_by_hand(leader)
    ask(server.port, b"flush_all\r\n")
    succeed(other, term)


# Losing one thing -------------------------------------------------------------------------------------------


def test_a_seat_that_an_operator_deletes(start_memcached: Start, arena_on: MakeArena, ask: Ask) -> None:
    """BEAT-10: a held seat that is gone from the server is noticed by its holder within one heartbeat."""
    server = start_memcached()
    session = connect(arena_on(server.url), "a")
    term = lead(session)
    assert ask(server.port, f"delete {keys_of(session).seat('election/e')}\r\n".encode()) == b"DELETED\r\n"
    eventually(lambda: not term.held, within=TTL)
    assert session.state is State.CONNECTED
    assert lead(session).token > term.token


@pytest.mark.parametrize("how", ["delete", "evict"])
def test_a_seat_that_is_gone_is_not_taken_for_free(
    start_memcached: Start, arena_on: MakeArena, ask: Ask, how: str
) -> None:
    """LEAD-8: while a leader has not noticed that its seat is gone, nobody else wins it."""
    server = start_memcached(arguments=EVICTING)
    here = arena_on(server.url)
    leader, other = connect(here, "a", heartbeat="manual"), connect(here, "b")
    term = _lead_by_hand(leader)
    term.proclaim({"a value for a size": "v" * 5000})
    seat = keys_of(leader).seat("election/e")
    if how == "delete":
        ask(server.port, f"delete {seat}\r\n".encode())
    else:
        evict(ask, server, seat)
    assert term.held
    succeed(other, term)


def test_an_evicted_seat_is_noticed(start_memcached: Start, arena_on: MakeArena, ask: Ask) -> None:
    """BEAT-10: the same for a seat that went for want of memory."""
    server = start_memcached(arguments=EVICTING)
    session = connect(arena_on(server.url), "a")
    term = lead(session)
    term.proclaim({"a value for a size": "v" * 5000})
    evict(ask, server, keys_of(session).seat("election/e"))
    eventually(lambda: not term.held, within=TTL)
    assert lead(session).token > term.token


def test_an_evicted_roster_is_written_again(start_memcached: Start, arena_on: MakeArena, ask: Ask) -> None:
    """Members whose group's roster is gone notice, and join again by themselves."""
    server = start_memcached(arguments=EVICTING)
    here = arena_on(server.url)
    sessions = [connect(here, f"{number}-{'m' * 90}", lease_ttl=2 * TTL) for number in range(8)]
    for session in sessions:
        session.group("g").join({})
    group = sessions[0].group("g")
    assert len(group.members()) == len(sessions)
    evict(ask, server, keys_of(sessions[0]).roster("g"))
    eventually(lambda: len(group.members()) == len(sessions), within=10 * TTL)


def test_an_evicted_session_is_lost(start_memcached: Start, arena_on: MakeArena, ask: Ask) -> None:
    """LEAD-8: a session whose record is gone is told, and its seat goes to the next only when its term is over."""
    server = start_memcached(arguments=EVICTING)
    here = arena_on(server.url)
    leader, other = connect(here, "a" * 90), connect(here, "b")
    term, before = lead(leader), leader.incarnation
    evict(ask, server, keys_of(leader).session(leader.member_id))
    succeed(other, term)
    eventually(lambda: leader.incarnation != before and leader.state is State.CONNECTED, within=20 * TTL)


# What can be trusted ----------------------------------------------------------------------------------------


def test_a_missing_seat_is_trusted_while_nothing_was_lost(start_memcached: Start, arena_on: MakeArena) -> None:
    """Once the birth is over, a new election has a leader at once, whatever members did meanwhile."""
    session = connect(arena_on(start_memcached().url), "a")
    lead(session).resign()
    session.group("g").join({})
    session.group("g").leave()
    started = time.monotonic()
    session.election("another").campaign(timeout=20 * TTL)
    assert time.monotonic() - started < TTL


def test_every_loss_changes_the_mark(start_memcached: Start, store: Store, ask: Ask) -> None:
    """What can lose a key that does not expire shows in the mark; what cannot does not."""
    server = start_memcached(arguments=EVICTING)
    backend = store(server.url)
    marks = [backend.loss_mark(TIMEOUT)]
    version = backend.compare_and_set("k", b"v", None, timeout=TIMEOUT)
    assert version is not None
    backend.delete("k", version, TIMEOUT)
    backend.read_many(["k", "absent"], TIMEOUT)
    assert [backend.loss_mark(TIMEOUT)] == marks
    ask(server.port, b"set k 0 0 1\r\nv\r\n")
    ask(server.port, b"delete k\r\n")
    marks.append(backend.loss_mark(TIMEOUT))
    ask(server.port, b"flush_all\r\n")
    marks.append(backend.loss_mark(TIMEOUT))
    ask(server.port, b"set large 0 0 5000\r\n" + b"v" * 5000 + b"\r\n")
    evict(ask, server, "large")
    marks.append(backend.loss_mark(TIMEOUT))
    server.kill()
    server.start()
    marks.append(backend.loss_mark(TIMEOUT))
    assert len(set(marks)) == 5


def test_what_the_doctor_finds(start_memcached: Start, store: Store, ask: Ask) -> None:
    """The findings name each setting that endangers data and what to start the server with, and what was lost."""
    good, bad = start_memcached(arguments=["-M"]), start_memcached(arguments=EVICTING)
    assert {finding.level for finding in store(good.url).diagnose_backend(TIMEOUT)} == {"ok"}
    ask(bad.port, b"flush_all\r\n")
    warnings = [finding.message for finding in store(bad.url).diagnose_backend(TIMEOUT) if finding.level == "warning"]
    words = ("1 times emptied", "start it with -M", "(-m 16)", "no_lru_crawler", "no_lru_maintainer")
    assert [sum(word in warning for warning in warnings) for word in words] == [1] * len(words)


def test_the_profile_says_volatile(memcached_server: Server, hooks: Callable[..., Backend]) -> None:
    """The backend claims what it keeps, and that the server may lose everything."""
    claimed = hooks(memcached_server.url).describe(timeout=TIMEOUT).capabilities
    assert claimed == {
        Capability.VOLATILE,
        Capability.REAPING,
        Capability.TOKENS_SURVIVE_RESTART,
        Capability.TOKENS_SURVIVE_DATA_LOSS,
    }


# Lost replies, and other programs ---------------------------------------------------------------------------


def test_a_win_whose_answer_is_lost(
    memcached_server: Server, hooks: Callable[..., Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LEAD-9: the attempt that won unheard is told so when it asks again, with one token; a rival waits."""
    with Proxy(memcached_server.host, memcached_server.port) as link:
        backend = hooks(f"memcached://{link.address}", on_empty_store="trust")
        rival = hooks(memcached_server.url, on_empty_store="trust")
        lease, theirs = (
            one.open_session(SessionRequest(incarnation=f"{name}-1", member_id=name, ttl=TTL), timeout=TIMEOUT)
            for one, name in ((backend, "a"), (rival, "b"))
        )
        plugin = cast("MemcachedBackend", plugin_of(backend))
        write = plugin.compare_and_set

        def unheard(*given: object, **named: object) -> object:
            link.drop_replies(1)
            return write(*given, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(plugin, "compare_and_set", unheard)
        with pytest.raises(Unavailable) as error:
            backend.campaign(lease, "e", attempt=1, value=b"v", timeout=0.5)
        assert error.value.outcome == "unknown"
        monkeypatch.undo()
        link.restore()
        assert isinstance(rival.campaign(theirs, "e", attempt=1, value=b"", timeout=TIMEOUT), Waiting)
        first, second = (backend.campaign(lease, "e", attempt=1, value=b"v", timeout=TIMEOUT) for _ in range(2))
        assert isinstance(first, Won)
        assert first == second
        assert backend.heartbeat(lease, Holdings(seats=(first.seat,), newest_attempt=1), timeout=TIMEOUT).lost == ()
        backend.drop_session(lease)
        rival.drop_session(theirs)


@pytest.mark.parametrize("rubbish", [b"hello", b"", b"\x00\xff\r\nEND\r\n", b"9{}", b"1[]"])
def test_rubbish_under_a_key(memcached_server: Server, arena_on: MakeArena, ask: Ask, rubbish: bytes) -> None:
    """SAFE-2: what another program stored under a key is named and not overwritten; an empty value counts as none."""
    session = arena_on(memcached_server.url).connect("a")
    key = keys_of(session).seat("election/e")
    ask(memcached_server.port, f"set {key} 0 0 {len(rubbish)}\r\n".encode() + rubbish + b"\r\n")
    if not rubbish:
        assert session.election("e").campaign(timeout=10 * TTL).held
        return
    with pytest.raises(BadData, match="Nothing was overwritten") as error:
        session.election("e").campaign(timeout=10 * TTL)
    assert error.value.key == key
    assert rubbish in ask(memcached_server.port, f"get {key}\r\n".encode())


def _lead_by_hand(session: drumbeat.Session) -> drumbeat.Term:
    """Win `e` with a session that beats only when it is told to, and leave it with a fresh lease."""
    waiting = Background(lambda: lead(session))
    while waiting.running:
        session.beat()
        time.sleep(TTL / 10)
    term = waiting.result()
    assert isinstance(term, drumbeat.Term)
    session.beat()
    assert term.held
    return term
