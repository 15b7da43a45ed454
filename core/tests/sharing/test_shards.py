"""Exclusive shards: one holder at a time, drained before they change hands, and none left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flock import GRACE, SOON, TTL, Flock, Gate

import drumbeat
from drumbeat import Partition, State
from drumbeat._partition import seats
from drumbeat.testing import Faults, freeze, lose, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def flock() -> Iterator[Flock]:
    """Members of one group on one fake clock."""
    made = Flock()
    yield made
    made.close()


def test_everything(flock: Flock) -> None:
    """x."""
    a = flock.add("a")
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12))
    b = flock.add("b")
    flock.clock.advance(SOON)
    assert flock.is_shared()
    assert b.numbers
