"""When a command must be told to stop, and when it must be dead: arithmetic on the term's deadline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError

if TYPE_CHECKING:
    from drumbeat import Clock, Term
    from drumbeat._timing import Timing

#: Seconds that a command has to stop where the TTL would allow more and nobody asked for it.
LONGEST_DEFAULT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The end of a term as a command sees it; durations in seconds."""

    #: From SIGTERM to SIGKILL.
    stop_timeout: float
    #: From SIGKILL to the deadline: what the kernel and a busy machine may need.
    kill_margin: float
    #: Longest wait without a look at the clock, for the sake of a host that was suspended meanwhile.
    tick: float

    @classmethod
    def fit(cls, timing: Timing, stop_timeout: float | None) -> Window:
        """Return the window for a session, or raise ConfigurationError if one lost answer would reach into it."""
        kill_margin = min(max(0.05, timing.ttl / 50), 1.0)
        heartbeats = timing.heartbeat_interval + 2 * timing.request_timeout + timing.ttl / 20
        room = timing.usable - heartbeats - kill_margin
        wanted = min(timing.ttl / 5, LONGEST_DEFAULT, room) if stop_timeout is None else stop_timeout
        if not 0 <= wanted <= room:
            raise ConfigurationError(
                f"a TTL of {timing.ttl:g} s is certain for {timing.usable:.3f} s after a heartbeat; the next two "
                f"attempts may take {heartbeats:g} s of that and SIGKILL needs {kill_margin:g} s, so "
                + (f"--stop-timeout {wanted:g} does not fit: at most {room:.3f} s" if room >= 0 else "nothing")
                + " is left for the command to stop. Raise --ttl"
            )
        return cls(stop_timeout=wanted, kill_margin=kill_margin, tick=min(timing.ttl / 20, 1.0))

    @property
    def length(self) -> float:
        """Seconds before the deadline at which the command is told to stop."""
        return self.stop_timeout + self.kill_margin


def seconds_left(term: Term, clock: Clock) -> float:
    """Return for how long the term is certain; negative or 0 once it may be another's.

    `Term.remaining` says the same but may first ask the server, and what kills in time must never wait.
    """
    if term.lost.is_set():
        return 0.0
    return term.deadline - clock.now()
