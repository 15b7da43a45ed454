"""Servers that somebody else's function starts, looked at before anything is tested on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError, DrumbeatError
from drumbeat_conformance.servers import CouldNotRun, ServerFailed

if TYPE_CHECKING:
    from drumbeat_conformance.target import ControlledServer, StartServer

__all__ = ["checked"]

_METHODS: Final = ("kill", "stop", "start", "wipe", "pause", "resume")
#: What says well enough by itself what went wrong.
_PLAIN: Final = (DrumbeatError, CouldNotRun, ServerFailed)


def checked(start: StartServer, *, name: str) -> StartServer:
    """Return the same start of servers, with a ConfigurationError that names it for whatever is no server."""

    @contextmanager
    def started() -> Iterator[ControlledServer]:
        given: object = _made(start, name)
        if not isinstance(given, AbstractContextManager):
            raise ConfigurationError(f"{name} returned {given!r}, which no `with` block takes; see `ControlledServer`")
        with given as server:
            _refuse_what_is_none(server, name)
            yield server

    return started


def _made(start: StartServer, name: str) -> object:
    try:
        return start()
    except _PLAIN:
        raise
    except Exception as error:
        raise ConfigurationError(f"{name} started no server: it raised {type(error).__name__}: {error}") from error


def _refuse_what_is_none(server: object, name: str) -> None:
    missing = [method for method in _METHODS if not callable(getattr(server, method, None))]
    if not isinstance(getattr(server, "url", None), str):
        missing.insert(0, "url")
    if missing:
        raise ConfigurationError(f"{name} gave {server!r}, which is no server: it lacks {', '.join(missing)}")
