"""Help for testing code that uses Drumbeat: a clock that a test moves by hand, and sessions without a server."""

from __future__ import annotations

from drumbeat._fakeclock import FakeClock

__all__ = ["FakeClock"]
