"""What the URL asks for, checked before anything is sent."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from drumbeat import ConfigurationError

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendURL

MIN_TTL: Final = 0.1
MAX_TTL: Final = 3600.0
DEFAULT_LONGEST_TTL: Final = 60.0
DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379

#: The URL options of this backend, each with one line for people.
OPTIONS: Final[Mapping[str, str]] = {
    "tls_ca_file": "file with the authorities that may sign the server's certificate (default: the system's)",
    "tls_certificate": "file with this client's certificate",
    "tls_key": "file with the key of tls_certificate (default: in the same file)",
    "tls_verify": "false to accept any certificate of the server (default: true)",
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
class TLS:
    """How to check the server's certificate, and which one to show."""

    ca_file: str | None
    certificate: str | None
    key: str | None
    verify: bool


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
            hosts=tuple((host, given or port) for host, given in url.hosts),
            username=url.username,
            password=url.password,
            database=database,
            service=service,
            tls=_parse_tls(url),
            min_replicas=int(_number(url, "min_replicas", 0.0, whole=True, highest=100)),
            longest_ttl=_number(url, "longest_ttl", DEFAULT_LONGEST_TTL, lowest=MIN_TTL, highest=MAX_TTL),
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
    if parts or not (database.isascii() and database.isdigit()):
        raise ConfigurationError(f"{url} must end in the number of a database, for example /0, not {url.path!r}")
    return service, int(database)


def _parse_tls(url: BackendURL) -> TLS | None:
    given = [name for name in OPTIONS if name.startswith("tls_") and name in url.options]
    if url.scheme == "redis" and given:
        raise ConfigurationError(f"{url} gives {', '.join(given)} without TLS; write rediss:// for TLS")
    if url.scheme != "rediss" and not given:
        return None
    certificate, key = _file(url, "tls_certificate"), _file(url, "tls_key")
    if key and not certificate:
        raise ConfigurationError(f"{url} gives tls_key without tls_certificate")
    verify = url.options.get("tls_verify", "true")
    if verify not in {"true", "false"}:
        raise ConfigurationError(f"tls_verify must be true or false, not {verify!r}")
    tls = TLS(ca_file=_file(url, "tls_ca_file"), certificate=certificate, key=key, verify=verify == "true")
    _try_files(tls)
    return tls


def _try_files(tls: TLS) -> None:
    """Raise ConfigurationError for a file that is not what its option says, rather than at every connection."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    option = "tls_ca_file"
    try:
        if tls.ca_file:
            context.load_verify_locations(tls.ca_file)
        option = "tls_certificate, with its key in tls_key or beside it,"
        if tls.certificate:
            # The empty password is for a key that wants one, which would be asked for on the terminal.
            context.load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        raise ConfigurationError(f"{option} must be in PEM form, and not encrypted: {error.reason}") from error


def _file(url: BackendURL, option: str) -> str | None:
    path = url.options.get(option)
    if path is not None and not (Path(path).is_file() and os.access(path, os.R_OK)):
        raise ConfigurationError(f"{option} must name a file that this process can read, not {path!r}")
    return path


def _number(
    url: BackendURL,
    option: str,
    default: float,
    *,
    lowest: float = 0.0,
    highest: float,
    whole: bool = False,
) -> float:
    text = url.options.get(option)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number of seconds"
        raise ConfigurationError(f"{option} must be {kind} from {lowest:g} to {highest:g}, not {text!r}")
    return value
