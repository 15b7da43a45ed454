"""SAFE-2: what another program, or a newer Drumbeat, left under our keys is named, and nothing is overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from drumbeat import BadData

if TYPE_CHECKING:
    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Server

Peek = Callable[..., Callable[..., object]]
Call = Callable[["Actor"], object]

CALLS: dict[str, dict[str, Call]] = {
    "birth": {"open": lambda actor: actor.open(), "beat": lambda actor: actor.beat()},
    "session:a": {"open": lambda actor: actor.open(), "beat": lambda actor: actor.beat()},
    "group:g": {"read": lambda actor: actor.members("g"), "join": lambda actor: actor.join("g")},
    "groups": {"list": lambda actor: actor.groups(), "join": lambda actor: actor.join("g")},
    "seat:e": {"campaign": lambda actor: actor.campaign("e"), "read": lambda actor: actor.leader("e")},
}
CASES = [(name, what) for name, calls in CALLS.items() for what in calls]
#: Where a hash is looked at as a whole, so that one of another program is recognised.
STRANGE = [("birth", "open"), ("birth", "beat"), ("session:a", "open"), ("group:g", "read"), *CASES[-2:]]


@pytest.fixture
def actor(redis_server: Server, arena_on: Callable[..., Arena]) -> Actor:
    """A session that is open."""
    return arena_on(redis_server.url).actor("a")


def key(actor: Actor, rest: str) -> str:
    """Return a key of the session's namespace."""
    return f"drumbeat:{{{actor.stage.namespace()}}}:{rest}"


@pytest.mark.parametrize(("name", "what"), CASES)
def test_a_string_is_named_and_stays(actor: Actor, redis_server: Server, peek: Peek, name: str, what: str) -> None:
    """A key that holds another type of value is BadData with the key, and keeps its value."""
    rubbish = key(actor, name)
    ask = peek(redis_server.port)
    ask("DEL", rubbish)
    ask("SET", rubbish, "theirs")
    with pytest.raises(BadData) as found:
        CALLS[name][what](actor)
    assert found.value.key == rubbish
    assert ask("GET", rubbish) == "theirs"


@pytest.mark.parametrize(("name", "what"), STRANGE)
def test_a_strange_hash_is_named_and_stays(
    actor: Actor, redis_server: Server, peek: Peek, name: str, what: str
) -> None:
    """A hash with fields that are not ours is BadData with the key, and keeps its fields and no others."""
    rubbish = key(actor, name)
    ask = peek(redis_server.port)
    ask("DEL", rubbish)
    ask("HSET", rubbish, "theirs", "1")
    with pytest.raises(BadData) as found:
        CALLS[name][what](actor)
    assert found.value.key == rubbish
    assert ask("HGETALL", rubbish) == {"theirs": "1"}


@pytest.mark.parametrize("what", ["open", "beat"])
def test_a_newer_format_is_named(actor: Actor, redis_server: Server, peek: Peek, what: str) -> None:
    """A namespace in a newer format is left to a newer Drumbeat."""
    peek(redis_server.port)("HSET", key(actor, "birth"), "format", "2")
    with pytest.raises(BadData, match="format 2") as found:
        CALLS["birth"][what](actor)
    assert found.value.key == key(actor, "birth")


@pytest.mark.parametrize(
    "place",
    [
        ("birth", "longest", "soon"),
        ("birth", "longest", "nan"),
        ("birth", "granting", "99999999999999999999"),
        ("seat:e", "token", "1e3"),
        ("seat:e", "token", "99999999999999999999"),
    ],
)
def test_a_number_that_is_none_is_named(
    actor: Actor, redis_server: Server, peek: Peek, place: tuple[str, str, str]
) -> None:
    """A field that is not what Drumbeat writes there is BadData with the key."""
    name, field, value = place
    actor.resign(actor.win("e"))
    peek(redis_server.port)("HSET", key(actor, name), field, value)
    with pytest.raises(BadData) as found:
        actor.campaign("e")
    assert found.value.key == key(actor, name)
    assert peek(redis_server.port)("HGET", key(actor, name), field) == value


@pytest.mark.parametrize(("field", "value"), [("ttl", "soon"), ("ttl", "-5"), ("g g", "first"), ("s e", "nan")])
def test_a_number_in_a_session_that_is_none_is_named(
    actor: Actor, redis_server: Server, peek: Peek, field: str, value: str
) -> None:
    """A session whose record was spoiled is BadData at its heartbeat, not renewed for a wrong time, and not removed."""
    actor.join("g")
    actor.win("e")
    peek(redis_server.port)("HSET", key(actor, "session:a"), field, value)
    with pytest.raises(BadData) as found:
        actor.beat()
    assert found.value.key == key(actor, "session:a")
    assert peek(redis_server.port)("HGET", key(actor, "session:a"), field) == value


def test_half_a_seat_is_named(actor: Actor, redis_server: Server, peek: Peek) -> None:
    """A seat that lost a field, to an operator or another program, is BadData for who reads it."""
    actor.win("e")
    peek(redis_server.port)("HDEL", key(actor, "seat:e"), "value")
    with pytest.raises(BadData) as found:
        actor.leader("e")
    assert found.value.key == key(actor, "seat:e")


def test_rubbish_in_one_place_costs_that_place_only(actor: Actor, redis_server: Server, peek: Peek) -> None:
    """A heartbeat reports what became unreadable as lost, keeps the rest, and close releases the rest."""
    spoiled, sound = actor.win("e"), actor.win("f")
    actor.join("g")
    actor.join("h")
    (spoiled_place,) = (place for place in actor.holdings().memberships if place.group == "g")
    ask = peek(redis_server.port)
    for name in ("seat:e", "group:g"):
        ask("DEL", key(actor, name))
        ask("SET", key(actor, name), "theirs")
    assert set(actor.beat().lost) == {spoiled, spoiled_place}
    assert actor.proclaim(sound, b"v")
    assert actor.close()
    other = actor.stage.actor("b")
    other.win("f")
    assert other.members("h") == {}
    assert ask("MGET", key(actor, "seat:e"), key(actor, "group:g")) == ["theirs", "theirs"]
