"""Faults for tests, each a context manager: it is on inside the block, and over at its end.

Faults of a process (`frozen`, `hogged`, `kill`, `run_forked`), of a link through a `drumbeat_conformance.proxy.Proxy`
(`black_hole`, `half_open`, `cut`, `slow`, `dropping_replies`, `losing_replies`), and of a server (`paused`, `down`,
`restart`), which may be any `drumbeat_conformance.target.ControlledServer`. They work on whatever talks to a server,
Drumbeat or not. The pytest fixtures of `drumbeat_conformance.faults.fixtures` end with their test what they gave it.
"""

from __future__ import annotations

from drumbeat_conformance.faults._links import black_hole, cut, dropping_replies, half_open, losing_replies, slow
from drumbeat_conformance.faults._processes import freeze, frozen, hogged, kill, run_forked, thaw
from drumbeat_conformance.faults._servers import down, paused, restart

__all__ = [
    "black_hole",
    "cut",
    "down",
    "dropping_replies",
    "freeze",
    "frozen",
    "half_open",
    "hogged",
    "kill",
    "losing_replies",
    "paused",
    "restart",
    "run_forked",
    "slow",
    "thaw",
]
