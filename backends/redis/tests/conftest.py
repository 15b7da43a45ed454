"""Sessions that a test plays hook by hook on a server of its choice, and connections to look at that server."""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import pytest
import redis
from harness import Kind, World
from support import Cluster

import drumbeat
from drumbeat_redis import RedisBackend

TTL = 1.0
SECRET = "hunter2-secret"  # noqa: S105 - opens nothing; must never be shown


@pytest.fixture
def world_on(tmp_path: object) -> Iterator[Callable[..., World]]:
    """Make a World of hook-level sessions from a server's URL."""
    worlds: list[World] = []

    def make(url: str, *, ttl: float = TTL, on_empty_store: Literal["wait", "trust"] | None = "trust") -> World:
        kind = Kind(
            name="redis",
            factory=lambda: RedisBackend,
            url=lambda _: url,
            real_time=True,
            shared=True,
            ttl=ttl,
            on_empty_store=on_empty_store,
        )
        worlds.append(World(kind, tmp_path))  # type: ignore[arg-type]
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def cluster_on() -> Iterator[Callable[..., Cluster]]:
    """Make a Cluster of whole sessions from a server's URL."""
    clusters: list[Cluster] = []

    def make(url: str, *, ttl: float = TTL) -> Cluster:
        clusters.append(Cluster(url, ttl=ttl, prefix=f"{uuid.uuid4().hex[:8]}-"))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def peek() -> Iterator[Callable[..., Callable[..., object]]]:
    """Connect to a server as an operator does, beside Drumbeat; gives a function that sends one command."""
    with ExitStack() as stack:

        def connect(port: int, *, password: str | None = None) -> Callable[..., object]:
            client = redis.Redis(port=port, password=password, decode_responses=True)
            stack.callback(client.close)

            def send(*command: str | int) -> object:
                return client.execute_command(*command)  # type: ignore[no-untyped-call]

            return send

        yield connect


@pytest.fixture
def secret() -> str:
    """A password that must never be shown."""
    return SECRET


@pytest.fixture
def refused(caplog: pytest.LogCaptureFixture) -> Callable[..., drumbeat.DrumbeatError]:
    """Connect in vain: return the error, once it is clear that it came in time and shows no secret."""
    caplog.set_level("DEBUG")

    def connect(url: str, *, kind: type[drumbeat.DrumbeatError], within: float = 2.0) -> drumbeat.DrumbeatError:
        started = time.monotonic()
        with pytest.raises(drumbeat.DrumbeatError) as refusal:
            drumbeat.connect(url, lease_ttl=5.0, connect_timeout=within, on_empty_store="trust").close()
        assert time.monotonic() - started < 2 * within
        error = refusal.value
        assert type(error) is kind, repr(error)
        shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
        assert SECRET not in shown
        return error

    return connect
