"""Fresh stores: of every kind, and of the kinds that claim something."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from harness import KINDS, Kind, World

from drumbeat._plugins import load_backend_factory
from drumbeat.hookspecs import Capability

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_QUEUES = frozenset({Capability.PUSH_WATCH, Capability.FIFO_CANDIDATES})


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A backend whose store is a real server, which a fixture starts."""

    name: str
    ttl: float
    claims: frozenset[Capability]

    def on(self, url: str) -> Kind:
        """Return the backend as the contract tests need to know it, on the server that was started."""
        return Kind(
            name=self.name,
            factory=partial(load_backend_factory, self.name),
            url=lambda _: url,
            claims=self.claims,
            real_time=True,
            shared=True,
            ttl=self.ttl,
            on_empty_store="trust",
        )


SERVERS = (
    ServerKind("redis", 1.0, frozenset({Capability.PUSH_WATCH})),
    ServerKind("memcached", 1.0, frozenset()),
    ServerKind("zookeeper", 1.0, _QUEUES),
    ServerKind("etcd", 2.0, _QUEUES),
)
ALL = (*KINDS, *SERVERS)


def _claiming(capability: Capability) -> list[Kind | ServerKind]:
    return [kind for kind in ALL if capability in kind.claims]


def _make(request: pytest.FixtureRequest, folder: Path) -> Iterator[World]:
    kind: Kind | ServerKind = request.param
    if isinstance(kind, ServerKind):
        kind = kind.on(request.getfixturevalue(f"{kind.name}_server").url)
    world = World(kind, folder)
    yield world
    world.close()


@pytest.fixture(params=ALL, ids=lambda kind: kind.name)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A fresh store of each kind in turn."""
    yield from _make(request, tmp_path)


@pytest.fixture(params=_claiming(Capability.FIFO_CANDIDATES), ids=lambda kind: kind.name)
def queueing_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A fresh store of each kind whose candidates win in the order in which they came."""
    yield from _make(request, tmp_path)


@pytest.fixture(params=_claiming(Capability.PUSH_WATCH), ids=lambda kind: kind.name)
def pushing_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A fresh store of each kind that pushes changes."""
    yield from _make(request, tmp_path)
