"""What these tests share: sessions played hook by hook, whole sessions, and a client of ZooKeeper's own."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

import pytest
from harness import Actor, Kind, World, plugin_of
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from support import Cluster

from drumbeat_conformance.proxy import Proxy
from drumbeat_zookeeper import ZooKeeperBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drumbeat_conformance.servers import Server
    from drumbeat_zookeeper._link import Link

#: Seconds; ten ticks of the servers of these tests.
TTL = 1.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Return what plays sessions on a URL hook by hook, in namespaces that nobody has used."""
    made: list[World] = []

    def world(url: str, *, ttl: float = TTL) -> World:
        kind = Kind(
            name="zookeeper",
            factory=lambda: ZooKeeperBackend,
            url=lambda _: url,
            real_time=True,
            ttl=ttl,
            shared=True,
        )
        made.append(World(kind, tmp_path))
        return made[-1]

    yield world
    for one in made:
        one.close()


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    """Return what opens whole sessions on a URL, in a namespace that nobody has used."""
    made: list[Cluster] = []

    def cluster(url: str) -> Cluster:
        made.append(Cluster(url, ttl=TTL, prefix=f"{uuid.uuid4().hex[:8]}-"))
        return made[-1]

    yield cluster
    for one in made:
        one.close()


@pytest.fixture
def operator() -> Iterator[Callable[..., KazooClient]]:
    """Return clients that see and change what the backend has stored."""
    made: list[KazooClient] = []

    def operator(address: str, **options: object) -> KazooClient:
        quiet = logging.getLogger("operator")
        quiet.disabled = True
        client = KazooClient(address, logger=quiet, **options)
        client.start(timeout=10)
        made.append(client)
        return client

    yield operator
    for client in made:
        client.stop()
        client.close()


@pytest.fixture
def owner_of() -> Callable[[Actor], Link]:
    """Return the connection that an actor's heartbeats take."""

    def owner_of(actor: Actor) -> Link:
        backend = plugin_of(actor.backend)
        assert isinstance(backend, ZooKeeperBackend)
        return backend._sessions[actor.lease.incarnation].owner

    return owner_of


@pytest.fixture
def proxy(zookeeper_server: Server) -> Iterator[Proxy]:
    """A link to the shared server that can be cut."""
    host, _, port = zookeeper_server.address.partition(":")
    with Proxy(host, int(port)) as made:
        yield made
