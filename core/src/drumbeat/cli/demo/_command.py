"""The command `drumbeat demo`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

import drumbeat
from drumbeat.cli import _options as options
from drumbeat.cli._report import BY_SIGNAL, NO, as_line
from drumbeat.cli.demo._director import TICK, DemoFailed, Director
from drumbeat.cli.demo._figures import compute, find_faults
from drumbeat.cli.demo._interrupts import Interrupted, Interrupts
from drumbeat.cli.demo._plan import Place, make_plan
from drumbeat.cli.demo._screen import make_screen
from drumbeat.cli.demo._team import Team


def demo(
    *,
    url: str | None = options.URL,
    agents: int = typer.Option(3, "--agents", metavar="NUMBER", help="How many processes share the work."),
    ttl: float | None = typer.Option(
        None, "--ttl", metavar="SECONDS", help="The lease of each agent. [default: 3, or the shortest that there is]"
    ),
    as_json: bool = options.JSON,
) -> int:
    """Show a group of processes at work, kill its leader, freeze the next one, and measure what that costs.

    The agents are real processes that share the polling of this machine's meters; their leader writes a summary of
    each cycle with its fencing token. Takes about 20 s, at most 40, and leaves nothing behind. Without --url and
    DRUMBEAT_URL the agents meet in a temporary file. Exits with 1, and says why, if a promise was broken.

    --json, one object a line: {"seconds", "event", "agent", "text"}, and as the last line the figures: {"agents",
    "meters", "lease_ttl", "failover_seconds", "reassigned_seconds", "missed_polls", "duplicate_polls",
    "overlapping_terms", "tokens", ..., "faults"}.
    """
    with Interrupts() as interrupts:
        try:
            return _run(url, agents=agents, ttl=ttl, as_json=as_json, interrupts=interrupts)
        except Interrupted as interrupted:
            status = BY_SIGNAL + interrupted.number
            text = f"{interrupted}; every agent was ended, and nothing is left"
            sys.stderr.write(as_line("interrupted", text, as_json=as_json, message=text, exit_status=status) + "\n")
            return status


def _run(url: str | None, *, agents: int, ttl: float | None, as_json: bool, interrupts: Interrupts) -> int:
    began = drumbeat.SystemClock().now()

    def wait() -> None:
        time.sleep(TICK)
        interrupts.check()

    with TemporaryDirectory(prefix="drumbeat-demo-") as name:
        folder = Path(name)
        plan = make_plan(Place.choose(url, folder), agents=agents, ttl=ttl, wait=wait)
        screen = make_screen(plan, begin=began, as_json=as_json)
        faults: list[str] = []
        with Team(folder) as team:
            director = Director(plan, folder, began=began, team=team, screen=screen, interrupts=interrupts)
            try:
                with screen.showing():
                    director.run()
            except DemoFailed as failure:
                faults.append(str(failure))
        evidence = director.evidence()
    figures = compute(evidence)
    faults += find_faults(evidence, figures)
    screen.report(figures, faults)
    return NO if faults else 0
