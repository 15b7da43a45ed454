"""Shares that overlap, that move too much, or that nobody has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from drumbeat._election import Attempt
from drumbeat._partition import Partition
from drumbeat._shardkeeper import ShardKeeper, _Shard
from drumbeat.hookspecs import Seat, Waiting, Won
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat._incarnation import Incarnation
    from drumbeat._tenure import Tenure

T = TypeVar("T")


@mutant("counts-from-itself", breaks="PART-1")
def counts_from_itself(patch: Patch) -> None:
    """A member numbers the others beginning with itself, so that no two have the same numbers."""

    def share(self: Partition, member_id: str, items: Iterable[T], *, key: Callable[[T], str] = str) -> tuple[T, ...]:
        members = [member_id, *(other for other in self._weights if other != member_id)]
        return tuple(item for item in items if not sum(key(item).encode()) % len(members))

    patch(Partition, "share", share)


@mutant("shares-out-by-modulo", breaks="PART-2")
def shares_out_by_modulo(patch: Patch) -> None:
    """Items are dealt out by the remainder of their number by the number of members: one more moves nearly all."""

    def share(self: Partition, member_id: str, items: Iterable[T], *, key: Callable[[T], str] = str) -> tuple[T, ...]:
        members = list(self._weights)
        mine = members.index(member_id)
        return tuple(item for item in items if sum(key(item).encode()) % len(members) == mine)

    patch(Partition, "share", share)


@mutant("takes-shards-by-the-plan", breaks="PART-3", like="peers 4")
def takes_shards_by_the_plan(patch: Patch) -> None:
    """A member takes the shards that are its own by its view, and does not ask who has them still."""

    def ask(original: Callable[[Attempt], Won | Waiting], self: Attempt) -> Won | Waiting:
        answer = original(self)
        if isinstance(answer, Waiting) and self._candidacy.election.startswith("shard/"):
            return Won(Seat(self._candidacy.election, self._candidacy.attempt, self._candidacy.attempt))
        return answer

    patch.wrap(Attempt, "ask", ask)


@mutant("plans-once", breaks=("PART-4", "PART-5"))
def plans_once(patch: Patch) -> None:
    """A member computes its shards when it begins, and not when others come, go or die."""

    def read(original: Callable[..., None], self: ShardKeeper, incarnation: Incarnation) -> None:
        if self._view is None:
            original(self, incarnation)

    patch.wrap(ShardKeeper, "_read", read)


@mutant("keeps-what-it-has", breaks="PART-5")
def keeps_what_it_has(patch: Patch) -> None:
    """A member gives no shard up, also when it belongs to one that came later."""

    def step(original: Callable[..., None], self: ShardKeeper, shard: _Shard, tenure: Tenure, *, wanted: bool) -> None:
        original(self, shard, tenure, wanted=wanted or self._close_at is None)

    patch.wrap(ShardKeeper, "_step_held", step)
