"""What travels: round trips, seen through a proxy on the link."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import Unavailable
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl
from drumbeat_conformance.guarantees._lasting import lasting_actor

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena, Link

#: Seconds by which every answer comes later, where flights are counted: far more than a busy machine adds.
_DELAY: Final = 0.4
#: Groups, and seats, of a session that holds many.
_MANY: Final = 50
#: Members of a small and of a large group.
_SIZES: Final = (10, 200)


def flights(link: Link, call: Callable[[], object]) -> int:
    """Return how many times one after the other a call waits for an answer, however many requests go at once."""
    link.proxy.delay(_DELAY)
    started = time.monotonic()
    try:
        call()
    finally:
        elapsed = time.monotonic() - started
        link.proxy.delay(0.0)
    return int(elapsed / _DELAY)


@guarantee("BEAT-6", needs=Needs.LINK)
def a_heartbeat_is_one_round_trip(arena: Arena) -> None:
    """One heartbeat waits for the server once, with 1 or with 50 groups and terms, on a connection that stands.

    What is sent before the first answer comes counts as one, be it one request or several.
    """
    link = arena.link()
    actor = lasting_actor(arena, "a", url=link.url)
    for count in (1, _MANY):
        for number in range(len(actor.seats), count):
            actor.join(f"g{number}")
            actor.win(f"e{number}")
        assert actor.beat().lost == ()
        taken = flights(link, lambda: actor.beat())  # noqa: PLW0108 - read anew
        assert taken == 1, f"a heartbeat of {count} groups and terms takes {taken} round trips"


@guarantee("BEAT-11", needs=Needs.LINK)
def a_view_in_flight_does_not_delay_a_heartbeat(arena: Arena) -> None:
    """A view that gets no answer does not delay a heartbeat: they share no connection that one could block."""
    link = arena.link()
    actor = lasting_actor(arena, "a", url=link.url)
    actor.join("g")
    actor.beat()
    before = {each: each.bytes_from_client for each in link.proxy.connections}
    for _ in range(_MANY):
        actor.members("g")
    # The one that views take.
    max(link.proxy.connections, key=lambda each: each.bytes_from_client - before.get(each, 0)).silence()
    patience = 3.0
    view = arena.background(lambda: actor.backend.read_group(actor.lease, "g", timeout=patience))
    arena.wait(patience / 10)
    actor.backend.heartbeat(actor.lease, actor.holdings(), timeout=patience / 2)
    assert view.running, "the view was answered, so that this shows nothing"
    with pytest.raises(Unavailable):
        view.result(within=patience + TIMEOUT)


@guarantee("WIRE-1", needs=Needs.LINK)
def a_view_takes_as_long_for_many(arena: Arena) -> None:
    """A view waits for the server as often with 200 members as with 10, and three times at the most."""
    link = arena.link()
    reader = lasting_actor(arena, "reader", url=link.url)
    crowd = arena.backend()
    taken = []
    for size in _SIZES:
        for number in range(len(reader.members("g")), size):
            request = replace(reader.request(), member_id=f"m{number}")
            lease = crowd.open_session(replace(request, ttl=long_ttl(arena)), timeout=TIMEOUT)
            crowd.join_group(lease, "g", attempt=1, value=b'{"zone": "a"}', timeout=TIMEOUT)
            crowd.drop_session(lease)
        assert len(reader.members("g")) == size
        taken.append(flights(link, lambda: reader.members("g")))
    small, large = taken
    assert small == large <= 3, f"10 members take {small} round trips, 200 take {large}"
