"""Sharing work out by rendezvous hashing: every process computes the same owner for every item, and nobody is asked.

The package index has pure Python rendezvous libraries (`clandestined`, `hrw`, `proxenos`), but each hashes every item
with every member: ten million hashes for 100 000 items among 100 members. Here items fall into 16384 slots, and one
call of an extendable hash gives a member's draws for all of them, so that the same work takes a tenth of a second,
with weights, and with nothing to install.

The format, version 1, which every process that shares work must agree on:

- An item's slot is the first 8 bytes of BLAKE2b with an 8 byte digest of the item's key in UTF-8, read as a
  big-endian number, modulo 16384.
- A member's draws are SHAKE128 of `drumbeat.partition.1:` and its member id in UTF-8, read as a row of 32-bit
  little-endian numbers: the draw for slot 0, for slot 1, and so on.
- A slot belongs to the member with the highest `ln((draw + 1/2) / 2**32) / weight`. Of equal ones the lighter member
  has it, then the one whose id sorts first. Where all weights are equal, so are the orders of scores and draws.
- Shard number n of `Group.shards` belongs to the owner of slot n. The shard of an item among `count` is computed
  like its slot, modulo `count`.

The scores are 64-bit floats: two machines whose C libraries round a logarithm differently disagree on a slot only if
two scores differ in their last bit alone, for which the chance in a whole partition is less than one in 10**9.
"""

from __future__ import annotations

import math
import sys
import warnings
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b, shake_128
from itertools import compress, groupby
from operator import gt
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeVar, final

from drumbeat._errors import ConfigurationError, DrumbeatWarning, Unavailable
from drumbeat._view import View

if TYPE_CHECKING:
    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat._view import Member

T = TypeVar("T")
Weights = tuple[tuple[float, str], ...]
WeightOf = Callable[["Member"], float]
OnOutage = Literal["raise", "keep"]

#: The number of slots; part of the format.
SLOTS: Final = 16_384
#: The least and the greatest weight beside 0, so that no score overflows or loses digits.
MIN_WEIGHT: Final = 1e-6
MAX_WEIGHT: Final = 1e6
#: Finished partitions that a process keeps: a few groups before and after a change.
CACHED: Final = 16


@final
class Partition:
    """Who owns what among weighted members: a pure function, the same in every process and every Python.

    `members` is a mapping of member ids to weights, or just the ids, which then weigh 1 each. A weight is a number
    from 0.000001 to 1000000, or 0 for a member that owns nothing; a member of weight 2 owns twice as much as one of
    weight 1. Every item has exactly one owner, as long as somebody has a weight above 0. When members come or go,
    or one's weight changes, items move to or away from those members alone. The share of a member that should have
    a fraction `p` of `n` items has a relative standard deviation of about `sqrt((1 - p) / p * (1 / 16384 + 1 / n))`:
    8 % for each of 100 equal members with 100 000 items.

    Raises ConfigurationError for a weight that is out of range.
    """

    __slots__ = ("_weights",)

    def __init__(self, members: Mapping[str, float] | Iterable[str]) -> None:
        given = members if isinstance(members, Mapping) else dict.fromkeys(members, 1.0)
        self._weights = {member: _checked_weight(member, given[member]) for member in sorted(given)}

    @classmethod
    def of(cls, view: View, *, weight: WeightOf | None = None) -> Partition:
        """Return the partition among the members of a view.

        `weight(member)` gives a member's weight; without it `metadata["weight"]` is that, and 1 where it is missing.
        Metadata that is no weight also counts as 1, with a DrumbeatWarning that names the member: every process
        reads the same metadata, so they still agree.
        """
        weights, problems = read_weights(view, weight)
        for problem in problems:
            warnings.warn(problem, DrumbeatWarning, stacklevel=2)
        return cls(weights)

    @property
    def weights(self) -> Mapping[str, float]:
        """The members with their weights, in the order of their ids."""
        return MappingProxyType(self._weights)

    def owner(self, item: T, *, key: Callable[[T], str] = str) -> str | None:
        """Return the member id of the item's owner, or None if nobody has a weight above 0.

        `key(item)` is what counts of an item: it must be the same str in every process.
        """
        by_weight = _by_weight(self._weights)
        if not by_weight:
            return None
        return by_weight[_slot_owners(by_weight)[number_of(key(item), SLOTS)]][1]

    def split(self, items: Iterable[T], *, key: Callable[[T], str] = str) -> dict[str, tuple[T, ...]]:
        """Return every member's items, in the order in which they were given; members without any have `()`."""
        shares: dict[str, list[T]] = {member: [] for member in self._weights}
        by_weight = _by_weight(self._weights)
        if by_weight:
            take = [shares[member].append for _, member in by_weight]
            owners = _slot_owners(by_weight)
            for item in items:
                take[owners[number_of(key(item), SLOTS)]](item)
        return {member: tuple(share) for member, share in shares.items()}

    def share(self, member_id: str, items: Iterable[T], *, key: Callable[[T], str] = str) -> tuple[T, ...]:
        """Return the items of one member; raise ConfigurationError if it is not in the partition."""
        if member_id not in self._weights:
            raise ConfigurationError(
                f"{member_id!r} is not in this partition, so it has no share; members: {', '.join(self._weights)}"
            )
        weight = self._weights[member_id]
        if not weight:
            return ()
        by_weight = _by_weight(self._weights)
        mine = by_weight.index((weight, member_id))
        owners = _slot_owners(by_weight)
        return tuple(item for item in items if owners[number_of(key(item), SLOTS)] == mine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and self._weights == other._weights

    def __hash__(self) -> int:
        return hash(tuple(self._weights.items()))

    def __repr__(self) -> str:
        return f"Partition({self._weights!r})"


@final
class OwnShare:
    """What one session owns of a group's items, and the view that it was last computed from."""

    def __init__(self, keeper: Keeper, group: str) -> None:
        self._keeper = keeper
        self._group = group
        self._last: tuple[View, str] | None = None

    def of(
        self, items: Iterable[T], *, key: Callable[[T], str], weight: WeightOf | None, on_outage: OnOutage
    ) -> tuple[T, ...]:
        """Return the session's own items by the view that is read now, or by the last one if that is asked for."""
        if on_outage not in {"raise", "keep"}:
            raise ConfigurationError(f"on_outage must be 'raise' or 'keep', not {on_outage!r}")
        self._keeper.check()
        require_joined(self._keeper, self._group)
        view, incarnation = self._read() if on_outage == "raise" else self._read_or_keep()
        me = self._keeper.settings.member_id
        if (me, incarnation) not in {member.identity for member in view}:
            return ()
        return Partition.of(view, weight=weight).share(me, items, key=key)

    def _read_or_keep(self) -> tuple[View, str]:
        incarnation = self._keeper.incarnation
        if self._last is not None and (incarnation is None or not incarnation.alive()):
            return self._last
        try:
            return self._read()
        except Unavailable:
            if self._last is None:
                raise
            return self._last

    def _read(self) -> tuple[View, str]:
        self._last = self._keeper.call(f"read {self._group!r}", self._read_in)
        return self._last

    def _read_in(self, incarnation: Incarnation, timeout: float) -> tuple[View, str]:
        record = self._keeper.backend.read_group(incarnation.lease, self._group, timeout=timeout)
        if not incarnation.alive():
            raise Unavailable(f"the session was LOST while {self._group!r} was read", outcome="not_applied")
        return View.from_record(self._group, record), incarnation.id


def require_joined(keeper: Keeper, group: str) -> None:
    """Raise ConfigurationError unless this session has asked to be in the group."""
    if group not in keeper.wanted:
        raise ConfigurationError(
            f"this session has not joined {group!r}, so it has no share of that group's work; call join() first"
        )


def read_weights(view: View, weight: WeightOf | None) -> tuple[dict[str, float], list[str]]:
    """Return the members' weights, and what is wrong with those in metadata that count as 1 instead."""
    if weight is not None:
        return {member.member_id: weight(member) for member in view}, []
    weights: dict[str, float] = {}
    problems: list[str] = []
    for member in view:
        given = member.metadata.get("weight", 1)
        usable = _is_weight(given)
        weights[member.member_id] = float(given) if usable else 1.0  # type: ignore[arg-type]
        if not usable:
            problems.append(
                f"the metadata of member {member.member_id!r} of group {view.group!r} has the weight {given!r}, which "
                f"counts as 1; it should be {_RANGE}, or another rule be given as weight="
            )
    return weights, problems


def number_of(key: str, count: int) -> int:
    """Return the number below `count` that a key falls on."""
    return int.from_bytes(blake2b(str.encode(key, "utf-8", "surrogatepass"), digest_size=8).digest()) % count


def seats(weights: Mapping[str, float], slots: int, member_id: str) -> list[tuple[str, int]] | None:
    """Return, for each of the first slots, its owner and how many members come before `member_id`.

    None if `member_id` has no weight. The owner itself has 0 before it; a member with k before it is the owner
    once those k are gone.
    """
    by_weight = _by_weight({member: _checked_weight(member, weight) for member, weight in weights.items()})
    ids = [member for _, member in by_weight]
    if member_id not in ids:
        return None
    mine = ids.index(member_id)
    rows = zip(*(_scores(_draws(member, slots), weight) for weight, member in by_weight), strict=True)
    return [(ids[row.index(max(row))], _before(row, mine)) for row in rows]


_RANGE: Final = f"0 or a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}"


def _is_weight(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or MIN_WEIGHT <= value <= MAX_WEIGHT


def _checked_weight(member: str, weight: float) -> float:
    if not _is_weight(weight):
        raise ConfigurationError(f"the weight of member {member!r} is {weight!r}; it must be {_RANGE}")
    return float(weight)


def _by_weight(weights: Mapping[str, float]) -> Weights:
    """Return the members that can own something, in the order in which they win where scores are equal."""
    return tuple(sorted((weight, member) for member, weight in weights.items() if weight))


def _draws(member: str, slots: int) -> Sequence[int]:
    seed = b"drumbeat.partition.1:" + member.encode("utf-8", "surrogatepass")
    draws = array("I", shake_128(seed).digest(4 * slots))
    if sys.byteorder == "big":
        draws.byteswap()
    return draws


def _scores(draws: Sequence[float], weight: float) -> list[float]:
    log = math.log
    return [log((draw + 0.5) * 2**-32) / weight for draw in draws]


def _before(row: tuple[float, ...], mine: int) -> int:
    score = row[mine]
    return sum(other > score or (other == score and index < mine) for index, other in enumerate(row))


@lru_cache(maxsize=CACHED)
def _slot_owners(by_weight: Weights) -> Sequence[int]:
    """Return the index in `by_weight` of each slot's owner.

    Members of one weight compare their draws; logarithms are taken of the best draws of each weight only.
    """
    firsts: list[int] = []
    scores: list[Sequence[float]] = []
    owners: list[list[int]] = []
    for weight, group in groupby(enumerate(by_weight), key=lambda item: item[1][0]):
        members = list(group)
        draws, drawn_by = _best(_draws(member, SLOTS) for _, (_, member) in members)
        if len(members) == len(by_weight):
            return drawn_by
        firsts.append(members[0][0])
        scores.append(_scores(draws, weight))
        owners.append(drawn_by)
    return [firsts[heavy] + owners[heavy][slot] for slot, heavy in enumerate(_best(scores)[1])]


def _best(rows: Iterable[Sequence[float]]) -> tuple[list[float], list[int]]:
    """Return the highest number of each slot, and the index of the first row that has it."""
    best = [-math.inf] * SLOTS
    owners = [0] * SLOTS
    for index, row in enumerate(rows):
        for slot in compress(range(SLOTS), map(gt, row, best)):
            best[slot] = row[slot]
            owners[slot] = index
    return best, owners
