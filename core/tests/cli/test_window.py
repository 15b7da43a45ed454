"""The arithmetic that fits the stopping of a command into a lease."""

from __future__ import annotations

import math
import re

import pytest

from drumbeat import ConfigurationError
from drumbeat._timing import Timing
from drumbeat.cli._window import Window


def timing(ttl: float, *, early_expiry: float = 0.0) -> Timing:
    """Return the timing of a session that was asked for nothing but a TTL."""
    return Timing.plan(ttl=ttl, heartbeat_interval=None, request_timeout=None, early_expiry=early_expiry)


def test_the_default_is_a_fifth_of_the_ttl() -> None:
    """A command of a session of 10 s has 2 s to stop."""
    assert Window.fit(timing(10.0), None).stop_timeout == 2.0


@pytest.mark.parametrize("ttl", [0.5, 1.0, 3.0, 10.0, 60.0, 3600.0])
def test_the_default_survives_a_lost_answer(ttl: float) -> None:
    """A heartbeat whose answer is lost, and the next one that needs all its time, do not stop the command."""
    given = timing(ttl)
    window = Window.fit(given, None)
    lost = given.heartbeat_interval + given.request_timeout
    answered = lost + ttl / 20 + given.request_timeout
    assert window.stop_timeout > 0
    assert given.usable - answered >= window.length - 1e-9


@pytest.mark.parametrize("wanted", [2.3, 60.0, -1.0, math.nan])
def test_what_does_not_fit_is_refused_with_the_numbers(wanted: float) -> None:
    """A stop timeout that a lost answer would reach into is refused, and the error says what would do."""
    with pytest.raises(ConfigurationError, match=re.escape(f"--stop-timeout {wanted:g} does not fit: at most 2.290 s")):
        Window.fit(timing(10.0), wanted)
    assert Window.fit(timing(10.0), 2.28).stop_timeout == 2.28


def test_no_time_to_stop_is_a_choice() -> None:
    """With a stop timeout of 0 the command is killed without being asked."""
    window = Window.fit(timing(10.0), 0.0)
    assert window.length == window.kill_margin


def test_a_lease_without_room_is_refused() -> None:
    """Where heartbeats need all of a short TTL, no command can be stopped in time, and the error says so."""
    with pytest.raises(ConfigurationError, match=r"a TTL of 0\.3 s .* nothing is left for the command to stop"):
        Window.fit(timing(0.3), None)
