"""What a server says of itself, and what follows from it: claims, refusals and findings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat import BackendError, Capability, ConfigurationError
from drumbeat.hookspecs import BackendProfile, Bound, Finding, Limits
from drumbeat_redis._settings import MIN_TTL
from drumbeat_redis._translate import WrongServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat_redis._settings import Settings

LOWEST_VERSION: Final = (6, 2)
VALUE_BYTES: Final = 65_536

_ALWAYS: Final = frozenset(
    {
        Capability.PUSH_WATCH,
        Capability.REAPING,
        Capability.TOKENS_SURVIVE_RESTART,
        Capability.TOKENS_SURVIVE_DATA_LOSS,
    }
)
#: The URL scheme for each `redis_mode`.
_SCHEMES: Final = {"standalone": "redis://", "sentinel": "redis+sentinel://", "cluster": "redis+cluster://"}


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The answer to INFO (https://redis.io/docs/latest/commands/info/)."""

    address: str
    fields: Mapping[str, str]

    @classmethod
    def parse(cls, address: str, text: object) -> ServerInfo:
        """Return the fields, or raise BackendError if this is no answer of Redis."""
        lines = text.decode(errors="replace").splitlines() if isinstance(text, bytes) else []
        fields = dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
        if not re.fullmatch(r"\d+\.\d+[\w.-]{0,20}", fields.get("redis_version", "")):
            raise BackendError(f"what answers at {address} speaks Redis' protocol, but does not say that it is Redis")
        return cls(address, fields)

    @property
    def is_replica(self) -> bool:
        """Whether it follows another server."""
        return self.fields.get("role") == "slave"

    @property
    def is_persistent(self) -> bool:
        """Whether all that it acknowledged is there after a restart of the program: only with the append-only file."""
        return self.fields.get("aof_enabled") == "1"

    @property
    def replicas(self) -> int:
        """How many replicas are connected."""
        count = self.fields.get("connected_slaves", "0")
        return int(count) if count.isdecimal() else 0

    @property
    def evicts(self) -> bool:
        """Whether it throws keys away when its memory is full."""
        limited = self.fields.get("maxmemory", "0") != "0"
        return limited and self.fields.get("maxmemory_policy", "noeviction") != "noeviction"

    def require_fit(self, settings: Settings) -> None:
        """Raise ConfigurationError if this server will never do, WrongServer if it does not now."""
        version = self.fields["redis_version"]
        if _numbers(version) < LOWEST_VERSION:
            lowest = ".".join(map(str, LOWEST_VERSION))
            raise ConfigurationError(f"{self.address} runs Redis {version}; Drumbeat needs {lowest} or newer")
        mode = self.fields.get("redis_mode", "standalone")
        if (mode == "cluster") != (settings.mode == "cluster") or mode == "sentinel":
            raise ConfigurationError(
                f"{self.address} runs in {mode} mode; write {_SCHEMES.get(mode, 'another scheme')} for it"
            )
        if self.is_replica and settings.mode != "single":
            raise WrongServer(f"{self.address} is a replica now; a failover is under way", outcome="not_applied")
        if self.is_replica:
            primary = f"{self.fields.get('master_host')}:{self.fields.get('master_port')}"
            raise ConfigurationError(
                f"{self.address} is a replica of {primary}, and writes nothing; name the primary, or let "
                "redis+sentinel:// find it"
            )

    def profile(self, settings: Settings) -> BackendProfile:
        """Return what the backend claims on this server."""
        kept = Capability.PERSISTENT if self.is_persistent else Capability.VOLATILE
        return BackendProfile(
            server=f"Redis {self.fields['redis_version']}",
            capabilities=_ALWAYS | {kept},
            limits=Limits(min_ttl=MIN_TTL, max_ttl=settings.longest_ttl, value_bytes=VALUE_BYTES, poll_interval=1.0),
            # The server ends a lease one TTL after the last heartbeat reached it, and a waiting candidate, which
            # looked at most a second before and was told when that is, wakes then. The constant is for requests.
            failover=Bound(1.0, 0.5),
            # Nobody reads a dead member after one TTL; nothing is pushed then, and watchers poll once a second.
            eviction=Bound(1.0, 1.5),
        )

    def findings(self, settings: Settings) -> tuple[Finding, ...]:
        """Return what an operator should know."""
        policy = self.fields.get("maxmemory_policy", "")
        return (
            Finding("ok", f"Redis {self.fields['redis_version']} at {self.address} is a primary"),
            Finding("ok", "appendonly is on: sessions, groups and seats outlive a restart")
            if self.is_persistent
            else Finding(
                "warning",
                "appendonly is off: a restart loses every session and seat, and afterwards nothing is granted for "
                f"{settings.longest_ttl:g} s (longest_ttl). Set appendonly yes",
            ),
            Finding("warning", f"maxmemory-policy is {policy}: a full server drops live sessions. Set noeviction")
            if self.evicts
            else Finding("ok", "nothing is evicted when memory is full"),
            self._replication(self.replicas, settings.min_replicas),
        )

    def _replication(self, replicas: int, needed: int) -> Finding:
        if replicas < needed:
            return Finding("error", f"min_replicas={needed}, but {replicas} replicas are connected: nothing is granted")
        if replicas > needed:
            return Finding(
                "warning",
                f"{replicas} replicas, of which {needed} must acknowledge a win or heartbeat: a failover may lose "
                f"what the others did not have yet. Set min_replicas={replicas} to wait for all",
            )
        all_of_them = "no replicas" if not replicas else f"every win and heartbeat waits for all {replicas} replicas"
        return Finding("ok", all_of_them)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
