"""Running mutants, and the sound backends beside them, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from drumbeat_conformance.guarantee import CATALOGUE, Tier
from drumbeat_conformance.run import Result
from drumbeat_conformance.target import Target
from drumbeat_mutants._mutant import REACHED, Mutant
from drumbeat_mutants._preload import environment
from drumbeat_mutants._process import Job, Plan

__all__ = ["SERVERS", "Bench", "Choice", "Finding", "Report"]

#: Targets whose server is started once and shared.
SERVERS: Final = frozenset({"redis", "memcached", "zookeeper", "etcd"})
#: As many more processes at once where time is real.
_WAITING: Final = 3
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

    def with_second(self, second: Report) -> Report:
        """Return what stands after some guarantees were tested a second time."""
        return replace(second, findings={**self.findings, **second.findings})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How much is tested."""

    #: Every guarantee on every mutant, rather than only the named ones where time is real.
    full: bool = False
    #: The named guarantees alone, where time is fake too.
    quick: bool = False
    #: The machine's clock for stores in memory too.
    real_time: bool = False
    #: Seconds of real time for a guarantee in fake time, where each takes milliseconds unless it hangs, and for all.
    fake_limit: float = 10.0
    fake_patience: float = 60.0

    def is_fake(self, of: str) -> bool:
        """Return whether a target is tested on a clock that only the suite moves."""
        return of in _IN_PROCESS and not self.real_time

    def plan(self, of: str, named: Iterable[str], *, url: str = "") -> Plan:
        """Return what to test on a target for a mutant that breaks these guarantees."""
        fake = self.is_fake(of)
        first = [id_ for id_ in dict.fromkeys(named) if id_ in CATALOGUE]
        tiers: set[Tier] = {"contract"} if fake and not self.quick else set()
        if self.full and not fake:
            tiers = {"contract", "faults"}
        rest = [one.id for one in sorted(CATALOGUE.values(), key=lambda one: one.order) if one.tier in tiers]
        limits = {**_LIMITS, "contract": self.fake_limit} if fake else _LIMITS
        return Plan(of=of, url=url, fake_time=fake, guarantees=tuple(dict.fromkeys([*first, *rest])), limits=limits)

    def patience(self, plan: Plan) -> float:
        """Return the seconds of real time after which a process is ended."""
        if plan.fake_time:
            return self.fake_patience
        limits = [plan.limited(CATALOGUE[id_]).limit for id_ in plan.guarantees]
        return 60.0 + max(limits) + sum(limits) / 3


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
    _idle: list[_Parent] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self, mutants: Sequence[Mutant]) -> tuple[dict[str, Report], dict[str, Report]]:
        """Test the sound backend of each target, and the mutants; return reports by target, and by mutant.

        First those in real time, which mostly wait, so that several times as many go side by side; then the others.
        What fails on a sound backend is judged again when nothing else runs, and so are the mutants it should kill, and
        those that survive in real time, whose bug may show for fractions of a TTL only.
        """
        controls: dict[str, Report] = {}
        reports: dict[str, Report] = {}
        for fake, workers in ((False, _WAITING * self.workers), (True, self.workers)):
            now = [one for one in mutants if self.choice.is_fake(one.of) is fake]
            targets = sorted({one.of for one in now})
            with ThreadPoolExecutor(workers) as pool:
                sound = {of: pool.submit(self._control, of, _named(now, of)) for of in targets}
                broken = {one.name: pool.submit(self._mutant, one) for one in now}
            controls |= {of: future.result() for of, future in sound.items()}
            reports |= {name: future.result() for name, future in broken.items()}
        for of, report in controls.items():
            if report.failed:
                controls[of] = report.with_second(self._control(of, report.failed, only=True))
                again = [one for one in mutants if one.of == of and not set(report.failed).isdisjoint(one.breaks)]
                reports |= {one.name: self._mutant(one) for one in again}
        for one in mutants:
            if not self.choice.is_fake(one.of) and not set(one.breaks) <= set(reports[one.name].failed):
                reports[one.name] = self._mutant(one)
        return controls, {one.name: reports[one.name] for one in mutants}

    def _control(self, of: str, named: Sequence[str], *, only: bool = False) -> Report:
        choice = replace(self.choice, full=False, quick=True) if only else self.choice
        plan = choice.plan(of, named, url=self._url(of))
        report = self._test(replace(plan, limits={}))  # what is sound does not hang: it gets the time that it is due
        self.tell(f"sound {of}{', alone' if only else ''}", report)
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
        with tempfile.TemporaryDirectory(prefix="drumbeat-mutants-") as folder, self._parent() as parent:
            reached, found, output = Path(folder, "reached"), Path(folder, "found"), Path(folder, "output")
            reached.mkdir()
            job = Job(
                plan=plan.dump(),
                found=str(found),
                output=str(output),
                environment={REACHED: str(reached), **(environment(address) if address else {})},
                patience=self.choice.patience(plan),
            )
            code = parent.run(job)
            lines = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []
            called = {path.name for path in reached.iterdir()}
            printed = output.read_text(errors="replace") if code else ""
        counted = lines[0]["counted"] if lines else []
        return Report(
            findings={line["id"]: Finding(line["result"], line["reason"], line["seconds"]) for line in lines[1:]},
            unreached=tuple(site for site in dict.fromkeys(counted) if site not in called),
            crash=f"ended with code {code}:\n{printed[-3000:]}" if code else "",
            cut=code is None,
        )

    @contextmanager
    def _parent(self) -> Iterator[_Parent]:
        """Give a parent process to one thread at a time; it starts when it is first needed."""
        try:
            parent = self._idle.pop()
        except IndexError:
            parent = self._stack.enter_context(_Parent())
        yield parent
        self._idle.append(parent)


def _named(mutants: Sequence[Mutant], of: str) -> list[str]:
    return [id_ for one in mutants if one.of == of for id_ in one.breaks]


@final
class _Parent:
    """A process that has imported everything, and forks for each mutant; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "drumbeat_mutants._process"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Job) -> int | None:
        """Return the exit code of a job, or None if it had to be ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        code: int | None = json.loads(self._process.stdout.readline())
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._process:
            pass  # it ends with its input
