"""What the URL says: where the servers are, who we are there, and how the link is kept secret."""

from __future__ import annotations

import importlib.util
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from drumbeat import ConfigurationError

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
    "tls": "true or false (default: true if another tls_ option is given)",
    "tls_ca_file": "file of the authorities to trust (default: those of the system)",
    "tls_certificate": "file of the client's certificate, for servers that ask for one",
    "tls_key": "file of the client's private key",
    "tls_verify": "true or false: check the server's certificate and name (default: true)",
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
    tls: bool
    tls_verify: bool
    ca_file: str | None
    certificate: str | None
    key: str | None

    @classmethod
    def from_url(cls, url: BackendURL) -> Target:
        """Read the URL, or raise ConfigurationError naming what can never work."""
        options = url.options
        files = {name: options.get(name) for name in ("tls_ca_file", "tls_certificate", "tls_key")}
        implied = "true" if any(files.values()) or "tls_verify" in options else "false"
        auth = _choice(options, "auth", ("digest", "sasl"), "digest")
        known = url.username is not None
        target = cls(
            shown=str(url),
            hosts=tuple((host, port or DEFAULT_PORT) for host, port in url.hosts or ((DEFAULT_HOST, None),)),
            chroot=url.path.rstrip("/"),
            username=url.username,
            password=url.password,
            auth="sasl" if auth == "sasl" else "digest",
            creator_only=_choice(options, "acl", ("creator", "open"), "creator" if known else "open") == "creator",
            tls=_choice(options, "tls", ("true", "false"), implied) == "true",
            tls_verify=_choice(options, "tls_verify", ("true", "false"), "true") == "true",
            ca_file=files["tls_ca_file"],
            certificate=files["tls_certificate"],
            key=files["tls_key"],
        )
        target._check(options)
        return target

    def connect(self, address: tuple[str, int], *, name: str, timeout: float) -> socket.socket:
        """Return a connection to an address of the host `name`, over TLS if the URL says so; raise OSError."""
        plain = socket.create_connection(address, timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # This closes the connection if it fails, which the client library does not.
        return self._tls_context().wrap_socket(plain, server_hostname=name) if self.tls else plain

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = self.tls_verify
        context.verify_mode = ssl.CERT_REQUIRED if self.tls_verify else ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context

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
        self._check_hosts()
        if not self.tls and any(name.startswith("tls_") for name in options):
            raise ConfigurationError(f"{self.shown}: tls=false, and yet another tls_ option is given")
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError(f"{self.shown}: tls_certificate and tls_key are given together or not at all")
        if self.tls:
            self._check_files()

    def _check_hosts(self) -> None:
        for host, _ in self.hosts:
            try:
                host.encode("idna")
            except UnicodeError as error:
                raise ConfigurationError(
                    f"{self.shown}: {host!r} is not a host name; each part between dots has 1 to 63 letters"
                ) from error

    def _check_files(self) -> None:
        try:
            self._tls_context()
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(str(file) for file in (self.ca_file, self.certificate, self.key) if file)
            raise ConfigurationError(f"{self.shown}: a TLS file cannot be used ({named}): {error}") from error


def _choice(options: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in choices:
        raise ConfigurationError(f"the URL option {name} must be {' or '.join(choices)}, not {value!r}")
    return value
