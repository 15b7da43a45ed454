"""The arithmetic of the safety rule: how long a session may believe in itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drumbeat._errors import ConfigurationError

#: Share of a TTL by which two clocks may drift apart.
DRIFT: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The durations that one incarnation lives by, in seconds."""

    ttl: float
    heartbeat_interval: float
    request_timeout: float
    #: Seconds by which the server may end a lease early.
    early_expiry: float

    @classmethod
    def plan(
        cls,
        *,
        ttl: float,
        heartbeat_interval: float | None,
        request_timeout: float | None,
        early_expiry: float,
    ) -> Timing:
        """Return the timing for a TTL, or raise ConfigurationError if heartbeats cannot keep it alive."""
        timing = cls(
            ttl=ttl,
            heartbeat_interval=ttl / 4 if heartbeat_interval is None else heartbeat_interval,
            request_timeout=ttl / 5 if request_timeout is None else request_timeout,
            early_expiry=early_expiry,
        )
        timing._check()
        return timing

    @property
    def usable(self) -> float:
        """Seconds after the sending of a heartbeat for which its success may be believed."""
        margin = max(0.05, self.ttl / 20)
        return self.ttl * (1 - DRIFT) - self.early_expiry - margin

    def _check(self) -> None:
        needed = self.heartbeat_interval + 2 * self.request_timeout
        if needed < self.usable:
            return
        raise ConfigurationError(
            f"a TTL of {self.ttl:g} s can be relied on for {self.usable:.3f} s after a heartbeat, but "
            f"heartbeat_interval {self.heartbeat_interval:g} s + 2 x request_timeout {self.request_timeout:g} s "
            f"= {needed:g} s: one lost answer would end the session. Raise lease_ttl, or lower the others"
        )
