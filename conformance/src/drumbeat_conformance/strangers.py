"""Programs that answer on a port and are no server of the kind that a client expects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# Seconds for a thread to end.
_PATIENCE = 5.0
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Stranger:
    """Where the program listens."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """Host and port, with a colon between them."""
        return f"{self.host}:{self.port}"


@contextmanager
def mute() -> Iterator[Stranger]:
    """Run a program that accepts connections and never says a word."""
    with _listening(_swallow) as stranger:
        yield stranger


@contextmanager
def babbler(greeting: bytes = b"220 example.org ESMTP ready\r\n") -> Iterator[Stranger]:
    """Run a program of another kind: it greets each client, and answers whatever it is sent by the same words."""

    def babble(client: socket.socket) -> None:
        client.sendall(greeting)
        while client.recv(_CHUNK):
            client.sendall(greeting)

    with _listening(babble) as stranger:
        yield stranger


def _swallow(client: socket.socket) -> None:
    while client.recv(_CHUNK):
        pass


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[Stranger]:
    clients: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = _spawn(lambda: _accept(listener, serve, clients, threads))
        yield Stranger(*listener.getsockname())
        for end in (listener, *clients):
            # Wakes the thread that waits at it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in (acceptor, *threads):
            thread.join(_PATIENCE)


def _accept(
    listener: socket.socket,
    serve: Callable[[socket.socket], None],
    clients: list[socket.socket],
    threads: list[threading.Thread],
) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        clients.append(client)
        threads.append(_spawn(lambda client=client: _converse(client, serve)))  # type: ignore[misc]


def _converse(client: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with client, suppress(OSError):
        serve(client)


def _spawn(call: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=call, name="drumbeat-stranger", daemon=True)
    thread.start()
    return thread
