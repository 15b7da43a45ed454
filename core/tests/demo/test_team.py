"""The processes of the demo's agents: in which order they are told to leave."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import drumbeat
from drumbeat.cli.demo._orders import Cycles, Orders
from drumbeat.cli.demo._records import Joined, Reader, Record, StateChanged
from drumbeat.cli.demo._store import SummaryStore
from drumbeat.cli.demo._team import LEAVE_WITHIN, Team
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path


def test_the_last_one_is_told_when_the_others_are_gone(tmp_path: Path) -> None:
    """Another agent that cannot leave is killed in the end, and only then the last one closes its session."""
    clock, reader = drumbeat.SystemClock(), Reader(tmp_path)
    records: list[Record] = []

    def joined() -> set[str]:
        records.extend(reader.new())
        return {record.agent for record in records if isinstance(record, Joined)}

    SummaryStore(orders("", tmp_path).store).create()
    with Team(tmp_path) as team:
        pids = {name: team.start(orders(name, tmp_path)) for name in ("stuck", "last")}
        eventually(lambda: joined() == set(pids), within=20.0)
        os.kill(pids["stuck"], signal.SIGSTOP)
        began = clock.now()
        team.dismiss(last="last")
    ends = {record.agent: record.at for record in reader.new() if isinstance(record, StateChanged)}
    assert "stuck" not in ends
    assert ends["last"] >= began + LEAVE_WITHIN


def orders(name: str, folder: Path) -> Orders:
    """Return the orders of an agent that has a store of its own, and nothing to do in its first cycle."""
    made = Orders(
        url="memory://",
        namespace="test",
        member_id=name,
        lease_ttl=3.0,
        cycles=Cycles(drumbeat.SystemClock().now(), 1000.0),
        director=os.getpid(),
        folder=folder,
    )
    made.meters.touch()
    return made
