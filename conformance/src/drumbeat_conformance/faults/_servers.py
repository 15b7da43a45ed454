"""What befalls a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drumbeat_conformance.target import ControlledServer


@contextmanager
def paused(server: ControlledServer) -> Iterator[None]:
    """Freeze a server as by SIGSTOP, and let it go on at the end of the block.

    Connections stand, and the kernel takes what is sent to it; nothing is answered. When it goes on it does all that it
    was asked meanwhile, and then sees which leases have run out. It keeps its data.
    """
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def down(server: ControlledServer, *, graceful: bool = False, wiped: bool = False) -> Iterator[None]:
    """End a server, by SIGKILL or gracefully, and start it again at the end of the block, where it answers.

    Its connections end, and new ones are refused. It keeps what it stores durably, unless it is `wiped`.
    """
    if graceful:
        server.stop()
    else:
        server.kill()
    try:
        if wiped:
            server.wipe()
        yield
    finally:
        server.start()


def restart(server: ControlledServer, *, graceful: bool = False, wiped: bool = False) -> None:
    """End a server and start it again at once; see `down`."""
    with down(server, graceful=graceful, wiped=wiped):
        pass
