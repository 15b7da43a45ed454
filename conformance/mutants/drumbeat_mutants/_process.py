"""The process of one mutant: breaks the code, tests it, and writes down what came of each guarantee."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from drumbeat_conformance import guarantees as _entered  # noqa: F401 - importing it enters them
from drumbeat_conformance.guarantee import CATALOGUE, Guarantee, Tier
from drumbeat_conformance.run import Run
from drumbeat_conformance.target import Site, Target
from drumbeat_mutants._preload import ADDRESS, apply

__all__ = ["Plan", "main"]


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
    #: Seconds of real time after which a guarantee counts as hanging, by its tier.
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
        return replace(guarantee, limit=min(guarantee.limit, self.limits[guarantee.tier]))

    @contextmanager
    def _given(self) -> Iterator[Site]:
        yield Site(self.url)


def main() -> None:
    """Test what the plan in the first argument says; write lines of JSON to the file that the second one names."""
    plan, path = Plan.load(sys.argv[1]), Path(sys.argv[2])
    with path.open("w", encoding="utf-8", buffering=1) as lines:
        counted = apply().counted if ADDRESS in os.environ else []
        lines.write(json.dumps({"counted": counted}) + "\n")
        with Run(plan.target(), [plan.limited(CATALOGUE[id_]) for id_ in plan.guarantees]) as run:
            for id_ in plan.guarantees:
                outcome = run.outcome(id_)
                found = {"id": id_, "result": outcome.result, "reason": outcome.reason, "seconds": outcome.seconds}
                lines.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that a mutant left hanging are not waited for


if __name__ == "__main__":
    main()
