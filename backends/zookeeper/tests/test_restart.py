"""Servers that restart, with and without their data, and ensembles that lose a member."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from drumbeat import SessionLost, State, Unavailable
from drumbeat.hookspecs import Holdings, SessionRequest, Waiting
from drumbeat_conformance.actor import Actor, plugin_of
from drumbeat_conformance.waiting import Background, eventually
from drumbeat_zookeeper import ZooKeeperBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Group
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Ensemble, Server
    from drumbeat_zookeeper._link import Link

FORKING = """
import gc, os, signal, sys
# A child that hangs, hangs in what drumbeat does at the fork.
os.register_at_fork(after_in_child=lambda: signal.alarm(20))
import drumbeat
from drumbeat_zookeeper._watches import Watches

with drumbeat.connect(sys.argv[1], namespace=sys.argv[2], lease_ttl=5.0) as session:
    term = session.election("e").campaign(timeout=10.0)
    (watches,) = (found for found in gc.get_objects() if isinstance(found, Watches))
    # As if another thread were at the watches: in the child that thread is not, and nobody gives the lock back.
    watches._lock.acquire()
    child = os.fork()
    if child == 0:
        sys.exit(0)
    watches._lock.release()
    _, status = os.waitpid(child, 0)
    session.beat()
    print(os.waitstatus_to_exitcode(status), term.held)
"""
#: Seconds; ten ticks of the servers of these tests.
TTL = 1.0


def members(group: Group) -> set[str]:
    """Return who is in a group; nobody while the server does not answer."""
    try:
        return {member.member_id for member in group.members()}
    except Unavailable:
        return set()


def test_a_restart_within_the_ttl_loses_nothing(
    start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-1: a server that is killed and comes back with its data before the TTL is over has lost nothing."""
    server = start_zookeeper()
    session = arena_on(server.url).connect("a", lease_ttl=20.0)
    group = session.group("g")
    group.join({"n": 1})
    term = session.election("e").campaign(timeout=5.0)
    first = session.incarnation
    server.kill()
    server.start()
    eventually(lambda: session.state is State.CONNECTED, within=20.0)
    eventually(lambda: members(group) == {"a"}, within=20.0)
    assert (session.incarnation, term.held) == (first, True)


@pytest.mark.parametrize("wipe", [False, True])
def test_after_a_long_restart_all_begins_anew(
    start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena], wipe: bool
) -> None:
    """FAULT-1 and 2: down for longer than the TTL, with or without its data, and the sessions recover by themselves."""
    server = start_zookeeper()
    both = arena_on(server.url)
    sessions = [both.connect(name) for name in "ab"]
    for session in sessions:
        session.group("g").join({})
    term = sessions[0].election("e").campaign(timeout=5.0)
    waiting = Background(lambda: sessions[1].election("e").campaign(timeout=40.0))
    server.kill()
    eventually(lambda: not term.held, within=1.5 * TTL)
    if wipe:
        server.wipe()
    server.start()
    later = waiting.result()
    assert not term.held
    assert wipe or later.token > term.token
    for session in sessions:
        eventually(lambda session=session: session.state is State.CONNECTED, within=20.0)  # type: ignore[misc]
    eventually(lambda: members(sessions[0].group("g")) == {"a", "b"}, within=20.0)


def test_tokens_rise_over_a_restart(start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena]) -> None:
    """LEAD-13: with its data the server also keeps the zxids that tokens are made of."""
    server = start_zookeeper()
    before = arena_on(server.url, ttl=30.0).actor("a").win("e")
    server.kill()
    server.start()
    assert arena_on(server.url, ttl=30.0).actor("b").win("e").token > before.token


def test_a_session_moves_to_another_server(
    start_zookeeper_ensemble: Callable[..., Ensemble],
    arena_on: Callable[..., Arena],
    owner_of: Callable[[Actor], Link],
) -> None:
    """FAULT-1: when the server that a session is connected to dies, it goes on at another with all that it holds."""
    ensemble = start_zookeeper_ensemble()
    made = arena_on(ensemble.url, ttl=10.0)
    actor, other = made.actor("a"), made.actor("b")
    actor.join("g")
    seat = actor.win("e")
    port = owner_of(actor)._connection._socket.getpeername()[1]
    next(node for node in ensemble.nodes if node.port == port).kill()

    def beats(one: Actor) -> bool:
        try:
            return one.beat().lost == ()
        except Unavailable:
            return False

    eventually(lambda: beats(actor), within=10.0)
    eventually(lambda: beats(other), within=10.0)
    assert {"a"} == set(other.members("g"))
    assert actor.proclaim(seat, b"still here")
    assert actor.resign(seat)
    assert other.win("e").token > seat.token


def test_a_follower_cut_off_from_its_leader_renews_nothing(
    start_zookeeper_ensemble: Callable[..., Ensemble], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-3: a follower still answers reads when its leader is frozen, so a heartbeat asks for more than a read."""
    ensemble = start_zookeeper_ensemble()
    follower = next(node for node in ensemble.nodes if "Mode: follower" in _srvr(node))
    actor = arena_on(follower.url, ttl=4.0).actor("a")
    actor.join("g")
    leader = next(node for node in ensemble.nodes if "Mode: leader" in _srvr(node))
    leader.pause()
    try:
        with pytest.raises(Unavailable):
            actor.backend.heartbeat(actor.lease, actor.holdings(), timeout=TTL)
        assert "Mode: follower" in _srvr(follower)
    finally:
        leader.resume()


def test_an_ensemble_keeps_a_session_longer_than_it_grants(
    start_zookeeper_ensemble: Callable[..., Ensemble], arena_on: Callable[..., Arena]
) -> None:
    """BEAT-5: a heartbeat that a dying follower answered and did not pass on is made up for by ZooKeeper's timeout."""
    ttl, tick = 4.0, 0.1
    made = arena_on(start_zookeeper_ensemble().url, ttl=ttl)
    assert made.profile.failover.seconds(ttl) >= 1.25 * ttl + 1.5 * tick
    backend = made.backend()
    backend.describe(timeout=5.0)
    lease = backend.open_session(SessionRequest(incarnation="i", member_id="a", ttl=ttl), timeout=5.0)
    plugin = plugin_of(backend)
    assert isinstance(plugin, ZooKeeperBackend)
    assert lease.ttl == pytest.approx(ttl)
    assert plugin._sessions["i"].owner.granted == pytest.approx(1.25 * ttl + tick / 2)
    made.wait(ttl / 2)
    late = backend.heartbeat(lease, Holdings(), timeout=5.0).lease.ttl
    assert 0 < late <= 0.76 * ttl
    assert backend.heartbeat(lease, Holdings(), timeout=5.0).lease == lease
    backend.close_session(lease, timeout=5.0)


def test_a_new_namespace_can_be_waited_for(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """FAULT-2: with on_empty_store=wait nobody wins in a namespace younger than the TTL, and then somebody does."""
    made = arena_on(zookeeper_server.url, ttl=2 * TTL)
    actor = Actor(made, "a", backend=made.backend(on_empty_store="wait"))
    started = time.monotonic()
    actor.open()
    retry_after = actor.wait_for("e").retry_after
    assert retry_after is not None
    assert 0 < retry_after <= 2 * TTL
    while isinstance(actor.campaign("e"), Waiting):
        made.wait(TTL / 20)
        actor.beat()
    assert 1.4 * TTL <= time.monotonic() - started <= 6 * TTL
    later = Actor(made, "b", backend=made.backend(on_empty_store="wait"))
    later.open()
    later.win("f")


def test_a_forked_child_may_exit_in_its_own_time(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """FAULT-8: a child that ends normally, with all that runs at exit, neither hangs nor ends the parent's session.

    Whatever lock another thread of the parent had.
    """
    namespace = arena_on(zookeeper_server.url)._prefix
    done = subprocess.run(
        [sys.executable, "-c", FORKING, zookeeper_server.url, namespace],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 True\n", "")


def test_many_threads_share_a_session(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """Calls of several threads each get their own answers, also when they are sent in one write."""
    actor = arena_on(zookeeper_server.url, ttl=30.0).actor("a")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                backend, lease = actor.backend, actor.lease
                backend.join_group(
                    lease, f"g{number}", attempt=100 * number + turn + 1, value=b"%d" % turn, timeout=10.0
                )
                (member,) = backend.read_group(lease, f"g{number}", timeout=10.0).members
                assert member.value == b"%d" % turn
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_replaced_session_is_told_at_once(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """GROUP-5: the one that was replaced learns it in less than a TTL, and its library does not fight back."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    first = made.actor("a")
    second = type(first)(made, "a", backend=made.backend())
    second.open(second.request(replace=True))
    started = time.monotonic()
    with pytest.raises(SessionLost):
        first.beat()
    assert time.monotonic() - started <= 10.0
    assert second.beat().lost == ()


def _srvr(node: Server) -> str:
    import socket

    with socket.create_connection((node.host, node.port), timeout=5.0) as link:
        link.sendall(b"srvr")
        answer = b""
        while part := link.recv(4096):
            answer += part
    return answer.decode()
