"""Backends that claim what they do not have, or do not say what they lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import drumbeat.memory
from drumbeat._facade import Backend
from drumbeat.cas import CompareAndSetBackend
from drumbeat.hookspecs import Bound, Capability
from drumbeat.memory import PROFILE
from drumbeat_mutants import Patch, mutant


@mutant("says-nothing-of-what-it-lacks", breaks="CLAIM-1", of="memory-cas")
def says_nothing_of_what_it_lacks(patch: Patch) -> None:
    """Nobody looks whether there is such a hook before it is called, and the answer is None."""

    def require(original: Callable[..., None], self: Backend, hook: str) -> None:
        if hook not in {"watch", "reap_session"}:
            original(self, hook)

    patch.wrap(Backend, "_require", require)


@mutant("claims-a-push-that-it-has-not", breaks=("CLAIM-1", "CLAIM-2"), of="memory-cas")
def claims_a_push_that_it_has_not(patch: Patch) -> None:
    """A backend claims to push changes, as the one that it was copied from does, and has no such hook."""
    patch(CompareAndSetBackend, "extra_capabilities", frozenset({Capability.PUSH_WATCH}))


@mutant("does-not-claim-what-it-has", breaks="CLAIM-2")
def does_not_claim_what_it_has(patch: Patch) -> None:
    """A backend has the hook that reaps sessions, and does not claim it, so that nobody tests or uses it."""
    patch(drumbeat.memory, "PROFILE", replace(PROFILE, capabilities=PROFILE.capabilities - {Capability.REAPING}))


@mutant("states-the-usual-time", breaks="CLAIM-3")
def states_the_usual_time(patch: Patch) -> None:
    """As its bound a backend states the time that a failover usually takes, half a TTL, and not the worst."""
    patch(drumbeat.memory, "PROFILE", replace(PROFILE, failover=Bound(0.5, 0.0)))


@mutant("polls-once-an-hour", breaks="CLAIM-3")
def polls_once_an_hour(patch: Patch) -> None:
    """As its poll interval a backend states an hour, so that sessions without a hint look hardly ever."""
    patch(drumbeat.memory, "PROFILE", replace(PROFILE, limits=replace(PROFILE.limits, poll_interval=3600.0)))


@mutant("states-an-hour", breaks="CLAIM-3")
def states_an_hour(patch: Patch) -> None:
    """As its bounds a backend states an hour, which it keeps whatever it does."""
    hour = Bound(1.0, 3600.0)
    patch(drumbeat.memory, "PROFILE", replace(PROFILE, failover=hour, eviction=hour))
