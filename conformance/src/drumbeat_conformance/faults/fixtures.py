"""Fixtures for pytest: members, proxies and faults that end with their test, whatever happens in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, TypeVar

import pytest

from drumbeat_conformance.members import Member
from drumbeat_conformance.proxy import Proxy

R = TypeVar("R")


class StartFault(Protocol):
    """Begins a fault of `drumbeat_conformance.faults`, which is over when the test is."""

    def __call__(self, fault: AbstractContextManager[R], /) -> R:
        """Begin the fault."""
        ...


@pytest.fixture
def drumbeat_member() -> Iterator[Callable[..., Member]]:
    """Starts processes with a session, which end with the test; takes what `members.Member` does."""
    with ExitStack() as stack:

        def start(url: str, member_id: str, *, namespace: str, ttl: float, **options: object) -> Member:
            return stack.enter_context(Member(url, member_id, namespace=namespace, ttl=ttl, **options))

        yield start


@pytest.fixture
def drumbeat_proxy() -> Iterator[Callable[[str, int], Proxy]]:
    """Puts proxies before servers, by host and port, which end with the test; `address` is the text `host:port`."""
    with ExitStack() as stack:
        yield lambda host, port: stack.enter_context(Proxy(host, port))


@pytest.fixture
def drumbeat_fault() -> Iterator[StartFault]:
    """Begins faults, as in `drumbeat_fault(paused(server))`; when the test is over they end, in the reverse order."""
    with ExitStack() as stack:
        yield stack.enter_context
