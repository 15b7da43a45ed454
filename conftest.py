"""What holds for the tests of every package."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

#: In the id of a test, the backend that it runs on.
_BACKEND = re.compile(r"[\[-](memory-cas|memory|local|example|redis|memcached|zookeeper|etcd)\b")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep the tests of one file, and in it of one backend, on one worker: what they share is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFileAndBackend(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            backend = _BACKEND.search(test)
            # The guarantees that one class tests are one run.
            run = test.partition("::")[0] if "::" in test.partition("[")[0] else ""
            return f"{file} {run} {backend[1] if backend else ''}"

    return ByFileAndBackend(config, log)


@pytest.fixture(autouse=True)
def _no_ignored_signals() -> None:
    # Whoever starts tests in the background has these ignored, and programs that the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture
def default_hangup() -> Iterator[None]:
    """What the test starts has the default for SIGHUP; under nohup it would inherit that the signal is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
