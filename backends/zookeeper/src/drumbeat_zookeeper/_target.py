"""What the URL says: where the servers are, who we are there, and how the link is kept secret."""

from __future__ import annotations

import importlib.util
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from drumbeat import ConfigurationError
from drumbeat.options import TLS, TLS_OPTIONS, TLS_SWITCH, read_choice, read_hosts, read_tls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat.hookspecs import BackendURL

DEFAULT_HOST: Final = "localhost"
DEFAULT_PORT: Final = 2181

#: What ZooKeeper refuses in a path; it counts in UTF-16, so that all beyond 16 bits are surrogates to it:
#: https://github.com/apache/zookeeper/blob/release-3.6.0/zookeeper-server/src/main/java/org/apache/zookeeper/common/PathUtils.java
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")

OPTIONS: Final[Mapping[str, str]] = {
    "auth": "digest or sasl: how the user and password of the URL are presented (default: digest)",
    "acl": "creator or open: who may touch what is created (default: creator with a user, else open)",
    **TLS_SWITCH,
    **TLS_OPTIONS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The servers of one URL and how to talk to them."""

    shown: str
    hosts: tuple[tuple[str, int], ...]
    chroot: str
    username: str | None
    password: str | None = field(repr=False)
    auth: Literal["digest", "sasl"]
    creator_only: bool
    tls: TLS | None

    @classmethod
    def from_url(cls, url: BackendURL) -> Target:
        """Read the URL, or raise ConfigurationError naming what can never work."""
        auth = read_choice(url, "auth", ("digest", "sasl"), default="digest")
        acl = read_choice(url, "acl", ("creator", "open"), default="open" if url.username is None else "creator")
        target = cls(
            shown=str(url),
            hosts=read_hosts(url, default_port=DEFAULT_PORT) or ((DEFAULT_HOST, DEFAULT_PORT),),
            chroot=url.path.rstrip("/"),
            username=url.username,
            password=url.password,
            auth="sasl" if auth == "sasl" else "digest",
            creator_only=acl == "creator",
            tls=read_tls(url),
        )
        target._check(url.options)
        return target

    def connect(self, address: tuple[str, int], *, name: str, timeout: float) -> socket.socket:
        """Return a connection to an address of the host `name`, over TLS if the URL says so; raise OSError."""
        plain = socket.create_connection(address, timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # This closes the connection if it fails, which the client library does not.
        return plain if self.tls is None else self.tls.context().wrap_socket(plain, server_hostname=name)

    def _check(self, options: Mapping[str, str]) -> None:
        if (self.username is None) != (self.password is None) or (self.username is None and "auth" in options):
            raise ConfigurationError(f"{self.shown}: give a user and a password, as zookeeper://USER:PASSWORD@HOST")
        if self.creator_only and self.username is None:
            raise ConfigurationError(f"{self.shown}: acl=creator needs a user and a password in the URL")
        if self.auth == "sasl" and importlib.util.find_spec("puresasl") is None:
            raise ConfigurationError(
                f"{self.shown}: auth=sasl needs the package pure-sasl; install drumbeat-zookeeper[sasl]"
            )
        if "//" in self.chroot or any(part in {".", ".."} for part in self.chroot.split("/")):
            raise ConfigurationError(
                f"{self.shown}: the path names no node; write /ONE/PATH without empty or dot parts"
            )
        if (forbidden := _FORBIDDEN.search(self.chroot)) is not None:
            raise ConfigurationError(
                f"{self.shown!r}: ZooKeeper allows no U+{ord(forbidden[0]):04X} in a path; name another one"
            )
