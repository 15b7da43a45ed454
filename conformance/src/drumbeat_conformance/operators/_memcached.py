"""An operator of memcached, who speaks its protocol plainly."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from drumbeat._cas.records import Keys
from drumbeat_conformance.operators._base import Spoiling, TextRecords, address_of

__all__ = ["MemcachedOperator"]

_TIMEOUT: Final = 10.0
#: Items that are stored before the server is asked whether that was enough.
_BATCH: Final = 200


@final
class MemcachedOperator:
    """Somebody with full rights at one memcached without TLS and password."""

    def __init__(self, url: str) -> None:
        self._address = address_of(url, port=11211)

    def ask(self, request: bytes) -> bytes:
        """Send commands on a connection of its own; return all that is answered, up to a last "version"."""
        with socket.create_connection(self._address, timeout=_TIMEOUT) as link:
            link.sendall(request + b"version\r\n")
            answer = bytearray()
            while (end := re.search(rb"VERSION [^\r]*\r\n\Z", answer)) is None:
                part = link.recv(1 << 16)
                if not part:
                    raise ConnectionError("memcached closed the connection")
                answer += part
            return bytes(answer[: end.start()])

    def keys(self, namespace: str) -> Keys:
        """Return the keys of a namespace."""
        return Keys(namespace)

    def find(self, key: str) -> Item | None:
        """Return what is stored under a key."""
        head, _, rest = self.ask(f"gets {key}\r\n".encode()).partition(b"\r\n")
        words = head.split()
        return None if words[0] == b"END" else Item(rest[: int(words[3])], int(words[4]))

    def read(self, key: str) -> bytes | None:
        """Return the value of a key."""
        found = self.find(key)
        return None if found is None else found.value

    def write(self, key: str, value: bytes) -> None:
        """Store a value that does not expire."""
        self.ask(f"set {key} 0 0 {len(value)}\r\n".encode() + value + b"\r\n")

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        return self.ask(f"delete {key}\r\n".encode()) == b"DELETED\r\n"

    def flush(self) -> None:
        """Empty the server."""
        self.ask(b"flush_all\r\n")

    def evict(self, key: str) -> bool:
        """Store items as large as that of `key` until the server has no room for it; return whether it is gone.

        It is given up when three times the server's memory was stored.
        """
        value = self.read(key)
        assert value is not None
        limit = re.search(rb"STAT limit_maxbytes (\d+)", self.ask(b"stats\r\n"))
        assert limit is not None
        for batch in range(3 * int(limit[1]) // (len(value) * _BATCH) + 1):
            names = [f"{batch}-{number}".rjust(len(key), "f") for number in range(_BATCH)]
            stored = (f"set {name} 0 0 {len(value)} noreply\r\n".encode() + value + b"\r\n" for name in names)
            # Used twice, they take the place of what has been used too: https://memcached.org/blog/modern-lru/
            used = (f"mg {name}\r\nmg {name}\r\n".encode() for name in names)
            self.ask(b"".join([*stored, *used]))
            if self._is_gone(key):
                return True
        return False

    def spoilings(self) -> Sequence[Spoiling]:
        """Return ways to spoil a seat and the birth record: a format number, and JSON."""
        return TextRecords(
            key_of={
                "seat": lambda name, election: Keys(name).seat(election),
                "store": lambda name, _: Keys(name).birth,
            },
            newer={"seat": lambda record: b"2" + record[1:], "store": lambda record: b"2" + record[1:]},
            read=self.read,
            write=self.write,
        ).spoilings()

    def _is_gone(self, key: str) -> bool:
        # Without counting as a use, which would keep it: https://docs.memcached.org/protocols/meta/
        return self.ask(f"me {key}\r\n".encode()).startswith(b"EN")


@final
@dataclass(frozen=True, slots=True)
class Item:
    """A stored value and its CAS number."""

    value: bytes
    cas: int
