"""Sessions that a test plays hook by hook on a server of its choice, and connections to look at that server."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

import drumbeat

TTL = 1.0
SECRET = "hunter2-secret"  # noqa: S105 - opens nothing; must never be shown


@pytest.fixture
def peek() -> Iterator[Callable[..., Callable[..., object]]]:
    """Connect to a server as an operator does, beside Drumbeat; gives a function that sends one command."""
    with ExitStack() as stack:

        def connect(port: int, *, password: str | None = None) -> Callable[..., object]:
            client = redis.Redis(port=port, password=password, decode_responses=True)
            stack.callback(client.close)

            def send(*command: str | int) -> object:
                return client.execute_command(*command)  # type: ignore[no-untyped-call]

            return send

        yield connect


@pytest.fixture
def secret() -> str:
    """A password that must never be shown."""
    return SECRET


@pytest.fixture
def refused(caplog: pytest.LogCaptureFixture) -> Callable[..., drumbeat.DrumbeatError]:
    """Connect in vain: return the error, once it is clear that it came in time and shows no secret."""
    caplog.set_level("DEBUG")

    def connect(url: str, *, kind: type[drumbeat.DrumbeatError], within: float = 2.0) -> drumbeat.DrumbeatError:
        started = time.monotonic()
        with pytest.raises(drumbeat.DrumbeatError) as refusal:
            drumbeat.connect(url, lease_ttl=5.0, connect_timeout=within, on_empty_store="trust").close()
        assert time.monotonic() - started < 2 * within
        error = refusal.value
        assert type(error) is kind, repr(error)
        shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
        assert SECRET not in shown
        return error

    return connect
