"""The checker at work while a soak runs: a process of its own, so that it delays nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, final

from drumbeat_conformance.soak._report import Figures, judge

#: Seconds between two looks, at least, and how many times as long as a look takes.
_PAUSE: Final = 2.0
_SHARE: Final = 3.0


def watch(folder: str, grace: str) -> None:
    """Judge the histories so far, and print what was found as JSON."""
    figures, violations = judge(Path(folder), grace=float(grace))
    known = {name: getattr(figures, name) for name in figures.__dataclass_fields__}
    sys.stdout.write(json.dumps([known, violations]))


@final
class Watchman:
    """Judges the histories of a soak again and again.

    What two looks have seen is suspected, no more: of processes that are stopped, and of the last moments, lines may
    still be missing. The last word is that of `judge`, when all processes have ended.
    """

    def __init__(self, folder: Path, *, grace: float) -> None:
        self._command = [sys.executable, "-m", "drumbeat_conformance.soak", "watch", str(folder), str(grace)]
        #: None until the first look is over.
        self.figures: Figures | None = None
        #: What two looks have seen and nobody has been told.
        self.news: list[str] = []
        self._seen: set[str] = set()
        self._told: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._next = time.monotonic() + _PAUSE

    def look(self) -> None:
        """Begin the next look, or take what the last one found, if it is time."""
        now = time.monotonic()
        if self._process is None and now >= self._next:
            self._output: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed when it has been read
            self._started = now
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=self._output, start_new_session=True
            )
        elif self._process is not None and self._process.poll() is not None:
            self._take(ok=self._process.returncode == 0)
            self._process = None
            self._next = now + max(_PAUSE, _SHARE * (now - self._started))

    def end(self) -> None:
        """End a look that is under way."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._output.close()

    def _take(self, *, ok: bool) -> None:
        with self._output:
            self._output.seek(0)
            if not ok:
                return
            figures, violations = json.load(self._output)
        self.figures = Figures(**figures)
        self.news += [one for one in violations if one in self._seen and one not in self._told]
        self._told |= set(self.news)
        self._seen = set(violations)
