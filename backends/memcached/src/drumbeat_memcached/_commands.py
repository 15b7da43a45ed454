"""The commands that are used, as bytes, and how their answers are read.

Writes are the classic `add` and `cas`, each followed by `gets`, in one round trip. The meta command `ms` would return
the new CAS number by itself, but it removes the old value when there is no memory for the new one or it is too large,
also where it came with a CAS number; `add` and `cas` leave the old value as it is.
https://github.com/memcached/memcached/blob/1.6.18/proto_text.c (process_mset_command, process_update_command)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat_memcached._translate import refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drumbeat_memcached._connection import Connection

#: Beyond this many seconds the server takes an expiry for a date:
#: https://github.com/memcached/memcached/blob/1.6.18/doc/protocol.txt ("Expiration times").
MAX_EXPIRY: Final = 30 * 24 * 3600
#: No value ever has this CAS number.
NO_CAS: Final = 0


@dataclass(frozen=True, slots=True)
class Version:
    """The CAS number of a value, and the start of the server that gave it: after a restart it counts from 1 again."""

    start: str
    cas: int


def store(key: str, value: bytes, version: Version | None, expire: float | None) -> bytes:
    """Return the command that stores a value if its key still has a version, or is absent."""
    verb, condition = ("add", "") if version is None else ("cas", f" {version.cas}")
    head = f"{verb} {key} 0 {_expiry(expire)} {len(value)}{condition}\r\n"
    return head.encode() + value + b"\r\n"


def gets(keys: Sequence[str]) -> bytes:
    """Return the command that reads keys; the server reads all of it before it answers, so neither end blocks."""
    return f"gets {' '.join(keys)}\r\n".encode()


def read_stored(connection: Connection) -> bool:
    """Return whether a value was stored."""
    answer = connection.line()
    if answer not in {b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"}:
        raise refused(connection.target, answer, outcome="not_applied")
    return answer == b"STORED"


def read_values(connection: Connection) -> Mapping[str, tuple[bytes, Version]]:
    """Return the values that were found."""
    found = {}
    while (line := connection.line()) != b"END":
        words = line.split()
        if len(words) != 5 or words[0] != b"VALUE" or not (words[3].isdigit() and words[4].isdigit()):  # noqa: PLR2004
            raise refused(connection.target, line)
        key = words[1].decode("ascii", "replace")
        found[key] = connection.block(int(words[3])), Version(connection.start, int(words[4]))
    return found


def _expiry(expire: float | None) -> int:
    """Return whole seconds that never end early: a value that may live for n seconds lives for n - 1 to n."""
    return 0 if expire is None else min(math.ceil(expire) + 1, MAX_EXPIRY)
