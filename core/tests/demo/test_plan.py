"""Where a run takes place, and how it is kept within its time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from drumbeat import ConfigurationError
from drumbeat.cli.demo._interrupts import Interrupted
from drumbeat.cli.demo._plan import LONGEST_CYCLE, SHORTEST_CYCLE, Place, Plan, make_plan

if TYPE_CHECKING:
    from pathlib import Path


def plan(folder: Path, *, agents: int = 3, ttl: float | None = None, url: str | None = None) -> Plan:
    """Return the plan for a run on a local file."""
    return make_plan(Place.choose(url, folder), agents=agents, ttl=ttl, wait=lambda: time.sleep(0.01))


def test_without_a_url_the_backend_is_a_file_in_the_own_folder(tmp_path: Path) -> None:
    """A first run needs no server and touches nothing but its own folder."""
    assert Place.choose(None, tmp_path).url == f"local://{tmp_path}/backend.db"


def test_the_environment_names_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DRUMBEAT_URL counts where no URL is given, and not where one is."""
    monkeypatch.setenv("DRUMBEAT_URL", "redis://server:1/0")
    assert Place.choose(None, tmp_path).url == "redis://server:1/0"
    assert Place.choose("etcd://server:2", tmp_path).url == "etcd://server:2"


def test_an_empty_url_is_refused(tmp_path: Path) -> None:
    """An empty --url is more likely an empty variable than a wish for the local file."""
    with pytest.raises(ConfigurationError, match="--url is empty"):
        Place.choose("", tmp_path)


def test_no_two_runs_share_a_namespace(tmp_path: Path) -> None:
    """Each run has a fresh namespace, also where the URL names one, and keeps the URL's other options."""
    url = "redis://user:p%3Fss@server:1/0?lease_ttl=5&namespace=mine&x=a%26b"
    first, second = Place.choose(url, tmp_path), Place.choose(url, tmp_path)
    assert first.url == second.url == "redis://user:p%3Fss@server:1/0?lease_ttl=5&x=a%26b"
    assert first.namespace != second.namespace
    assert Place.choose("redis://server?namespace=mine", tmp_path).url == "redis://server"


def test_a_plan_says_what_the_backend_promises(tmp_path: Path) -> None:
    """TTL, bound and server come from the backend, the cycle is as long as the time allows."""
    made = plan(tmp_path)
    assert (made.agents, made.lease_ttl, made.cycle) == (3, 3.0, LONGEST_CYCLE)
    assert made.failover_bound >= made.lease_ttl
    assert made.server.startswith("SQLite")
    assert len(made.meters) >= 100


def test_a_longer_ttl_makes_shorter_cycles_until_the_time_is_up(tmp_path: Path) -> None:
    """What would take more than 40 s has shorter cycles, and is refused with the numbers where those do not help."""
    assert SHORTEST_CYCLE <= plan(tmp_path, ttl=12.0).cycle < LONGEST_CYCLE
    with pytest.raises(ConfigurationError, match=r"TTL of 30 s, .* 30\.5 s, .* not end within 40 s; .* shorter --ttl"):
        plan(tmp_path, ttl=30.0)


@pytest.mark.parametrize("agents", [-1, 0, 2, 13])
def test_too_few_or_too_many_agents_are_refused(tmp_path: Path, agents: int) -> None:
    """One agent is killed and one frozen, so that there must be three; and a machine bears only so many."""
    with pytest.raises(ConfigurationError, match=f"must be from 3 to 12, not {agents}"):
        plan(tmp_path, agents=agents)


def test_a_backend_inside_one_process_is_refused(tmp_path: Path) -> None:
    """memory:// cannot be shared by processes, which is said before any is started."""
    with pytest.raises(ConfigurationError, match="inside one process"):
        plan(tmp_path, url="memory://")


def test_a_ttl_that_the_backend_does_not_grant_is_refused(tmp_path: Path) -> None:
    """What connecting says is what the demo says."""
    with pytest.raises(ConfigurationError, match="is outside what SQLite"):
        plan(tmp_path, ttl=0.01)


def test_an_interrupt_does_not_wait_for_a_server(tmp_path: Path) -> None:
    """While the backend is being asked, an interrupt ends the wait at once."""

    def interrupt() -> None:
        raise Interrupted(2)

    with pytest.raises(Interrupted, match="interrupted by SIGINT"):
        make_plan(Place.choose(None, tmp_path), agents=3, ttl=None, wait=interrupt)
