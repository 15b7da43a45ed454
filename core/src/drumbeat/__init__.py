"""Drumbeat keeps a group of processes in step: who is in the group, who is alive, who leads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drumbeat._clock import Clock, Signal, SystemClock
    from drumbeat._election import Election, LeaderWatch, Lock
    from drumbeat._errors import (
        AuthenticationError,
        BackendError,
        BadData,
        CampaignWithdrawn,
        Closed,
        ConfigurationError,
        Conflict,
        DrumbeatError,
        DrumbeatWarning,
        Forked,
        NotSupported,
        SessionLost,
        TermLost,
        Timeout,
        Unavailable,
    )
    from drumbeat._events import Event, State
    from drumbeat._group import Group, GroupWatch
    from drumbeat._partition import Partition
    from drumbeat._session import Session, connect
    from drumbeat._shards import Shards, ShardsChange, ShardsWatch
    from drumbeat._term import Term
    from drumbeat._view import Change, Leader, Member, View
    from drumbeat.hookspecs import SPEC_VERSION, Capability, Vacant, hookimpl

__all__ = [
    "SPEC_VERSION",
    "AuthenticationError",
    "BackendError",
    "BadData",
    "CampaignWithdrawn",
    "Capability",
    "Change",
    "Clock",
    "Closed",
    "ConfigurationError",
    "Conflict",
    "DrumbeatError",
    "DrumbeatWarning",
    "Election",
    "Event",
    "Forked",
    "Group",
    "GroupWatch",
    "Leader",
    "LeaderWatch",
    "Lock",
    "Member",
    "NotSupported",
    "Partition",
    "Session",
    "SessionLost",
    "Shards",
    "ShardsChange",
    "ShardsWatch",
    "Signal",
    "State",
    "SystemClock",
    "Term",
    "TermLost",
    "Timeout",
    "Unavailable",
    "Vacant",
    "View",
    "connect",
    "hookimpl",
]

#: Where the public names live, the light modules first. They are loaded when a name is first used, so that a program
#: that imports Drumbeat and may never connect does not pay for it.
_HOMES = (
    "_errors",
    "_clock",
    "_events",
    "_view",
    "hookspecs",
    "_session",
    "_election",
    "_group",
    "_term",
    "_partition",
    "_shards",
)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in __all__:
            for home in _HOMES:
                module = import_module(f"drumbeat.{home}")
                if name in vars(module):
                    globals()[name] = vars(module)[name]
                    return globals()[name]
        raise AttributeError(f"module 'drumbeat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
