"""Requests whose answers are lost or that are applied late: nothing is doubled, nothing is left behind."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import pytest

from drumbeat import SessionLost, Unavailable
from drumbeat.hookspecs import Vacant, Won
from drumbeat_conformance.actor import Actor, plugin_of
from drumbeat_conformance.waiting import eventually
from drumbeat_zookeeper import ZooKeeperBackend
from drumbeat_zookeeper._link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kazoo.client import KazooClient  # type: ignore[import-untyped]

    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.proxy import Proxy
    from drumbeat_conformance.servers import Server

T = TypeVar("T")

#: Seconds that a call gets whose answer never comes.
SHORT = 0.4


@pytest.fixture
def pair(proxy: Proxy, arena_on: Callable[..., Arena], zookeeper_server: Server) -> tuple[Actor, Actor]:
    """Two sessions of one namespace, the first of them behind the proxy."""
    near = arena_on(zookeeper_server.url, ttl=30.0)
    far = arena_on(f"zookeeper://{proxy.address}", ttl=30.0)
    far._prefix = near._prefix
    other = near.actor("other")
    other.win("warm")
    other.join("warm")
    return far.actor("a"), other


def at_last(call: Callable[[], T]) -> T:
    """Repeat a call while it is Unavailable, as every caller may, and return its answer."""
    answers: list[T] = []

    def tried() -> bool:
        with suppress(Unavailable):
            answers.append(call())
        return bool(answers)

    eventually(tried, within=10.0)
    return answers[0]


def test_an_opening_whose_answer_is_lost_is_repeated(
    proxy: Proxy, arena_on: Callable[..., Arena], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULT-7: the repetition is no conflict with the session of the first request, whose key nobody knows."""
    made = arena_on(f"zookeeper://{proxy.address}", ttl=30.0)
    made.actor("warm")
    actor = Actor(made, "a", backend=made.backend())
    request = actor.request()
    call = Link.call

    def losing(link: Link, *requests: object, until: float) -> list[object]:
        if str(getattr(requests[0], "path", "")).endswith("/sessions/a"):
            proxy.drop_replies(1)
        return call(link, *requests, until=until)

    monkeypatch.setattr(Link, "call", losing)
    with pytest.raises(Unavailable):
        actor.backend.open_session(request, timeout=5 * SHORT)
    monkeypatch.setattr(Link, "call", call)
    proxy.restore()
    assert at_last(lambda: actor.open(request)).incarnation == request.incarnation
    assert actor.beat().lost == ()


def test_an_opening_repeated_by_another_object_takes_over(
    zookeeper_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """FAULT-7: one incarnation is one session, also where two objects ask for it: the later one has it."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    first = made.actor("a")
    again = Actor(made, "a", backend=made.backend())
    again.open(replace(again.request(), incarnation=first.lease.incarnation))
    assert again.beat().lost == ()
    with pytest.raises(SessionLost):
        first.beat()


def test_a_join_whose_answer_is_lost_goes_at_the_next_heartbeat(proxy: Proxy, pair: tuple[Actor, Actor]) -> None:
    """FAULT-7: a join that was applied and not answered leaves nothing behind once the session has beaten again."""
    actor, other = pair
    actor.join("g")
    actor.leave("g")
    proxy.drop_replies(1)
    with pytest.raises(Unavailable) as failure:
        actor.backend.join_group(actor.lease, "g", attempt=actor.next_attempt(), value=b"", timeout=SHORT)
    assert failure.value.outcome == "unknown"
    assert {"a"} == set(other.members("g"))
    proxy.restore()
    assert at_last(actor.beat).lost == ()
    assert other.members("g") == {}


def test_a_join_after_one_whose_answer_is_lost_is_one_member(proxy: Proxy, pair: tuple[Actor, Actor]) -> None:
    """FAULT-7: who joins again after a lost answer is in the group once, with the newer value."""
    actor, other = pair
    actor.join("g")
    proxy.drop_replies(1)
    with pytest.raises(Unavailable):
        actor.backend.join_group(actor.lease, "g", attempt=actor.next_attempt(), value=b"lost", timeout=SHORT)
    proxy.restore()
    assert at_last(lambda: actor.join("g", b"new")) is True
    assert other.members("g") == {"a": b"new"}
    assert actor.beat().lost == ()


def test_a_candidacy_whose_answer_is_lost_stands_once(proxy: Proxy, pair: tuple[Actor, Actor]) -> None:
    """LEAD-9: the repetition of a campaign whose first request got no answer is the same candidate."""
    actor, other = pair
    seat = other.win("e")
    proxy.drop_replies(1)
    attempt = actor.next_attempt()
    with pytest.raises(Unavailable):
        actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"", timeout=SHORT)
    proxy.restore()
    actor.candidacies["e"] = attempt
    at_last(lambda: actor.wait_for("e"))
    other.resign(seat)
    won = actor.win("e")
    assert won.token > seat.token
    actor.resign(won)
    assert other.win("e").token > won.token


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_win_is_one_win_whichever_answer_is_lost(
    proxy: Proxy, pair: tuple[Actor, Actor], owner_of: Callable[[Actor], Link], answered: int
) -> None:
    """LEAD-9: wherever a campaign is cut off, its repetition wins one seat, and a heartbeat that forgot it frees it."""
    actor, other = pair
    attempt = actor.next_attempt()
    backend = plugin_of(actor.backend)
    assert isinstance(backend, ZooKeeperBackend)
    _lose_answer(proxy, (owner_of(actor), backend._sessions[actor.lease.incarnation].reader), answered)
    with pytest.raises(Unavailable):
        actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"", timeout=SHORT)
    proxy.restore()
    first = at_last(lambda: actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"", timeout=5.0))
    again = actor.backend.campaign(actor.lease, "e", attempt=attempt, value=b"", timeout=5.0)
    assert isinstance(first, Won)
    assert first == again
    other.wait_for("e")
    actor.beat()
    assert other.win("e").token > first.seat.token


def test_a_resignation_whose_answer_is_lost_frees_the_seat(proxy: Proxy, pair: tuple[Actor, Actor]) -> None:
    """LEAD-5: a resignation that was applied and not answered is found done when it is repeated."""
    actor, other = pair
    seat = actor.win("e")
    proxy.drop_replies(1)
    with pytest.raises(Unavailable):
        actor.backend.resign(actor.lease, seat, timeout=SHORT)
    proxy.restore()
    assert other.win("e").token > seat.token
    assert at_last(lambda: actor.resign(seat)) is False
    assert actor.beat().lost == ()


def test_what_a_frozen_server_does_late_is_undone(
    start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena], operator: Callable[..., KazooClient]
) -> None:
    """LEAD-15: requests that time out at a frozen server and are applied after its thaw leave nothing behind."""
    server = start_zookeeper()
    made = arena_on(server.url, ttl=30.0)
    actor, other = made.actor("a"), made.actor("b")
    other.resign(other.win("e"))
    other.join("g")
    server.pause()
    with pytest.raises(Unavailable):
        actor.backend.join_group(actor.lease, "g", attempt=actor.next_attempt(), value=b"", timeout=SHORT)
    with pytest.raises(Unavailable):
        actor.backend.campaign(actor.lease, "e", attempt=actor.next_attempt(), value=b"", timeout=SHORT)
    server.resume()
    assert at_last(actor.beat).lost == ()
    assert {"b"} == set(other.members("g"))
    assert other.leader("e") == Vacant()
    other.win("e")
    client = operator(server.address)
    root = next(name for name in client.get_children("/") if name.endswith("tests"))
    assert len(client.get_children(f"/{root}/elections/e")) == 1


def _lose_answer(proxy: Proxy, links: Iterable[Link], number: int) -> None:
    """Lose the answer to the request that comes after so many on these links together."""
    passed = count()

    def counted(call: Callable[..., list[object]]) -> Callable[..., list[object]]:
        def counting(*requests: object, until: float) -> list[object]:
            if next(passed) == number:
                proxy.drop_replies(1)
            return call(*requests, until=until)

        return counting

    for link in links:
        link.call = counted(link.call)  # type: ignore[method-assign]
