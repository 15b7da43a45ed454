"""Actors that need not beat for as long as a guarantee lasts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from drumbeat_conformance.actor import Actor
from drumbeat_conformance.guarantees._lapse import long_ttl

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena

__all__ = ["lasting_actor"]


def lasting_actor(arena: Arena, member_id: str, *, url: str | None = None) -> Actor:
    """Return an actor whose lease outlives a guarantee in which nobody beats; `url` takes the place of the arena's."""
    actor = Actor(arena, member_id, backend=arena.backend(url=url))
    actor.open(replace(actor.request(), ttl=long_ttl(arena)))
    return actor
