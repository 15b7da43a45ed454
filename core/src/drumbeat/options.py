"""Reading the options of a backend's URL, for those who write a backend.

The core refuses an option that a backend does not name in its `options`; here the values are checked. Whatever cannot
be used is a ConfigurationError that names the option, and what it may be.
"""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drumbeat._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat._url import BackendURL

__all__ = ["TLS", "TLS_OPTIONS", "TLS_SWITCH", "read_choice", "read_flag", "read_hosts", "read_number", "read_tls"]

#: What `read_tls` reads, for a backend's `options`.
TLS_OPTIONS: Final[Mapping[str, str]] = {
    "tls_ca_file": "PEM file of the authorities that may sign the server's certificate (default: the system's)",
    "tls_certificate": "PEM file of the certificate that shows the server who we are, where it asks",
    "tls_key": "PEM file of the key of tls_certificate (default: in the same file)",
    "tls_verify": "false to take any certificate of the server for its own (default: true)",
}
#: The same for a backend that has no URL scheme for TLS.
TLS_SWITCH: Final[Mapping[str, str]] = {"tls": "true to speak TLS (default: true if another tls option is given)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """How to check the server's certificate, and which one to show; the files were read once already."""

    #: Path of the authorities to trust; None for those of the system.
    ca_file: str | None
    #: Path of the own certificate, and of its key, which may be the same file.
    certificate: str | None
    key: str | None
    #: Whether the server's certificate and name are checked.
    verify: bool

    def context(self) -> ssl.SSLContext:
        """Return a new context for a client; raise ConfigurationError for a file that cannot be used."""
        context = self._trusting()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            self._load_certificate(context, self.certificate)
        return context

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"tls_ca_file={self.ca_file} is no readable file of certificates: {error}"
            ) from error

    def _load_certificate(self, context: ssl.SSLContext, certificate: str) -> None:
        try:
            context.load_cert_chain(certificate, self.key, password=_no_password)
        except OSError as error:
            raise ConfigurationError(
                f"tls_certificate={certificate} and tls_key={self.key} are no readable certificate with its "
                f"unencrypted key: {error}"
            ) from error


def read_tls(url: BackendURL, *, secure: bool | None = None) -> TLS | None:
    """Return how to speak TLS, or None not to.

    `secure` says whether the URL's scheme asks for TLS; None, for backends with a single scheme, leaves it to the
    option `tls`, which is implied by any other. Options that would have no effect are a ConfigurationError, and so are
    files that cannot be used.
    """
    given = [name for name in TLS_OPTIONS if name in url.options]
    if not (read_flag(url, "tls", default=bool(given)) if secure is None else secure):
        if given:
            remedy = "leave out tls=false" if secure is None else f"write {url.scheme}s://"
            raise ConfigurationError(f"{url} gives {', '.join(given)}, but asks for no TLS; {remedy}")
        return None
    certificate, key = url.options.get("tls_certificate"), url.options.get("tls_key")
    if key is not None and certificate is None:
        raise ConfigurationError(f"{url} gives tls_key without tls_certificate; give both, or neither")
    tls = TLS(
        ca_file=_path(url, "tls_ca_file"),
        certificate=_path(url, "tls_certificate"),
        key=_path(url, "tls_key") or certificate,
        verify=read_flag(url, "tls_verify", default=True),
    )
    tls.context()
    return tls


def read_hosts(url: BackendURL, *, default_port: int) -> tuple[tuple[str, int], ...]:
    """Return the hosts of a URL, each with its port; a name that no host can have is a ConfigurationError."""
    for host, _ in url.hosts:
        try:
            host.encode("idna")
        except UnicodeError as error:
            raise ConfigurationError(f"{host!r} in {url} can be no host name: {error}") from error
    return tuple((host, default_port if port is None else port) for host, port in url.hosts)


def read_flag(url: BackendURL, name: str, *, default: bool) -> bool:
    """Return an option that is `true` or `false`."""
    return read_choice(url, name, ("true", "false"), default=str(default).lower()) == "true"


def read_choice(url: BackendURL, name: str, choices: tuple[str, ...], *, default: str) -> str:
    """Return an option that is one of a few words."""
    value = url.options.get(name, default)
    if value not in choices:
        raise ConfigurationError(f"{name} must be {' or '.join(choices)}, not {value!r}")
    return value


def read_number(
    url: BackendURL, name: str, *, default: float, lowest: float = 0.0, highest: float, whole: bool = False
) -> float:
    """Return an option that is a number from `lowest` to `highest`, and a whole one if that is wanted."""
    text = url.options.get(name)
    try:
        value = float(default if text is None else text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest or (whole and not value.is_integer()):
        raise ConfigurationError(
            f"{name} must be a {'whole ' if whole else ''}number from {lowest:g} to {highest:g}, not {text!r}"
        )
    return value


def _path(url: BackendURL, name: str) -> str | None:
    path = url.options.get(name)
    if path is not None and not Path(path).is_file():
        raise ConfigurationError(f"{name} must name a file, not {path!r}")
    return path


def _no_password() -> bytes:
    """Keep OpenSSL from asking for the password of an encrypted key on the terminal."""
    return b""
