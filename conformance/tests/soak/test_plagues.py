"""What can befall a soak depends on what the target has."""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import pytest

from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.soak._plagues import Scene, plagues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drumbeat_conformance.soak._crew import Worker
    from drumbeat_conformance.target import ControlledServer


@dataclass
class StandIn:
    """A worker that only notes what befalls it, and a server alike."""

    link: Proxy | None = None
    done: list[str] = field(default_factory=list)
    leads: bool = False

    def kill(self) -> None:
        self.done.append("kill")

    def restart(self) -> None:
        self.done.append("restart")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.done.append("stop")
        yield
        self.done.append("continue")

    def stop(self) -> None:
        self.done.append("down")

    def start(self) -> None:
        self.done.append("up")

    def pause(self) -> None:
        self.done.append("pause")

    def resume(self) -> None:
        self.done.append("resume")


class Server(StandIn):
    def kill(self) -> None:
        self.done.append("down")


def scene(worker: StandIn, server: StandIn | None, *, restarts: bool = True) -> Scene:
    """Return a scene of stand-ins."""
    return Scene(
        workers=[cast("Worker", worker)],
        server=cast("ControlledServer | None", server),
        restarts=restarts,
        ttl=1.0,
        draw=random.Random(0),
    )


def test_processes_alone_can_be_killed_and_stopped() -> None:
    """Where there is neither a link nor a server, three faults are left."""
    assert [one.name.split()[0] for one in plagues(scene(StandIn(), None))] == ["process"] * 3


@pytest.mark.parametrize("restarts", [True, False])
def test_a_server_that_forgets_is_not_restarted(restarts: bool) -> None:
    """Where a restart loses the data, the server is only paused."""
    names = [one.name for one in plagues(scene(StandIn(), Server(), restarts=restarts))]
    assert "server paused" in names
    assert ("server restarted" in names) is restarts


def test_every_fault_ends() -> None:
    """What is killed is started, what is stopped goes on, and a link that was disturbed is sound again."""
    undone = {"kill": "restart", "stop": "continue", "down": "up", "pause": "resume"}
    with ExitStack() as stack:
        link = stack.enter_context(Proxy("127.0.0.1", 1))
        worker, server = StandIn(link), Server()
        known = plagues(scene(worker, server))
        assert len(known) == 10
        for plague in known:
            assert plague.shortest < plague.longest
            with plague.strike(scene(worker, server)):
                pass
    for done in (worker.done, server.done):
        assert [undone[one] for one in done[::2]] == done[1::2]
    assert len(worker.done) == 6
    assert len(server.done) == 4


def test_who_leads_is_stopped_for_longer_than_its_lease() -> None:
    """A lease that is outlived is that of a leader, if there is one; else chance decides."""
    crew = [StandIn() for _ in range(8)]
    leader = crew[5]
    site = replace(scene(leader, None), workers=[cast("Worker", worker) for worker in crew])
    (outlived,) = [plague for plague in plagues(site) if plague.shortest > 1.0]
    for worker in (None, leader):
        leader.leads = worker is leader
        for _ in range(10):
            with outlived.strike(site):
                pass
        stopped = {crew.index(worker) for worker in crew if "stop" in worker.done}
        assert (stopped == {5}) is leader.leads
        for one in crew:
            one.done.clear()
