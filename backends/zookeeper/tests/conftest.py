"""What these tests share: sessions played hook by hook, whole sessions, and a client of ZooKeeper's own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from kazoo.client import KazooClient  # type: ignore[import-untyped]

from drumbeat_conformance.actor import Actor, plugin_of
from drumbeat_conformance.proxy import Proxy
from drumbeat_zookeeper import ZooKeeperBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat_conformance.servers import Server
    from drumbeat_zookeeper._link import Link

#: Seconds; ten ticks of the servers of these tests.
TTL = 1.0


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
