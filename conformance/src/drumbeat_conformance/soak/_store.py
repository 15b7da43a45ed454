"""A counter in a file, fenced by tokens: what the processes of a soak increment."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final


class Fenced(Exception):
    """The store has seen a greater token; nothing was changed."""


@final
class Store:
    """One number in a file, which any process of this host may read and write with its token.

    A token that is lower than the greatest that was seen, by a read or by a write, is refused. Each call happens at
    one moment, also if its process is killed in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gate = path.with_suffix(".gate")

    def read(self, token: int) -> int | None:
        """Return the number, None at first, and refuse lower tokens from now on; raise Fenced for one too low."""
        with self._open(token) as number:
            self._put(number, token)
            return number

    def write(self, token: int, number: int) -> None:
        """Replace the number; raise Fenced for a token that is too low."""
        with self._open(token):
            self._put(number, token)

    @contextmanager
    def _open(self, token: int) -> Iterator[int | None]:
        with self._gate.open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            number, fence = json.loads(self._path.read_text()) if self._path.exists() else (None, -1)
            if token < fence:
                raise Fenced(f"the token {token} is lower than {fence}, which was seen before")
            yield number

    def _put(self, number: int | None, token: int) -> None:
        # A file that is replaced is never seen half written.
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(json.dumps([number, token]))
        fresh.replace(self._path)
