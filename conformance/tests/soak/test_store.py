"""The fenced counter of a soak."""

from __future__ import annotations

from pathlib import Path

import pytest

from drumbeat_conformance.soak._store import Fenced, Store


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A store begins empty, and gives what was written last, whoever asks."""
    store = Store(tmp_path / "counter.json")
    assert store.read(1) is None
    store.write(1, 5)
    assert Store(tmp_path / "counter.json").read(1) == 5


@pytest.mark.parametrize("seen_by", ["read", "write"])
def test_a_lower_token_is_refused(tmp_path: Path, seen_by: str) -> None:
    """Once a token was seen, by a read or by a write, lower ones can neither read nor write, and change nothing."""
    store = Store(tmp_path / "counter.json")
    store.write(1, 1)
    if seen_by == "read":
        store.read(3)
    else:
        store.write(3, 1)
    with pytest.raises(Fenced, match="the token 2 is lower than 3"):
        store.read(2)
    with pytest.raises(Fenced, match="the token 2 is lower than 3"):
        store.write(2, 9)
    assert store.read(3) == 1
