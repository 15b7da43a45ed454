"""Candidates in ZooKeeper's tree: who wakes, who wins, and what an operator can break."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drumbeat.hookspecs import CandidacySubject, GroupSubject, SessionRequest, Vacant, Waiting
from drumbeat_conformance.actor import plugin_of
from drumbeat_conformance.waiting import eventually
from drumbeat_zookeeper import ZooKeeperBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from kazoo.client import KazooClient  # type: ignore[import-untyped]

    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.proxy import Proxy
    from drumbeat_conformance.servers import Server

CANDIDATES = 8
#: More than the pipe that wakes kazoo's thread takes bytes, which is about 278.
MANY = 400


def folder(made: Arena, part: str) -> str:
    """Return the path of a part of the namespace in which a test's actors are."""
    return f"/{made._prefix}tests/{part}"


def test_a_resignation_wakes_one_candidate(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """No herd: each candidate watches the one before it, so that of many only the next is woken."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    leader, *others = (made.actor(f"m{number}") for number in range(CANDIDATES))
    seat = leader.win("e")
    hints = dict.fromkeys((actor.member_id for actor in others), 0)
    for actor in others:
        actor.wait_for("e")

        def hint(name: str = actor.member_id) -> None:
            hints[name] += 1

        actor.backend.watch(actor.lease, CandidacySubject("e", actor.newest_attempt), hint, timeout=5.0)
    leader.resign(seat)
    eventually(lambda: hints["m1"], within=5.0)
    others[0].win("e")
    # What was sent to the others has come by the time that each of them has read.
    assert [isinstance(actor.campaign("e"), Waiting) for actor in others[1:]] == [True] * (CANDIDATES - 2)
    assert {name for name, count in hints.items() if count} == {"m1"}


def test_whoever_leaves_the_middle_of_the_queue_is_stepped_over(
    zookeeper_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """A candidate whose predecessor gave up is woken, waits for the one before that, and is woken again by its end."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    leader, second, third = (made.actor(name) for name in "abc")
    seat = leader.win("e")
    second.wait_for("e")
    third.wait_for("e")
    hints: list[int] = []
    subject = CandidacySubject("e", third.newest_attempt)
    third.backend.watch(third.lease, subject, lambda: hints.append(1), timeout=5.0)
    second.withdraw("e", second.newest_attempt)
    eventually(lambda: hints, within=5.0)
    third.wait_for("e")
    hints.clear()
    leader.resign(seat)
    eventually(lambda: hints, within=5.0)
    third.win("e")


def test_watches_outlive_a_broken_connection(
    proxy: Proxy, zookeeper_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """A watch is set again after a reconnection, and what happened meanwhile is told."""
    near = arena_on(zookeeper_server.url, ttl=30.0)
    far = arena_on(f"zookeeper://{proxy.address}", ttl=30.0)
    far._prefix = near._prefix
    leader, waiter = near.actor("a"), far.actor("b")
    seat = leader.win("e")
    waiter.wait_for("e")
    hints: list[int] = []
    subject = CandidacySubject("e", waiter.newest_attempt)
    waiter.backend.watch(waiter.lease, subject, lambda: hints.append(1), timeout=5.0)
    proxy.cut()
    leader.resign(seat)
    proxy.restore()
    eventually(lambda: hints, within=10.0)
    waiter.win("e")


def test_hundreds_of_watches_outlive_a_broken_connection(proxy: Proxy, arena_on: Callable[..., Arena]) -> None:
    """WATCH-2: however many watches a reconnection has to set again, it waits for nobody, and calls are answered."""
    actor = arena_on(f"zookeeper://{proxy.address}", ttl=30.0).actor("a")
    hints: list[int] = []
    for number in range(MANY):
        actor.backend.watch(actor.lease, GroupSubject(f"g{number}"), lambda: hints.append(1), timeout=5.0)
    proxy.cut()
    proxy.restore()
    # Each watch that is set again gives a hint, since nobody knows what happened meanwhile.
    eventually(lambda: len(hints) >= MANY, within=10.0)
    answers: list[object] = []
    # In a thread, or a call that is never answered would be a test that never ends.
    threading.Thread(target=lambda: answers.append(actor.members("g0")), daemon=True).start()
    eventually(lambda: answers, within=10.0)
    assert answers == [{}]


@pytest.mark.parametrize("part", ["leaders", "elections"])
def test_a_seat_that_an_operator_deletes_is_noticed(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Callable[..., KazooClient], part: str
) -> None:
    """BEAT-10: whichever of its two nodes vanishes, a heartbeat says so, and the next term has a higher token."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    holder, other = made.actor("a"), made.actor("b")
    seat = holder.win("e")
    client = operator(zookeeper_server.address)
    path = f"{folder(made, part)}/e"
    (name,) = client.get_children(path) or [""]
    client.delete(f"{path}/{name}".rstrip("/"))
    assert isinstance(other.campaign("e"), Waiting)
    assert holder.beat().lost == (seat,)
    holder.seats.clear()
    holder.beat()
    assert other.win("e").token > seat.token


def test_an_attempt_whose_seat_was_deleted_queues_again(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Callable[..., KazooClient]
) -> None:
    """LEAD-1: an attempt wins once; if its leader's node is deleted, it never has that seat again, but a new term."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor, other = made.actor("a"), made.actor("b")
    seat = actor.win("e")
    waiting = other.wait_for("e")
    client = operator(zookeeper_server.address)
    client.delete(f"{folder(made, 'leaders')}/e")
    again = actor.backend.campaign(actor.lease, "e", attempt=seat.attempt, value=b"", timeout=5.0)
    assert again == Waiting(Vacant(), None)
    assert waiting.holder != again.holder
    assert other.win("e").token > seat.token


def test_order_is_that_of_arrival_whatever_the_names(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """LEAD-12: candidates win in the order of their zxids; names, which sort the other way, count for nothing."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actors = [made.actor(name) for name in "dcba"]
    for actor, incarnation in zip(actors, "zyxw", strict=True):
        actor.open(_renamed(actor, incarnation))
    seat = actors[0].win("e")
    for actor in actors[1:]:
        actor.wait_for("e")
    order = []
    waiting = actors[1:]
    while waiting:
        holder = next(actor for actor in actors if actor.seats.get("e") == seat)
        holder.resign(seat)
        winner = next(actor for actor in waiting if not isinstance(actor.campaign("e"), Waiting))
        seat = winner.seats["e"]
        order.append(winner.member_id)
        waiting.remove(winner)
    assert order == ["c", "b", "a"]


def test_two_threads_may_look_at_one_queue(
    zookeeper_server: Server, arena_on: Callable[..., Arena], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LEAD-12: a thread that saw an older queue takes no candidate out of the queue that another one looks at."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    first, second = made.actor("a"), made.actor("b")
    seat = first.win("e")
    second.wait_for("e")
    backend = plugin_of(first.backend)
    assert isinstance(backend, ZooKeeperBackend)
    session = backend._sessions[first.lease.incarnation]
    names = tuple(
        f"{actor.lease.incarnation}-{attempt}"
        for actor, attempt in ((first, seat.attempt), (second, second.newest_attempt))
    )
    until = time.monotonic() + 5.0
    session._in_order("e", names[:1], until)
    read = session._read

    def read_late(*asked: object) -> list[object]:
        monkeypatch.setattr(session, "_read", read)
        assert session._in_order("e", (), until) == []
        return read(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "_read", read_late)
    assert session._in_order("e", names, until) == [f"{folder(made, 'elections')}/e/{name}" for name in names]


def test_a_queue_leaves_nothing_behind(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Callable[..., KazooClient]
) -> None:
    """What a closed session had in groups, elections and among the sessions is gone from the server's tree."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor, other = made.actor("a"), made.actor("b")
    actor.join("g")
    actor.win("e")
    other.wait_for("e")
    client = operator(zookeeper_server.address)
    actor.close()
    other.close()
    for path in ("sessions", "groups/g", "elections/e", "leaders"):
        assert client.get_children(folder(made, path)) == []


def _renamed(actor: Actor, incarnation: str) -> SessionRequest:
    return replace(actor.request(supersedes=actor.lease.incarnation), incarnation=incarnation)
