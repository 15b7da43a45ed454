"""The machine for a target, and how many examples of how many steps it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, settings

from drumbeat_conformance.machine._paced import PacedMachine
from drumbeat_conformance.target import Target

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendFactory

__all__ = ["backend_machine"]

#: Examples and steps where time is only pretended to pass, and where it passes.
FAKE: Final = (100, 50)
REAL: Final = (12, 30)
#: Seconds after which nothing that takes long is begun.
SECONDS: Final = 12.0


def backend_machine(
    target: str | Target,
    *,
    factory: BackendFactory | None = None,
    examples: int | None = None,
    steps: int | None = None,
    seconds: float = SECONDS,
) -> type[PacedMachine]:
    """Return a state machine that asks the same of a backend and of the reference model; run its `TestCase`.

    `target` is a URL, a built-in name (redis, memcached, zookeeper, etcd, local, memory, memory-cas) or a `Target`;
    `factory` is the backend's class where no installed package announces it. On a target with fake time there are 100
    examples of 50 steps, else 6 of 25, in which leases run out in real time; after `seconds` none of those is begun, and
    no further example. All examples are the same in every run. A difference is an AssertionError that shows the steps
    that led to it; in real time these are shown as they were found, since a shorter sequence would take many runs.

    For other choices derive from what is returned, or set `TestCase.settings`.
    """
    chosen = Target.of(target) if isinstance(target, str) else target
    if factory is not None:
        from dataclasses import replace

        chosen = replace(chosen, factory=factory)
    machine = type("BackendMachine", (PacedMachine,), {"target": chosen, "seconds": seconds})
    usual_examples, usual_steps = FAKE if chosen.fake_time else REAL
    machine.TestCase.settings = settings(
        max_examples=examples or usual_examples,
        stateful_step_count=steps or usual_steps,
        phases=tuple(Phase) if chosen.fake_time else (Phase.explicit, Phase.generate),
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    return machine
