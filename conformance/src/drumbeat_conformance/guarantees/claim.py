"""What a backend claims, it has; what it does not claim, it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drumbeat import DrumbeatError, NotSupported
from drumbeat.hookspecs import Capability, GroupSubject, ReapTicket
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.guarantee import guarantee

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_conformance.actor import Actor
    from drumbeat_conformance.arena import Arena

#: The capabilities that stand and fall with a hook.
_HOOKS: Final = {Capability.PUSH_WATCH: "watch", Capability.REAPING: "reap_session"}
#: Seconds; nobody waits for longer between two looks, or for a server that finds a session dead.
_LONG: Final = 60.0


def _watch(actor: Actor) -> None:
    actor.backend.watch(actor.lease, GroupSubject("g"), lambda: None, timeout=TIMEOUT)()


def _reap_nobody(actor: Actor) -> None:
    ticket = ReapTicket("nobody-has-this-incarnation", "nobody")
    assert not actor.backend.reap_session(ticket, timeout=TIMEOUT).was_open


_CALLS: Final[dict[str, Callable[[Actor], None]]] = {"watch": _watch, "reap_session": _reap_nobody}


@guarantee("CLAIM-1")
def what_is_not_claimed_says_so_at_once(arena: Arena) -> None:
    """An operation that a backend does not claim raises NotSupported, with the operation's name, at once and without
    harm to the session; one that it claims does what was asked.
    """
    actor = arena.actor("a")
    actor.join("g")
    claimed = arena.profile.capabilities
    for capability, hook in _HOOKS.items():
        asked = arena.clock.now()
        refusal = _refusal(actor, hook)
        took = arena.clock.now() - asked
        if capability in claimed:
            assert refusal is None, f"{hook} is claimed, and raises {refusal!r}"
            continue
        assert isinstance(refusal, NotSupported), f"{hook} is not claimed; the call gave {refusal!r}, not NotSupported"
        assert hook in str(refusal)
        assert took <= arena.ttl / 2, f"{hook} took {took:.3f} s to say that it is not supported"
    assert actor.beat().lost == ()


def _refusal(actor: Actor, hook: str) -> DrumbeatError | None:
    """Return what a call of an optional hook raises, or None."""
    try:
        _CALLS[hook](actor)
    except DrumbeatError as error:
        return error
    return None


@guarantee("CLAIM-2")
def each_claim_and_its_hook_go_together(arena: Arena) -> None:
    """A capability that has a hook is claimed if and only if the hook is there, and every hook that is not optional
    is.
    """
    backend = arena.backend()
    backend.require_all()
    claimed = backend.describe(timeout=TIMEOUT).capabilities
    for capability, hook in _HOOKS.items():
        assert (capability in claimed) == backend.implements(hook), f"{capability.label} does not fit the hook {hook}"


@guarantee("CLAIM-3")
def the_stated_limits_and_bounds_make_sense(arena: Arena) -> None:
    """What a backend states fits together: its limits are in order, the TTL in use is within them, no bound promises
    that a dead session is gone before its TTL or lets it stay for ever, and every session is told the same.
    """
    profile = arena.profile
    limits = profile.limits
    assert 0 < limits.min_ttl <= arena.ttl <= limits.max_ttl
    assert 0 <= limits.early_expiry < limits.min_ttl
    assert 0 < limits.poll_interval <= _LONG
    assert limits.value_bytes > 0
    for bound in (profile.failover, profile.eviction):
        assert arena.ttl - limits.early_expiry <= bound.seconds(arena.ttl) <= 10 * arena.ttl + _LONG
    assert {Capability.PERSISTENT, Capability.VOLATILE} - profile.capabilities
    assert profile == arena.connect("a").backend
