"""Fixtures that start the servers and play sessions on them, the options that say how, and the table of what ran."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import ParamSpec, TypeVar

import pytest

from drumbeat_conformance import servers
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.servers import CouldNotRun, NamedServer, Server, _report
from drumbeat_conformance.servers._launch import WAY, WAYS
from drumbeat_conformance.target import Site, Target

P = ParamSpec("P")
S = TypeVar("S", Server, servers.Sentinels, servers.RedisCluster, servers.Ensemble, servers.EtcdCluster)

_REQUIRED = "DRUMBEAT_TEST_REQUIRE_SERVERS"
_URL = "DRUMBEAT_TEST_URL_"
_FROM_WORKER = "drumbeat_servers"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("drumbeat", "servers for Drumbeat's backends")
    group.addoption(
        "--servers",
        choices=WAYS,
        default=os.environ.get(WAY) or "auto",
        help="start servers in containers, as programs on PATH, or (auto) as programs only where no Docker engine "
        f"answers or the image cannot be had; ${WAY} means the same",
    )
    group.addoption(
        "--require-servers",
        action="store_true",
        default=os.environ.get(_REQUIRED) == "1",
        help=f"fail the tests whose server cannot be started, instead of leaving them out; ${_REQUIRED}=1 does so too",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the functions that start servers know the way."""
    way = str(config.getoption("--servers"))
    if way not in WAYS:
        # What comes from the environment is not checked as an option is.
        raise pytest.UsageError(f"{WAY} must be one of {', '.join(WAYS)}, not {way!r}")
    os.environ[WAY] = way


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a test as left out if this machine has no way to run its server, unless that is an error."""
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, CouldNotRun) and not item.config.getoption("--require-servers"):
        path, line, _ = report.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {error}")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what ran in a worker of pytest-xdist to the process that prints the table."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_FROM_WORKER] = _report.lines()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take what ran in a worker of pytest-xdist."""
    _report.add(getattr(node, "workeroutput", {}).get(_FROM_WORKER, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which way each server ran; for those that could not, why, and what to install."""
    rows = _report.table()
    if rows:
        terminalreporter.section("servers")
        for row in rows:
            terminalreporter.write_line(row)


def _shared(kind: str, start: Callable[[], Server]) -> Callable[[], Iterator[Server | NamedServer]]:
    @pytest.fixture(scope="session", name=f"{kind}_server")
    def server() -> Iterator[Server | NamedServer]:
        """A server with quick settings that many tests share: use a namespace of your own, never stop or flush it."""
        url = os.environ.get(f"{_URL}{kind.upper()}")
        if url:
            yield NamedServer(kind, url)
            return
        with start() as started:
            yield started

    return server


def _factory(start: Callable[P, S]) -> Callable[[], Iterator[Callable[P, S]]]:
    @pytest.fixture(name=start.__name__)
    def factory() -> Iterator[Callable[P, S]]:
        """Starts servers that end with the test."""
        with ExitStack() as stack:

            def start_for_this_test(*args: P.args, **kwargs: P.kwargs) -> S:
                return stack.enter_context(start(*args, **kwargs))

            yield start_for_this_test

    return factory


redis_server = _shared("redis", servers.start_redis)
memcached_server = _shared("memcached", servers.start_memcached)
zookeeper_server = _shared("zookeeper", servers.start_zookeeper)
etcd_server = _shared("etcd", servers.start_etcd)

start_redis = _factory(servers.start_redis)
start_redis_sentinel = _factory(servers.start_redis_sentinel)
start_redis_cluster = _factory(servers.start_redis_cluster)
start_memcached = _factory(servers.start_memcached)
start_zookeeper = _factory(servers.start_zookeeper)
start_zookeeper_ensemble = _factory(servers.start_zookeeper_ensemble)
start_etcd = _factory(servers.start_etcd)
start_etcd_cluster = _factory(servers.start_etcd_cluster)


@pytest.fixture
def arena_on() -> Iterator[Callable[..., Arena]]:
    """Make arenas on the server behind a URL, with leases of `ttl` seconds or the usual ones, for this test."""
    with ExitStack() as stack:

        def make(url: str, *, ttl: float | None = None) -> Arena:
            target = Target.of(url)
            return stack.enter_context(Arena(replace(target, ttl=ttl or target.ttl), Site(url)))

        yield make
