"""What the processes of a sabotaged soak import first: realistic ways to lead where another one leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import drumbeat
from drumbeat import _group, _timing
from drumbeat.observers import HistoryObserver

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat._incarnation import Incarnation


def believe_for_long() -> None:
    """Count a heartbeat as good for ten times what the server grants: whoever is stopped leads on when it wakes."""
    usable = _timing.Timing.usable.fget  # type: ignore[attr-defined]
    _timing.Timing.usable = property(lambda self: 10 * usable(self))  # type: ignore[method-assign,assignment]


def look_away() -> None:
    """Read a group once, and never again: changes are missed."""
    read = _group.GroupWatch._read

    def read_once(self: _group.GroupWatch, incarnation: Incarnation) -> drumbeat.Change | None:
        return read(self, incarnation) if self._view is None else None

    _group.GroupWatch._read = read_once  # type: ignore[method-assign]


def keep_apart() -> None:
    """Lead in a namespace of one's own, and call it by the name that all have: as two stores behind one address."""
    connect, line = drumbeat.connect, HistoryObserver._line

    def connect_apart(url: str, *, namespace: str, member_id: str, **options: object) -> Session:
        return connect(url, namespace=f"{namespace}.{member_id}", member_id=member_id, **options)  # type: ignore[arg-type]

    def told_alike(self: HistoryObserver, event: drumbeat.Event) -> dict[str, object]:
        return line(self, event) | {"namespace": event.namespace.rpartition(".")[0]}

    drumbeat.connect = connect_apart  # type: ignore[assignment]
    HistoryObserver._line = told_alike  # type: ignore[method-assign]
