"""The demo as users run it: it measures what it promises, ends in time, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Seconds that a run may take, and that an interrupted one may still take.
LONGEST_RUN = 40.0
LONGEST_END = 5.0

Event = dict[str, object]


@dataclass(eq=False)
class Run:
    """A running demo with `--json`, its temporary files in a folder of its own."""

    folder: Path
    arguments: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    agents: list[psutil.Process] = field(default_factory=list)
    errors: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "drumbeat.cli", "demo", "--json", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self.folder)},
            text=True,
        )

    def until(self, wanted: str) -> Event:
        """Read events until one of a kind has come, noting the agents' processes at the first one; return it."""
        if self.process.stdout is not None:
            for line in self.process.stdout:
                self.events.append(json.loads(line))
                self.agents = self.agents or psutil.Process(self.process.pid).children()
                if self.events[-1].get("event") == wanted:
                    return self.events[-1]
        raise AssertionError(f"no {wanted} among {[event.get('event') for event in self.events]}")

    def finish(self, *, within: float) -> int:
        """Read on to the end; return the exit status."""
        rest, self.errors = self.process.communicate(timeout=within)
        self.events += [json.loads(line) for line in rest.splitlines()]
        self.seconds = time.monotonic() - self.began
        return self.process.returncode

    def remains(self) -> list[object]:
        """Return the agents that still run and the files that are left."""
        running = [agent for agent in self.agents if agent.is_running() and agent.status() != psutil.STATUS_ZOMBIE]
        return [*running, *self.folder.iterdir()]

    def clean_up(self) -> None:
        """End what a failed test has left running."""
        for process in [*self.agents, psutil.Process(self.process.pid)] if self.process.poll() is None else self.agents:
            if process.is_running():
                process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """Start a demo that ends with the tests, whatever becomes of them."""
    runs: list[Run] = []

    def begin(*arguments: str) -> Run:
        runs.append(Run(tmp_path_factory.mktemp("demo"), arguments))
        return runs[-1]

    yield begin
    for run in runs:
        run.clean_up()


@pytest.fixture(scope="module")
def whole(start: Callable[..., Run]) -> Run:
    """Return a run that has ended by itself."""
    run = start()
    run.until("milestone")
    run.finish(within=LONGEST_RUN)
    return run


@pytest.fixture(scope="module")
def frozen(start: Callable[..., Run]) -> list[Run]:
    """Return two runs, going on at the same time, whose leaders are about to be frozen."""
    return [start(), start()]


def last(run: Run) -> Event:
    """Return the figures of a run."""
    return run.events[-1]


def test_a_run_ends_by_itself_in_time_and_all_is_well(whole: Run) -> None:
    """The demo takes less than 40 s, finds no fault, says nothing on standard error, and exits with 0."""
    assert (last(whole)["faults"], whole.errors, whole.process.returncode) == ([], "", 0)
    assert whole.seconds < LONGEST_RUN


def test_a_run_leaves_nothing_behind(whole: Run) -> None:
    """No agent is running and no file is left after the end."""
    assert len(whole.agents) == 3
    assert whole.remains() == []


def test_the_last_line_holds_the_figures(whole: Run) -> None:
    """The promised figures are there, and are what a good run has."""
    figures = last(whole)
    assert {name: figures[name] for name in ("agents", "lease_ttl", "missed_polls", "duplicate_polls")} == {
        "agents": 3,
        "lease_ttl": 3.0,
        "missed_polls": 0,
        "duplicate_polls": 0,
    }
    assert figures["overlapping_terms"] == 0
    assert int(str(figures["meters"])) >= 100
    assert 0 < float(str(figures["failover_seconds"])) <= float(str(figures["failover_bound"]))
    assert 0 < float(str(figures["reassigned_seconds"])) < float(str(figures["failover_bound"])) + 2.0
    assert int(str(figures["judged_cycles"])) >= 9


def test_each_leader_had_a_higher_token_and_the_old_one_was_rejected(whole: Run) -> None:
    """There were three terms with rising tokens; the store refused the second one's after the third was there."""
    tokens = last(whole)["tokens"]
    assert isinstance(tokens, list)
    assert len(tokens) == 3
    assert tokens == sorted(set(tokens))
    rejected = last(whole)["rejected_tokens"]
    assert isinstance(rejected, list)
    assert set(rejected) == {tokens[1]}


def test_the_timeline_tells_the_story_in_order(whole: Run) -> None:
    """A leader is killed, its successor frozen and woken; that one knows at once that it lost, and is rejected."""
    story = [event for event in whole.events if event.get("event") in {"won", "killed", "frozen", "resumed", "woke"}]
    assert [event["event"] for event in story] == ["won", "killed", "won", "frozen", "won", "resumed", "woke"]
    first, killed, second, frozen, third, resumed, woke = [event["agent"] for event in story]
    assert (killed, frozen, resumed, woke) == (first, second, second, second)
    assert len({first, second, third}) == 3
    assert "is lost" in str(story[-1]["text"])
    assert float(str(last(whole)["noticed_seconds"])) < 0.5
    assert [event["agent"] for event in whole.events if event.get("event") == "rejected"][-1] == second


def test_every_cycle_was_summarised(whole: Run) -> None:
    """No cycle between the first summary and the last one is left out, through all changes of leader."""
    texts = [str(event["text"]) for event in whole.events if event.get("event") == "summarised"]
    cycles = [int(text.removeprefix("cycle ").partition(":")[0]) for text in texts]
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))
    assert len(cycles) == last(whole)["summaries"]


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing_behind(start: Callable[..., Run], number: signal.Signals) -> None:
    """SIGINT, SIGTERM and SIGHUP end every agent and remove every file, and the exit status names the signal."""
    run = start()
    run.until("won")
    run.process.send_signal(number)
    assert run.finish(within=LONGEST_END) == 128 + number
    assert run.remains() == []
    assert f"interrupted by {number.name}" in run.errors


def test_a_run_interrupted_before_it_has_begun_leaves_nothing_behind(start: Callable[..., Run]) -> None:
    """As soon as there is a file, an interrupt removes it."""
    run = start()
    until = time.monotonic() + LONGEST_END
    while not any(run.folder.iterdir()):
        assert time.monotonic() < until, "the demo made no folder"
    run.process.send_signal(signal.SIGINT)
    assert run.finish(within=LONGEST_END) == 128 + signal.SIGINT
    assert run.remains() == []


def test_a_run_interrupted_while_an_agent_is_frozen_leaves_nothing_behind(frozen: list[Run]) -> None:
    """SIGTERM ends the agents that run and the one that is stopped by SIGSTOP."""
    run = frozen[0]
    run.until("frozen")
    assert [agent.status() for agent in run.agents if agent.is_running()].count(psutil.STATUS_STOPPED) == 1
    run.process.send_signal(signal.SIGTERM)
    assert run.finish(within=LONGEST_END) == 128 + signal.SIGTERM
    assert run.remains() == []


@pytest.fixture
def adopting() -> Iterator[None]:
    """Have this process adopt orphans, as the first process of a container does.

    Without that the kernel itself would end a stopped orphan, by SIGHUP.
    """
    set_child_subreaper = 36
    prctl = ctypes.CDLL(None).prctl
    prctl(set_child_subreaper, 1, 0, 0, 0)
    yield
    prctl(set_child_subreaper, 0, 0, 0, 0)


@pytest.mark.usefixtures("adopting")
def test_agents_do_not_outlive_a_director_that_is_killed(frozen: list[Run]) -> None:
    """SIGKILL of the director ends its agents too, also the one that is stopped; only its files may stay."""
    run = frozen[1]
    run.until("frozen")
    run.process.kill()
    psutil.wait_procs(run.agents, timeout=LONGEST_END)
    assert [agent for agent in run.agents if agent.is_running()] == []


def test_an_agent_that_dies_by_itself_ends_the_run_with_a_fault(start: Callable[..., Run]) -> None:
    """What the demo did not do to an agent is told, with exit status 1, and nothing is left."""
    run = start()
    run.until("milestone")
    bystander = run.agents[0]
    bystander.kill()
    assert run.finish(within=LONGEST_END) == 1
    faults = last(run)["faults"]
    assert isinstance(faults, list)
    assert faults[0] == "agent-1 ended by itself with status -9: it said nothing"
    assert run.remains() == []


def test_a_reader_that_goes_away_ends_the_run(start: Callable[..., Run]) -> None:
    """When the output is a closed pipe, the demo ends and leaves nothing."""
    run = start()
    run.until("won")
    if run.process.stdout is not None:
        run.process.stdout.close()
    run.process.wait(LONGEST_END)
    assert run.process.returncode == 128 + signal.SIGPIPE
    assert run.remains() == []
