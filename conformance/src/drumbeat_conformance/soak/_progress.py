"""Telling how a soak goes: a line that changes on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, final

#: Seconds between two lines where each one stays.
_PAUSE: Final = 5.0
_CLEAR: Final = "\r\x1b[K"


@final
class Progress:
    """Tells the state of a soak; `say` prints a line that stays."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._live = sys.stdout.isatty()
        self._next = 0.0

    def show(self, line: str) -> None:
        """Tell the state, if it is time."""
        if self._live:
            sys.stdout.write(f"{_CLEAR}{line}")
            sys.stdout.flush()
        elif time.monotonic() >= self._next:
            self._say(line)
            self._next = time.monotonic() + _PAUSE

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._live:
            sys.stdout.write(_CLEAR)
            sys.stdout.flush()
        self._say(line)
