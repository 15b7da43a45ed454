"""The machine for a target, and how many examples of how many steps it takes."""

from __future__ import annotations

import time
import unittest
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar, cast

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky, Unsatisfiable
from hypothesis.stateful import run_state_machine_as_test

from drumbeat_conformance.machine._paced import PacedMachine, RealTimeMachine
from drumbeat_conformance.target import Target

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendFactory

__all__ = ["backend_machine"]

M = TypeVar("M", bound=PacedMachine)

#: Examples, where time is only pretended to pass; and steps in each, there and elsewhere.
FAKE_EXAMPLES: Final = 50
FAKE_STEPS: Final = 50
REAL_STEPS: Final = 25
#: Seconds of real time after which no example is begun.
SECONDS: Final = 12.0

_SETTINGS: Final = settings(
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType] # an enum in all but its type
)


def backend_machine(
    target: str | Target, *, factory: BackendFactory | None = None, seconds: float = SECONDS
) -> type[PacedMachine]:
    """Return a state machine that asks the same of a backend and of the reference model; run its `TestCase`.

    `target` is a URL, a built-in name (redis, memcached, zookeeper, etcd, local, memory, memory-cas) or a `Target`;
    `factory` is the backend's class where no installed package announces it.

    On a target with fake time there are 50 examples of 50 steps, and one that fails is made as short as can be. In real
    time, in which leases have to run out, examples of 25 steps are begun for `seconds`, and one that fails is shown as
    it was found. Which examples there are is the same in every run. A difference from the model is an AssertionError
    that shows the call and both answers to it, and below, as a program of hooks with the backend's answers, all calls
    that led to it; those that only read and agreed are left out. `TestCase.settings` can be replaced, as hypothesis
    tells.
    """
    chosen = Target.of(target) if isinstance(target, str) else target
    chosen = chosen if factory is None else replace(chosen, factory=factory)
    if chosen.fake_time:
        machine = _derived(PacedMachine, target=chosen)
        machine.TestCase.settings = settings(
            _SETTINGS,
            max_examples=FAKE_EXAMPLES,
            stateful_step_count=FAKE_STEPS,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
        )
        return machine
    made = type("BackendMachine.TestCase", (_RealTimeTestCase,), {"seconds": seconds})
    case = cast("type[_RealTimeTestCase]", made)
    case.machine = _derived(RealTimeMachine, target=chosen, TestCase=case)
    return case.machine


def _derived(machine: type[M], **attributes: object) -> type[M]:
    return cast("type[M]", type("BackendMachine", (machine,), attributes))


class _RealTimeTestCase(unittest.TestCase):
    """Runs example after example, each alone: hypothesis would replay beginnings, which time makes differ."""

    machine: ClassVar[type[RealTimeMachine]]
    seconds: ClassVar[float]
    settings: ClassVar[settings] = settings(
        _SETTINGS, max_examples=1, stateful_step_count=REAL_STEPS, phases=(Phase.explicit, Phase.generate)
    )

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        """Compare for some seconds, in at least one example that proves something."""
        with self.machine.target.calm() as site:
            until = time.monotonic() + self.seconds
            number, proven = 0, 0
            while time.monotonic() < until:
                number += 1
                proven += self._holds(seed(number)(_derived(self.machine, site=site)))
        assert proven, f"in {number} examples the machine was too slow for leases of {self.machine.target.ttl:g} s"

    def _holds(self, machine: type[RealTimeMachine]) -> bool:
        try:
            run_state_machine_as_test(machine, settings=self.settings)
        except (Unsatisfiable, Flaky):
            # Time made one try differ from another, which proves nothing; unless there was a failure.
            if machine.found is not None:
                raise machine.found from None
            return False
        return True
