"""A fresh store in memory: what the tests here look at does not depend on the backend."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from support import Cluster, Tap

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """A fresh store in memory, for what does not depend on the backend."""
    made = Cluster(f"memory://{uuid.uuid4()}")
    yield made
    made.close()


@pytest.fixture
def tap() -> Tap:
    """An interceptor to give to `connect`."""
    return Tap()
