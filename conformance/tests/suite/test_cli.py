"""The command line: statuses, plain errors, files, and an end when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from drumbeat import SPEC_VERSION, ConfigurationError
from drumbeat_conformance import cli
from drumbeat_conformance.cli._asked import Asked, duration, select
from drumbeat_conformance.report import read_report

#: Each runs a process of its own, which loads a lot.
pytestmark = pytest.mark.timeout(240)

QUICK = ("memory", "--fake-time", "--only", "LEAD-3")


def run(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it said."""
    command = [sys.executable, "-m", "drumbeat_conformance.cli", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "say what to test"),
        (["redsi"], 2, "'redsi' is neither a URL nor one of redis"),
        (["nosuch://x"], 2, "no backend for nosuch:// is installed"),
        (["memory", "--only", "LAED-3"], 2, "did you mean 'LEAD-3'?"),
        (["memory", "--only", "FAULT-1"], 2, "it is of the tier faults"),
        (["memory", "--only", "FAULT"], 2, "it is of the tier faults"),
        (["local", "--soak", "9s", "--badge", "x", "--junit", "y"], 2, "--soak cannot go with --junit or --badge"),
        (["local", "--soak", "9s", "--markdown", "x"], 2, "it writes --json alone"),
        (["local", "--soak", "9s", "--json", "/nowhere/x"], 2, "/nowhere must be a folder"),
        (["--list", "--json", "x"], 2, "--list cannot go with --json: it writes no file"),
        (["memory", "--lease-ttl", "-1"], 2, "nothing can be tested with a lease of -1 s"),
        (["memory", "--lease-ttl", "nan"], 2, "with a lease of nan s; --lease-ttl is 0.1 to 10 s"),
        (["memory", "--lease-ttl", "0.0001"], 2, "a lease of 0.0001 s"),
        (["etcd", "--in-process"], 2, "other processes reach a store of etcd:"),
        (["memory", "--server", "nothing"], 2, "not of the form MODULE:NAME"),
        (["memory", "--server", "no_such:thing"], 2, "cannot be loaded"),
        (["memory", "--backend", "os:sep"], 2, "cannot be called"),
        (["memory", "--known-failures", "/nowhere"], 2, "--known-failures /nowhere"),
        (["memory", "--json", "/nowhere/x"], 2, "/nowhere must be a folder"),
        (["memory", "--soak", "10x"], 2, "write it like 90s, 10m or 1h"),
        (["memory", "--fake-time", "--only", "BEAT-6"], 2, "nothing was tested"),
        (["redis", "--servers"], 2, "No such option"),
        (["redis://127.0.0.1:1"], 69, "the run could not begin: making the backend and asking it what it is failed"),
        (["redis://127.0.0.1:1"], 69, "nobody listens at 127.0.0.1:1"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_what_cannot_work_is_said_plainly(arguments: list[str], status: int, said: str) -> None:
    """What can never work ends with 2 and a server that is down with 69, in a line and without a traceback."""
    done = run(*arguments)
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == status


def test_a_server_that_cannot_run_here(tmp_path: Path) -> None:
    """Without engine and program it says what to install."""
    done = run("redis", PATH=str(tmp_path), DRUMBEAT_TEST_SERVERS="program")
    assert "no redis server can run here" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_a_run_writes_its_files(tmp_path: Path) -> None:
    """Each report is written, each outcome printed, and the command in the report is one that runs."""
    names = ("report.json", "report.md", "report.xml", "badge.svg")
    options = ("--json", "--markdown", "--junit", "--badge")
    done = run(*QUICK, *(word for pair in zip(options, names, strict=True) for word in pair), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "holds" in done.stdout
    assert "LEAD-3: " in done.stdout
    assert done.stdout.endswith("drumbeat: part of contract, 3 capabilities, one process, pretended time\n")
    report = read_report(tmp_path / "report.json")
    assert [line.id for line in report.guarantees] == ["LEAD-3"]
    assert not report.whole
    assert report.guarantees[0].promise.startswith("Tokens are positive")
    assert (report.server.name, report.server.version) == ("memory", "")
    assert report.command == "drumbeat-conformance memory --tier contract --seed 0 --only LEAD-3 --fake-time"
    assert 'classname="memory" name="test_lead_3__' in (tmp_path / "report.xml").read_text()
    assert "part of contract" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "badge.svg").read_text().startswith("<svg")


def test_nothing_tested_is_no_badge(tmp_path: Path) -> None:
    """Where everything is left out, no file says that a tier was tested, nor where this machine keeps its files."""
    options = ("--json", "report.json", "--badge", "badge.json", "--junit", "report.xml")
    done = run("memory", "--tier", "faults", *options, folder=tmp_path)
    assert done.returncode == 2
    assert "drumbeat: nothing tested" in done.stdout
    assert json.loads((tmp_path / "badge.json").read_text())["message"] == "nothing tested"
    assert not read_report(tmp_path / "report.json").whole
    found = (tmp_path / "report.xml").read_text()
    assert "<skipped " in found
    assert str(Path(cli.__file__).parent) not in found


def test_ids_are_taken_in_any_case() -> None:
    """Small letters name an id or a family as well."""
    assert [one.id for one in select(["lead-3"], ["contract"])] == ["LEAD-3"]
    assert select(["lead"], ["contract"]) == select(["LEAD"], ["contract"])


def test_a_soak_says_what_was_tested_and_when(tmp_path: Path) -> None:
    """A soak's JSON names target, backend, versions, time and seed."""
    url = f"local://{tmp_path}/soak.db"
    done = run(url, "--soak", "2s", "--processes", "2", "--seed", "7", "--json", "soak.json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert (found["target"], found["seed"], found["format"]) == (url, 7, 1)
    assert found["backend"] == {"scheme": "local", "package": "drumbeat", "version": version("drumbeat")}
    assert found["suite_version"] == version("drumbeat-conformance")
    assert found["spec_version"] == SPEC_VERSION
    assert datetime.fromisoformat(found["began"]).tzinfo is not None


def test_a_password_is_masked() -> None:
    """What is written of a URL holds no password."""
    asked = Asked(name="redis://user:very-secret@127.0.0.1:1", tiers=("contract",))
    assert "very-secret" not in asked.masked() + asked.command()


def test_the_badge_for_an_endpoint(tmp_path: Path) -> None:
    """A badge in a file that is no picture is JSON."""
    assert run(*QUICK, "--badge", "badge.json", folder=tmp_path).returncode == 0
    assert json.loads((tmp_path / "badge.json").read_text())["schemaVersion"] == 1


BROKEN = """
from dataclasses import replace

from drumbeat import hookimpl
from drumbeat.hookspecs import Won
from drumbeat.memory import MemoryBackend

class Broken(MemoryBackend):
    @hookimpl
    def campaign(self, lease, election, attempt, value):
        answer = super().campaign(lease, election, attempt, value)
        return Won(replace(answer.seat, token=100 - answer.seat.token)) if isinstance(answer, Won) else answer

    @hookimpl
    def resign(self, lease, seat):
        return super().resign(lease, replace(seat, token=100 - seat.token))
"""


def test_a_broken_backend(tmp_path: Path) -> None:
    """A broken promise ends with 1, and the promise, the values and the line stand at the end; known, it is none."""
    (tmp_path / "mine.py").write_text(BROKEN)
    options = ("broken://x", "--backend", "mine:Broken", "--in-process", "--only", "LEAD-3")
    done = run(*options, "--json", "report.json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "LEAD-3 BROKEN" in done.stdout
    assert "LEAD-3 does not hold" in done.stdout
    assert "E   assert [99, 98, 97, 96, 95, " in done.stdout
    assert "assert [99, 98, 97, 96, 95, " in read_report(tmp_path / "report.json").guarantees[0].reason
    assert "drumbeat: 1 of the promises broken" in done.stdout
    (tmp_path / "known.toml").write_text('[LEAD-3]\nreason = "why"\nlink = "https://example.org/1"\n')
    known = run(*options, "--known-failures", "known.toml", folder=tmp_path)
    assert known.returncode == 0, known.stdout + known.stderr
    assert "1 known failure" in known.stdout
    strict = run(*QUICK, "--known-failures", "known.toml", folder=tmp_path)
    assert strict.returncode == 1
    assert "HOLDS, NOT EXPECTED" in strict.stdout
    assert strict.stdout.endswith("drumbeat: 1 known failure holds\n")


@pytest.mark.parametrize(
    "text", ["[LEAD-3]\nreason = 'x'\n", "LEAD-3 = 'x'\n", "[LEAD-3]\nreason = 1\nlink = 'https://x'\n", "["], ids=repr
)
def test_known_failures_must_be_whole(tmp_path: Path, text: str) -> None:
    """A file without reason or link, or that is no TOML, is refused."""
    (tmp_path / "known.toml").write_text(text)
    done = run(*QUICK, "--known-failures", "known.toml", folder=tmp_path)
    assert "known.toml" in done.stderr
    assert done.returncode == 2


def test_the_list_names_every_guarantee() -> None:
    """`--list` prints the ids of a tier with their promises, and tests nothing."""
    done = run("--list", "--tier", "all", "--only", "LEAD")
    assert "LEAD-3 " in done.stdout
    assert "BEAT-1 " not in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_ends_when_told_to(number: signal.Signals, status: int) -> None:
    """A signal ends it soon, with the status that a shell expects."""
    command = [sys.executable, "-m", "drumbeat_conformance.cli", "local", "--only", "BEAT"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "testing" in process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert process.returncode == status


def test_options_of_other_runs_are_kept_away() -> None:
    """What the environment adds to every run of pytest does not reach this one."""
    assert run(*QUICK, PYTEST_ADDOPTS="--collect-only --no-such-option").returncode == 0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1.5m", 90), ("7", 7)])
def test_durations(text: str, seconds: float) -> None:
    """Seconds, minutes and hours are understood."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1m", "m", "1d", "1 m", "inf"])
def test_no_durations(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match="no duration"):
        duration(text)
