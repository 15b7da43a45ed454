"""The file in which libfaketime looks how far a wall clock is stepped.

https://github.com/wolfcw/libfaketime#4f-faking-the-date-and-time-system-wide
"""

from __future__ import annotations

from pathlib import Path


def write_offset(path: Path, offset: float) -> None:
    """Have clocks show the machine's time plus `offset` seconds, from now on and never anything in between."""
    new = path.with_suffix(".new")
    new.write_text(f"{offset:+.6f}\n")
    new.replace(path)
