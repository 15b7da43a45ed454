"""What the URL asks for, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from drumbeat import ConfigurationError
from drumbeat.options import TLS, TLS_OPTIONS, read_hosts, read_number, read_tls

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendURL

MIN_TTL: Final = 0.1
MAX_TTL: Final = 3600.0
DEFAULT_LONGEST_TTL: Final = 60.0
DEFAULT_PORT: Final = 6379
#: Of the number of a database, far beyond what any server is configured for.
MAX_DIGITS: Final = 9
DEFAULT_SENTINEL_PORT: Final = 26379

#: The URL options of this backend, each with one line for people.
OPTIONS: Final[Mapping[str, str]] = {
    **TLS_OPTIONS,
    "min_replicas": "replicas that must acknowledge each win and heartbeat (default: 0)",
    "longest_ttl": "longest lease_ttl in seconds, the same for everybody in the namespace (default: 60)",
}

Mode = Literal["single", "sentinel", "cluster"]
_MODES: Final[Mapping[str, Mode]] = {
    "redis": "single",
    "rediss": "single",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the server is, and who we are there; its repr holds no secret."""

    mode: Mode
    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None = field(repr=False)
    database: int
    #: Sentinel's name for the group of servers.
    service: str
    tls: TLS | None
    min_replicas: int
    longest_ttl: float

    @classmethod
    def from_url(cls, url: BackendURL) -> Settings:
        """Return the settings, or raise ConfigurationError naming what can never work."""
        mode = _MODES[url.scheme]
        port = DEFAULT_SENTINEL_PORT if mode == "sentinel" else DEFAULT_PORT
        if not url.hosts or (mode == "single" and len(url.hosts) > 1):
            many = "" if not url.hosts else "; for several hosts write redis+sentinel:// or redis+cluster://"
            raise ConfigurationError(f"{url} must name {'one host' if mode == 'single' else 'hosts'}{many}")
        service, database = _parse_path(url, mode)
        return cls(
            mode=mode,
            hosts=read_hosts(url, default_port=port),
            username=url.username,
            password=url.password,
            database=database,
            service=service,
            # Sentinel and Cluster have no scheme for TLS: any of its options asks for it.
            tls=read_tls(url, secure={"redis": False, "rediss": True}.get(url.scheme)),
            min_replicas=int(read_number(url, "min_replicas", default=0, highest=100, whole=True)),
            longest_ttl=read_number(url, "longest_ttl", default=DEFAULT_LONGEST_TTL, lowest=MIN_TTL, highest=MAX_TTL),
        )


def _parse_path(url: BackendURL, mode: Mode) -> tuple[str, int]:
    """Return Sentinel's service name ("" elsewhere) and the database."""
    parts = [part for part in url.path.split("/") if part]
    service = parts.pop(0) if mode == "sentinel" and parts else ""
    if mode == "sentinel" and not service:
        raise ConfigurationError(f"{url} must name the group of servers as Sentinel knows it, for example /mymaster")
    if mode == "cluster" and parts:
        raise ConfigurationError(f"{url} names a database, but a Redis Cluster has only one; leave {url.path} out")
    database = parts.pop(0) if parts else "0"
    if parts or not (database.isascii() and database.isdigit()) or len(database) > MAX_DIGITS:
        raise ConfigurationError(f"{url} must end in the number of a database, for example /0, not {url.path!r}")
    return service, int(database)
