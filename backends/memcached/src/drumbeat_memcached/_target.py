"""What a URL says: which server, who we are to it, and whether to speak TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat.hookspecs import BackendConfig

DEFAULT_PORT: Final = 11211

#: The URL options of this backend; any of them switches TLS on.
OPTIONS: Final[Mapping[str, str]] = {
    "tls_ca_file": "file of the authorities (PEM) that may sign the server's certificate; switches TLS on",
    "tls_certificate": "file of the certificate (PEM) that shows the server who we are; switches TLS on",
    "tls_key": "file of the key (PEM) of tls_certificate, if it is not in the same file",
    "tls_verify": "true or false: whether to check the server's certificate (default: true); switches TLS on",
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
        host, port = url.hosts[0]
        try:
            host.encode("idna")
        except UnicodeError as error:
            raise ConfigurationError(f"{host!r} can be no host name: {error}") from error
        return cls(
            host=host,
            port=port or DEFAULT_PORT,
            username=url.username,
            password=url.password,
            tls=_tls_context(url.options),
        )

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def _tls_context(options: Mapping[str, str]) -> ssl.SSLContext | None:
    given = {name: options[name] for name in OPTIONS if name in options}
    if not given:
        return None
    verify = given.get("tls_verify", "true")
    if verify not in {"true", "false"}:
        raise ConfigurationError(f"tls_verify must be true or false, not {verify!r}")
    if "tls_key" in given and "tls_certificate" not in given:
        raise ConfigurationError("tls_key is given without tls_certificate; give both, or neither")
    context = _trusting(given.get("tls_ca_file"))
    if verify == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "tls_certificate" in given:
        _load_certificate(context, given["tls_certificate"], given.get("tls_key"))
    return context


def _trusting(authorities: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ConfigurationError(f"tls_ca_file={authorities} is no readable file of certificates: {error}") from error


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:
        raise ConfigurationError(
            f"tls_certificate={certificate} and tls_key={key or certificate} are no readable certificate with its "
            f"unencrypted key: {error}"
        ) from error


def _no_password() -> bytes:
    """Keep OpenSSL from asking for the password of an encrypted key on the terminal."""
    return b""
