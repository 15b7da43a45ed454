"""Servers that will not do, and programs that are no Memcached: each is told from the others, in bounded time."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

import drumbeat
from drumbeat import AuthenticationError, BackendError, ConfigurationError, Unavailable
from drumbeat.hookspecs import SessionRequest, Won
from drumbeat_conformance.strangers import babbler, mute
from drumbeat_conformance.waiting import Background, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat._facade import Backend
    from drumbeat_conformance.servers import Server
    from drumbeat_memcached import MemcachedBackend

#: Seconds for a session to be opened.
PATIENCE = 0.5


def refusal(url: str) -> drumbeat.DrumbeatError:
    """Return what `connect` raises; fail if that takes much longer than it was given."""
    started = time.monotonic()
    with pytest.raises(drumbeat.DrumbeatError) as raised:
        drumbeat.connect(url, lease_ttl=1.0, connect_timeout=PATIENCE)
    assert time.monotonic() - started < 10 * PATIENCE
    return raised.value


@contextmanager
def dripping() -> Iterator[int]:
    """Run a program that sends a byte every now and then, and never ends a line."""

    def drip() -> None:
        with suppress(OSError), closing(listener.accept()[0]) as client:
            while True:
                client.sendall(b"V")
                time.sleep(PATIENCE / 20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(10 * PATIENCE)


def _problem(backend: MemcachedBackend) -> str:
    """Return why a server does not answer on a new connection; empty if it does."""
    backend._calls.drop()
    try:
        backend.read_many(["k"], PATIENCE)
    except Unavailable as error:
        return str(error)
    return ""


def test_nobody_listens() -> None:
    """A wrong port is Unavailable, with the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refusal(f"memcached://127.0.0.1:{port}")
    assert isinstance(error, Unavailable)
    assert error.outcome == "not_applied"
    assert f"127.0.0.1:{port} failed: Connection refused" in str(error)


def test_a_host_without_address() -> None:
    """A name that does not resolve is Unavailable, with the name."""
    error = refusal("memcached://nowhere.invalid")
    assert isinstance(error, Unavailable)
    assert "nowhere.invalid:11211" in str(error)


def test_nobody_answers() -> None:
    """A server that accepts and stays mute is Unavailable once the time is up."""
    with mute() as stranger:
        error = refusal(f"memcached://{stranger.address}")
    assert isinstance(error, Unavailable)
    assert f"{stranger.address} did not answer in time" in str(error)


def test_an_answer_that_drips(store: Callable[[str], MemcachedBackend]) -> None:
    """The time bounds the whole answer, not the wait for each byte of it."""
    with dripping() as port:
        backend = store(f"memcached://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer in time"):
            backend.read_many(["k"], PATIENCE)
    assert time.monotonic() - started < 4 * PATIENCE


@pytest.mark.parametrize("greeting", [b"220 example.org ready\r\n", b"x" * 5000, b"VERSION one\r\n", b"VERSION \r\n"])
def test_another_program(greeting: bytes) -> None:
    """What does not speak the protocol is an error that names the address, at once."""
    with babbler(greeting) as stranger:
        error = refusal(f"memcached://{stranger.address}")
    assert isinstance(error, BackendError | ConfigurationError)
    assert not isinstance(error, Unavailable | AuthenticationError)
    assert stranger.address in str(error)


def test_a_server_without_statistics(store: Callable[[str], MemcachedBackend]) -> None:
    """A server that does not say when it was started cannot be trusted, and is refused."""
    with (
        babbler(b"VERSION 1.6.18\r\nSTORED\r\nEND\r\nEND\r\n") as stranger,
        pytest.raises(BackendError, match="does not say when it was started"),
    ):
        store(f"memcached://{stranger.address}").read_many(["k"], PATIENCE)


def test_redis_behind_the_port(redis_server: Server) -> None:
    """Redis is told from Memcached, by what it answers."""
    error = refusal(f"memcached://{redis_server.address}")
    assert type(error) is BackendError
    assert f"{redis_server.address} does not answer as Memcached does" in str(error)
    assert "-ERR unknown command" in str(error)


def test_a_server_too_old() -> None:
    """A version that was never tried is refused, with the oldest that will do."""
    with babbler(b"VERSION 1.4.25\r\n") as stranger:
        error = refusal(f"memcached://{stranger.address}")
    assert isinstance(error, ConfigurationError)
    assert "has version '1.4.25'; Drumbeat needs at least 1.6" in str(error)


def test_a_server_without_a_connection_left(
    start_memcached: Callable[..., Server], store: Callable[[str], MemcachedBackend]
) -> None:
    """A server that has all the connections that it allows is Unavailable, and used again once some are free."""
    server = start_memcached(arguments=["-c", "64"])
    backend = store(server.url)
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection((server.host, server.port)))
        problem = eventually(lambda: _problem(backend), within=10 * PATIENCE)
    assert problem.startswith("Memcached at") or "failed: Connection reset" in problem
    eventually(lambda: not _problem(backend), within=10 * PATIENCE)


def test_what_is_known_of_a_write_whose_answer_could_not_be_read(store: Callable[[str], MemcachedBackend]) -> None:
    """A server that stored, and then had no memory to say under which number, has applied the write."""
    answers = (
        b"VERSION 1.6.18\r\nSTORED\r\nEND\r\nSTAT pid 1\r\nSTAT time 9\r\nSTAT uptime 1\r\nEND\r\n"
        b"STORED\r\nSERVER_ERROR out of memory writing get response\r\n"
    )
    with babbler(answers) as stranger, pytest.raises(Unavailable, match="no memory left") as error:
        store(f"memcached://{stranger.address}").compare_and_set("k", b"v", None, timeout=PATIENCE)
    assert error.value.outcome == "unknown"


def test_a_server_without_cas(start_memcached: Callable[..., Server]) -> None:
    """A server that was started with -C cannot compare and set, and is refused."""
    error = refusal(start_memcached(arguments=["-C"]).url)
    assert isinstance(error, ConfigurationError)
    assert "was started with -C" in str(error)


def test_a_server_for_small_items_only(start_memcached: Callable[..., Server]) -> None:
    """A server whose items are too small for rosters is refused, with what to start it with."""
    error = refusal(start_memcached(arguments=["-I", "8k", "-o", "slab_chunk_max=8"]).url)
    assert isinstance(error, ConfigurationError)
    assert "start it with -I 16384 or more" in str(error)


def test_limits_come_from_the_server(start_memcached: Callable[..., Server], hooks: Callable[..., Backend]) -> None:
    """The profile names the version, and a limit for values that fits into the server's items."""
    server = start_memcached(arguments=["-I", "32k", "-o", "slab_chunk_max=32"])
    profile = hooks(server.url).describe(timeout=5)
    assert profile.server == f"Memcached {server.version}"
    assert profile.limits.value_bytes == (32768 - 1024) * 3 // 4
    assert hooks(start_memcached().url).describe(timeout=5).limits.value_bytes == 65_536


def test_values_at_the_limit_are_stored(start_memcached: Callable[..., Server], hooks: Callable[..., Backend]) -> None:
    """GROUP-10: the limit that the profile names is one that the server takes."""
    backend = hooks(start_memcached(arguments=["-I", "512k"]).url, on_empty_store="trust")
    largest = b"v" * backend.describe(timeout=5).limits.value_bytes
    lease = backend.open_session(SessionRequest(incarnation="a-1", member_id="é" * 50, ttl=1.0), timeout=5)
    backend.join_group(lease, "g", attempt=1, value=largest, timeout=5)
    assert isinstance(backend.campaign(lease, "e", attempt=2, value=largest, timeout=5), Won)
    assert [member.value for member in backend.read_group(lease, "g", timeout=5).members] == [largest]
    backend.drop_session(lease)


def test_a_stranger_that_comes_and_goes_ends_no_wait(start_memcached: Callable[..., Server]) -> None:
    """While another program has the port a campaign and a stream wait, and go on once the server is back."""
    server = start_memcached()
    with drumbeat.connect(server.url, lease_ttl=1.0, member_id="a", on_empty_store="trust") as session:
        group = session.group("g")
        group.join()
        held = session.election("e").campaign()
        waiting = Background(lambda: session.election("e").campaign(timeout=20 * PATIENCE))
        with group.watch() as changes:
            assert changes.next(5 * PATIENCE).view.ids == ("a",)
            server.kill()
            with socket.create_server((server.host, server.port)) as stranger:
                stranger.settimeout(PATIENCE)
                for _ in range(5):
                    link, _ = stranger.accept()
                    with link, suppress(OSError):
                        link.sendall(b"220 example.org ready\r\n")
            assert waiting.running
            server.start()
            won = waiting.result(within=20 * PATIENCE)
            assert isinstance(won, drumbeat.Term)
            assert won.token > held.token
            group.update({"n": 1})
            while not (change := changes.next(10 * PATIENCE)).view or not change.view["a"].metadata:
                pass
