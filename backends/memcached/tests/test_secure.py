"""TLS and passwords: what works, and what each mistake looks like."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import traceback
from typing import TYPE_CHECKING

import pytest

from drumbeat import AuthenticationError, BackendError, ConfigurationError, Unavailable
from drumbeat.hookspecs import Lease
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.servers import make_certificates

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_conformance.servers import Certificates, Server
    from drumbeat_memcached import MemcachedBackend

    Store = Callable[[str], MemcachedBackend]

TIMEOUT = 2.0
SECRET = "swordfish"  # noqa: S105 - of these tests alone


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, what it signed, and a stranger."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_server(start_memcached: Callable[..., Server], certificates: Certificates) -> Server:
    """A server that speaks TLS."""
    return start_memcached(tls=certificates)


@pytest.fixture
def guarded_server(start_memcached: Callable[..., Server]) -> Server:
    """A server that asks for a user and a password."""
    return start_memcached(password=SECRET)


def round_trip(backend: MemcachedBackend, key: str = "k") -> bool:
    """Store something and read it back; return whether it came back."""
    version = backend.compare_and_set(key, b"value", None, timeout=TIMEOUT)
    return backend.read_many([key], TIMEOUT) == {key: (b"value", version)}


def test_tls(tls_server: Server, certificates: Certificates, store: Store) -> None:
    """With its authority's file a server is spoken to over TLS, by its address and by its name."""
    for host in ("127.0.0.1", "localhost"):
        backend = store(f"memcached://{host}:{tls_server.port}?tls_ca_file={certificates.authority}")
        assert backend.read_many(["k"], TIMEOUT) == {}
        assert backend._calls._idle[0]._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert round_trip(backend, host)


def test_a_forked_child_says_nothing_on_its_parents_connections(
    tls_server: Server, certificates: Certificates, store: Store
) -> None:
    """FAULT-8: a child closes its copies without a word, not even TLS's good-bye, and the parent goes on with them."""
    with Proxy(tls_server.host, tls_server.port) as link:
        backend = store(f"memcached://{link.address}?tls_ca_file={certificates.authority}")
        backend.swap_and_read("forked", b"v", None, ["k"], timeout=TIMEOUT)
        backend.read_many(["k"], TIMEOUT)
        sent = link.bytes_from_client
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            backend.drop_session(Lease("a-1", "a", 1.0), forked=True)
            os._exit(0 if not backend._calls._idle + backend._beats._idle else 1)
        assert os.waitpid(child, 0) == (child, 0)
        assert link.bytes_from_client == sent
        assert backend.read_many(["forked"], TIMEOUT).keys() == {"forked"}
        assert len(link.connections) == 2


def test_tls_with_a_strange_authority(tls_server: Server, certificates: Certificates, store: Store) -> None:
    """A certificate that nobody trusted signed is refused, by the option that says whom to trust."""
    backend = store(f"memcached://{tls_server.address}?tls_ca_file={certificates.stranger_authority}")
    with pytest.raises(ConfigurationError, match=r"not trusted.*tls_ca_file"):
        backend.describe_backend(TIMEOUT)


def test_tls_with_the_authorities_of_the_system(tls_server: Server, store: Store) -> None:
    """Without a file the system's authorities count, none of which signed a test's certificate."""
    with pytest.raises(ConfigurationError, match="not trusted"):
        store(f"memcached://{tls_server.address}?tls_verify=true").describe_backend(TIMEOUT)


def test_tls_without_verification(tls_server: Server, store: Store) -> None:
    """With tls_verify=false any certificate will do."""
    assert round_trip(store(f"memcached://{tls_server.address}?tls_verify=false"))


def test_tls_with_a_certificate_for_another_name(
    tls_server: Server, certificates: Certificates, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate must be for the name in the URL, not for the address behind it."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: resolve("127.0.0.1", *rest, **more))
    with pytest.raises(ConfigurationError, match=r"not trusted.*Hostname mismatch"):
        store(f"memcached://cache.example:{tls_server.port}?tls_ca_file={certificates.authority}").describe_backend(
            TIMEOUT
        )


def test_a_server_that_wants_a_certificate(
    start_memcached: Callable[..., Server], certificates: Certificates, store: Store
) -> None:
    """Where the server asks who we are, the certificate and its key are shown; without them it refuses us."""
    server = start_memcached(tls=certificates, arguments=["-o", "ssl_verify_mode=2"])
    url = f"memcached://{server.address}?tls_ca_file={certificates.authority}"
    with pytest.raises((AuthenticationError, Unavailable)):
        store(url).read_many(["k"], TIMEOUT)
    shown = f"tls_certificate={certificates.client_certificate}&tls_key={certificates.client_key}"
    assert round_trip(store(f"{url}&{shown}"))


def test_no_tls_where_the_server_speaks_it(tls_server: Server, store: Store) -> None:
    """Plain text to a server that speaks TLS fails in bounded time, without a result."""
    started = time.monotonic()
    with pytest.raises(BackendError, match=tls_server.address):
        store(f"memcached://{tls_server.address}").read_many(["k"], TIMEOUT)
    assert time.monotonic() - started < 2 * TIMEOUT


def test_tls_where_the_server_does_not_speak_it(memcached_server: Server, store: Store) -> None:
    """TLS to a server that speaks plain text fails in bounded time, without a result."""
    started = time.monotonic()
    with pytest.raises(BackendError, match=memcached_server.address):
        store(f"memcached://{memcached_server.address}?tls_verify=false").read_many(["k"], TIMEOUT)
    assert time.monotonic() - started < 2 * TIMEOUT


def test_a_password(guarded_server: Server, store: Store) -> None:
    """A server that asks for user and password is given those of the URL, on every connection."""
    backend = store(f"memcached://drumbeat:{SECRET}@{guarded_server.address}")
    assert round_trip(backend)
    with backend._calls.lend(TIMEOUT):
        assert backend.read_many(["k"], TIMEOUT).keys() == {"k"}
    assert any("crosses the network" in finding.message for finding in backend.diagnose_backend(TIMEOUT))


@pytest.mark.parametrize("user", ["", f"drumbeat:wrong-{SECRET}@", f"bob:{SECRET}@"])
def test_a_wrong_password(guarded_server: Server, store: Store, caplog: pytest.LogCaptureFixture, user: str) -> None:
    """SAFE-1: a refusal says so, and shows the password neither in message, repr and traceback nor in the log."""
    caplog.set_level(logging.DEBUG)
    backend = store(f"memcached://{user}{guarded_server.address}")
    with pytest.raises(AuthenticationError, match="user and") as refusal:
        backend.read_many(["k"], TIMEOUT)
    shown = (*traceback.format_exception(refusal.value), repr(backend._target), repr(refusal.value), caplog.text)
    assert [text for text in shown if SECRET in text] == []


def test_a_password_that_nobody_asked_for(
    start_memcached: Callable[..., Server], store: Store, ask: Callable[[int, bytes], bytes]
) -> None:
    """SAFE-1: to a server that would store it as a value, the password is not sent."""
    server = start_memcached()
    with pytest.raises(ConfigurationError, match="asks for no password"):
        store(f"memcached://drumbeat:{SECRET}@{server.address}").describe_backend(TIMEOUT)
    assert b"STAT curr_items 0" in ask(server.port, b"stats\r\n")
