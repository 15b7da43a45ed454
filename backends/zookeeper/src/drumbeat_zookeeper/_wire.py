"""The one module that talks in kazoo's terms: requests, answers, and a connection that does only what it is told.

kazoo has no annotations and no public way to send several requests in one write, to read many nodes by one request,
or to keep quiet; what is touched of its inside is named here and in `_link`, and nowhere else.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from kazoo.exceptions import (  # type: ignore[import-untyped]
    EXCEPTIONS,
    BadVersionError,
    ConnectionDropped,
    KazooException,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler  # type: ignore[import-untyped]
from kazoo.protocol.connection import CLOSE_RESPONSE, ConnectionHandler  # type: ignore[import-untyped]
from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    CheckVersion,
    Create,
    Create2,
    Delete,
    Exists,
    GetChildren,
    GetData,
    MultiHeader,
    SetData,
    Sync,
    Transaction,
)
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

    from drumbeat_zookeeper._target import Target

_EPHEMERAL: Final = 1
#: https://github.com/apache/zookeeper/blob/release-3.6.0/zookeeper-server/src/main/java/org/apache/zookeeper/CreateMode.java
_CONTAINER: Final = 4


class Refusal(Enum):
    """Why the server did not do one request; the rest of what was sent is not affected."""

    MISSING = auto()
    EXISTS = auto()
    VERSION = auto()
    ROLLED_BACK = auto()


_REFUSALS: Final = {
    NoNodeError: Refusal.MISSING,
    NodeExistsError: Refusal.EXISTS,
    BadVersionError: Refusal.VERSION,
    RolledBackError: Refusal.ROLLED_BACK,
    RuntimeInconsistency: Refusal.ROLLED_BACK,
}


@dataclass(frozen=True, slots=True)
class Node:
    """What stands at a path."""

    data: bytes
    #: The zxid of the transaction that made it.
    czxid: int
    #: The ZooKeeper session that it lives as long as; 0 for one that stays.
    owner: int
    children: int
    #: The server's wall time at which it was made, in seconds.
    ctime: float


class Answer(Protocol):
    """What kazoo gives for a request that was queued."""

    def get(self, *, timeout: float | None) -> object:
        """Return the answer, or raise what came in its place."""
        ...

    def rawlink(self, callback: Callable[[object], None]) -> None:
        """Have a function called when the answer is there."""
        ...


def as_refusal(error: BaseException) -> Refusal | None:
    """Return the refusal that an error of kazoo stands for, if it is one."""
    return _REFUSALS.get(type(error))


def done(answer: object) -> bool:
    """Return whether a request, or each part of a transaction, was done."""
    parts = answer if isinstance(answer, list) else [answer]
    return not any(isinstance(part, Refusal) for part in parts)


# Requests ---------------------------------------------------------------------------------------------------


def sync(path: str) -> object:
    """Make the reads that follow on the same connection see all that was committed before."""
    return Sync(path)


def create(path: str, data: bytes, *, creator_only: bool, ephemeral: bool = True) -> object:
    """Make a node that ends with the session, or one that stays."""
    return Create(path, data, _acl(creator_only), _EPHEMERAL if ephemeral else 0)


def container(path: str, data: bytes, *, creator_only: bool) -> object:
    """Make a node that the server removes by itself some time after its last child has gone."""
    return _CreateContainer(path, data, _acl(creator_only), _CONTAINER)


def delete(path: str, version: int = -1) -> object:
    """Remove a node, if it has `version`."""
    return Delete(path, version)


def put(path: str, data: bytes, version: int = -1) -> object:
    """Replace a node's data, if it has `version`."""
    return SetData(path, data, version)


def check(path: str, version: int) -> object:
    """Let a transaction be done only if a node is there and has `version`."""
    return CheckVersion(path, version)


def multi(*parts: object) -> object:
    """Do all of several writes, or none."""
    return Transaction(parts)


def get(path: str, *, watcher: Callable[[object], None] | None = None) -> object:
    """Ask for a node's data and origin; alone or in `read`."""
    return GetData(path, watcher)


def exists(path: str, *, watcher: Callable[[object], None]) -> object:
    """Ask whether a node is there, and watch it being made, changed and removed."""
    return Exists(path, watcher)


def children(path: str, *, watcher: Callable[[object], None] | None = None) -> object:
    """Ask for the names of a node's children; alone or in `read`. Of a node without any it tells if it is there."""
    return GetChildren(path, watcher)


def read(*parts: object) -> object:
    """Ask for many things by one request; each part has its own answer, a refusal among them."""
    return _MultiRead(parts)


def _acl(creator_only: bool) -> object:
    acl: object = CREATOR_ALL_ACL if creator_only else OPEN_ACL_UNSAFE
    return acl


class _CreateContainer(Create2):  # type: ignore[misc]
    """kazoo has no containers: https://zookeeper.apache.org/doc/r3.6.0/zookeeperProgrammers.html#Container+Nodes."""

    type = 19


class _MultiRead(Transaction):  # type: ignore[misc]
    """kazoo has no multiRead, a transaction of reads: https://issues.apache.org/jira/browse/ZOOKEEPER-3402."""

    type = 22

    @classmethod
    def deserialize(cls, received: bytes, offset: int) -> list[object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        answers: list[object] = []
        header, offset = MultiHeader.deserialize(received, offset)
        while not header.done:
            if header.type == GetData.type:
                data, stat = GetData.deserialize(received, offset)
                offset += 4 + len(data or b"") + _STAT_BYTES
                answers.append(Node(data or b"", stat.czxid, stat.ephemeralOwner, stat.numChildren, stat.ctime / 1000))
            elif header.type == GetChildren.type:
                names = GetChildren.deserialize(received, offset)
                offset += 4 + sum(4 + len(name.encode()) for name in names)
                answers.append(tuple(names))
            else:
                answers.append(EXCEPTIONS[header.err]())
                offset += 4
            header, offset = MultiHeader.deserialize(received, offset)
        return answers


_STAT_BYTES: Final = 68


# The connection ---------------------------------------------------------------------------------------------


#: Bytes; more than the pipe ever has.
_ALL_RINGS: Final = 4096


class Bell(socket.socket):
    """One end of the pipe that wakes kazoo's thread: it never blocks, and one byte stands for any number of requests.

    kazoo writes a byte for each request, also on the thread that alone reads them: the pipe would be full after a few
    hundred requests that wait for a connection, and both sides would wait for ever.
    """

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Ring, if it does not ring yet."""
        with suppress(BlockingIOError):
            return super().send(data, flags | socket.MSG_DONTWAIT)
        return memoryview(data).nbytes

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Stop the ringing; `_send_request` looks for requests until there are none, after that."""
        with suppress(BlockingIOError):
            return super().recv(max(size, _ALL_RINGS), flags | socket.MSG_DONTWAIT)
        return b""


class Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads, with connections of our own making: bounded, so that a dead host costs little."""

    def __init__(self, target: Target, *, longest_connect: float) -> None:
        super().__init__()
        self._target = target
        self._longest_connect = longest_connect
        #: The host whose address is connected to next; older kazoos do not say.
        self.host = ""

    def create_connection(self, address: tuple[str, int], **_: object) -> socket.socket:
        """Connect within the bound."""
        return self._target.connect(address, name=self.host, timeout=self._longest_connect)

    def create_socket_pair(self) -> tuple[Bell, Bell]:
        """Make the pipe that wakes the thread."""
        one, other = socket.socketpair()
        return Bell(fileno=one.detach()), Bell(fileno=other.detach())


class Connection(ConnectionHandler):  # type: ignore[misc]
    """kazoo's connection, which sends what was queued together in one write, and tells what happened to it."""

    def __init__(self, *args: object, pings: bool, **options: object) -> None:
        super().__init__(*args, **options)
        self._pings = pings
        self._corked: bytearray | None = None
        #: Held while requests are queued that belong together.
        self.queueing = threading.Lock()
        #: The timeout of the session in seconds, as the server granted it.
        self.granted = 0.0
        #: Why the last try to connect failed.
        self.trouble = "no answer"
        #: Whether the server confirmed that the session was closed.
        self.was_closed = False

    def _connect(self, host: str, address: str, port: int) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.handler.host = host
        try:
            read_timeout, connect_timeout = super()._connect(host, address, port)
        except (ConnectionDropped, KazooTimeoutError) as error:
            self.trouble = str(error)
            raise
        # kazoo gives two thirds of what was granted, in milliseconds.
        self.granted = round(read_timeout * 1.5) / 1000
        return read_timeout, connect_timeout

    def _send_ping(self, connect_timeout: float) -> None:
        # Nothing but a heartbeat of Drumbeat may renew the session that owns the nodes.
        if self._pings:
            super()._send_ping(connect_timeout)

    def _send_request(self, read_timeout: float, connect_timeout: float) -> None:
        with self.queueing:
            self._corked = bytearray()
            try:
                super()._send_request(read_timeout, connect_timeout)
                while self.client._queue:  # noqa: SLF001 - see the module
                    super()._send_request(read_timeout, connect_timeout)
            finally:
                together, self._corked = self._corked, None
        self._write(bytes(together), connect_timeout)

    def _write(self, message: bytes, timeout: float) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._corked is not None:
            self._corked += message
        else:
            super()._write(message, timeout)

    def _read_socket(self, read_timeout: float) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        response = super()._read_socket(read_timeout)
        self.was_closed = self.was_closed or response == CLOSE_RESPONSE
        return response


class Discreet(logging.Filter):
    """Lets kazoo's log through without what would tell a password: its details repeat whole requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop details, and name requests by their kind."""
        if isinstance(record.args, tuple):
            record.args = tuple(type(part).__name__ if isinstance(part, tuple) else part for part in record.args)
        return record.levelno >= logging.INFO


LOG: Final = logging.getLogger("drumbeat_zookeeper.kazoo")
LOG.addFilter(Discreet())
LOG.addHandler(logging.NullHandler())
#: For what kazoo says of a link that we have ended ourselves: it sounds like trouble.
SILENCE: Final = logging.getLogger("drumbeat_zookeeper.silence")
SILENCE.disabled = True

#: What waiting for an answer may raise; the last two are kazoo's word for an answer that makes no sense.
ClientError: Final = (KazooException, KazooTimeoutError, RuntimeError, struct.error)
