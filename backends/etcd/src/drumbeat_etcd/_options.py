"""What an etcd URL says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError
from drumbeat.options import TLS, read_tls

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
    for host, _ in url.hosts:
        _check_host(url, host)
    return Options(
        endpoints=tuple(f"{f'[{host}]' if ':' in host else host}:{port or DEFAULT_PORT}" for host, port in url.hosts),
        tls=read_tls(url, secure=url.scheme == "etcds"),
        username=url.username,
        password=url.password,
    )


def _check_host(url: BackendURL, host: str) -> None:
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ConfigurationError(f"{url} has the host {host!r}, which can be no name of a server: {error}") from error
