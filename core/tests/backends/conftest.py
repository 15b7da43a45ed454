"""Fresh stores: of every kind, and of the kinds that claim something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from backends.harness import KINDS, Kind, World

from drumbeat.hookspecs import Capability

if TYPE_CHECKING:
    from pathlib import Path


def _claiming(capability: Capability) -> list[Kind]:
    return [kind for kind in KINDS if capability in kind.claims]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A fresh store of each kind in turn."""
    return World(request.param, tmp_path)


@pytest.fixture(params=_claiming(Capability.FIFO_CANDIDATES), ids=lambda kind: kind.name)
def queueing_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A fresh store of each kind whose candidates win in the order in which they came."""
    return World(request.param, tmp_path)


@pytest.fixture(params=_claiming(Capability.PUSH_WATCH), ids=lambda kind: kind.name)
def pushing_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A fresh store of each kind that pushes changes."""
    return World(request.param, tmp_path)
