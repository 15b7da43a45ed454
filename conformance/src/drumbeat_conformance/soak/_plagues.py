"""What befalls the processes of a soak, their links and their server, by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, final

from drumbeat_conformance import faults
from drumbeat_conformance.proxy import Proxy

if TYPE_CHECKING:
    from drumbeat_conformance.soak._crew import Worker
    from drumbeat_conformance.target import ControlledServer

#: How often a disturbed link loses a reply.
_LOSS: Final = 0.3
#: How often a fault of links concerns all of them.
_ALL: Final = 0.25


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What can be disturbed."""

    workers: Sequence[Worker]
    #: None if the server is not the suite's own.
    server: ControlledServer | None
    #: Whether the server keeps its data over a restart.
    restarts: bool
    ttl: float
    draw: random.Random


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plague:
    """A fault that lasts for a time between two bounds, which are in TTLs."""

    name: str
    shortest: float
    longest: float
    strike: Callable[[Scene], AbstractContextManager[None]]


def plagues(scene: Scene) -> list[Plague]:
    """Return what can happen in a scene."""
    known = list(_OF_PROCESSES)
    if all(worker.link is not None for worker in scene.workers):
        known += _OF_LINKS
    if scene.server is not None:
        known.append(Plague(name="server paused", shortest=0.2, longest=2.0, strike=_pause))
        if scene.restarts:
            known.append(Plague(name="server restarted", shortest=0.0, longest=1.0, strike=_restart))
    return known


@contextmanager
def _killed(scene: Scene) -> Iterator[None]:
    worker = scene.draw.choice(scene.workers)
    worker.kill()
    try:
        yield
    finally:
        worker.restart()


def _stopped(scene: Scene) -> AbstractContextManager[None]:
    return scene.draw.choice(scene.workers).stopped()


def _outlived(scene: Scene) -> AbstractContextManager[None]:
    """Stop one that leads, if any does: only the others' successions prove anything about its lease."""
    leaders = [worker for worker in scene.workers if worker.leads]
    return scene.draw.choice(leaders or scene.workers).stopped()


def _pause(scene: Scene) -> AbstractContextManager[None]:
    assert scene.server is not None
    return faults.paused(scene.server)


def _restart(scene: Scene) -> AbstractContextManager[None]:
    assert scene.server is not None
    return faults.down(scene.server, graceful=scene.draw.random() < 1 / 2)


@contextmanager
def _on_links(disturb: Callable[[Scene, Proxy], AbstractContextManager[None]], scene: Scene) -> Iterator[None]:
    """Disturb the link of one process, or of all."""
    workers = scene.workers if scene.draw.random() < _ALL else [scene.draw.choice(scene.workers)]
    with ExitStack() as stack:
        for worker in workers:
            assert worker.link is not None
            stack.enter_context(disturb(scene, worker.link))
        yield


def _slow(scene: Scene, link: Proxy) -> AbstractContextManager[None]:
    # A request may take a fifth of the TTL: some are too slow, and some are not.
    return faults.slow(link, scene.draw.uniform(0.02, 0.3) * scene.ttl)


def _lossy(scene: Scene, link: Proxy) -> AbstractContextManager[None]:
    return faults.losing_replies(link, _LOSS, seed=scene.draw.randrange(2**32))


def _link(name: str, disturb: Callable[[Scene, Proxy], AbstractContextManager[None]]) -> Plague:
    return Plague(name=name, shortest=0.3, longest=2.5, strike=partial(_on_links, disturb))


_OF_PROCESSES: Final = (
    Plague(name="process killed", shortest=0.0, longest=1.5, strike=_killed),
    Plague(name="process stopped for less than the TTL", shortest=0.1, longest=0.6, strike=_stopped),
    Plague(name="process stopped for longer than the TTL", shortest=1.3, longest=2.5, strike=_outlived),
)
_OF_LINKS: Final = (
    _link("link black-holed", lambda _, link: faults.black_hole(link)),
    _link("link cut", lambda _, link: faults.cut(link)),
    _link("link half open", lambda _, link: faults.half_open(link)),
    _link("link slow", _slow),
    _link("link losing replies at random", _lossy),
)
