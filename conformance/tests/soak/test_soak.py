"""A soak: it passes on a sound backend, and a sabotaged one is caught, with the figures and the exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drumbeat import ConfigurationError
from drumbeat_conformance.members import PRELOAD
from drumbeat_conformance.soak import Figures, SoakReport, soak
from drumbeat_conformance.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
#: A command line as users type it.
COMMAND = (sys.executable, "-m", "drumbeat_conformance.cli", "local", "--seed", "7", "--processes", "3", "--soak")

pytestmark = pytest.mark.timeout(180)


def sabotaged(by: str) -> Mapping[str, str]:
    """Return an environment in which the processes of a soak are sabotaged."""
    return {PRELOAD: f"sabotage:{by}", "PYTHONPATH": str(HERE)}


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """The command lines that a test started, which end with it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    with ExitStack() as stack:
        for process in processes:
            stack.callback(process.communicate)
            stack.callback(process.kill)


def test_a_sound_backend_survives() -> None:
    """Five seconds of faults on local: terms, increments and faults, and nothing is violated."""
    lines: list[str] = []
    report = soak(Target.of("local"), 5.0, seed=1, say=lines.append)
    assert report.violations == ()
    assert report.ok
    assert sum(report.faults.values()) >= 2
    assert report.figures.terms > 5
    assert report.figures.increments > 5
    assert report.figures.lost_updates == report.figures.overlaps == report.figures.diverging_views == 0
    assert 0 < report.figures.longest_without_leader < 10
    assert lines[-1] == "soak: nothing was violated"
    assert any("faults" in line for line in lines[:-9])
    assert report.histories is None


def test_a_report_is_plain_data() -> None:
    """A report becomes JSON as it is, whatever it holds."""
    report = SoakReport(
        target="local",
        server="SQLite",
        seed=1,
        processes=4,
        seconds=5.0,
        interrupted=True,
        faults={"process killed": 2},
        figures=Figures(terms=3),
        violations=("overlapping terms: two held it",),
        histories="/somewhere",
    )
    found = json.loads(json.dumps(asdict(report)))
    assert found["faults"] == {"process killed": 2}
    assert found["figures"]["terms"] == 3
    assert not report.ok
    assert report.lines()[-1] == "soak: VIOLATED"
    assert "VIOLATED: overlapping terms: two held it" in report.lines()
    assert "faults: 2 in 5 s, ended early (2 x process killed)" in report.lines()


@pytest.mark.parametrize(
    ("by", "kind"),
    [
        ("believe_for_long", "overlapping terms"),
        ("keep_apart", "overlapping terms"),
        ("look_away", "missed change"),
    ],
)
def test_a_sabotaged_crew_is_caught(by: str, kind: str, tmp_path: Path) -> None:
    """What sabotaged processes break is found and told, and makes the exit status 1."""
    file = tmp_path / "soak.json"
    done = subprocess.run(
        [*COMMAND, "8s", "--json", str(file)],
        env=os.environ | sabotaged(by),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "soak: VIOLATED"
    assert f"VIOLATED: {kind}: " in done.stdout
    found = json.loads(file.read_text())
    assert found["figures"]["violations"][kind] > 0
    assert list(Path(found["histories"]).glob("m*.jsonl"))
    shutil.rmtree(found["histories"])


def test_a_process_that_ends_by_itself_is_told() -> None:
    """A process that nobody killed and that ends all the same is a violation, told with what it wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PRELOAD, "sabotage:nothing_of_that_name")
        patch.setenv("PYTHONPATH", str(HERE))
        report = soak(Target.of("local"), 0.0, processes=2, say=lambda line: None)
    assert not report.ok
    assert "ended by itself with status 1" in report.violations[0]
    assert "nothing_of_that_name" in report.violations[0]
    assert report.histories is not None
    shutil.rmtree(report.histories)


def test_an_interrupt_ends_it_early_with_the_figures_so_far(started: list[subprocess.Popen[str]]) -> None:
    """SIGINT ends the faults; everything comes to rest, and the figures are told."""
    process = subprocess.Popen([*COMMAND, "10m"], stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout is not None
    # The second line comes when faults have begun.
    lines = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=100)
    lines += rest.splitlines()
    assert process.returncode == 0
    assert lines[-1] == "soak: nothing was violated"
    assert any("ended early" in line for line in lines)


@pytest.mark.parametrize("name", ["memory", "memory-cas"])
def test_a_store_of_one_process_cannot_be_soaked(name: str) -> None:
    """A soak needs several processes, so a store that lives in one is refused."""
    with pytest.raises(ConfigurationError, match="reached by one alone"):
        soak(Target.of(name), 1.0)


def test_a_soak_of_one_process_is_refused() -> None:
    """One process is no group."""
    with pytest.raises(ConfigurationError, match="at least 2 processes, not 1"):
        soak(Target.of("local"), 1.0, processes=1)
