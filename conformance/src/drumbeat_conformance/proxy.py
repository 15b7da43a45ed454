"""A TCP proxy that counts round trips, and that cuts, silences or slows the link between a client and a server."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self, final

_CHUNK = 65536
# Seconds to reach the server, and for a thread to end.
_PATIENCE = 5.0


@dataclass(slots=True, kw_only=True)
class _Fault:
    """What becomes of bytes now, on all connections."""

    swallow: bool = False
    #: How many further replies are lost; None means all.
    lose: int | None = 0
    #: Seconds that replies come later.
    delay: float = 0.0
    #: How likely each reply is to be lost together with its connection, and what decides.
    chance: float = 0.0
    draw: random.Random = field(default_factory=random.Random)

    def strikes(self) -> bool:
        """Decide by chance whether the next reply is lost."""
        return self.chance > 0 and self.draw.random() < self.chance


@final
class Connection:
    """One client's connection through the proxy, and what came on it, passed on or not."""

    def __init__(self, client: socket.socket) -> None:
        #: How often the direction changed to client-to-server: the number of round trips.
        self.turns = 0
        #: What the client sent.
        self.bytes_from_client = 0
        #: What the server sent.
        self.bytes_from_server = 0
        self._ends = [client]
        self._requesting = False
        self._loses_requests = False
        self._loses_replies = False
        self._breaks = False

    @property
    def broken(self) -> bool:
        """Whether something was lost, so that this stream cannot go on."""
        return self._loses_requests or self._loses_replies

    def close(self) -> None:
        """Close both ends, and so wake who waits for bytes on either."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def add_server(self, server: socket.socket) -> None:
        """Know the other end too."""
        self._ends.append(server)

    def silence(self) -> None:
        """Lose what the server sends on this connection from now on, and pass on what the client sends."""
        self._loses_replies = True

    def forget(self) -> None:
        """Close the server's end, and let the client believe that the connection stands."""
        self._loses_requests = self._loses_replies = True
        for end in self._ends[1:]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def judge_request(self, count: int, fault: _Fault) -> float | None:
        """Count what the client sent; return how much later it is passed on, or None if it is lost."""
        self.bytes_from_client += count
        if not self._requesting:
            self._requesting = True
            self.turns += 1
            if fault.lose and not self.broken:
                fault.lose -= 1
                self._loses_replies = True
            if fault.strikes():
                self._loses_replies = self._breaks = True
        self._loses_requests |= fault.swallow
        return None if self._loses_requests else 0.0

    def judge_reply(self, count: int, fault: _Fault) -> float | None:
        """Count what the server sent; return how much later it is passed on, or None if it is lost."""
        self.bytes_from_server += count
        self._requesting = False
        self._loses_replies |= fault.swallow or fault.lose is None
        if self._breaks:
            self.close()
        return None if self._loses_replies else fault.delay

    def judge_request_end(self, fault: _Fault) -> bool:
        """Return whether the server may learn that the client has closed."""
        self._loses_requests |= fault.swallow
        return not self._loses_requests

    def judge_reply_end(self, fault: _Fault) -> bool:
        """Return whether the client may learn that the server has closed."""
        self._loses_replies |= fault.swallow or fault.lose is None
        return not self._loses_replies


@final
class Proxy:
    """A TCP proxy on a free port of 127.0.0.1, for as long as the `with` block, or until `close()`.

    It starts sound; each fault takes the place of the one before, and `restore()` ends it. A stream never has a hole:
    once a connection has lost bytes nothing more passes in that direction, and `restore()` closes it.
    """

    #: Where the proxy listens.
    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._fault = _Fault()
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._listener = self._listen(0)
        #: Where the proxy listens; the same after `cut()` and `restore()`.
        self.port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        """Host and port of the proxy, with a colon between them."""
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections that were accepted, in order, closed ones included."""
        with self._lock:
            return tuple(self._connections)

    @property
    def turns(self) -> int:
        """How often the direction changed to client-to-server, on all connections: the number of round trips.

        What a client sends in one go counts once, be it a pipeline of many requests. What the server sends unasked
        may split one round trip in two.
        """
        return sum(connection.turns for connection in self.connections)

    @property
    def bytes_from_client(self) -> int:
        """Bytes that all clients sent, passed on or not."""
        return sum(connection.bytes_from_client for connection in self.connections)

    @property
    def bytes_from_server(self) -> int:
        """Bytes that the server sent, passed on or not."""
        return sum(connection.bytes_from_server for connection in self.connections)

    def cut(self) -> None:
        """Close all connections, and refuse new ones."""
        # Wakes the thread that accepts, which closes it; after a cut, that has happened already.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(_PATIENCE)
        for connection in self.connections:
            connection.close()

    def black_hole(self) -> None:
        """Accept connections and pass nothing on, in either direction, as if every packet were lost."""
        self._become(_Fault(swallow=True))

    def drop_replies(self, n: int | None = None) -> None:
        """Pass requests on, and lose the replies to the next `n`, or all replies that have not passed yet.

        A request is what a client sends in one go: one turn. A connection that lost a reply stays silent.
        """
        self._become(_Fault(lose=n))

    def lose_replies(self, probability: float, *, seed: int = 0) -> None:
        """Pass requests on, and lose each reply by chance: in its place the client sees the connection end.

        What the request asked for has been done by then. The same seed loses the same ones of the same turns.
        """
        self._become(_Fault(chance=probability, draw=random.Random(seed)))  # noqa: S311 - repeatable, nothing secret

    def half_open(self) -> None:
        """Let the server see the end of every connection, and the clients nothing; new connections are sound.

        As when a firewall forgets what it has let through. `restore()` closes the connections for the clients too.
        """
        self._become(_Fault())
        for connection in self.connections:
            connection.forget()

    def delay(self, seconds: float) -> None:
        """Pass replies on later by `seconds`."""
        self._become(_Fault(delay=seconds))

    def restore(self) -> None:
        """Make the link sound again: accept connections, and close those on which something was lost."""
        self._become(_Fault())
        for connection in self.connections:
            if connection.broken:
                connection.close()

    def close(self) -> None:
        """Close all connections, and wait for the threads."""
        self.cut()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _become(self, fault: _Fault) -> None:
        with self._lock:
            self._fault = fault
        if self._listener.fileno() == -1:
            self._listener = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((self.host, port))
        self._accepting = self._spawn(partial(self._accept, listener))
        return listener

    def _spawn(self, call: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=call, name="drumbeat-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                connection = Connection(client)
                with self._lock:
                    self._connections.append(connection)
                self._spawn(partial(self._serve, connection, client))

    def _serve(self, connection: Connection, client: socket.socket) -> None:
        with client:
            if self._fault.swallow:
                _pump(client, client, partial(self._judge, connection.judge_request))
                return
            try:
                server = socket.create_connection(self._target, timeout=_PATIENCE)
            except OSError:
                return
            with server:
                self._join(connection, client, server)

    def _join(self, connection: Connection, client: socket.socket, server: socket.socket) -> None:
        connection.add_server(server)
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = self._spawn(partial(self._pass_replies, connection, client, server))
        _pump(client, server, partial(self._judge, connection.judge_request))
        if self._allow(connection.judge_request_end):
            _end(server)
        replies.join()

    def _pass_replies(self, connection: Connection, client: socket.socket, server: socket.socket) -> None:
        _pump(server, client, partial(self._judge, connection.judge_reply))
        if self._allow(connection.judge_reply_end):
            _end(client)

    def _judge(self, judge: Callable[[int, _Fault], float | None], count: int) -> float | None:
        with self._lock:
            return judge(count, self._fault)

    def _allow(self, judge: Callable[[_Fault], bool]) -> bool:
        with self._lock:
            return judge(self._fault)


def _end(sink: socket.socket) -> None:
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _pump(source: socket.socket, sink: socket.socket, judge: Callable[[int], float | None]) -> None:
    """Pass bytes on, in order, each when it is due, until the source ends or the sink is gone."""
    waiting: deque[tuple[float, bytes]] = deque()
    with suppress(OSError):
        while _take(source, waiting, judge):
            while waiting and waiting[0][0] <= time.monotonic():
                sink.sendall(waiting.popleft()[1])
        for due, chunk in waiting:
            time.sleep(max(0.0, due - time.monotonic()))
            sink.sendall(chunk)


def _take(source: socket.socket, waiting: deque[tuple[float, bytes]], judge: Callable[[int], float | None]) -> bool:
    """Wait for bytes, or until the first of those that wait is due; return False at the end of the source."""
    left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
    if not select.select([source], [], [], left)[0]:
        return True
    chunk = source.recv(_CHUNK)
    delay = judge(len(chunk)) if chunk else None
    if delay is not None:
        waiting.append((time.monotonic() + delay, chunk))
    return bool(chunk)
