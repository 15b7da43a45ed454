"""However a run ends, the command says what is known, with a status that is no success, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drumbeat_conformance import servers
from drumbeat_conformance.checker import check, parse_recording
from drumbeat_conformance.report import read_report

#: Each runs a process of its own, which loads a lot.
pytestmark = pytest.mark.timeout(240)

COMMAND = (sys.executable, "-m", "drumbeat_conformance.cli")
QUICK = ("memory", "--fake-time", "--only", "LEAD-3")
BACKEND = """
import atexit, os, signal
from drumbeat import hookimpl
from drumbeat.memory import MemoryBackend

class Ends(MemoryBackend):
    @hookimpl
    def campaign(self, lease, election, attempt, value):
        {0}
"""
#: Where a run begins, the backend's module is imported.
LATE = "import atexit, os\nfrom drumbeat.memory import MemoryBackend as Ends\n{0}\n"


def run(*arguments: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder and return what it said."""
    given: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 200}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, check=False, **(given | options))  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (BACKEND.format("os._exit(0)"), "the process of the run ended, by status 0, before the run was over"),
        (BACKEND.format("os.kill(os.getpid(), signal.SIGKILL)"), "the process of the run ended, by SIGKILL, before"),
        (LATE.format("os._exit(0)"), "the process of the run ended, by status 0, before the run was over"),
        (LATE.format("atexit.register(os._exit, 3)"), "its process then ended by status 3"),
    ],
    ids=["exit", "kill", "import", "end"],
)
def test_a_backend_that_ends_the_process(tmp_path: Path, code: str, said: str) -> None:
    """A backend that ends its process ends with 70 and what is known, never with success or in silence."""
    (tmp_path / "mine.py").write_text(code)
    done = run("mine://x", "--backend", "mine:Ends", "--in-process", "--only", "LEAD-3", folder=tmp_path)
    assert said in done.stderr
    assert "LEAD-3" in done.stdout + done.stderr or "no outcome is known" in done.stderr
    assert done.returncode == 70


def test_an_import_that_exits(tmp_path: Path) -> None:
    """A backend whose module raises SystemExit(0) is one that cannot be loaded."""
    (tmp_path / "mine.py").write_text("raise SystemExit(0)\n")
    done = run("mine://x", "--backend", "mine:Ends", folder=tmp_path)
    assert "--backend mine:Ends cannot be loaded: SystemExit: 0" in done.stderr
    assert done.returncode == 2


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Where one file cannot be written, the others are, all is printed, and the status is 74."""
    done = run(*QUICK, "--json", "/dev/full", "--markdown", "x.md", "--junit", "x.xml", folder=tmp_path)
    assert "/dev/full could not be written: No space left on device; the run itself was over: part of" in done.stderr
    assert "part of contract" in (tmp_path / "x.md").read_text()
    assert "LEAD-3" in (tmp_path / "x.xml").read_text()
    assert done.stdout.rstrip().endswith("pretended time")
    assert done.returncode == 74


def test_junit_that_cannot_be_written(tmp_path: Path) -> None:
    """JUnit's file is no exception."""
    done = run(*QUICK, "--junit", "/dev/full", "--json", "x.json", folder=tmp_path)
    assert "/dev/full could not be written" in done.stderr
    assert read_report(tmp_path / "x.json").count("passed") == 1
    assert done.returncode == 74


def test_output_that_nobody_takes(tmp_path: Path) -> None:
    """Where lines cannot be printed, the files are written all the same, one line says so, and the status is 74."""
    with Path("/dev/full").open("w") as full:
        done = run(*QUICK, "--json", "x.json", folder=tmp_path, stdout=full)
    assert read_report(tmp_path / "x.json").count("passed") == 1
    assert "drumbeat: not all could be printed: No space left on device; the run itself was over: part" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 74
    reader, writer = os.pipe()
    os.close(reader)
    broken = run(*QUICK, folder=tmp_path, stdout=writer)
    os.close(writer)
    assert "not all could be printed: Broken pipe" in broken.stderr
    assert broken.returncode == 74


def test_closed_streams(tmp_path: Path) -> None:
    """Whoever closes standard output wants no lines, and gets the status."""
    line = f"{sys.executable} -m drumbeat_conformance.cli {' '.join(QUICK)} --json x.json <&- >&-"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, check=False, timeout=200)
    assert done.stderr == b""
    assert done.returncode == 0
    assert read_report(tmp_path / "x.json").count("passed") == 1


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
def test_a_fault_tier_that_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """It ends soon, says so, and leaves neither processes nor temporary files, even if it is killed itself."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*COMMAND, "local", "--tier", "faults"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert "testing" in process.stdout.readline()
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    if number != signal.SIGKILL:
        assert f"ended by {number.name}; " in errors
        assert "nothing is known of the others" in errors
        assert process.returncode == 128 + number
    until = time.monotonic() + 30
    while commands_in(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert commands_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def commands_in(folder: Path) -> list[str]:
    """Return the command lines of all processes whose temporary files are in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_text()
        except OSError:
            continue
        if any(entry.startswith(f"TMPDIR={folder}".encode()) for entry in environment):
            found.append(command)
    return found


def test_a_server_that_dies(tmp_path: Path) -> None:
    """A server that dies in the middle is told in a line, with the status of no answer, not as broken promises."""
    with servers.start_redis() as server:
        command = [*COMMAND, server.url, "--json", str(tmp_path / "x.json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(10):
                process.stdout.readline()
            server.kill()
            printed, errors = process.communicate(timeout=120)
    assert "the server no longer answers" in errors.splitlines()[-1]
    assert "nothing is known of the others" in errors
    assert "Traceback" not in printed + errors
    assert process.returncode == 69
    report = read_report(tmp_path / "x.json")
    assert report.count("failed") <= 6
    assert report.has_gaps("contract")


def test_two_runs_at_once() -> None:
    """Two runs against one server do not disturb each other."""
    with servers.start_redis() as server:
        command = [*COMMAND, server.url, "--only", "LEAD-3", "--only", "GROUP-1", "--only", "CLAIM"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed


FAILS = """
from drumbeat import hookimpl
from drumbeat.hookspecs import Resigned
from drumbeat.memory import MemoryBackend

class Broken(MemoryBackend):
    @hookimpl
    def resign(self, lease, seat):
        return Resigned(was_held=True)

    @hookimpl
    def campaign(self, lease, election, attempt, value):
        if lease.ttl < 0:
            raise ValueError
        return super().campaign(lease, election, attempt, value)
"""


def test_failures_name_the_statement_and_no_path(tmp_path: Path) -> None:
    """A failure says which statement of the guarantee failed, and JUnit's file holds no path of this machine."""
    (tmp_path / "mine.py").write_text(FAILS)
    options = ("--backend", "mine:Broken", "--in-process", "--only", "LEAD-5", "--only", "LOCK")
    done = run("mine://x", *options, "--junit", "x.xml", "--json", "x.json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    found = (tmp_path / "x.xml").read_text()
    assert "at drumbeat_conformance/guarantees/" in found
    for place in (str(tmp_path), str(Path.home()), str(Path(servers.__file__).parents[2]), sys.prefix):
        assert place not in found
        assert f"{place}/" not in (tmp_path / "x.json").read_text()
    reasons = [line.reason for line in read_report(tmp_path / "x.json").guarantees if line.outcome == "failed"]
    assert reasons
    assert all("\nat drumbeat_conformance/guarantees/" in reason for reason in reasons)


def test_statements_are_found_without_parsing_beside_each_other(tmp_path: Path) -> None:
    """No thread but the first asks for a syntax tree: CPython before 3.11.8 raises SystemError if two do at once."""
    watches = """
import sys, threading
from pathlib import Path

def note(event, args):
    if event == "compile" and args[1] == "<unknown>" and threading.current_thread() is not threading.main_thread():
        Path("parsed").touch()

sys.addaudithook(note)
"""
    (tmp_path / "mine.py").write_text(watches + FAILS)
    done = run("mine://x", "--backend", "mine:Broken", "--in-process", "--only", "LEAD-5", folder=tmp_path)
    assert "guarantees/lead.py" in done.stdout
    assert done.returncode == 1, done.stderr
    assert not (tmp_path / "parsed").exists()


def test_an_outcome_that_the_engine_loses(tmp_path: Path) -> None:
    """What came in place of an outcome is told."""
    loses = """
import drumbeat_conformance.run as run

def fail(*_):
    raise SystemError("depth mismatch")

run._how = fail
"""
    (tmp_path / "mine.py").write_text(loses + FAILS)
    options = ("--backend", "mine:Broken", "--in-process", "--only", "LEAD-5", "--only", "LEAD-3")
    done = run("mine://x", *options, folder=tmp_path)
    assert done.returncode == 70
    assert "depth mismatch" in done.stderr, done.stderr


def test_plugins_from_the_environment(tmp_path: Path) -> None:
    """Plugins and options of pytest that the environment names are kept away."""
    (tmp_path / "evil.py").write_text("raise SystemExit('loaded')\n")
    environment = {**os.environ, "PYTEST_PLUGINS": "evil", "PYTEST_ADDOPTS": "-k nothing", "PYTHONPATH": str(tmp_path)}
    done = run(*QUICK, folder=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_backend_that_replaces_the_engine(tmp_path: Path) -> None:
    """A check that must fail passes then: that is no verdict."""
    code = "import drumbeat_conformance.run as run\n        run.raised_by = lambda *_, **__: None"
    (tmp_path / "mine.py").write_text(BACKEND.format(code))
    done = run("mine://x", "--backend", "mine:Ends", "--in-process", "--only", "LEAD-3", folder=tmp_path)
    assert "a check that must fail passed" in done.stderr
    assert done.returncode == 70


def test_a_run_that_is_stopped(tmp_path: Path) -> None:
    """A process of the run that is stopped for good ends the command in time, and is told."""
    (tmp_path / "mine.py").write_text(BACKEND.format("os.kill(os.getpid(), signal.SIGSTOP)"))
    done = run("mine://x", "--backend", "mine:Ends", "--in-process", "--only", "LEAD-3", folder=tmp_path, timeout=60)
    assert "the process of the run has been stopped by SIGSTOP for 10 s" in done.stderr
    assert "being tested just then: LEAD-3" in done.stderr
    assert done.returncode == 70


def test_a_run_that_is_not_heard_of(tmp_path: Path) -> None:
    """A process of the run that writes nothing down for longer than anything may take ends the command."""
    (tmp_path / "mine.py").write_text(BACKEND.format("import time; time.sleep(100)"))
    code = (
        "import sys\nfrom drumbeat_conformance.cli import _supervise\n_supervise._SILENCE = 8.0\n"
        "from drumbeat_conformance.cli._app import run\nrun(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "mine://x", "--backend", "mine:Ends", "--in-process", "--only", "LEAD-3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)
    assert "the process of the run has not been heard of for 8 s" in done.stderr
    assert done.returncode == 70


def test_one_file_for_two(tmp_path: Path) -> None:
    """Two files that are the same one are refused, also by another name; what is no file takes all."""
    (tmp_path / "x.xml").symlink_to("x.json")
    for other in ("x.json", "./x.json", "x.xml"):
        done = run(*QUICK, "--json", "x.json", "--junit", other, folder=tmp_path)
        assert "--json and --junit name the same file" in done.stderr
        assert done.returncode == 2
    assert run(*QUICK, "--json", "/dev/null", "--junit", "/dev/null", folder=tmp_path).returncode == 0


def test_a_soak_without_end(tmp_path: Path) -> None:
    """A soak of more than 30 days is refused."""
    for text in ("99999999999999999999h", f"{'9' * 400}s", "721h"):
        done = run("memory", "--soak", text, folder=tmp_path)
        assert "is longer than 30 days" in done.stderr
        assert done.returncode == 2


def test_a_long_history_of_a_lock(tmp_path: Path) -> None:
    """Checking takes as long for each line of a long history as of a short one."""

    def seconds(turns: int) -> float:
        lines = []
        for turn in range(turns):
            one = {"object": "lock/l", "client": f"c{turn % 4}", "outcome": "done", "token": turn + 1}
            lines.append({**one, "op": "acquire", "called": turn, "returned": turn + 0.2})
            lines.append({**one, "op": "release", "called": turn + 0.5, "returned": turn + 0.6})
        recording = parse_recording([(f"{tmp_path}:{at}", json.dumps(line).encode()) for at, line in enumerate(lines)])
        began = time.process_time()
        assert not check(recording)
        return time.process_time() - began

    assert seconds(16_000) < 25 * seconds(2_000)
