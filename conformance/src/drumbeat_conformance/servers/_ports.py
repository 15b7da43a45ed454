"""Ports for servers: chosen and kept so that test runs on one machine do not take them from each other."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from random import SystemRandom
from types import TracebackType
from typing import Self

# Below the range of `ip_local_port_range`, out of which the kernel gives ports to outgoing connections; room is left
# for the bus ports of a Redis Cluster, which are 10 000 higher.
_FIRST, _LAST = 10_000, 22_000
_random = SystemRandom()


class Ports:
    """Some free ports, kept for as long as a server lives, restarts included.

    A port counts as kept by a name in the kernel's abstract namespace of Unix sockets, which every test run asks for
    and which goes away with this process, however it ends.
    """

    def __init__(self, count: int, *, offsets: tuple[int, ...] = (0,)) -> None:
        self._kept = ExitStack()
        self.numbers: list[int] = []
        while len(self.numbers) < count:
            port = _random.randrange(_FIRST, _LAST)
            if self.keep(*(port + offset for offset in offsets)):
                self.numbers.append(port)

    def close(self) -> None:
        """Let others have the ports."""
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def keep(self, *ports: int) -> bool:
        """Keep these ports from others; return whether all were free."""
        with ExitStack() as stack:
            try:
                for port in ports:
                    claim = stack.enter_context(socket.socket(socket.AF_UNIX))
                    claim.bind(f"\0drumbeat-test-port-{port}")
                    with socket.socket() as trial:
                        trial.bind(("", port))
            except OSError:
                return False
            self._kept.enter_context(stack.pop_all())
        return True
