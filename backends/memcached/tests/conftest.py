"""What these tests share: requests that Drumbeat does not make, backends played hook by hook, short births."""

from __future__ import annotations

import socket
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import pytest

from drumbeat._clock import SystemClock
from drumbeat._facade import Backend
from drumbeat._plugins import make_backend
from drumbeat.hookspecs import BackendConfig, BackendURL
from drumbeat_memcached import MemcachedBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Seconds of a lease in these tests.
TTL = 1.0


@pytest.fixture(autouse=True)
def short_births(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an empty store wait for two TTLs of these tests rather than for a minute."""
    monkeypatch.setattr(MemcachedBackend, "longest_ttl", 2 * TTL)


@pytest.fixture
def namespace() -> str:
    """A namespace that nobody has used."""
    return f"ns-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def ask() -> Callable[[int, bytes], bytes]:
    """Send requests to the server on a port, and return its answers."""

    def ask(port: int, request: bytes) -> bytes:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as link:
            # A no-op, whose answer comes last.
            link.sendall(request + b"mn\r\n")
            answer = b""
            while not answer.endswith(b"MN\r\n"):
                received = link.recv(65536)
                assert received
                answer += received
            return answer.removesuffix(b"MN\r\n")

    return ask


@pytest.fixture
def store(namespace: str) -> Iterator[Callable[[str], MemcachedBackend]]:
    """Return backend objects for a URL, to be asked as a store."""
    made: list[MemcachedBackend] = []

    def store(url: str) -> MemcachedBackend:
        made.append(MemcachedBackend(_config(url, namespace, None)))
        return made[-1]

    yield store
    for backend in made:
        backend._calls.drop()
        backend._beats.drop()


@pytest.fixture
def hooks(namespace: str) -> Callable[..., Backend]:
    """Return backends for a URL, to be asked by their hooks."""

    def hooks(url: str, *, on_empty_store: Literal["wait", "trust"] | None = None) -> Backend:
        return make_backend(MemcachedBackend, _config(url, namespace, on_empty_store))

    return hooks


def _config(url: str, namespace: str, on_empty_store: Literal["wait", "trust"] | None) -> BackendConfig:
    return BackendConfig(
        url=BackendURL.parse(url), namespace=namespace, clock=SystemClock(), on_empty_store=on_empty_store
    )
