"""What people and programs see of a run."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from drumbeat.cli.demo._board import Board
from drumbeat.cli.demo._figures import Figures
from drumbeat.cli.demo._live import LiveScreen
from drumbeat.cli.demo._plan import Plan
from drumbeat.cli.demo._records import (
    Dismissed,
    Frozen,
    Joined,
    Killed,
    Milestone,
    Over,
    Polled,
    Record,
    Rejected,
    Resumed,
    Started,
    StateChanged,
    Summarised,
    Woke,
    Won,
)
from drumbeat.cli.demo._screen import JsonScreen, PlainScreen, make_screen

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A token as long as those that count microseconds.
TOKEN = 1_763_823_001_123_456
PLAN = Plan(
    url="local://",
    namespace="n",
    agents=3,
    lease_ttl=3.0,
    cycle=1.0,
    failover_bound=3.5,
    server="SQLite 3.40.1",
    meters=tuple(f"meter.{number}" for number in range(261)),
)
FIGURES = Figures(
    agents=3,
    meters=261,
    lease_ttl=3.0,
    failover_seconds=0.0123456789,
    reassigned_seconds=0.5,
    missed_polls=0,
    duplicate_polls=0,
    overlapping_terms=0,
    tokens=(TOKEN, TOKEN + 1, TOKEN + 2),
    failover_bound=3.5,
    freeze_failover_seconds=2.9,
    freeze_reassigned_seconds=None,
    noticed_seconds=0.0012,
    rejected_tokens=(TOKEN + 1,),
    judged_cycles=9,
    summaries=18,
)
RUN: list[Record] = [
    *(Started(agent=f"agent-{number}", at=100.0, pid=number) for number in (1, 2, 3)),
    *(Joined(agent=f"agent-{number}", at=100.4, server="s", lease_ttl=3.0, failover_bound=3.5) for number in (1, 2, 3)),
    StateChanged(agent="agent-1", at=100.4, state="CONNECTED"),
    Won(agent="agent-1", at=100.5, token=TOKEN),
    *(Polled(agent=f"agent-{n}", at=101.1, cycle=1, began=101.0, values={"a": 1, "b": None}) for n in (1, 2, 3)),
    Milestone(agent="", at=101.1, text="3 agents share the 261 meters"),
    Summarised(agent="agent-1", at=102.0, token=TOKEN, cycle=1, text="261 of 261 meters by 3 agents"),
    Killed(agent="agent-1", at=104.0),
    Won(agent="agent-2", at=104.25, token=TOKEN + 1),
    Frozen(agent="agent-2", at=106.0),
    Won(agent="agent-3", at=109.0, token=TOKEN + 2),
    Resumed(agent="agent-2", at=110.0),
    Woke(agent="agent-2", at=110.0012, token=TOKEN + 1, held=False),
    Rejected(agent="agent-2", at=110.002, token=TOKEN + 1, highest=TOKEN + 2),
    StateChanged(agent="agent-2", at=110.003, state="LOST"),
    Over(agent="agent-2", at=110.003, token=TOKEN + 1),
    StateChanged(agent="agent-2", at=110.004, state="CONNECTED"),
]
TIMELINE = [
    "  0.500  agent-1   leads with token 1763823001123456",
    "  1.100            3 agents share the 261 meters",
    "  4.000  agent-1   killed by SIGKILL while it leads",
    "  4.250  agent-2   leads with token 1763823001123457, 0.250 s after the kill",
    "  6.000  agent-2   frozen by SIGSTOP while it leads",
    "  9.000  agent-3   leads with token 1763823001123458, 3.000 s after the freeze",
    " 10.000  agent-2   woken by SIGCONT after 4.0 s",
    " 10.001  agent-2   knew after 1.2 ms that token 1763823001123457 is lost",
    " 10.002  agent-2   write with the old token 1763823001123457 rejected",
    " 10.003  agent-2   session LOST",
    " 10.004  agent-2   session opened again",
]
SUMMARY = "  2.000  agent-1   cycle 1: 261 of 261 meters by 3 agents"


def board_after(records: Iterable[Record]) -> dict[str, tuple[str, int, int | None]]:
    """Return state, share and token of each agent once the board has seen some records."""
    board = Board()
    for record in records:
        board.update(record)
    return {row.agent: (row.state, row.share, row.token) for row in board.rows}


def until(kind: type[Record]) -> list[Record]:
    """Return the run up to and with the last record of a kind."""
    last = max(index for index, record in enumerate(RUN) if isinstance(record, kind))
    return RUN[: last + 1]


def test_plain_lines_tell_the_run_and_end_with_timeline_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal each event is a line at once; timeline, figures and verdict come last."""
    screen = PlainScreen(PLAN, begin=100.0)
    with screen.showing():
        for record in RUN:
            screen.add(record)
            screen.refresh(record.at)
    screen.report(FIGURES, [])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 agents, 261 meters, SQLite 3.40.1, TTL 3 s, cycles of 1 s"
    assert lines[1:13] == [*TIMELINE[:2], SUMMARY, *TIMELINE[2:]]
    assert lines[13:26] == ["", "Timeline", *TIMELINE]
    assert lines[26:] == [
        "",
        "Figures",
        "agents             3",
        "meters             261",
        "lease TTL          3 s",
        "failover           0.012 s from the kill to the next leader's win",
        "reassigned         0.500 s from the kill until every meter was polled again",
        "after the freeze   2.900 s to the next win, never came (until every meter was polled)",
        "woken leader       knew after 1.2 ms that its term is lost; its write rejected",
        "missed polls       0 in 9 cycles outside the changes",
        "duplicate polls    0 in 9 cycles outside the changes",
        "overlapping terms  0",
        "tokens             1763823001123456, 1763823001123457, 1763823001123458",
        "",
        "Everything went as promised.",
    ]


def test_faults_are_told_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed run says what failed."""
    PlainScreen(PLAN, begin=100.0).report(FIGURES, ["this went wrong", "that too"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["FAILED: this went wrong", "FAILED: that too"]


def test_json_lines_end_with_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line is a JSON object, and the last one holds all figures and the faults."""
    screen = JsonScreen(PLAN, begin=100.0)
    for record in RUN:
        screen.add(record)
    screen.report(FIGURES, ["this went wrong"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[3] == {
        "seconds": 4.0,
        "event": "killed",
        "agent": "agent-1",
        "text": "killed by SIGKILL while it leads",
    }
    assert lines[1] == {"seconds": 1.1, "event": "milestone", "agent": None, "text": "3 agents share the 261 meters"}
    last = lines[-1]
    assert (last["failover_seconds"], last["tokens"], last["faults"]) == (
        0.012346,
        [TOKEN, TOKEN + 1, TOKEN + 2],
        ["this went wrong"],
    )


def test_a_leader_that_still_believes_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    """The timeline does not take noticing for granted."""
    screen = PlainScreen(PLAN, begin=100.0)
    for record in (Resumed(agent="agent-2", at=110.0), Woke(agent="agent-2", at=110.5, token=5, held=True)):
        screen.add(record)
    assert capsys.readouterr().out.splitlines()[-1] == " 10.500  agent-2   still believed in token 5 after 500.0 ms"


def test_the_table_follows_each_agent() -> None:
    """State, share and token of every agent are those of the last record."""
    assert board_after(until(Started))["agent-1"] == ("starting", 0, None)
    assert board_after(until(Polled)) == {
        "agent-1": ("polling", 2, TOKEN),
        "agent-2": ("polling", 2, None),
        "agent-3": ("polling", 2, None),
    }
    assert board_after(until(Killed))["agent-1"] == ("killed", 0, None)
    assert board_after(until(Frozen))["agent-2"] == ("frozen", 0, TOKEN + 1)
    assert board_after(until(Resumed)) == {
        "agent-1": ("killed", 0, None),
        "agent-2": ("woken", 0, None),
        "agent-3": ("polling", 2, TOKEN + 2),
    }
    assert board_after(RUN)["agent-2"] == ("polling", 0, None)
    assert board_after([*RUN, Dismissed(agent="agent-3", at=111.0)])["agent-3"] == ("leaving", 2, TOKEN + 2)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_live_table_fits_the_terminal(width: int, height: int) -> None:
    """Table, summary and the newest events fit on a terminal of the usual sizes, none of them cut off."""
    screen = LiveScreen(PLAN, begin=100.0, console=Console(width=width, height=height, force_terminal=True))
    for record in RUN:
        screen.add(record)
    drawn = screen.console.render_lines(screen.draw(111.0), pad=False)
    lines = ["".join(segment.text for segment in line).rstrip() for line in drawn]
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(" 11.0 s  3 agents, 261 meters, SQLite 3.40.1")
    assert any("agent-1" in line and "killed" in line for line in lines)
    assert any("agent-3" in line and f"token {TOKEN + 2}" in line for line in lines)
    assert "cycle 1 by agent-1: 261 of 261 meters by 3 agents" in lines
    assert lines[-5:] == TIMELINE[-5:]


def test_the_report_on_a_terminal_has_timeline_figures_and_verdict() -> None:
    """When the table is gone, the same report stands there as in plain lines."""
    output = StringIO()
    screen = LiveScreen(PLAN, begin=100.0, console=Console(width=80, file=output))
    for record in RUN:
        screen.add(record)
    screen.report(FIGURES, ["this went wrong"])
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert lines[: len(TIMELINE)] == TIMELINE
    assert "tokens             1763823001123456, 1763823001123457, 1763823001123458" in lines
    assert lines[-1] == "FAILED: this went wrong"


@pytest.mark.parametrize(
    ("terminal", "term", "as_json", "expected"),
    [
        (True, "xterm", False, LiveScreen),
        (True, "xterm", True, JsonScreen),
        (True, "dumb", False, PlainScreen),
        (False, "xterm", False, PlainScreen),
        (False, "xterm", True, JsonScreen),
    ],
)
def test_the_screen_suits_where_the_output_goes(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, term: str, as_json: bool, expected: type
) -> None:
    """A table is drawn on a terminal that can, and nowhere else."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", term)
    assert type(make_screen(PLAN, begin=0.0, as_json=as_json)) is expected
