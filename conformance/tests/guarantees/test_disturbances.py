"""Real processes, killed, frozen and restarted: their recorded histories show no overlap."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support import eventually

import drumbeat
from drumbeat.history import find_overlaps, find_token_faults, note, read_history, terms

if TYPE_CHECKING:
    from pathlib import Path

    from support import Cluster

    from drumbeat.history import History

DISTURBANCES = 50
CROWD = 4

AGENT = """
import random, sys, time
import drumbeat
from drumbeat.observers import HistoryObserver
url, namespace, ttl, member_id, history = sys.argv[1:]
draw = random.Random(member_id)
with drumbeat.connect(
    url,
    namespace=namespace,
    member_id=member_id,
    lease_ttl=float(ttl),
    connect_timeout=20.0,
    on_empty_store="trust",
    observers=[HistoryObserver(history)],
) as session:
    while True:
        with session.election("e").campaign() as term:
            until = time.monotonic() + draw.uniform(0.02, 0.2)
            while term.held and time.monotonic() < until:
                time.sleep(0.01)
"""


class Agent:
    """A process that wins the seat, holds it for a while, resigns, and begins again."""

    def __init__(self, shared: Cluster, folder: Path, number: int) -> None:
        self.member_id = f"m{number}"
        self.history = folder / f"{self.member_id}.jsonl"
        arguments = [shared.url, shared.namespace, str(shared.ttl), self.member_id, str(self.history)]
        self.process = subprocess.Popen([sys.executable, "-c", AGENT, *arguments])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End the process as a crash does, and say so in its history."""
        at = drumbeat.SystemClock().now()
        self.process.kill()
        self.process.wait()
        note(self.history, kind="killed", member_id=self.member_id, pid=self.process.pid, at=at)


@pytest.mark.timeout(180)
def test_fifty_real_disturbances_make_no_overlap(shared: Cluster, tmp_path: Path) -> None:
    """LEAD-1, 3 and 8: kills, and freezes shorter and longer than the TTL, leave one leader at a time."""
    draw = random.Random(11)
    agents = [Agent(shared, tmp_path, number) for number in range(CROWD)]
    known = list(agents)
    thaws: list[tuple[float, Agent]] = []
    done = {"kill": 0, "freeze": 0}
    try:
        eventually(lambda: all(agent.history.exists() for agent in agents), within=30.0)
        while sum(done.values()) < DISTURBANCES:
            time.sleep(draw.uniform(0.125, 0.5) * shared.ttl)
            thaws = thaw_due(thaws)
            place = draw.randrange(CROWD)
            if any(agent is agents[place] for _, agent in thaws) or not agents[place].history.exists():
                continue
            if draw.random() < 0.5:
                agents[place].kill()
                agents[place] = Agent(shared, tmp_path, len(known))
                known.append(agents[place])
                done["kill"] += 1
            else:
                agents[place].send(signal.SIGSTOP)
                thaws.append((time.monotonic() + draw.uniform(0.2, 2.5) * shared.ttl, agents[place]))
                done["freeze"] += 1
        eventually(lambda: not thaw_due(thaws), within=10 * shared.ttl)
        eventually(lambda: len(terms(written(known))) >= DISTURBANCES, within=60 * shared.ttl)
    finally:
        for agent in agents:
            agent.kill()
    found = written(known)
    held = terms(found)
    assert min(done.values()) >= DISTURBANCES // 4
    assert {"killed", "resigned"} <= {term.ended for term in held}
    assert find_overlaps(found) == []
    assert find_token_faults(found) == []


def written(agents: list[Agent]) -> History:
    """Return what these agents have recorded so far."""
    return read_history([agent.history for agent in agents if agent.history.exists()])


def thaw_due(thaws: list[tuple[float, Agent]]) -> list[tuple[float, Agent]]:
    """Let go on who was frozen for long enough; return who still is."""
    now = time.monotonic()
    for until, agent in thaws:
        if until <= now:
            agent.send(signal.SIGCONT)
    return [(until, agent) for until, agent in thaws if until > now]
