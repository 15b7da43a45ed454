"""What a soak's conductor knows of its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import eventually

from drumbeat import SystemClock
from drumbeat.history import read_history
from drumbeat.observers import HistoryObserver
from drumbeat.testing import memory_session
from drumbeat_conformance.soak._crew import tells_of_leading
from drumbeat_conformance.soak._work import ELECTION

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "written", [b"", b'{"kind": "wo', b'{"kind": "opened"}\n', b'{"kind": "opened"}\n{"kind": "wo']
)
def test_a_history_that_has_hardly_begun_tells_of_no_leader(tmp_path: Path, written: bytes) -> None:
    """A process may just have made its file, or be in the middle of a line."""
    file = tmp_path / "history.jsonl"
    file.write_bytes(written)
    assert not tells_of_leading(file, now=0.0)


def test_a_history_tells_who_leads(tmp_path: Path) -> None:
    """From the win of the soak's election to its resignation, and of no other seat."""
    file, clock = tmp_path / "history.jsonl", SystemClock()

    def leads() -> bool:
        return tells_of_leading(file, now=clock.now())

    def has_won() -> bool:
        return file.exists() and any(record.kind == "won" for record in read_history(file))

    with memory_session(clock=clock, observers=[HistoryObserver(file)]) as session:
        session.election("another").campaign(timeout=5)
        eventually(has_won, within=10)
        assert not leads()
        term = session.election(ELECTION).campaign(timeout=5)
        eventually(leads, within=10)
        term.resign()
        eventually(lambda: not leads(), within=10)
