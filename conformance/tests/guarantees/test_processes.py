"""A leader that is a process of its own: killed, frozen, forked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest
from support import Background, eventually

import drumbeat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Cluster

MEMBER = Path(__file__).parent / "member.py"


class Member:
    """A process that leads `e` and is in `g`."""

    def __init__(self, shared: Cluster, member_id: str) -> None:
        command = [sys.executable, str(MEMBER), shared.url, shared.namespace, str(shared.ttl), member_id]
        self.process: subprocess.Popen[str] = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        word, token = self.line()
        assert word == "won"
        self.token = int(token)

    def tell(self, command: str) -> None:
        """Have the process do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def line(self) -> list[str]:
        """Return the words of the next line that the process writes."""
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        return line.split()

    def end(self) -> None:
        """Kill the process, frozen or not."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def leader(shared: Cluster) -> Iterator[Member]:
    """A process that leads."""
    made = Member(shared, "leader")
    yield made
    made.end()


def test_a_killed_leader_is_replaced_within_the_bound(shared: Cluster, leader: Member) -> None:
    """FAULT-5: after SIGKILL a waiting candidate wins within the bound, with a higher token; the member is gone."""
    session = shared.connect("successor")
    waiting = Background(lambda: session.election("e").campaign())
    leader.end()
    term = waiting.result(within=session.failover_bound + shared.ttl)
    assert isinstance(term, drumbeat.Term)
    assert term.token > leader.token
    bound = session.backend.eviction.seconds(shared.ttl) + shared.ttl
    eventually(lambda: "leader" not in session.group("g").members(), within=bound)


def test_a_frozen_leader_holds_nothing_when_it_wakes(shared: Cluster, leader: Member) -> None:
    """FAULT-4: after SIGSTOP for longer than the TTL, the first look at the term says that it is over."""
    leader.tell("look")
    assert leader.line()[0] == "held"
    session = shared.connect("successor")
    leader.process.send_signal(signal.SIGSTOP)
    term = session.election("e").campaign(timeout=session.failover_bound + shared.ttl)
    won = time.clock_gettime(time.CLOCK_BOOTTIME)
    leader.process.send_signal(signal.SIGCONT)
    looks = [leader.line()]
    while float(looks[-1][1]) < won:
        looks.append(leader.line())
    assert looks[-1][0] == "over"
    assert [look for look in looks if look[0] == "held" and float(look[1]) >= won] == []
    assert term.token > leader.token
    assert term.held


def test_a_forked_child_holds_nothing_and_releases_nothing(shared: Cluster, leader: Member) -> None:
    """FAULT-8: the child of a holder is refused everything, and its end takes nothing from its parent."""
    session = shared.connect("onlooker")
    leader.tell("fork")
    assert leader.line() == ["child", "0"]
    leader.tell("look")
    until = time.monotonic() + 2 * shared.ttl
    while time.monotonic() < until:
        assert leader.line()[0] == "held"
    found = session.election("e").leader()
    assert found is not None
    assert (found.member_id, found.token) == ("leader", leader.token)
    assert session.group("g").members().ids == ("leader",)
