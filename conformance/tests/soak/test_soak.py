"""A soak: it passes on a sound backend, and a sabotaged one is caught, with the figures and the exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import eventually

from drumbeat import ConfigurationError
from drumbeat_conformance.members import PRELOAD
from drumbeat_conformance.soak import Figures, SoakReport, soak
from drumbeat_conformance.soak._folder import histories
from drumbeat_conformance.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from drumbeat_conformance.servers import Server

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
    before, _, _ = done.stdout.partition("s of faults are over")
    assert "VIOLATED" not in before, "an overlap or a missed change is certain only once all lines are written"
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


def begun(started: list[subprocess.Popen[str]], folder: Path, *target: str) -> subprocess.Popen[str]:
    """Return a soak that has begun, with its folder in another one."""
    command = [*COMMAND[:3], *target, "--processes", "3", "--soak", "10m"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)}
    )
    started.append(process)
    eventually(lambda: len(list(folder.glob("drumbeat-soak-*/m*.jsonl"))) == 3, within=60.0)
    return process


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of all processes that name a folder."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_text(errors="replace").replace("\0", " "))
    return [command for command in found if str(folder) in command]


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_it_at_once_and_leaves_nothing(
    number: signal.Signals, started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """SIGTERM and SIGHUP end a soak within seconds, with its processes; nothing was suspected, so no history stays."""
    process = begun(started, tmp_path, "local")
    process.send_signal(number)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 128 + number
    assert "ended before it was judged; nothing was suspected so far, the histories were removed" in output
    assert list(tmp_path.glob("drumbeat-soak-*")) == []
    assert processes_of(tmp_path) == []


def test_a_second_interrupt_ends_it_at_once(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """The first SIGINT ends the faults, the second one the rest and the judgement too."""
    process = begun(started, tmp_path, "local")
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    while "s of rest" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=15)
    assert process.returncode == 128 + signal.SIGINT
    assert "ended before it was judged" in output
    assert list(tmp_path.glob("drumbeat-soak-*")) == []
    assert processes_of(tmp_path) == []


def test_a_server_that_ends_for_good_ends_it(
    started: list[subprocess.Popen[str]], tmp_path: Path, start_redis: Callable[[], Server]
) -> None:
    """A server that is gone, and that nothing of the soak has ended, is told within the time that faults may take."""
    server = start_redis()
    process = begun(started, tmp_path, server.url)
    server.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 69
    assert f"the server at {server.address} has ended, or takes no connection" in errors
    assert list(tmp_path.glob("drumbeat-soak-*")) == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("suspicions", [[], ["overlapping terms: two held it"]], ids=["nothing", "something"])
def test_histories_stay_only_if_something_is_suspected(suspicions: list[str]) -> None:
    """However a soak ends, its folder is kept for whoever must look into it, and is removed where nobody must."""
    lines: list[str] = []
    manager = histories(lines.append)
    folder = manager.__enter__()
    folder.suspicions += suspicions
    assert not manager.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert folder.path.exists() is bool(suspicions)
    assert (str(folder.path) in lines[0]) is bool(suspicions)
    shutil.rmtree(folder.path, ignore_errors=True)


def test_what_could_not_be_judged_is_not_called_violated() -> None:
    """A soak with a part that was not decided has not passed, and has violated nothing either."""
    report = SoakReport(
        target="local",
        server="SQLite",
        seed=1,
        processes=4,
        seconds=5.0,
        interrupted=False,
        faults={},
        figures=Figures(),
        violations=("not decided: too many were under way at once",),
    )
    assert not report.ok
    assert report.lines()[-1] == "soak: NOT DECIDED"
    assert not any("VIOLATED" in line for line in report.lines())


@pytest.mark.parametrize("name", ["memory", "memory-cas"])
def test_a_store_of_one_process_cannot_be_soaked(name: str) -> None:
    """A soak needs several processes, so a store that lives in one is refused."""
    with pytest.raises(ConfigurationError, match="reached by one alone"):
        soak(Target.of(name), 1.0)


def test_a_soak_of_one_process_is_refused() -> None:
    """One process is no group."""
    with pytest.raises(ConfigurationError, match="at least 2 processes, not 1"):
        soak(Target.of("local"), 1.0, processes=1)
