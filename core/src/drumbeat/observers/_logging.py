"""Events as log lines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from drumbeat.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat._events import Event, EventKind

#: What is routine is DEBUG, what changes is INFO, and what somebody may have to look at is WARNING.
_LEVELS: Final[Mapping[EventKind, int]] = {
    "connected": logging.INFO,
    "suspended": logging.WARNING,
    "lost": logging.WARNING,
    "closed": logging.INFO,
    "beat": logging.DEBUG,
    "beat_failed": logging.INFO,
    "joined": logging.INFO,
    "left": logging.INFO,
    "updated": logging.INFO,
    "view": logging.DEBUG,
    "campaigning": logging.DEBUG,
    "won": logging.INFO,
    "resigned": logging.INFO,
    "term_lost": logging.WARNING,
    "warning": logging.WARNING,
}

_TEXTS: Final[Mapping[EventKind, str]] = {
    "connected": "{member_id} is connected",
    "suspended": "{member_id} is suspended: heartbeats fail, but what it holds is still held",
    "lost": "{member_id} is lost: it holds nothing any more",
    "closed": "{member_id} is closed",
    "beat": "heartbeat of {member_id} answered",
    "beat_failed": "heartbeat of {member_id} failed",
    "joined": "{member_id} joined {subject}",
    "left": "{member_id} left {subject}",
    "updated": "{member_id} changed its metadata in {subject}",
    "view": "{member_id} sees {count} in {subject}: {ids}",
    "campaigning": "{member_id} campaigns for {subject}",
    "won": "{member_id} won {subject} with token {token}",
    "resigned": "{member_id} resigned from {subject}, token {token}",
    "term_lost": "{member_id} lost {subject}, token {token}: it must stop what that term protects",
    "warning": "{member_id}",
}

#: Members that a line names; it counts the rest.
_MOST_NAMES: Final = 10


@final
class LoggingObserver:
    """Logs each event on the logger `drumbeat.events`, as a line for people with the fields in its `extra`.

    Routine events (heartbeats, views, campaigns) are DEBUG, changes INFO, and what somebody may have to look at
    WARNING: a session suspended or lost, a term lost. Each field of the event that is set becomes an attribute of the
    log record with the prefix `drumbeat_`, for example `drumbeat_token`; a formatter that writes JSON shows them.
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("drumbeat.events")

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Log one event."""
        level = _LEVELS[event.kind]
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", _describe(event), extra=_fields(event))


def _describe(event: Event) -> str:
    ids = [member_id for member_id, _ in event.members or ()]
    text = _TEXTS[event.kind].format(
        member_id=event.member_id,
        subject=event.subject,
        token=event.token,
        count=len(ids),
        ids=", ".join(ids[:_MOST_NAMES]) + (", ..." if len(ids) > _MOST_NAMES else ""),
    )
    text += "" if event.seconds is None else f" in {1000 * event.seconds:.1f} ms"
    return text + ("" if event.reason is None else f" ({event.reason})")


def _fields(event: Event) -> dict[str, object]:
    fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
    return {f"drumbeat_{name}": value for name, value in fields.items() if value is not None}
