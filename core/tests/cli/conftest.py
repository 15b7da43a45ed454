"""A desk for each test of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[running.Desk]:
    """Give a desk on a store of its own; what was started on it ends with the test."""
    yield from running.desk(tmp_path)
