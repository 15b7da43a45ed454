"""Every guarantee runs on every backend: a cluster is one fresh store that any number of sessions connect to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from support import Cluster, Tap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "memory-cas", "local"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A fresh store of each backend in turn."""
    url = f"local://{tmp_path}/drumbeat.db" if request.param == "local" else f"{request.param}://{uuid.uuid4()}"
    made = Cluster(url)
    yield made
    made.close()


@pytest.fixture
def tap() -> Tap:
    """An interceptor to give to `connect`."""
    return Tap()
