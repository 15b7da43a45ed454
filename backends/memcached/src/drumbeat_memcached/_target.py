"""What a URL says: which server, who we are to it, and whether to speak TLS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError
from drumbeat.options import TLS_OPTIONS, TLS_SWITCH, read_hosts, read_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from drumbeat.hookspecs import BackendConfig

DEFAULT_PORT: Final = 11211

#: The URL options of this backend.
OPTIONS: Final[Mapping[str, str]] = {
    **TLS_SWITCH,
    **TLS_OPTIONS,
    "longest_ttl": "longest lease_ttl in seconds, for which an empty store waits (default: 60)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The one server of a namespace."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, config: BackendConfig) -> Target:
        """Return the server that a URL names; raise ConfigurationError for a URL that can never work."""
        url = config.url
        if len(url.hosts) != 1:
            raise ConfigurationError(
                f"{url} names {len(url.hosts) or 'no'} servers; write memcached://HOST:PORT with exactly one. A client "
                "that spreads keys over several servers moves them when one of them fails, and two processes could "
                "then lead at once"
            )
        if url.path not in {"", "/"}:
            raise ConfigurationError(
                f"{url} has a path; Memcached has no databases, so leave it out, and keep applications apart by "
                "namespace="
            )
        if (url.username is None) != (url.password is None):
            raise ConfigurationError(f"{url} has a user or a password alone; Memcached asks for both or for neither")
        for part in (url.username, url.password):
            if part is not None and (not part or any(letter.isspace() for letter in part)):
                raise ConfigurationError(f"the user or the password in {url} is empty or has a space in it")
        ((host, port),) = read_hosts(url, default_port=DEFAULT_PORT)
        tls = read_tls(url)
        return cls(
            host=host,
            port=port,
            username=url.username,
            password=url.password,
            tls=None if tls is None else tls.context(),
        )

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
