"""What befalls the link between clients and a server, through a proxy that stands between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from drumbeat_conformance.proxy import Proxy


@contextmanager
def _until_the_end(proxy: Proxy) -> Iterator[None]:
    try:
        yield
    finally:
        proxy.restore()


@contextmanager
def black_hole(proxy: Proxy) -> Iterator[None]:
    """Lose every byte in both directions, as if a cable were pulled.

    Connections stand, new ones are accepted, and nobody is told anything; the server runs, and keeps what it has. At
    the end of the block the connections that lost something are closed, and the link is sound.
    """
    proxy.black_hole()
    with _until_the_end(proxy):
        yield


@contextmanager
def half_open(proxy: Proxy) -> Iterator[None]:
    """Let the server see every connection that there is end, and its client see nothing: it stands, and is silent.

    New connections are sound, also within the block, so a client recovers as soon as it gives the old one up. At the
    end of the block the old connections are closed for their clients too.
    """
    proxy.half_open()
    with _until_the_end(proxy):
        yield


@contextmanager
def cut(proxy: Proxy) -> Iterator[None]:
    """Close all connections for both sides and refuse new ones, as if the way to the server were closed.

    Both sides are told at once; the server runs. At the end of the block connections are accepted again.
    """
    proxy.cut()
    with _until_the_end(proxy):
        yield


@contextmanager
def slow(proxy: Proxy, seconds: float) -> Iterator[None]:
    """Make every reply come later by so many seconds; requests reach the server as ever, and nothing is lost."""
    proxy.delay(seconds)
    with _until_the_end(proxy):
        yield


@contextmanager
def dropping_replies(proxy: Proxy, n: int | None = None) -> Iterator[None]:
    """Let requests through, and lose the replies to the next `n`, or all replies.

    The server does what is asked, and nobody hears of it; the connection stands, and stays silent. At the end of the
    block the connections that lost something are closed.
    """
    proxy.drop_replies(n)
    with _until_the_end(proxy):
        yield


@contextmanager
def losing_replies(proxy: Proxy, probability: float, *, seed: int = 0) -> Iterator[None]:
    """Let requests through, and lose each reply by chance: in its place the client sees its connection end.

    The server has done by then what was asked. The same seed loses the replies to the same of the same requests.
    """
    proxy.lose_replies(probability, seed=seed)
    with _until_the_end(proxy):
        yield
