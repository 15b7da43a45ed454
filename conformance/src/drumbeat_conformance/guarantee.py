"""Guarantees: the promises of the contract, each with an id, a level, and the function that tests it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, final

from drumbeat.hookspecs import Capability

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena

__all__ = [
    "CATALOGUE",
    "UNTESTED",
    "Check",
    "Guarantee",
    "Level",
    "Needs",
    "Tier",
    "Untested",
    "catalogue",
    "guarantee",
    "untested",
]

#: What tests a guarantee: it raises AssertionError, or any other error, when the promise is broken.
Check = Callable[["Arena"], None]
#: `must`: no backend may opt out. `should`: binding for a backend that claims the capability.
Level = Literal["must", "should"]
#: `contract` takes seconds; `faults` kills, freezes and cuts, and takes minutes.
Tier = Literal["contract", "faults"]

_ID: Final = re.compile(r"[A-Z]+-[1-9][0-9]*")
#: What stands between two sentences.
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
#: Seconds of real time after which a guarantee that has not ended counts as hanging.
LIMITS: Final[dict[Tier, float]] = {"contract": 60.0, "faults": 180.0}


class Needs(Enum):
    """What a guarantee needs of the place that it is tested on, beside a store."""

    PROCESSES = "a store that several processes reach"
    LINK = "a server that is reached by TCP, so that a proxy can stand between"
    SERVER = "a server that the suite may freeze, kill, wipe and start again"
    WALL_CLOCK = "a server whose wall clock the suite may step (libfaketime, and the server as a program)"
    OPERATOR = "a way to the stored data around the backend (the setting `operator`)"
    COMPARE_AND_SET = "a store that `drumbeat.cas.CompareAndSetBackend` makes a backend of"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One promise, and the function that tests it."""

    #: Stable once used, for example `"LEAD-3"`.
    id: str
    level: Level
    tier: Tier
    #: The capability whose claim makes it binding; None where it is binding for all.
    claim: Capability | None
    needs: frozenset[Needs]
    #: The URL scheme of the one backend that it concerns; None for all.
    scheme: str | None
    #: By URL scheme, the guarantee that makes the same promise there in another way.
    instead: Mapping[str, str]
    #: Whether nothing else may run beside it.
    alone: bool
    #: Seconds of real time after which it counts as hanging.
    limit: float
    check: Check

    @property
    def name(self) -> str:
        """The function's name: the promise as a phrase."""
        return self.check.__name__

    @property
    def title(self) -> str:
        """The first sentence of the docstring, on one line."""
        first = " ".join(self.promise.partition("\n\n")[0].split())
        return _SENTENCE.split(first, maxsplit=1)[0]

    @property
    def promise(self) -> str:
        """The whole docstring, without its indentation."""
        from inspect import getdoc

        return getdoc(self.check) or ""

    @property
    def family(self) -> str:
        """The letters of the id, for example `"LEAD"`."""
        return self.id.partition("-")[0]

    @property
    def order(self) -> tuple[str, int]:
        """What to sort by."""
        family, _, number = self.id.partition("-")
        return family, int(number)


@final
@dataclass(frozen=True, slots=True)
class Untested:
    """A promise that no test can cover, and why."""

    id: str
    promise: str
    why: str


#: Every guarantee by its id, once `drumbeat_conformance.guarantees` is imported.
CATALOGUE: Final[dict[str, Guarantee]] = {}
#: Every promise that cannot be tested, by its id.
UNTESTED: Final[dict[str, Untested]] = {}


def catalogue() -> dict[str, Guarantee]:
    """Return every guarantee by its id; the first call imports them all."""
    from importlib import import_module

    import_module("drumbeat_conformance.guarantees")
    return CATALOGUE


def guarantee(
    id_: str,
    *,
    level: Level = "must",
    tier: Tier = "contract",
    claim: Capability | None = None,
    needs: Needs | tuple[Needs, ...] = (),
    scheme: str | None = None,
    instead: Mapping[str, str] | None = None,
    alone: bool = False,
    limit: float | None = None,
) -> Callable[[Check], Check]:
    """Enter a function into the catalogue as the test of a guarantee; its docstring is the promise.

    Raises ValueError for an id that is malformed or taken, for a function without docstring, and for a level that
    does not fit: a guarantee with a `claim` is a `should`, and no other is.
    """

    def enter(check: Check) -> Check:
        _refuse_bad_id(id_)
        if not check.__doc__:
            raise ValueError(f"{id_} has no docstring, which is its promise")
        if (level == "should") is not (claim is not None):
            raise ValueError(f"{id_} is a {level!r} {'with' if claim else 'without'} a claimed capability")
        CATALOGUE[id_] = Guarantee(
            id=id_,
            level=level,
            tier=tier,
            claim=claim,
            needs=frozenset(needs if isinstance(needs, tuple) else (needs,)),
            scheme=scheme,
            instead=dict(instead or {}),
            alone=alone,
            limit=LIMITS[tier] if limit is None else limit,
            check=check,
        )
        return check

    return enter


def untested(id_: str, promise: str, *, why: str) -> None:
    """Enter a promise that no test can cover; raise ValueError for an id that is malformed or taken."""
    _refuse_bad_id(id_)
    UNTESTED[id_] = Untested(id_, promise, why)


def _refuse_bad_id(id_: str) -> None:
    if not _ID.fullmatch(id_):
        raise ValueError(f"{id_!r} is no id of a guarantee, which is like 'LEAD-3'")
    if id_ in CATALOGUE or id_ in UNTESTED:
        raise ValueError(f"{id_} is taken")
