"""One ZooKeeper session: its connection, its requests with a time limit, and its end."""

from __future__ import annotations

import atexit
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.protocol.serialization import CloseInstance  # type: ignore[import-untyped]
from kazoo.protocol.states import KazooState, KeeperState  # type: ignore[import-untyped]
from kazoo.retry import KazooRetry  # type: ignore[import-untyped]

from drumbeat import AuthenticationError, DrumbeatError, SessionLost, Unavailable
from drumbeat_zookeeper._translate import translated
from drumbeat_zookeeper._wire import LOG, SILENCE, Connection, Handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_zookeeper._target import Target
    from drumbeat_zookeeper._wire import Answer


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What it takes to speak for a ZooKeeper session, from any process."""

    number: int
    secret: bytes = field(repr=False)


class Link:
    """A kazoo client as Drumbeat needs it: no retries, one write for requests that belong together, a known end.

    One that `owns` nodes sends no pings, so that heartbeats alone keep its session alive, and is over with its
    session. Another one pings, and goes on with a new session when it has lost one, since nothing hangs on it.
    """

    def __init__(self, target: Target, *, timeout: float, owns: bool, key: SessionKey | None = None) -> None:
        self._shown = target.shown
        self._owns = owns
        self._state = threading.Condition()
        self._over: str | None = None
        #: Called on kazoo's thread after each new connection.
        self.on_connected: Callable[[], None] | None = None
        pause = KazooRetry(max_tries=-1, delay=0.02, backoff=2, max_delay=max(0.1, min(1.0, timeout / 10)))
        known = target.username is not None and target.password is not None
        self._client = KazooClient(
            hosts=",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in target.hosts),
            timeout=timeout,
            client_id=None if key is None else (key.number, key.secret),
            handler=Handler(target, longest_connect=max(0.25, timeout / (2 * len(target.hosts)))),
            auth_data=[("digest", f"{target.username}:{target.password}")]
            if known and target.auth == "digest"
            else None,
            connection_retry=pause,
            logger=LOG,
            use_ssl=target.tls is not None,
        )
        sasl = {"mechanism": "DIGEST-MD5", "username": target.username, "password": target.password}
        self._connection = Connection(
            self._client,
            pause.copy(),
            logger=LOG,
            sasl_options=sasl if known and target.auth == "sasl" else None,
            pings=not owns,
        )
        self._client._connection = self._connection  # noqa: SLF001 - see _wire
        self._client.add_listener(self._changed)

    @property
    def key(self) -> SessionKey:
        """The session of this link, once it is connected."""
        return SessionKey(self._client._session_id or 0, self._client._session_passwd)  # noqa: SLF001 - see _wire

    @property
    def granted(self) -> float:
        """The timeout in seconds that the server granted, once a request was answered."""
        return self._connection.granted

    @property
    def over(self) -> bool:
        """Whether the session of this link has ended."""
        return self._over is not None

    def start(self, until: float) -> None:
        """Connect; raise Unavailable, AuthenticationError, or SessionLost for a key whose session is over."""
        self._client.start_async()
        self._await_connection(until)

    def call(self, *requests: object, until: float) -> list[object]:
        """Send requests together and return their answers, refusals among them; raise what leaves them unknown."""
        self._await_connection(until)
        answers = self._queue(requests)
        try:
            return [translated(self._shown, answer, max(0.0, until - time.monotonic())) for answer in answers]
        except Unavailable:
            self.reconnect()
            raise
        except SessionLost as error:
            if self._owns or self.over:
                raise
            raise Unavailable(f"{self._shown}: the connection was lost") from error

    def post(self, *requests: object, then: Callable[[list[object]], None]) -> None:
        """Send requests together and return at once; `then` gets the answers, and is not called if they fail."""
        answers = self._queue(requests)

        def collect(_: object) -> None:
            with suppress(DrumbeatError):
                then([translated(self._shown, answer, 0.0) for answer in answers])

        answers[-1].rawlink(collect)

    def reconnect(self) -> None:
        """Give up a connection that does not answer: the next one may, to this host or another."""
        link = self._connection._socket  # noqa: SLF001 - see _wire
        if link is not None:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def close(self, until: float) -> bool:
        """End the session at the server; return whether the server said that it has."""
        with self._state:
            connected = self._client.connected and self._over is None
            self._over = self._over or "was closed"
        if connected:
            self._client._queue.append((CloseInstance, None))  # noqa: SLF001 - see _wire
            self._wake()
            self._connection.connection_stopped.wait(max(0.0, until - time.monotonic()))
        self.drop()
        return self._connection.was_closed

    def drop(self) -> None:
        """Let go of the connection at once, without a word to the server."""
        self._end()
        self.reconnect()
        threading.Thread(target=self._clear_away, name="drumbeat-zookeeper-end", daemon=True).start()

    def drop_in_child(self) -> None:
        """Close a forked child's copies of what the parent uses; nothing is sent, and no thread is waited for."""
        atexit.unregister(self._client.handler.stop)
        connection = self._connection
        for link in (connection._socket, connection._read_sock, connection._write_sock):  # noqa: SLF001 - see _wire
            if link is not None:
                link.close()

    def _end(self) -> None:
        with self._state:
            self._stop("was closed")
            self._state.notify_all()

    def _stop(self, over: str) -> None:
        self._over = self._over or over
        self._client.logger = self._connection.logger = SILENCE
        # kazoo's own stop() waits ten seconds for a server that is down.
        self._client._stopped.set()  # noqa: SLF001 - see _wire

    def _clear_away(self) -> None:
        self._client.handler.stop()
        self._connection.stop()
        self._client.close()

    def _changed(self, state: object) -> None:
        """Take note of a change, on kazoo's thread."""
        with self._state:
            if state == KazooState.LOST and self._client.client_state == KeeperState.AUTH_FAILED:
                self._over = "was refused: wrong user or password"
            elif state == KazooState.LOST and (self._owns or self._client.client_state == KeeperState.CLOSED):
                # Or kazoo would open another session, which nobody has asked for.
                self._stop("has expired")
            self._state.notify_all()
        if state == KazooState.CONNECTED and self.on_connected is not None:
            self.on_connected()

    def _await_connection(self, until: float) -> None:
        with self._state:
            while not self._client.connected and self._over is None:
                left = until - time.monotonic()
                if left <= 0:
                    self.reconnect()
                    raise Unavailable(
                        f"{self._shown}: not connected ({self._connection.trouble})", outcome="not_applied"
                    )
                self._state.wait(left)
        if self._over is not None and self._over.startswith("was refused"):
            raise AuthenticationError(f"{self._shown}: the ZooKeeper session {self._over}")
        if self._over is not None:
            raise SessionLost(f"{self._shown}: the ZooKeeper session {self._over}")

    def _queue(self, requests: tuple[object, ...]) -> list[Answer]:
        answers: list[Answer] = [self._client.handler.async_result() for _ in requests]
        with self._connection.queueing:
            for request, answer in zip(requests, answers, strict=True):
                self._client._call(request, answer)  # noqa: SLF001 - see _wire
        return answers

    def _wake(self) -> None:
        writer = self._connection._write_sock  # noqa: SLF001 - see _wire
        if writer is not None:
            with suppress(OSError):
                writer.send(b"\0")
