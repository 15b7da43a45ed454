"""The process of one mutant: breaks the code, tests it, and writes down what came of each guarantee.

Run as a program, this is the parent of such processes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, NoReturn, final

from drumbeat._plugins import BACKENDS
from drumbeat_conformance import guarantees as _entered  # noqa: F401 - importing it enters them
from drumbeat_conformance.guarantee import CATALOGUE, Guarantee, Tier
from drumbeat_conformance.run import Run
from drumbeat_conformance.target import Site, Target
from drumbeat_mutants._preload import ADDRESS, apply

__all__ = ["Job", "Plan", "main"]

#: Seconds between two looks whether a child has ended.
_LOOK: Final = 0.005


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a parent of such processes is asked for, as a line of JSON."""

    #: What `Plan.dump` returned.
    plan: str
    #: The file for the findings, and the one for all that is printed.
    found: str
    output: str
    environment: dict[str, str]
    #: Seconds of real time after which it is ended.
    patience: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a process is to test."""

    of: str
    #: The server to use where a guarantee needs none of its own; empty to start what is needed.
    url: str
    fake_time: bool
    #: Ids, in the order of the testing.
    guarantees: tuple[str, ...]
    #: Seconds of real time after which a guarantee counts as hanging at the latest, by its tier.
    limits: dict[Tier, float]

    def dump(self) -> str:
        """Return it as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Plan:
        """Return what `dump` made a text of."""
        given = json.loads(text)
        return cls(**{**given, "guarantees": tuple(given["guarantees"])})

    def target(self) -> Target:
        """Return where to test."""
        target = Target.of(self.of)
        if self.url:
            target = replace(target, calm=self._given)
        return target.with_fake_time() if self.fake_time else target

    def limited(self, guarantee: Guarantee) -> Guarantee:
        """Return a guarantee with a limit that hanging mutants leave affordable."""
        return replace(guarantee, limit=min(guarantee.limit, self.limits.get(guarantee.tier, guarantee.limit)))

    @contextmanager
    def _given(self) -> Iterator[Site]:
        yield Site(self.url)


def main() -> None:
    """Run each job that comes as a line on the input in a fork of this process, and answer with its exit code.

    The fork spares every mutant the imports; nothing here has begun a thread by then. The answer is null for a job
    that had to be ended.
    """
    # What is installed stays so; to ask for it at every connection would take a third of the time.
    importlib.metadata.entry_points = cache(importlib.metadata.entry_points)  # type: ignore[assignment]
    importlib.metadata.entry_points(group=BACKENDS)
    for line in sys.stdin:
        job = Job(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            _be(job)
        print(json.dumps(_end(pid, patience=job.patience)), flush=True)


def _be(job: Job) -> NoReturn:
    code = 1
    try:
        os.setsid()
        _redirect(job.output)
        os.environ.update(job.environment)
        _test(Plan.load(job.plan), Path(job.found))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the loop above belongs to the parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads that a mutant left hanging are not waited for


def _redirect(output: str) -> None:
    """Send what is printed to a file, and read nothing: the pipes are the parent's."""
    for descriptor, path, flags in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY | os.O_CREAT)):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(1, 2)


def _test(plan: Plan, path: Path) -> None:
    with path.open("w", encoding="utf-8", buffering=1) as lines:
        counted = apply().counted if ADDRESS in os.environ else []
        lines.write(json.dumps({"counted": counted}) + "\n")
        with Run(plan.target(), [plan.limited(CATALOGUE[id_]) for id_ in plan.guarantees]) as run:
            for id_ in plan.guarantees:
                outcome = run.outcome(id_)
                found = {"id": id_, "result": outcome.result, "reason": outcome.reason, "seconds": outcome.seconds}
                lines.write(json.dumps(found) + "\n")


def _end(pid: int, *, patience: float) -> int | None:
    """Wait for a child, then end what is left of its group; return its code, or None if it took too long."""
    until = time.monotonic() + patience
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended and time.monotonic() < until:
        time.sleep(_LOOK)
        ended, status = os.waitpid(pid, os.WNOHANG)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if ended:
        return os.waitstatus_to_exitcode(status)
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    main()
