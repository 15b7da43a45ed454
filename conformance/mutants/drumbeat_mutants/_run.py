"""Running mutants, and the sound backends beside them, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from drumbeat_conformance.guarantee import CATALOGUE, Tier
from drumbeat_conformance.run import Result
from drumbeat_conformance.target import Target
from drumbeat_mutants._mutant import REACHED, Mutant
from drumbeat_mutants._preload import environment
from drumbeat_mutants._process import Plan

__all__ = ["SERVERS", "Bench", "Choice", "Finding", "Report"]

#: Targets whose server is started once and shared.
SERVERS: Final = frozenset({"redis", "memcached", "zookeeper", "etcd"})
#: Targets whose contract tier runs on a clock that only the suite moves.
_IN_PROCESS: Final = frozenset({"memory", "memory-cas"})
#: Seconds of real time after which a guarantee counts as hanging, by its tier: mutants may well hang.
_LIMITS: Final[dict[Tier, float]] = {"contract": 25.0, "faults": 90.0}


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one guarantee."""

    result: Result
    reason: str = ""
    seconds: float = 0.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of one process."""

    findings: dict[str, Finding]
    #: Patched attributes that were never called.
    unreached: tuple[str, ...] = ()
    #: How the process ended, if not by itself and well.
    crash: str = ""
    #: Whether it took too long, so that some guarantees were not tested.
    cut: bool = False

    @property
    def failed(self) -> list[str]:
        """The guarantees that failed."""
        return [id_ for id_, finding in self.findings.items() if finding.result == "failed"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How much is tested."""

    #: Every guarantee on every mutant, rather than only the named ones where time is real.
    full: bool = False
    #: The machine's clock for stores in memory too.
    real_time: bool = False
    #: Seconds of real time for a guarantee in fake time, where each takes milliseconds unless it hangs, and for all.
    fake_limit: float = 10.0
    fake_patience: float = 60.0

    def plan(self, of: str, named: Iterable[str], *, url: str = "") -> Plan:
        """Return what to test on a target for a mutant that breaks these guarantees."""
        fake = of in _IN_PROCESS and not self.real_time
        first = [id_ for id_ in dict.fromkeys(named) if id_ in CATALOGUE]
        tiers: set[Tier] = {"contract"} if fake else {"contract", "faults"} if self.full else set()
        rest = [one.id for one in sorted(CATALOGUE.values(), key=lambda one: one.order) if one.tier in tiers]
        limits = {**_LIMITS, "contract": self.fake_limit} if fake else _LIMITS
        return Plan(of=of, url=url, fake_time=fake, guarantees=tuple(dict.fromkeys([*first, *rest])), limits=limits)

    def patience(self, plan: Plan) -> float:
        """Return the seconds of real time after which a process is ended."""
        if plan.fake_time:
            return self.fake_patience
        return 60.0 + sum(plan.limits[CATALOGUE[id_].tier] for id_ in plan.guarantees) / 3


@final
@dataclass(slots=True, kw_only=True)
class Bench:
    """Where mutants are run: servers that they share, and how many processes run at once, as a context manager."""

    choice: Choice
    workers: int = 2
    #: Is told of each process that has ended: its name, and what came of it.
    tell: Callable[[str, Report], None] = lambda _name, _report: None
    _stack: ExitStack = field(default_factory=ExitStack)
    _urls: dict[str, str] = field(default_factory=dict)
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def controls(self, mutants: Sequence[Mutant]) -> dict[str, Report]:
        """Test the sound backend of each target on all that its mutants are tested on; return reports by target."""
        targets = {one.of: [id_ for other in mutants if other.of == one.of for id_ in other.breaks] for one in mutants}
        with ThreadPoolExecutor(self.workers) as pool:
            return dict(zip(targets, pool.map(self._control, targets, targets.values()), strict=True))

    def mutants(self, mutants: Sequence[Mutant]) -> dict[str, Report]:
        """Run mutants; return reports by their names."""
        with ThreadPoolExecutor(self.workers) as pool:
            return dict(zip([one.name for one in mutants], pool.map(self._mutant, mutants), strict=True))

    def _control(self, of: str, named: list[str]) -> Report:
        report = self._test(self.choice.plan(of, named, url=self._url(of)))
        self.tell(f"sound {of}", report)
        return report

    def _mutant(self, one: Mutant) -> Report:
        report = self._test(self.choice.plan(one.of, one.breaks, url=self._url(one.of)), address=one.address)
        self.tell(one.name, report)
        return report

    def _url(self, of: str) -> str:
        if of not in SERVERS:
            return ""
        with self._starting:
            if of not in self._urls:
                self._urls[of] = self._stack.enter_context(Target.of(of).calm()).url
            return self._urls[of]

    def _test(self, plan: Plan, *, address: str = "") -> Report:
        with tempfile.TemporaryDirectory(prefix="drumbeat-mutants-") as folder:
            reached = Path(folder, "reached")
            reached.mkdir()
            found = Path(folder, "found.jsonl")
            variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), REACHED: str(reached)}
            variables |= environment(address) if address else {}
            command = [sys.executable, "-m", "drumbeat_mutants._process", plan.dump(), str(found)]
            code, output = _end(command, variables, patience=self.choice.patience(plan))
            lines = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []
            called = {path.name for path in reached.iterdir()}
        counted = lines[0]["counted"] if lines else []
        return Report(
            findings={line["id"]: Finding(line["result"], line["reason"], line["seconds"]) for line in lines[1:]},
            unreached=tuple(site for site in dict.fromkeys(counted) if site not in called),
            crash=f"ended with code {code}:\n{output[-3000:]}" if code else "",
            cut=code is None,
        )


def _end(command: list[str], variables: dict[str, str], *, patience: float) -> tuple[int | None, str]:
    """Run a command; return its code, None if it had to be ended, and what it printed."""
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            command, env=variables, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                code = process.wait(patience)
            except subprocess.TimeoutExpired:
                code = None
            with suppress(ProcessLookupError):  # it is the leader of its group, whose other processes it may leave
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        return code, output.read().decode(errors="replace")
