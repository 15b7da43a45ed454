"""A complete backend from a store that can compare and set.

Give `CompareAndSetBackend` two methods, `read_many` and `compare_and_set`, and it keeps every promise of
`drumbeat.hookspecs`; `examples/cas_backend.py` does so in forty lines. `MemoryCasBackend` is its first user.

**Observation leases.** No clock but the session's own is used. A session raises a counter in its record at every
heartbeat. Another session that has seen the counter unchanged for the whole TTL that is written beside it (counted
from when its own read had returned, and 0.1 % more for clocks that run at different speeds) marks it dead, by
compare-and-set on the very version that it watched. Only then are its seats free: the heartbeat of a session that was
marked dead fails, since it expects the version before the mark. At each heartbeat, in the same round trip, a session
reads the records of those it shares a group with, of the groups and elections that it looked at last, and of all
that it holds itself.

**Empty stores.** A namespace has one birth record. Where it is missing, the store is new or has lost everything.
With `on_empty_store="wait"`, the default where Capability.VOLATILE is claimed, sessions are opened then and groups
joined, but no seat is granted until `longest_ttl` has passed; with "trust" seats are granted at once. A session that
finds another birth record than the one it was opened under is lost.
"""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final

from drumbeat._cas.base import CasBase, Own, what_became_of
from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.groups import Groups
from drumbeat._cas.records import Birth, Owner, Session, State
from drumbeat._cas.seats import Seats
from drumbeat._errors import BadData, ConfigurationError, Conflict, SessionLost, Unavailable
from drumbeat.hookspecs import (
    BackendProfile,
    Beat,
    Bound,
    Capability,
    Holdings,
    Lease,
    Reaped,
    ReapTicket,
    SessionClosed,
    SessionRequest,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from drumbeat.hookspecs import BackendConfig

__all__ = ["CompareAndSetBackend", "MemoryCasBackend"]

CAPABILITIES: Final = frozenset(
    {Capability.REAPING, Capability.TOKENS_SURVIVE_RESTART, Capability.TOKENS_SURVIVE_DATA_LOSS}
)
