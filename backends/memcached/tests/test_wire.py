"""What goes over the wire: round trips, limits of time, and versions that never mean another value."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from drumbeat import BackendError, Unavailable
from drumbeat._cas.records import Entry, Keys, MemberValue, Owner, Roster, Session
from drumbeat.hookspecs import Holdings, Lease, Membership, Seat, SessionRequest, Won
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.proxy import Proxy
from drumbeat_memcached import _backend
from drumbeat_memcached._commands import gets, read_stored, read_values
from drumbeat_memcached._connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat._facade import Backend
    from drumbeat_conformance.servers import Server
    from drumbeat_memcached import MemcachedBackend

    Ask = Callable[[int, bytes], bytes]
    Store = Callable[[str], MemcachedBackend]

#: Seconds of a lease.
TTL = 1.0


@pytest.fixture
def proxy(memcached_server: Server) -> Iterator[Proxy]:
    """A link to the server whose round trips are counted."""
    with Proxy(memcached_server.host, memcached_server.port) as link:
        yield link


def open_session(backend: Backend, member_id: str) -> Lease:
    """Return a new session's lease."""
    return backend.open_session(SessionRequest(incarnation=f"{member_id}-1", member_id=member_id, ttl=TTL), timeout=5)


# Round trips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 50])
def test_a_heartbeat_is_one_round_trip(proxy: Proxy, hooks: Callable[..., Backend], count: int) -> None:
    """BEAT-6: one round trip renews the session and verifies all that it holds, be it one seat and group or fifty."""
    backend = hooks(f"memcached://{proxy.address}", on_empty_store="trust")
    lease = open_session(backend, "a")
    seats: list[Seat] = []
    for number in range(count):
        won = backend.campaign(lease, f"e{number}", attempt=2 * number, value=b"", timeout=TIMEOUT)
        assert isinstance(won, Won)
        seats.append(won.seat)
        backend.join_group(lease, f"g{number}", attempt=2 * number + 1, value=b"", timeout=TIMEOUT)
    groups = tuple(Membership(f"g{number}", 2 * number + 1) for number in range(count))
    holdings = Holdings(seats=tuple(seats), memberships=groups, newest_attempt=2 * count)
    backend.heartbeat(lease, holdings, timeout=TIMEOUT)
    before = proxy.turns
    for _ in range(3):
        assert backend.heartbeat(lease, holdings, timeout=TIMEOUT).lost == ()
    assert proxy.turns - before == 3
    backend.drop_session(lease)


@pytest.mark.parametrize("count", [10, 1000])
def test_a_view_takes_as_many_round_trips_for_ten_as_for_a_thousand(
    proxy: Proxy, hooks: Callable[..., Backend], store: Store, namespace: str, count: int
) -> None:
    """A view is read in two round trips, and what a chunk of the link cuts in two."""
    url = f"memcached://{proxy.address}"
    backend, writer = hooks(url, on_empty_store="trust"), store(url)
    lease = open_session(backend, "a")
    keys, owners = Keys(namespace), [Owner(f"member-{number}", f"x{number}", TTL) for number in range(count)]
    for owner in owners:
        session = Session(incarnation=owner.incarnation, ttl=TTL)
        value = MemberValue(incarnation=owner.incarnation, attempt=1, value=b"v" * 100, changes=1)
        for key, record in (
            (keys.session(owner.member_id), session),
            (keys.value("g", owner.member_id), value),
        ):
            assert writer.compare_and_set(key, record.encode(), None, timeout=TIMEOUT) is not None
    roster = Roster(entries=tuple(Entry(owner, 1) for owner in owners), listed=True)
    assert writer.compare_and_set(keys.roster("g"), roster.encode(), None, timeout=TIMEOUT) is not None
    before = proxy.turns
    assert len(backend.read_group(lease, "g", timeout=TIMEOUT).members) == count
    assert proxy.turns - before == 2
    backend.drop_session(lease)


def test_small_writes_are_sent_at_once(memcached_server: Server, store: Store) -> None:
    """Every connection has TCP_NODELAY, without which small writes wait 40 ms for an acknowledgement."""
    backend = store(memcached_server.url)
    backend.swap_and_read("no-delay", b"v", None, ["k"], timeout=TIMEOUT)
    backend.read_many(["k"], TIMEOUT)
    links = (*backend._calls._idle, *backend._beats._idle)
    assert [link._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for link in links] == [1, 1]


def test_thousands_of_large_values_are_read_at_once(start_memcached: Callable[..., Server], store: Store) -> None:
    """Far more than the buffers of a connection hold comes through, with neither end blocking the other."""
    backend = store(start_memcached().url)
    values = {f"{'k' * 180}-{number}": b"%d" % number * 1000 for number in range(3000)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: backend.compare_and_set(key, values[key], None, timeout=TIMEOUT), values))
    found = backend.read_many(list(values), TIMEOUT)
    assert values == {key: value for key, (value, _) in found.items()}


def test_threads_do_not_get_each_others_answers(memcached_server: Server, store: Store, namespace: str) -> None:
    """Any number of threads call at once, each on a connection of its own."""
    backend = store(memcached_server.url)

    def work(number: int) -> bool:
        key, value = f"{namespace}-{number}", b"%d" % number
        version = backend.compare_and_set(key, value, None, timeout=TIMEOUT)
        return all(backend.read_many([key], TIMEOUT) == {key: (value, version)} for _ in range(20))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(32)))


# Time -------------------------------------------------------------------------------------------------------


def test_a_late_answer_is_never_taken_for_the_next(proxy: Proxy, store: Store, namespace: str) -> None:
    """A connection on which an answer did not come in time is closed, so that what comes later is read by nobody."""
    backend = store(f"memcached://{proxy.address}")
    for key in (f"{namespace}-1", f"{namespace}-2"):
        backend.compare_and_set(key, key.encode(), None, timeout=TIMEOUT)
    for _ in range(5):
        proxy.delay(0.2)
        with pytest.raises(Unavailable, match="did not answer in time"):
            backend.read_many([f"{namespace}-1"], 0.05)
        proxy.restore()
        found = backend.read_many([f"{namespace}-2"], TIMEOUT)
        assert {f"{namespace}-2": f"{namespace}-2".encode()} == {key: value for key, (value, _) in found.items()}


@pytest.mark.parametrize("fault", ["black_hole", "cut", "drop_replies"])
def test_what_is_known_of_a_write_that_failed(proxy: Proxy, store: Store, namespace: str, fault: str) -> None:
    """A write is `not_applied` only if it was never sent; each fails in time, and the next call works again."""
    backend = store(f"memcached://{proxy.address}")
    backend.read_many(["k"], TIMEOUT)
    getattr(proxy, fault)()
    started = time.monotonic()
    with pytest.raises(Unavailable) as error:
        backend.compare_and_set(namespace, b"v", None, timeout=0.3)
    assert time.monotonic() - started < 2
    assert error.value.outcome == ("not_applied" if fault == "cut" else "unknown")
    proxy.restore()
    applied = namespace in backend.read_many([namespace], TIMEOUT)
    assert applied == (fault == "drop_replies")


def test_what_the_server_closed_while_idle_is_not_used(proxy: Proxy, store: Store, namespace: str) -> None:
    """A connection that was closed at the other end while it waited is replaced before a request is sent."""
    backend = store(f"memcached://{proxy.address}")
    for _ in range(3):
        backend.read_many(["k"], TIMEOUT)
        proxy.cut()
        proxy.restore()
        assert backend.compare_and_set(f"{namespace}-{proxy.turns}", b"v", None, timeout=TIMEOUT) is not None


# Expiry and versions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expire_and_seconds", [(None, -1), (0.6, 2), (66.0, 67), (30 * 86400 + 1.0, 30 * 86400), (1e9, 30 * 86400)]
)
def test_expiry(
    memcached_server: Server,
    store: Store,
    namespace: str,
    ask: Ask,
    expire_and_seconds: tuple[float | None, int],
) -> None:
    """What has no expiry stays; any other stays for longer than it must, and never becomes a date in 1970."""
    expire, seconds = expire_and_seconds
    backend = store(memcached_server.url)

    def left(key: str) -> int:
        assert backend.compare_and_set(key, b"v", None, expire=expire, timeout=TIMEOUT) is not None
        return int(ask(memcached_server.port, f"mg {key} t\r\n".encode()).split()[1].removeprefix(b"t"))

    # One second less where the server's clock moved on between the two requests.
    assert max(left(f"{namespace}-{number}") for number in range(3)) == seconds


def test_a_version_of_before_a_restart_is_never_current(start_memcached: Callable[..., Server], store: Store) -> None:
    """After a restart CAS numbers begin again at 1, so one that was read before may be another value's now."""
    server = start_memcached()
    backend, other = store(server.url), store(server.url)
    old = backend.compare_and_set("k", b"old", None, timeout=TIMEOUT)
    server.kill()
    server.start()
    new = other.compare_and_set("k", b"new", None, timeout=TIMEOUT)
    assert getattr(old, "cas", None) == getattr(new, "cas", None)
    assert old != new
    assert backend.compare_and_set("k", b"stolen", old, timeout=TIMEOUT) is None
    assert backend.swap_and_read("k", b"stolen", old, ["k"], timeout=TIMEOUT) == (None, {"k": (b"new", new)})
    assert other.read_many(["k"], TIMEOUT) == {"k": (b"new", new)}


def test_the_start_of_a_server_does_not_waver(memcached_server: Server, store: Store) -> None:
    """However the seconds of its clocks fall, one start of a server has one name."""
    target = store(memcached_server.url)._target
    until, starts = time.monotonic() + 2.5, set()
    while time.monotonic() < until:
        connection = Connection.dial(target, until + TIMEOUT)
        starts.add(connection.start)
        connection.close()
    assert len(starts) == 1


def test_a_write_that_another_followed_is_history(
    memcached_server: Server, store: Store, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that was replaced before its number could be read was stored, under a version that is never current."""
    backend, other = store(memcached_server.url), store(memcached_server.url)

    def overtaken(connection: Connection) -> bool:
        stored = read_stored(connection)
        monkeypatch.undo()
        found = other.read_many([namespace], TIMEOUT)
        other.compare_and_set(namespace, b"theirs", found[namespace][1], timeout=TIMEOUT)
        connection.send(gets([namespace]))
        read_values(connection)
        return stored

    monkeypatch.setattr(_backend, "read_stored", overtaken)
    mine = backend.compare_and_set(namespace, b"mine", None, timeout=TIMEOUT)
    found = other.read_many([namespace], TIMEOUT)[namespace]
    assert mine is not None
    assert found[0] == b"theirs"
    assert mine != found[1]
    assert backend.compare_and_set(namespace, b"again", mine, timeout=TIMEOUT) is None


# A server that is full --------------------------------------------------------------------------------------


def test_a_value_too_large_leaves_the_old_one(memcached_server: Server, store: Store, namespace: str) -> None:
    """What the server refuses as too large is an error, and what was there stays."""
    backend = store(memcached_server.url)
    version = backend.compare_and_set(namespace, b"old", None, timeout=TIMEOUT)
    with pytest.raises(BackendError, match="too large, and keeps the old one"):
        backend.compare_and_set(namespace, b"x" * 2_000_000, version, timeout=TIMEOUT)
    assert backend.read_many([namespace], TIMEOUT) == {namespace: (b"old", version)}


def test_a_full_server_leaves_the_old_value(start_memcached: Callable[..., Server], store: Store, ask: Ask) -> None:
    """A server with -M that is full stores nothing more: known as not applied, and what was there stays."""
    server = start_memcached(arguments=["-M", "-m", "8"])
    backend = store(server.url)
    value = b"v" * 3500
    version = backend.compare_and_set("k", value, None, timeout=TIMEOUT)
    fillers = (b"set filler-%d 0 0 3500\r\n%b\r\n" % (number, value) for number in range(3000))
    assert b"SERVER_ERROR out of memory" in ask(server.port, b"".join(fillers))
    with pytest.raises(Unavailable, match="no memory left") as error:
        backend.compare_and_set("k", b"w" * 3500, version, timeout=TIMEOUT)
    assert error.value.outcome == "not_applied"
    assert backend.read_many(["k"], TIMEOUT) == {"k": (value, version)}
    assert any("are used" in finding.message for finding in backend.diagnose_backend(TIMEOUT))
