"""What every operator can do: spoil what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, final
from urllib.parse import urlsplit

from drumbeat import ConfigurationError

__all__ = ["Operator", "Spoiling", "Spoilt", "address_of", "text_spoilings"]


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

    #: The record of a held seat, or the one that every session begins with.
    place: Literal["seat", "store"]
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
        raise ConfigurationError(f"an operator needs one server, and the URL of scheme {parts.scheme} names another number")
    return parts.hostname, parts.port or port


def text_spoilings(
    *,
    key_of: dict[Literal["seat", "store"], Callable[[str, str], str]],
    newer: dict[Literal["seat", "store"], Callable[[bytes], bytes]],
    read: Callable[[str], bytes | None],
    write: Callable[[str, bytes], None],
) -> list[Spoiling]:
    """Return the spoilings of a store whose records are bytes under keys; `newer` makes a record of a newer format."""

    def replace(key: str, change: Callable[[bytes], bytes]) -> Spoilt:
        rubbish = change(read(key) or b"")
        write(key, rubbish)
        return Spoilt(key, lambda: read(key) == rubbish)

    def ways(place: Literal["seat", "store"]) -> list[Spoiling]:
        changes: dict[str, Callable[[bytes], bytes]] = {
            "another program's words": lambda _: b"hello",
            "no text at all": lambda _: b"\x00\xff\r\n\x01",
            "cut off": lambda record: record[: len(record) // 2],
            "of a newer format": newer[place],
        }
        return [
            Spoiling(place, how, lambda namespace, election, change=change: replace(key_of[place](namespace, election), change))  # type: ignore[misc]
            for how, change in changes.items()
        ]

    return [*ways("seat"), *ways("store")]
