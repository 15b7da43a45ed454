"""The store of summaries defends itself against leaders of the past."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from drumbeat.cli.demo._store import StaleToken, Summary, SummaryStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> SummaryStore:
    """Return an empty store in a file of its own."""
    made = SummaryStore(tmp_path / "summaries.sqlite")
    made.create()
    return made


def summary(token: int, *, cycle: int = 1) -> Summary:
    """Return a summary with a token."""
    return Summary(cycle=cycle, token=token, agent="agent-1", text=f"written with {token}")


def test_a_lower_token_than_the_highest_is_rejected(store: SummaryStore) -> None:
    """A write with an old token raises, names both tokens, and keeps nothing."""
    store.write(summary(7))
    store.write(summary(9, cycle=2))
    with pytest.raises(StaleToken, match=r"token 8 was rejected: the store has seen 9") as caught:
        store.write(summary(8, cycle=3))
    assert (caught.value.token, caught.value.highest) == (8, 9)
    assert store.summaries() == (summary(7), summary(9, cycle=2))


def test_the_same_and_higher_tokens_are_taken(store: SummaryStore) -> None:
    """A leader may write again and again with its token, and its successor after it, up to 63 bits."""
    written = [summary(token, cycle=cycle) for cycle, token in enumerate((5, 5, 6, 2**63 - 1))]
    for one in written:
        store.write(one)
    assert store.summaries() == tuple(written)


def test_the_newest_cycle_is_known(store: SummaryStore) -> None:
    """A new leader learns which cycle was the last to be summarised, if there is one."""
    assert store.newest_cycle() is None
    store.write(summary(1, cycle=3))
    store.write(summary(2, cycle=4))
    assert store.newest_cycle() == 4


def test_no_order_of_writers_brings_a_lower_token_behind_a_higher_one(store: SummaryStore) -> None:
    """Many writers at once: what is kept is in the order of the tokens, and the highest one is among it."""
    tokens = list(range(1, 41))
    random.Random(7).shuffle(tokens)

    def write(mine: list[int]) -> None:
        for token in mine:
            with suppress(StaleToken):
                store.write(summary(token))

    threads = [threading.Thread(target=write, args=(tokens[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [one.token for one in store.summaries()]
    assert kept == sorted(kept)
    assert kept[-1] == 40


def test_a_writer_that_stands_still_is_noticed(store: SummaryStore, tmp_path: Path) -> None:
    """The store says whether some process is inside a write."""
    assert store.is_free()
    with closing(sqlite3.connect(tmp_path / "summaries.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert not store.is_free()
        writer.execute("ROLLBACK")
    assert store.is_free()
