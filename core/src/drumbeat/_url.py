"""The URL that names a backend, its servers and its options; the password is never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from drumbeat._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PORT = 65535
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendURL:
    """A parsed backend URL, `scheme://user:password@host1:port,host2:port/path?option=value`."""

    scheme: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: Host names or addresses as written, each with its port or None.
    hosts: tuple[tuple[str, int | None], ...] = ()
    #: Decoded, with its leading slash if there is one.
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> BackendURL:
        """Return the parts of `url`; raise ConfigurationError, without the password, if it is malformed."""
        scheme, separator, _ = url.partition("://")
        if not separator or not _SCHEME.match(scheme):
            raise ConfigurationError(
                f"not a backend URL: {_without_secrets(url)!r}; write SCHEME://..., for example local:// or memory://"
            )
        try:
            parts = urlsplit(url)
        except ValueError:
            # What the parser says may repeat the password, so it is not passed on.
            raise ConfigurationError(
                f"malformed backend URL {_without_secrets(url)!r}; write SCHEME://USER:PASSWORD@HOST:PORT/PATH?OPTIONS "
                "with special characters as %XX"
            ) from None
        if parts.fragment:
            raise ConfigurationError(f"{_without_secrets(url)!r} has a fragment; write '#' as %23")
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, colon, password = credentials.partition(":")
        return cls(
            scheme=scheme,
            username=unquote(username) or None,
            password=unquote(password) if colon else None,
            hosts=_parse_hosts(hosts, shown=_without_secrets(url)),
            path=unquote(parts.path),
            options=_parse_options(parts.query, shown=_without_secrets(url)),
        )

    def __str__(self) -> str:
        credentials = self.username or ""
        credentials += ":***" if self.password is not None else ""
        hosts = ",".join(_join_host(host, port) for host, port in self.hosts)
        return f"{self.scheme}://{credentials}{'@' if credentials else ''}{hosts}{self.path}"


def _without_secrets(url: str) -> str:
    start = "://" if "://" in url else "^"
    shown = re.sub(rf"({start}[^:/?#@]*):.*@", r"\1:***@", url)
    return re.sub(r"\?.*", "?...", shown)


def _parse_hosts(text: str, *, shown: str) -> tuple[tuple[str, int | None], ...]:
    return tuple(_parse_host(part, shown=shown) for part in text.split(",")) if text else ()


def _parse_host(text: str, *, shown: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", text)
    if match is None or (match[2] and not 0 < int(match[2]) <= MAX_PORT):
        raise ConfigurationError(
            f"malformed host in {shown!r}; write HOST or HOST:PORT with commas between, and special characters as %XX"
        )
    return match[1].strip("[]"), int(match[2]) if match[2] else None


def _join_host(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _parse_options(query: str, *, shown: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        # What the parser says repeats the options, and one may be a secret.
        raise ConfigurationError(f"malformed options in {shown!r}; write ?name=value&name=value") from None
    options = dict(pairs)
    if len(options) != len(pairs):
        twice = sorted({name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1})
        raise ConfigurationError(f"{shown!r} gives {', '.join(twice)} more than once")
    return options
