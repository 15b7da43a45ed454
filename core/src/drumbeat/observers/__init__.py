"""Observers that come with Drumbeat; switch one on by its name: `connect(..., observers=["logging"])`.

- `logging`: a line for people on the logger `drumbeat.events`.
- `history`: a JSON line for each event in the file that DRUMBEAT_HISTORY names; `drumbeat.history` reads and judges it.
- `opentelemetry`: metrics and spans; needs `drumbeat[otel]`.

An observer of your own is an object with `drumbeat.hookspecs.ObserverHooks`, given to `connect` itself or registered
by an entry point in the group `drumbeat.observers`. It runs on a thread that no call waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drumbeat.observers._history import HistoryObserver
    from drumbeat.observers._logging import LoggingObserver
    from drumbeat.observers._opentelemetry import OpenTelemetryObserver

__all__ = ["HistoryObserver", "LoggingObserver", "OpenTelemetryObserver"]

#: Where each observer lives; it is loaded when it is first used, so that one does not pay for the others.
_HOMES = {
    "HistoryObserver": "drumbeat.observers._history",
    "LoggingObserver": "drumbeat.observers._logging",
    "OpenTelemetryObserver": "drumbeat.observers._opentelemetry",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            from importlib import import_module

            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'drumbeat.observers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
