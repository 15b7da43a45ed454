"""Drumbeat keeps a group of processes in step: who is in the group, who is alive, who leads."""

from __future__ import annotations

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
from drumbeat._session import Session, connect
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
    "Session",
    "SessionLost",
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
