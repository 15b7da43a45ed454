"""What an etcd URL says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError
from drumbeat.options import TLS, read_hosts, read_tls

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendURL

DEFAULT_PORT: Final = 2379


@dataclass(frozen=True, slots=True)
class Options:
    """Where the servers are and who we are there."""

    #: Host and port of each server, as gRPC writes them.
    endpoints: tuple[str, ...]
    tls: TLS | None
    username: str | None
    password: str | None = field(repr=False)


def read_options(url: BackendURL) -> Options:
    """Return what the URL says, or raise ConfigurationError for one that can never work."""
    if not url.hosts:
        raise ConfigurationError(f"{url} names no server; write {url.scheme}://HOST:PORT,HOST:PORT")
    if url.path not in {"", "/"}:
        raise ConfigurationError(f"{url} has a path, which etcd does not have; use namespace= to keep users apart")
    if (url.username is None) != (url.password is None):
        raise ConfigurationError(f"{url} needs both a user and a password, or neither")
    hosts = read_hosts(url, default_port=DEFAULT_PORT)
    return Options(
        endpoints=tuple(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in hosts),
        tls=read_tls(url, secure=url.scheme == "etcds"),
        username=url.username,
        password=url.password,
    )
