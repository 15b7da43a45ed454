"""What the proxy counts, and what it does to a link."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.strangers import babbler, mute
from drumbeat_conformance.waiting import eventually

WORD = b"word\n"
#: Seconds in which a sound link answers, and in which a bad one is believed to be silent.
SOON = 5.0
SILENCE = 0.2


class Client:
    """Clients of a proxy before a program that greets, and answers everything by the same word."""

    def __init__(self, proxy: Proxy, stack: ExitStack) -> None:
        self.line = stack.enter_context(socket.create_connection((proxy.host, proxy.port), timeout=SOON))

    def ask(self) -> bytes:
        self.line.sendall(b"?")
        return self.line.recv(100)

    def hears_nothing(self) -> bool:
        self.line.settimeout(SILENCE)
        try:
            return self.line.recv(100) == b"never"
        except TimeoutError:
            return True
        finally:
            self.line.settimeout(SOON)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is open until the end of a test."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def proxy(stack: ExitStack) -> Proxy:
    """A proxy before a program that answers."""
    server = stack.enter_context(babbler(WORD))
    return stack.enter_context(Proxy(server.host, server.port))


@pytest.fixture
def client(proxy: Proxy, stack: ExitStack) -> Client:
    """A client that has been greeted."""
    client = Client(proxy, stack)
    assert client.line.recv(100) == WORD
    return client


def test_turns_and_bytes(proxy: Proxy, client: Client) -> None:
    """Each request that waits for its answer is a turn, and all bytes are counted both ways."""
    for _ in range(3):
        assert client.ask() == WORD

    assert (proxy.turns, proxy.bytes_from_client, proxy.bytes_from_server) == (3, 3, 4 * len(WORD))


def test_a_pipeline_is_one_turn(stack: ExitStack) -> None:
    """What a client sends before it hears anything is one turn, in however many pieces it is sent."""
    server = stack.enter_context(mute())
    proxy = stack.enter_context(Proxy(server.host, server.port))
    client = Client(proxy, stack)

    for sent in range(1, 4):
        client.line.sendall(b"?")
        eventually(lambda sent=sent: proxy.bytes_from_client == sent, within=SOON)  # type: ignore[misc]

    assert proxy.turns == 1


def test_turns_of_each_connection(proxy: Proxy, client: Client, stack: ExitStack) -> None:
    """Turns are counted for each connection, in the order in which they were opened, and summed up."""
    other = Client(proxy, stack)
    assert other.line.recv(100) == WORD
    client.ask()
    other.ask()
    other.ask()

    assert ([each.turns for each in proxy.connections], proxy.turns) == ([1, 2], 3)


def test_cut(proxy: Proxy, client: Client, stack: ExitStack) -> None:
    """A cut link ends connections and refuses new ones; restored, it serves new ones on the same port."""
    proxy.cut()
    proxy.cut()

    assert client.line.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        Client(proxy, stack)
    proxy.restore()
    assert Client(proxy, stack).line.recv(100) == WORD


def test_black_hole(proxy: Proxy, client: Client, stack: ExitStack) -> None:
    """A black hole accepts clients and is silent, to old ones too; restored, it ends what has lost bytes."""
    proxy.black_hole()
    client.line.sendall(b"?")
    late = Client(proxy, stack)
    late.line.sendall(b"?")

    assert (client.hears_nothing(), late.hears_nothing()) == (True, True)
    eventually(lambda: proxy.bytes_from_client == 2, within=SOON)
    assert proxy.bytes_from_server == len(WORD)
    proxy.restore()
    assert (client.line.recv(100), late.line.recv(100)) == (b"", b"")


def test_what_lost_nothing_outlives_a_black_hole(proxy: Proxy, client: Client) -> None:
    """A connection on which nothing was sent during the fault goes on after it."""
    proxy.black_hole()
    proxy.restore()

    assert client.ask() == WORD


def test_drop_one_reply(proxy: Proxy, client: Client, stack: ExitStack) -> None:
    """The server gets the request and its reply is lost; that connection stays silent, others are sound."""
    proxy.drop_replies(1)
    client.line.sendall(b"?")

    assert client.hears_nothing()
    assert proxy.bytes_from_server == 2 * len(WORD)
    client.line.sendall(b"?")
    assert client.hears_nothing()
    other = Client(proxy, stack)
    assert (other.line.recv(100), other.ask()) == (WORD, WORD)
    proxy.restore()
    assert client.line.recv(100) == b""


def test_drop_all_replies(proxy: Proxy, client: Client, stack: ExitStack) -> None:
    """All replies are lost, on every connection, until the link is restored."""
    proxy.drop_replies()
    client.line.sendall(b"?")
    other = Client(proxy, stack)

    assert (client.hears_nothing(), other.hears_nothing()) == (True, True)
    proxy.restore()
    assert Client(proxy, stack).line.recv(100) == WORD


def test_delay(proxy: Proxy, client: Client) -> None:
    """Replies come later, in order and whole; replies in a row do not add up their delays."""
    delay = 3 * SILENCE
    proxy.delay(delay)
    begun = time.monotonic()
    client.line.sendall(b"?")
    eventually(lambda: proxy.bytes_from_server == 2 * len(WORD), within=SOON)
    client.line.sendall(b"?")
    heard = b""
    while len(heard) < 2 * len(WORD):
        heard += client.line.recv(100)

    assert heard == 2 * WORD
    assert delay <= time.monotonic() - begun < 2 * delay


def test_each_fault_replaces_the_one_before(proxy: Proxy, client: Client, stack: ExitStack) -> None:
    """A fault after a cut opens the port again, and is the only one in force."""
    proxy.cut()
    proxy.drop_replies(1)
    proxy.delay(0.0)

    assert Client(proxy, stack).line.recv(100) == WORD


def test_a_server_that_is_down(stack: ExitStack) -> None:
    """Before a port where nobody listens, clients are accepted and closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy = stack.enter_context(Proxy("127.0.0.1", port))

    assert Client(proxy, stack).line.recv(100) == b""


def test_an_end_of_one_direction(proxy: Proxy, client: Client) -> None:
    """A client that has said all still hears the rest."""
    client.line.sendall(b"?")
    client.line.shutdown(socket.SHUT_WR)

    assert client.line.recv(100) == WORD
    assert client.line.recv(100) == b""


def test_a_mute_stranger(stack: ExitStack) -> None:
    """A mute program accepts and never says a word."""
    server = stack.enter_context(mute())
    with socket.create_connection((server.host, server.port), timeout=SILENCE) as line:
        line.sendall(b"?")
        with pytest.raises(TimeoutError):
            line.recv(1)
