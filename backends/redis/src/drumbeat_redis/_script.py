"""The script that does everything, and its answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from drumbeat import BackendError, BadData, SessionLost
from drumbeat_redis._translate import script_failure

if TYPE_CHECKING:
    from drumbeat_redis._link import Link, Reply


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which a server remembers it."""

    text: bytes = field(repr=False)
    sha: str

    @classmethod
    def load(cls) -> Script:
        """Return `drumbeat.lua`."""
        text = files("drumbeat_redis").joinpath("drumbeat.lua").read_bytes()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script answered: what it is, and the rest."""

    kind: str
    rest: tuple[Reply, ...] = ()

    @classmethod
    def read(cls, link: Link, reply: Reply) -> Answer:
        """Return the answer, or raise what the script found wrong."""
        if not isinstance(reply, list) or not isinstance(reply[0], bytes):
            raise BackendError(f"{link.address} ran the script of Drumbeat and gave an answer of another kind")
        answer = cls(reply[0].decode(), tuple(reply[1:]))
        if answer.kind == "lost":
            raise SessionLost(answer.text(0))
        if answer.kind == "bad":
            raise BadData(answer.text(0), answer.text(1))
        if answer.kind == "failed":
            raise script_failure(link.address, link.user, [answer.text(index) for index in range(3)])
        return answer

    @property
    def yes(self) -> bool:
        """Whether the answer is yes."""
        return self.kind == "yes"

    def data(self, index: int) -> bytes:
        """Return an item as it is stored."""
        item = self.rest[index]
        return item if isinstance(item, bytes) else b""

    def text(self, index: int) -> str:
        """Return an item as text."""
        return self.data(index).decode(errors="replace")

    def number(self, index: int) -> int:
        """Return an item as a number, whichever way it was written."""
        item = self.rest[index]
        return item if isinstance(item, int) else int(self.data(index))

    def rows(self) -> list[Answer]:
        """Return the rows of an answer that is a list of lists."""
        rows = self.rest[0]
        return [Answer("row", tuple(row)) for row in rows if isinstance(row, list)] if isinstance(rows, list) else []

    def items(self) -> Answer:
        """Return an answer whose items are those of a list."""
        items = self.rest[0]
        return Answer("items", tuple(items) if isinstance(items, list) else ())
