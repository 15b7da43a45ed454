"""Every guarantee runs on every backend: a cluster is one fresh store that any number of sessions connect to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from guarantees.stores import EMBEDDED, SERVERS
from support import Cluster, Tap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[*EMBEDDED, *SERVERS])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A fresh store of each backend in turn; of a server, a namespace that nobody has used."""
    made = _make(request, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["local", *SERVERS])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A fresh store of each backend that several processes can use."""
    made = _make(request, tmp_path)
    yield made
    made.close()


def _make(request: pytest.FixtureRequest, folder: Path) -> Cluster:
    name: str = request.param
    if name in SERVERS:
        server = request.getfixturevalue(f"{name}_server")
        return Cluster(server.url, ttl=SERVERS[name], prefix=f"{uuid.uuid4().hex[:8]}-")
    return Cluster(f"local://{folder}/drumbeat.db" if name == "local" else f"{name}://{uuid.uuid4()}")


@pytest.fixture
def tap() -> Tap:
    """An interceptor to give to `connect`."""
    return Tap()
