"""What `connect` was asked for: keyword before URL before environment before default."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from drumbeat._errors import ConfigurationError, DrumbeatWarning
from drumbeat._names import check_name
from drumbeat._plugins import nearest
from drumbeat._url import BackendURL

OnConflict = Literal["wait", "refuse", "replace"]
HeartbeatMode = Literal["auto", "manual"]
OnEmptyStore = Literal["wait", "trust"]

DEFAULT_URL: Final = "local://"
DEFAULT_NAMESPACE: Final = "drumbeat"
DEFAULT_TTL: Final = 10.0

#: The options that every backend URL takes, each with one line for people.
CORE_OPTIONS: Final[Mapping[str, str]] = {
    "namespace": "keeps applications on one server apart (default: drumbeat)",
    "member_id": "this process's id, unique in the namespace (default: host, pid and a random part)",
    "lease_ttl": "seconds until a silent session is dead (default: 10)",
    "heartbeat_interval": "seconds between heartbeats (default: lease_ttl / 4)",
    "request_timeout": "seconds allowed for one request (default: lease_ttl / 5)",
    "connect_timeout": "seconds allowed for connecting (default: 5)",
    "heartbeat": "auto (a thread) or manual (call session.beat())",
    "on_conflict": "wait, refuse or replace when the member id is alive (default: wait)",
    "on_empty_store": "wait or trust when the store has no birth record",
    "observers": "names of observers, commas between",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a session was asked to be."""

    url: BackendURL
    namespace: str
    member_id: str
    lease_ttl: float
    heartbeat_interval: float | None
    request_timeout: float | None
    connect_timeout: float
    heartbeat: HeartbeatMode
    on_conflict: OnConflict
    on_empty_store: OnEmptyStore | None
    observers: tuple[str | object, ...]
    wait: bool


@dataclass(frozen=True, slots=True)
class _Sources:
    """The places that an option may come from, in the order in which they count."""

    keywords: Mapping[str, object]
    url: BackendURL

    def get(self, name: str) -> object:
        if self.keywords.get(name) is not None:
            return self.keywords[name]
        return self.url.options.get(name) or os.environ.get(f"DRUMBEAT_{name.upper()}") or None

    def text(self, name: str, default: Callable[[], str]) -> str:
        given = self.get(name)
        if given is not None and not isinstance(given, str):
            raise ConfigurationError(f"{name} must be a str, not {given!r}")
        return default() if given is None else given

    def seconds(self, name: str, default: float | None) -> float | None:
        given = self.get(name)
        if given is None:
            return default
        try:
            is_number = isinstance(given, str | int | float) and not isinstance(given, bool)
            value = float(given) if is_number else math.nan  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value) or value <= 0:
            raise ConfigurationError(f"{name} must be a number of seconds above 0, not {given!r}")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None) -> str | None:
        given = self.get(name)
        if given is None or given in choices:
            return default if given is None else str(given)
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, not {given!r}")


def read_settings(url: str | None, keywords: Mapping[str, object]) -> Settings:
    """Merge what was given, or raise ConfigurationError naming what is wrong."""
    if url is not None and not isinstance(url, str):
        raise ConfigurationError(f"the URL must be a str such as local:// or redis://HOST, not {url!r}")
    wait = keywords.get("wait") or False
    if not isinstance(wait, bool):
        raise ConfigurationError(f"wait must be True or False, not {wait!r}")
    parsed = BackendURL.parse(_default_url() if url is None else url)
    sources = _Sources(keywords, parsed)
    connect_timeout = sources.seconds("connect_timeout", 5.0)
    lease_ttl = sources.seconds("lease_ttl", DEFAULT_TTL)
    if connect_timeout is None or lease_ttl is None:
        raise ConfigurationError("connect_timeout and lease_ttl need a value")
    return Settings(
        url=parsed,
        namespace=_namespace(sources),
        member_id=check_name("member_id", sources.text("member_id", default_member_id)),
        lease_ttl=lease_ttl,
        heartbeat_interval=sources.seconds("heartbeat_interval", None),
        request_timeout=sources.seconds("request_timeout", None),
        connect_timeout=connect_timeout,
        heartbeat=sources.choice("heartbeat", ("auto", "manual"), "auto"),  # type: ignore[arg-type]
        on_conflict=sources.choice("on_conflict", ("wait", "refuse", "replace"), "wait"),  # type: ignore[arg-type]
        on_empty_store=sources.choice("on_empty_store", ("wait", "trust"), None),  # type: ignore[arg-type]
        observers=_observers(sources.get("observers")),
        wait=wait,
    )


def check_url_options(url: BackendURL, backend_options: Mapping[str, str]) -> None:
    """Raise ConfigurationError for an option that neither the core nor the backend knows."""
    known = {**CORE_OPTIONS, **backend_options}
    for name in url.options:
        if name not in known:
            raise ConfigurationError(
                f"{url.scheme}:// has no option {name!r}, {nearest(name, known)}; it takes: {', '.join(sorted(known))}"
            )


def default_member_id() -> str:
    """Return an id that no other process has: host, process id and a random part."""
    return f"{os.uname().nodename[:60]}-{os.getpid()}-{os.urandom(4).hex()}"


def _default_url() -> str:
    url = os.environ.get("DRUMBEAT_URL")
    if url:
        return url
    if os.environ.get("DRUMBEAT_REQUIRE_URL", "") not in {"", "0"}:
        raise ConfigurationError(
            "no URL was given, DRUMBEAT_URL is not set, and DRUMBEAT_REQUIRE_URL forbids the local default; "
            "set DRUMBEAT_URL, for example to redis://HOST:6379/0"
        )
    warnings.warn(
        f"no URL was given and DRUMBEAT_URL is not set: coordinating processes of this host only, through "
        f"{_local_file()}. Give a URL to coordinate several hosts, or {DEFAULT_URL!r} to say that this is meant",
        DrumbeatWarning,
        stacklevel=4,
    )
    return DEFAULT_URL


def _local_file() -> str:
    from drumbeat.local import default_path

    return str(default_path())


def _namespace(sources: _Sources) -> str:
    keyword, option = sources.keywords.get("namespace"), sources.url.options.get("namespace")
    if keyword is not None and option is not None and keyword != option:
        raise ConfigurationError(
            f"the namespace is {keyword!r} by argument and {option!r} in the URL; two processes that disagree "
            "would not see each other, so give it once"
        )
    return check_name("namespace", sources.text("namespace", lambda: DEFAULT_NAMESPACE))


def _observers(given: object) -> tuple[str | object, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    if isinstance(given, Sequence):
        return tuple(given)
    raise ConfigurationError(f"observers must be a sequence of names and objects, not {given!r}")
