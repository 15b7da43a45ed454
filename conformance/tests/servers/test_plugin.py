"""The pytest plugin: its fixtures, its options and its table, each in a pytest of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from drumbeat_conformance.servers import Server, start_redis
from drumbeat_conformance.servers._kinds import KINDS
from drumbeat_conformance.servers._launch import WAY
from drumbeat_conformance.waiting import eventually

#: Seconds for a pytest of its own, or for a clean-up.
PATIENCE = 30.0
TESTS = """
import socket

def test_it(redis_server):
    socket.create_connection((redis_server.host, redis_server.port)).close()

def test_another(redis_server, start_redis):
    assert start_redis().port != redis_server.port
"""
#: Where no program is found.
NOWHERE = {"DRUMBEAT_TEST_SERVERS": "program", "PATH": "/nowhere"}

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs pytest on two tests that need a Redis; returns what it printed."""
    (tmp_path / "test_them.py").write_text(TESTS)

    def run_pytest(*arguments: str, **environment: str) -> str:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_TEST_")}
        images = {name: value for name, value in os.environ.items() if name.startswith("DRUMBEAT_TEST_IMAGE_")}
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            env=surroundings | images | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return ran.stdout + ran.stderr

    return run_pytest


def require(way: str) -> None:
    """Raise CouldNotRun where no Redis can run in this way: unless servers are required, the test is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WAY, way)
        with start_redis():
            pass


def test_container(run: Run) -> None:
    """The table says which image a server ran from, and its version."""
    require("container")
    printed = run("--servers=container")

    image = os.environ.get("DRUMBEAT_TEST_IMAGE_REDIS") or KINDS["redis"].image
    assert f"redis  container: {image}, version " in printed
    assert "2 passed" in printed


def test_container_in_workers(run: Run) -> None:
    """The table of a run in several processes says what ran in each, once."""
    require("container")
    printed = run("--servers=container", "--numprocesses=2")

    assert printed.count("redis  container: ") == 1
    assert "2 passed" in printed


@pytest.mark.parametrize("variable", ["DRUMBEAT_TEST_URL_REDIS"])
def test_url(run: Run, redis_server: Server, variable: str) -> None:
    """A server that the user named is used by the shared fixture; the table names it without its password."""
    printed = run(**NOWHERE, **{variable: f"redis://:secret@{redis_server.address}"})

    assert f"redis  url: redis://:***@{redis_server.address}" in printed
    assert "secret" not in printed
    assert "1 passed, 1 skipped" in printed


def test_url_without_port(run: Run) -> None:
    """A URL that leaves the port to the backend is refused: tests and proxies must know it."""
    printed = run(**NOWHERE, DRUMBEAT_TEST_URL_REDIS="redis://localhost")

    assert "redis://localhost names no port" in printed


def test_an_unknown_way_is_refused(run: Run) -> None:
    """A misspelt way in the environment ends the run with the known ones, rather than leave tests out."""
    printed = run(DRUMBEAT_TEST_SERVERS="docker")

    assert "DRUMBEAT_TEST_SERVERS must be one of auto, container, program, not 'docker'" in printed


def test_could_not(run: Run) -> None:
    """Where no server can run, tests that need one are left out, and the table says why and what to install."""
    printed = run(**NOWHERE)

    assert "redis  could not run: redis-server is not on PATH. Install Docker, or the program (in Debian: apt-get " in (
        printed
    )
    assert "2 skipped" in printed


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--require-servers"], {}), ([], {"DRUMBEAT_TEST_REQUIRE_SERVERS": "1"})],
    ids=["option", "environment"],
)
def test_required(run: Run, arguments: list[str], environment: dict[str, str]) -> None:
    """Where servers are required, what cannot run fails the tests that need it."""
    printed = run(*arguments, **NOWHERE, **environment)

    assert "2 errors" in printed
    assert "no redis server can run here: redis-server is not on PATH" in printed


def test_auto_falls_back(run: Run) -> None:
    """Without an engine, a container was tried and the program runs; with neither, both reasons are told."""
    printed = run(PATH="/nowhere", DOCKER_HOST="unix:///nowhere/docker.sock")

    assert "redis  could not run: no Docker engine answers (" in printed
    assert "; redis-server is not on PATH. Install Docker" in printed


def test_an_image_that_cannot_be_had(run: Run) -> None:
    """An image that is neither here nor to be pulled is a reason, and is named."""
    printed = run("--servers=container", DRUMBEAT_TEST_IMAGE_REDIS="drumbeat-test/no-such-image:1")

    assert "could not run: the image drumbeat-test/no-such-image:1 is not here and cannot be pulled (" in printed


STARTS_AND_HANGS = """
import sys, time
from drumbeat_conformance.servers import start_redis
from drumbeat_conformance.servers._leftovers import leftovers

server = start_redis()
print(server.port, leftovers().folder, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("way", ["container", "program"])
def test_nothing_is_left_behind(way: str, number: signal.Signals) -> None:
    """However a test run ends, its servers end and their data go."""
    require(way)
    command = [sys.executable, "-c", STARTS_AND_HANGS]
    environment = os.environ | {"DRUMBEAT_TEST_SERVERS": way}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port, folder = process.stdout.readline().split()
        process.send_signal(number)

    def is_clean() -> bool:
        with socket.socket() as line:
            refused = line.connect_ex(("127.0.0.1", int(port))) != 0
        return refused and not Path(folder.decode()).exists()

    assert eventually(is_clean, within=PATIENCE)
