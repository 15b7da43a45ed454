"""What a session goes through when its server stops, freezes, or comes back without its data."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from guarantees.stores import SERVERS
from support import Cluster, eventually

import drumbeat
from drumbeat import Capability, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drumbeat_conformance.servers import Server

#: Seconds of a lease within which any of the servers can be started again.
LONG = 30.0
#: Seconds in which a server that has come back is found again.
FOUND = 30.0


@dataclass(frozen=True, slots=True)
class Site:
    """A server that one test may stop, and its sessions."""

    server: Server
    cluster: Cluster

    def led(self, *, ttl: float) -> tuple[drumbeat.Session, drumbeat.Term]:
        """Return a session that is a member of `g` and leads `e`."""
        session = self.cluster.connect("a", lease_ttl=ttl)
        session.group("g").join({"n": 1})
        return session, session.election("e").campaign()

    def wait_until_back(self, session: drumbeat.Session, *, other_than: str) -> None:
        """Wait until the session has reopened by itself and is a member again."""
        eventually(lambda: session.incarnation != other_than, within=FOUND)
        assert session.wait_for(State.CONNECTED, timeout=FOUND)
        eventually(lambda: is_member(session), within=FOUND)


def is_member(session: drumbeat.Session) -> bool:
    """Tell whether the session is in `g` as it joined; not while the server cannot be asked."""
    try:
        members = session.group("g").members()
    except (drumbeat.Unavailable, drumbeat.SessionLost):
        return False
    return "a" in members and members["a"].metadata == {"n": 1}


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server of each kind in turn, for this test alone."""
    server = request.getfixturevalue(f"start_{request.param}")()
    cluster = Cluster(server.url, ttl=SERVERS[request.param], prefix=f"{uuid.uuid4().hex[:8]}-")
    yield Site(server, cluster)
    cluster.close()


def test_a_restart_within_the_ttl_is_survived(site: Site) -> None:
    """FAULT-1: with its data the server finds the session alive; one that keeps no data is noticed, and rejoined."""
    session, term = site.led(ttl=LONG)
    before = session.incarnation
    site.server.stop()
    eventually(lambda: session.state is State.SUSPENDED, within=LONG)
    site.server.start()
    if Capability.PERSISTENT in session.backend.capabilities:
        assert session.wait_for(State.CONNECTED, timeout=FOUND)
        session.beat()
        assert session.incarnation == before
        assert term.held
        assert is_member(session)
        assert term.resign() is True
    else:
        site.wait_until_back(session, other_than=before)
        assert not term.held
    assert session.election("e").campaign(timeout=FOUND).token > term.token


def test_a_restart_after_the_ttl_is_recovered_from(site: Site) -> None:
    """FAULT-1: the term is over in time though nobody said so; the session comes back by itself and rejoins."""
    session, term = site.led(ttl=site.cluster.ttl)
    before = session.incarnation
    site.server.stop()
    eventually(lambda: session.state is State.LOST, within=3 * site.cluster.ttl)
    assert not term.held
    site.server.start()
    site.wait_until_back(session, other_than=before)
    assert session.election("e").campaign(timeout=FOUND).token > term.token


def test_a_restart_without_data_is_told_and_recovered_from(site: Site) -> None:
    """FAULT-2: the session that the server forgot is LOST, rejoins, and a leader is elected."""
    session, term = site.led(ttl=LONG)
    before = session.incarnation
    site.server.kill()
    site.server.wipe()
    site.server.start()
    site.wait_until_back(session, other_than=before)
    assert not term.held
    again = session.election("e").campaign(timeout=FOUND)
    assert again.held
    if Capability.TOKENS_SURVIVE_DATA_LOSS in session.backend.capabilities:
        assert again.token > term.token


def test_a_frozen_server_ends_terms_in_time(site: Site) -> None:
    """FAULT-3: without any answer the term is over by the holder's own clock, and the thaw revives nothing."""
    session, term = site.led(ttl=site.cluster.ttl)
    before = session.incarnation
    site.server.pause()
    frozen = time.monotonic()
    eventually(lambda: not term.held, within=2 * site.cluster.ttl)
    assert time.monotonic() - frozen < 1.5 * site.cluster.ttl
    eventually(lambda: session.state is State.LOST, within=site.cluster.ttl)
    site.server.resume()
    site.wait_until_back(session, other_than=before)
    assert not term.held
    assert session.election("e").campaign(timeout=FOUND).token > term.token


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_close_is_bounded_without_a_server(site: Site, how: str) -> None:
    """FAULT-9: whether the server is frozen or gone, close returns within its timeout."""
    session, term = site.led(ttl=LONG)
    getattr(site.server, how)()
    started = time.monotonic()
    session.close(timeout=1.0)
    assert time.monotonic() - started < 5.0
    assert not term.held
    if how == "pause":
        site.server.resume()
