"""What several guarantees need of time: leases that do not get in the way, and the death of a silent session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena

__all__ = ["long_ttl", "see_group_end"]

#: Seconds; a minute is a TTL that a store grants where it counts on none that is much longer.
_LONGEST: Final = 60.0


def long_ttl(arena: Arena) -> float:
    """Return the seconds of a lease that outlives a guarantee in which nobody beats."""
    return min(30 * arena.ttl, _LONGEST, arena.profile.limits.max_ttl)


def see_group_end(arena: Arena, group: str, *, by: Actor) -> None:
    """Let time pass until the silent members of a group are gone, which another session sees that goes on beating."""
    until = arena.clock.now() + arena.profile.eviction.seconds(arena.ttl) + arena.ttl
    while by.members(group):
        assert arena.clock.now() < until, f"{by.member_id!r} still sees {by.members(group)}, who have been silent"
        arena.pass_time(0.25, by)
