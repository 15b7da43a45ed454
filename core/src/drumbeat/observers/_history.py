"""Events as a history that can be judged afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, final

from drumbeat._clock import Clock, SystemClock
from drumbeat._dispatcher import logger
from drumbeat._errors import ConfigurationError
from drumbeat.history import TornLine, append_line, open_for_lines
from drumbeat.hookspecs import hookimpl

if TYPE_CHECKING:
    from drumbeat._events import Event
    from drumbeat.history import StrPath


@final
class HistoryObserver:
    """Appends each event to a file as one JSON line, which `drumbeat.history` reads and judges.

    The file is `path`, or what DRUMBEAT_HISTORY names. Any number of processes of one host may share it, since each
    line is one write: see `drumbeat.history.append_line`. What happened in the last moment before a SIGKILL may be
    missing. A line has the fields of the event that are set, `pid`, and `wall`, the wall time of `at` in seconds since
    1970. `clock` is the session's, where that is not the machine's.

    Raises ConfigurationError if no file was named or the file cannot be opened. A later error of writing, such as a
    full disk, hurts nothing but the history: it is logged once, and again after a time in which writing worked.
    """

    def __init__(self, path: StrPath | None = None, *, clock: Clock | None = None) -> None:
        named = path if path is not None else os.environ.get("DRUMBEAT_HISTORY")
        if not named:
            raise ConfigurationError(
                "the history observer was not told where to write; set DRUMBEAT_HISTORY to the name of a file, or "
                "give it the observer HistoryObserver(path)"
            )
        self._path = Path(named).absolute()
        self._clock = clock or SystemClock()
        self._missing = 0
        self._torn = False
        try:
            os.close(open_for_lines(self._path))
        except OSError as error:
            raise ConfigurationError(f"the history {self._path} cannot be written: {error.strerror}") from error

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Write one event."""
        try:
            append_line(self._path, self._line(event), after_torn=self._torn)
        except OSError as error:
            self._torn = self._torn or isinstance(error, TornLine)
            self._missing += 1
            if self._missing == 1:
                logger().error("the history %s has a gap: an event could not be written (%s)", self._path, error)
            return
        self._torn = False
        if self._missing:
            logger().warning("the history %s is written again; it lacks %d events", self._path, self._missing)
            self._missing = 0

    def _line(self, event: Event) -> dict[str, object]:
        fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
        wall = self._clock.wall() - self._clock.now() + event.at
        return fields | {"pid": os.getpid(), "wall": round(wall, 6)}
