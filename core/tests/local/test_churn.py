"""Thousands of random operations by processes that are killed and frozen meanwhile: never two holders at a time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from local.actors import TIMEOUT, Actor, Process
from support import eventually

MakeActor = Callable[..., Actor]
MakeProcess = Callable[..., Process]
#: Seconds of churn with disturbances, and without; each goes on for longer where a busy machine has not done enough.
DISTURBED, CALM = 6.0, 2.0
#: Seconds after which all of it has failed.
AT_MOST = 45.0


@dataclass
class Term:
    """What a process could believe: that it held an election from `begin` to `end`."""

    election: str
    token: int
    begin: float
    end: float


def test_no_two_live_holders_ever_coexist(actor: MakeActor, process: MakeProcess, path: Path) -> None:
    """Judged by what each process knew and when, no two terms of an election overlap, and their tokens rise."""
    chance = random.Random(7)
    killed: dict[Path, float] = {}
    logs: list[Path] = []
    enough = path.with_name("enough")

    def start() -> tuple[Process, Path]:
        log = path.with_name(f"churn-{len(logs)}")
        log.touch()
        logs.append(log)
        one = process()
        one.tell("churn", seed=len(logs), seconds=AT_MOST, log=str(log), enough=str(enough))
        return one, log

    def terms() -> list[Term]:
        return [term for log in logs for term in _terms(log, killed.get(log, float("inf")))]

    def enough_was_done() -> bool:
        # A step is a heartbeat and one thing more; a session that is opened anew has a lease without one.
        beats = sum(notes.count("lease") - notes.count("over") for notes in (log.read_text() for _, log in running))
        return time.monotonic() > calm and beats > 1000 and len(terms()) > 200

    began = time.monotonic()
    running = [start() for _ in range(4)]
    while time.monotonic() < began + DISTURBED or len(killed) <= 3:
        assert time.monotonic() < began + AT_MOST
        time.sleep(chance.uniform(0.1, 0.4))
        index = chance.randrange(len(running))
        victim, log = running[index]
        victim.freeze()
        if chance.random() < 0.5:
            time.sleep(chance.choice([0.05, 0.9]))
            victim.thaw()
        else:
            killed[log] = time.clock_gettime(time.CLOCK_BOOTTIME)
            victim.kill()
            running[index] = start()
    calm = time.monotonic() + CALM
    eventually(enough_was_done, within=began + AT_MOST - time.monotonic())
    enough.touch()
    steps = [one.answer() for one, _ in running]
    assert sum(step for step in steps if isinstance(step, int)) > 1000
    assert len(terms()) > 200
    assert len(killed) > 3
    for election in ("e", "f"):
        ordered = sorted((term for term in terms() if term.election == election), key=lambda term: term.token)
        assert [(a, b) for a, b in pairwise(ordered) if a.end > b.begin] == []
        assert len({term.token for term in ordered}) == len(ordered)
    one = actor("last")
    findings = one.backend.diagnose(timeout=TIMEOUT)
    assert {finding.level for finding in findings} == {"ok"}


def _terms(log: Path, killed: float) -> list[Term]:
    """Return the terms in a process's notes; one ends when it is given up, with its lease, or with the process."""
    terms: list[Term] = []
    open_terms: dict[tuple[str, int], Term] = {}
    lease = 0.0
    for words in map(str.split, log.read_text().splitlines()):
        match words:
            case ["lease", deadline]:
                # A lease that is renewed carries all terms with it; what is over stays over.
                lease = float(deadline)
                for term in open_terms.values():
                    term.end = min(lease, killed)
            case ["over"]:
                open_terms.clear()
            case ["won", election, token, moment]:
                term = Term(election, int(token), float(moment), min(lease, killed))
                open_terms[election, int(token)] = term
                terms.append(term)
            case ["end", election, token, moment]:
                term = open_terms.pop((election, int(token)))
                term.end = min(term.end, float(moment))
    return [term for term in terms if term.begin < term.end]
