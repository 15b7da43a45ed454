"""Real threads, real processes, real time: shards change hands in time and never overlap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support import TTL, Background, Cluster, eventually

import drumbeat
from drumbeat import Session, SystemClock
from drumbeat._partition import seats
from drumbeat.history import find_overlaps, find_token_faults, note, read_history, terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drumbeat import Shards, ShardsWatch

COUNT = 12


def by_right(*names: str) -> dict[int, str]:
    """Return who should hold each shard among equal members."""
    plan = seats(dict.fromkeys(names, 1.0), COUNT, names[0]) if names else None
    return {number: owner for number, (owner, _) in enumerate(plan or [])}


def has(*members: tuple[str, Shards]) -> Callable[[], bool]:
    """Return a condition: the members hold the shards that are theirs by right, and so all of them."""
    expected = by_right(*(name for name, _ in members))
    return lambda: {number: name for name, shards in members for number in shards.owned} == expected


def join(session: Session) -> Shards:
    """Join the group, and share its shards."""
    group = session.group("g")
    group.join()
    return group.shards(COUNT)


def test_many_join_at_once(memory: Cluster) -> None:
    """GROUP-6 and PART-3: twelve sessions that join together soon have one shard map, held by the right ones."""
    names = [f"m{number}" for number in range(12)]
    joining = [Background(lambda name=name: join(memory.connect(name, lease_ttl=5.0))) for name in names]  # type: ignore[misc]
    shards: list[Shards] = [one.result() for one in joining]  # type: ignore[misc]
    eventually(has(*zip(names, shards, strict=True)), within=20 * TTL)


def test_a_forked_child_holds_no_shard(memory: Cluster) -> None:
    """FAULT-8: in a forked child nothing is held, calls raise Forked, and the parent keeps its shards."""
    shards = join(memory.connect("a"))
    eventually(has(("a", shards)), within=10 * TTL)
    changes = shards.watch()
    changes.next(0)
    child = os.fork()
    if child == 0:
        try:
            os._exit(_failures(shards, changes))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert has(("a", shards))()


def _failures(shards: Shards, changes: ShardsWatch) -> int:
    """Return the number of checks that fail in the child; end it by a signal if a call hangs."""
    signal.alarm(20)
    failed = len(shards.owned) + len(shards.draining)
    uses: list[Callable[[], object]] = [shards.watch, shards.wait_balanced, changes.next]
    for use in uses:
        with suppress(drumbeat.Forked):
            use()
            failed += 1
    shards.close()
    return failed


# Processes ------------------------------------------------------------------------------------------------------

PROCESS_TTL = 1.0
PROGRAM = """
import sys, drumbeat
from drumbeat.observers import HistoryObserver
url, name, history, ttl, count = sys.argv[1:]
with drumbeat.connect(url, member_id=name, lease_ttl=float(ttl), observers=[HistoryObserver(history)]) as session:
    group = session.group("g")
    group.join()
    with group.shards(int(count)):
        sys.stdin.read()
"""


class Crew:
    """Processes that share shards through one file, and one session here that looks on."""

    def __init__(self, folder: Path) -> None:
        self.url = f"local://{folder}/drumbeat.db"
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.watcher = drumbeat.connect(self.url, member_id="watcher", lease_ttl=PROCESS_TTL)

    def start(self, *names: str) -> None:
        """Start members, which append to one history each."""
        for name in names:
            arguments = [self.url, name, str(self.folder / f"{name}.jsonl"), str(PROCESS_TTL), str(COUNT)]
            self.processes[name] = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdin=subprocess.PIPE)

    def kill(self, name: str) -> None:
        """End a member by SIGKILL."""
        process = self.processes.pop(name)
        path = self.folder / f"{name}.jsonl"
        note(path, kind="killed", member_id=name, at=SystemClock().now(), pid=process.pid)
        process.kill()
        process.communicate()

    def holders(self) -> dict[int, str]:
        """Return who holds each shard, as the store says."""
        keeper = self.watcher._keeper
        found = {
            number: keeper.call(
                "look",
                lambda live, timeout, number=number: keeper.backend.read_leader(  # type: ignore[misc]
                    live.lease, f"shard/g/{number}", timeout=timeout
                ),
            )
            for number in range(COUNT)
        }
        return {number: record.member_id for number, record in found.items() if not isinstance(record, drumbeat.Vacant)}

    def wait(self, *names: str, within: float) -> None:
        """Wait until these members hold their shards, as the store says."""
        eventually(lambda: self.holders() == by_right(*names), within=within)

    def judge(self) -> None:
        """End everybody, and judge what they have written."""
        for process in self.processes.values():
            process.communicate(timeout=20)
        self.watcher.close()
        history = read_history(sorted(self.folder.glob("*.jsonl")))
        assert len(terms(history)) > COUNT
        assert find_overlaps(history) == []
        assert find_token_faults(history) == []

    def close(self) -> None:
        """Leave no process behind."""
        for process in self.processes.values():
            process.kill()
            process.communicate()
        self.watcher.close()


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """Processes that share shards."""
    made = Crew(tmp_path)
    yield made
    made.close()


def test_a_killed_process_is_replaced(crew: Crew) -> None:
    """PART-3 and 4: after SIGKILL the others hold its shards within the bound; a new start takes them back."""
    crew.start("a", "b", "c")
    crew.wait("a", "b", "c", within=20 * PROCESS_TTL)
    bound = crew.watcher.failover_bound
    crew.kill("b")
    crew.wait("a", "c", within=bound + PROCESS_TTL)
    crew.start("b")
    crew.wait("a", "b", "c", within=20 * PROCESS_TTL)
    crew.kill("a")
    crew.kill("c")
    crew.wait("b", within=bound + PROCESS_TTL)
    crew.judge()


def test_a_frozen_process_is_replaced(crew: Crew) -> None:
    """PART-3 and 4: after SIGSTOP for longer than its TTL a process holds nothing when it wakes, then comes back."""
    crew.start("a", "b")
    crew.wait("a", "b", within=20 * PROCESS_TTL)
    crew.processes["a"].send_signal(signal.SIGSTOP)
    try:
        crew.wait("b", within=crew.watcher.failover_bound + PROCESS_TTL)
    finally:
        crew.processes["a"].send_signal(signal.SIGCONT)
    crew.wait("a", "b", within=20 * PROCESS_TTL)
    crew.judge()
