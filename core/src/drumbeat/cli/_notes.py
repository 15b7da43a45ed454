"""Lines on standard error from a program that must never wait for its reader."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from drumbeat.cli._report import as_line

#: Seconds allowed at the end for lines that nobody has read yet.
LAST_WORDS: Final = 0.5

#: What is told even with --quiet.
TROUBLE: Final = frozenset({"stopping", "killed", "lost", "late", "survivors"})


class Notes:
    """Writes lines in order from a thread of its own: a full pipe or a stopped terminal delays nobody."""

    def __init__(self, *, as_json: bool, quiet: bool, about: dict[str, object]) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._about = about
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="drumbeat-notes", daemon=True)
        self._thread.start()

    def tell(self, kind: str, text: str, **facts: object) -> None:
        """Have one line written, soon."""
        if self._quiet and kind not in TROUBLE:
            return
        facts = {"at": round(time.time(), 6), **self._about, **facts}
        self._lines.put(as_line(kind, text, as_json=self._as_json, **facts))

    def close(self) -> None:
        """Wait, within bounds, until everything is written."""
        self._lines.put(None)
        self._thread.join(LAST_WORDS)

    def _write(self) -> None:
        # Straight to the descriptor: a thread that is stuck inside sys.stderr makes the interpreter abort at its end.
        descriptor = sys.stderr.fileno() if sys.stderr else None
        # While the command has the terminal this is a background process, which `stty tostop` would not let write.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while (line := self._lines.get()) is not None:
            if descriptor is None:
                continue
            with suppress(OSError):
                os.write(descriptor, f"{line}\n".encode(errors="backslashreplace"))
