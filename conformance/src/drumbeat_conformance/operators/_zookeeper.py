"""An operator of ZooKeeper, who uses kazoo, and attaches to the sessions of others over a bare socket."""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, final

from drumbeat import ConfigurationError
from drumbeat.hookspecs import encode_key
from drumbeat_conformance.operators._base import Spoiling, TextRecords, address_of

if TYPE_CHECKING:
    from kazoo.client import KazooClient  # type: ignore[import-untyped]
    from kazoo.protocol.states import ZnodeStat  # type: ignore[import-untyped]

__all__ = ["ZooKeeperOperator"]

_TIMEOUT: Final = 5.0
#: https://github.com/apache/zookeeper/blob/release-3.8.0/zookeeper-jute/src/main/resources/zookeeper.jute
_CLOSE: Final = struct.pack(">ii", 1, -11)
#: How an answer to them begins: its size, the version of the protocol, and milliseconds of a timeout, or 0.
_HEAD: Final = struct.Struct(">iii")


@final
class ZooKeeperOperator:
    """Somebody with full rights at one ZooKeeper without TLS; needs the package kazoo."""

    def __init__(self, url: str) -> None:
        self._address = address_of(url, port=2181)

    def path(self, namespace: str, rest: str) -> str:
        """Return the path of a node of a namespace, for example that of "leaders/e"; empty: of its root."""
        return f"/{encode_key(namespace)}/{rest}".rstrip("/")

    def read(self, path: str) -> bytes | None:
        """Return the data of a node."""
        with self._client() as client:
            return bytes(_got(client, path)[0]) if client.exists(path) else None

    def write(self, path: str, data: bytes) -> None:
        """Replace the data of a node."""
        with self._client() as client:
            client.set(path, data)

    def delete(self, path: str) -> None:
        """Delete a node."""
        with self._client() as client:
            client.delete(path)

    def children(self, path: str) -> list[str]:
        """Return the names of a node's children; none if it is not there."""
        with self._client() as client:
            return list(client.get_children(path) or ()) if client.exists(path) else []

    def made_at(self, path: str) -> float:
        """Return when a node was made, in seconds since 1970 by the server's clock."""
        with self._client() as client:
            return float(_got(client, path)[1].ctime) / 1000

    def attach(self, namespace: str, member_id: str, *, end: bool) -> None:
        """Connect with the ZooKeeper session of a member, as if it had moved here; with `end` also close it.

        The server then ends the connection that the session had, whose owner may be quick to take it back.
        """
        head, _, _ = (self.read(self.path(namespace, f"sessions/{encode_key(member_id)}")) or b"").partition(b"\n")
        record = json.loads(head)
        secret = bytes.fromhex(record["secret"])
        timeout = int(record["ttl"] * 1000)
        asked = struct.pack(">iqiqi", 0, 0, timeout, record["session"], len(secret)) + secret + b"\0"
        while self._say(_framed(asked) + (_framed(_CLOSE) if end else b"")) and end:
            pass

    def _say(self, words: bytes) -> bool:
        """Send these on a connection of its own; return whether the server knows the session that they begin with."""
        with socket.create_connection(self._address, timeout=_TIMEOUT) as link, link.makefile("rb") as answers:
            link.sendall(words)
            head = answers.read(_HEAD.size)
            with suppress(OSError):
                link.shutdown(socket.SHUT_WR)
                answers.read()
        # Cut off, it may have been the owner who was quicker.
        return len(head) < _HEAD.size or _HEAD.unpack(head)[2] > 0

    def spoilings(self) -> Sequence[Spoiling]:
        """Return ways to spoil a leader's node and the namespace's root."""
        return TextRecords(
            key_of={
                "seat": lambda namespace, election: self.path(namespace, f"leaders/{encode_key(election)}"),
                "store": lambda namespace, _: self.path(namespace, ""),
            },
            newer={
                "seat": lambda record: record.replace(b'"format": 1', b'"format": 2', 1),
                "store": lambda record: record[:-1] + b"2",
            },
            read=self.read,
            write=self.write,
        ).spoilings()

    @contextmanager
    def _client(self) -> Iterator[KazooClient]:
        try:
            from kazoo.client import KazooClient
        except ImportError as error:
            raise ConfigurationError("this needs the package kazoo; run `pip install kazoo`") from error
        quiet = logging.getLogger("drumbeat_conformance.operator")
        quiet.disabled = True
        host, port = self._address
        client = KazooClient(f"{host}:{port}", logger=quiet)
        client.start(timeout=_TIMEOUT)  # pyright: ignore[reportArgumentType] # it waits for fractions too
        try:
            yield client
        finally:
            client.stop()
            client.close()


def _framed(packet: bytes) -> bytes:
    return struct.pack(">i", len(packet)) + packet


def _got(client: KazooClient, path: str) -> tuple[bytes, ZnodeStat]:
    found: tuple[bytes, ZnodeStat] = client.get(path)  # pyright: ignore[reportAssignmentType] # kazoo annotates the call of its asynchronous twin
    return found
