"""Finding the one server that has the namespace: by name, by asking Sentinels, or by asking a cluster's nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from drumbeat import AuthenticationError, BackendError, ConfigurationError, DrumbeatError, Unavailable
from drumbeat_redis._info import ServerInfo
from drumbeat_redis._link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_redis._link import Reply
    from drumbeat_redis._settings import Settings

Address = tuple[str, int]


class Route:
    """The way to the server that has a namespace, looked up anew for every connection."""

    def __init__(self, settings: Settings, key: str) -> None:
        self._settings = settings
        self._key = key
        #: Whom to ask, the one that answered last first.
        self._hosts = settings.hosts

    def connect(self, deadline: float) -> tuple[Link, ServerInfo]:
        """Return a connection to the primary, with what it says of itself.

        Raises Unavailable if it cannot be found or reached, ConfigurationError if it will never do.
        """
        link = self._connect_to(self._find(deadline), deadline)
        try:
            (text,) = link.ask(("INFO",), deadline=deadline)
            info = ServerInfo.parse(link.address, text)
            info.require_fit(self._settings)
        except BaseException:
            link.close()
            raise
        return link, info

    def _connect_to(self, address: Address, deadline: float) -> Link:
        link = Link(self._settings, *address, database=self._settings.database)
        link.connect(deadline)
        return link

    def _find(self, deadline: float) -> Address:
        if self._settings.mode == "sentinel":
            return self._ask_around(self._ask_sentinel, deadline)
        if self._settings.mode == "cluster":
            return self._ask_around(self._ask_node, deadline)
        return self._hosts[0]

    def _ask_around(self, ask: Callable[[Address, float], Address], deadline: float) -> Address:
        """Return the first answer, each host having its share of the time that is left."""
        failure: DrumbeatError = Unavailable("there is no time left", outcome="not_applied")
        for position, host in enumerate(self._hosts):
            now = time.monotonic()
            try:
                found = ask(host, now + (deadline - now) / (len(self._hosts) - position))
            except DrumbeatError as error:
                # What somebody said is worth more than that somebody else is silent.
                failure = error if isinstance(failure, Unavailable) else failure
                continue
            self._hosts = (host, *(other for other in self._hosts if other != host))
            return found
        if not isinstance(failure, Unavailable):
            raise failure
        shown = ", ".join(f"{host}:{port}" for host, port in self._hosts)
        raise Unavailable(
            f"none of {shown} says which server to use: {failure.args[0]}", outcome="not_applied"
        ) from failure

    def _ask_sentinel(self, host: Address, deadline: float) -> Address:
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._settings.service)
        try:
            (reply,) = self._ask_once(host, command, deadline=deadline, login=False)
        except AuthenticationError:
            # A Sentinel may want a login of its own (requirepass); by habit it is that of the servers.
            (reply,) = self._ask_once(host, command, deadline=deadline)
        if not isinstance(reply, list):
            raise ConfigurationError(
                f"the Sentinel at {host[0]}:{host[1]} watches no servers named {self._settings.service!r}"
            )
        if len(reply) != 2 or not (port := _text(reply[1])).isdecimal():  # noqa: PLR2004 - host and port
            raise BackendError(f"what answers at {host[0]}:{host[1]} names no server as a Sentinel does")
        return _text(reply[0]), int(port)

    def _ask_node(self, host: Address, deadline: float) -> Address:
        commands = (("CLUSTER", "KEYSLOT", self._key), ("CLUSTER", "SLOTS"))
        slot, ranges = self._ask_once(host, *commands, deadline=deadline)
        for found in ranges if isinstance(ranges, list) else []:
            if isinstance(found, list) and isinstance(slot, int) and _int(found[0]) <= slot <= _int(found[1]):
                owner = found[2]
                if isinstance(owner, list):
                    # An empty name stands for the address that was asked.
                    return _text(owner[0]) or host[0], _int(owner[1])
        raise Unavailable(f"{host[0]}:{host[1]} knows no node for the slot of {self._key}", outcome="not_applied")

    def _ask_once(self, host: Address, *commands: tuple[str, ...], deadline: float, login: bool = True) -> list[Reply]:
        link = Link(self._settings, *host, login=login)
        try:
            link.connect(deadline)
            return link.ask(*commands, deadline=deadline)
        finally:
            link.close()


def _text(reply: Reply) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else ""


def _int(reply: Reply) -> int:
    return reply if isinstance(reply, int) else -1
