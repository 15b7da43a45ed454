"""The file in which libfaketime looks how far a wall clock is stepped.

https://github.com/wolfcw/libfaketime#4f-faking-the-date-and-time-system-wide
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

#: Seconds between two looks that a program takes at the file: the Java machine asks for the time so often that a look
#: at each question takes all of its time.
LOOK: Final = 1


def write_offset(path: Path, offset: float) -> None:
    """Have clocks show the machine's time plus `offset` seconds, never anything in between; return when they do."""
    new = path.with_suffix(".new")
    new.write_text(f"{offset:+.6f}\n")
    new.replace(path)
    time.sleep(LOOK * 1.1)
