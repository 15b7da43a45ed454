"""What every operator can do: spoil what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final
from urllib.parse import urlsplit

from drumbeat import ConfigurationError

__all__ = ["Operator", "Spoiling", "Spoilt", "TextRecords", "address_of"]

#: The record of a held seat, or the one that every session begins with.
PlaceName = Literal["seat", "store"]


@final
@dataclass(frozen=True, slots=True)
class Spoilt:
    """Something that is stored and that no Drumbeat can read."""

    #: As the error must name it.
    key: str
    #: Whether it is still as it was left.
    is_unchanged: Callable[[], bool]


@final
@dataclass(frozen=True, slots=True)
class Spoiling:
    """One way to make a stored thing unreadable."""

    #: What.
    place: PlaceName
    #: How, for people.
    how: str
    #: Does it, given the namespace and the election (as hooks name it) whose seat is held.
    spoil: Callable[[str, str], Spoilt]


class Operator(Protocol):
    """Somebody who reads and writes what a store holds without the backend."""

    def spoilings(self) -> Sequence[Spoiling]:
        """Return the ways to spoil what is stored: another type of value, one cut off, one of a newer format."""
        ...


def address_of(url: str, *, port: int) -> tuple[str, int]:
    """Return host and port of the one server in a URL; raise ConfigurationError for several."""
    parts = urlsplit(url)
    if parts.hostname is None or "," in parts.netloc:
        raise ConfigurationError(
            f"an operator needs one server, and the URL of scheme {parts.scheme} names another number"
        )
    return parts.hostname, parts.port or port


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecords:
    """The records of a store that keeps bytes under keys, and how to spoil them."""

    #: The key of each kind of record, from namespace and election.
    key_of: Mapping[PlaceName, Callable[[str, str], str]]
    #: Makes a record one of a newer format.
    newer: Mapping[PlaceName, Callable[[bytes], bytes]]
    read: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]

    def spoilings(self) -> list[Spoiling]:
        """Return four ways for each kind of record."""
        return [
            self._spoiling(place, how, change)
            for place in self.key_of
            for how, change in {
                "another program's words": lambda _: b"hello",
                "no text at all": lambda _: b"\x00\xff\r\n\x01",
                "cut off": lambda record: record[: len(record) // 2],
                "of a newer format": self.newer[place],
            }.items()
        ]

    def _spoiling(self, place: PlaceName, how: str, change: Callable[[bytes], bytes]) -> Spoiling:
        def spoil(namespace: str, election: str) -> Spoilt:
            key = self.key_of[place](namespace, election)
            rubbish = change(self.read(key) or b"")
            self.write(key, rubbish)
            return Spoilt(key, lambda: self.read(key) == rubbish)

        return Spoiling(place, how, spoil)
