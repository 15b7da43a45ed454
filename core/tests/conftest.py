"""Settings for all tests: one way to draw examples, and no wish for a URL from the environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Two shared cores: an example that is slow today is no failure. Derandomised, so that CI repeats what was seen.
settings.register_profile("drumbeat", deadline=None, derandomize=True)
settings.load_profile("drumbeat")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DRUMBEAT_"):
            monkeypatch.delenv(name)
