"""An operator of Redis, who speaks its protocol plainly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final
from urllib.parse import unquote, urlsplit

from drumbeat.hookspecs import encode_key
from drumbeat_conformance.operators._base import Spoiling, Spoilt, address_of
from drumbeat_conformance.servers._ask import Reply, redis_line

__all__ = ["RedisOperator"]

#: The kinds of connections, as CLIENT KILL names them.
_KINDS: Final = ("normal", "pubsub")


@final
class RedisOperator:
    """Somebody with full rights at one Redis without TLS."""

    def __init__(self, url: str) -> None:
        self._host, self._port = address_of(url, port=6379)
        password = urlsplit(url).password
        self._password = None if password is None else unquote(password)

    def ask(self, *words: str | int) -> Reply:
        """Send one command on a connection of its own; return the answer, or raise an error."""
        with redis_line(self._port, host=self._host, password=self._password) as line:
            return line.call(*words)

    def key(self, namespace: str, rest: str) -> str:
        """Return a key of a namespace, for example that of "seat:e"."""
        return f"drumbeat:{{{encode_key(namespace)}}}:{rest}"

    def keys(self, namespace: str) -> set[str]:
        """Return what the keys of a namespace are called within it."""
        found = self.ask("KEYS", self.key(namespace, "*"))
        return {str(key).split("}:", 1)[1] for key in found} if isinstance(found, list) else set()

    def kill_clients(self, kinds: Sequence[str] = _KINDS) -> None:
        """End all connections but the one for this."""
        for kind in kinds:
            self.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def count_clients(self, kind: str = "normal") -> int:
        """Return how many connections of a kind there are, the one for this included."""
        with redis_line(self._port, host=self._host, password=self._password) as line:
            return len(str(line.call("CLIENT", "LIST", "TYPE", kind)).split())

    def spoilings(self) -> Sequence[Spoiling]:
        """Return ways to spoil a seat and the birth record, which are hashes."""
        return (
            Spoiling("seat", "another type of value", lambda namespace, name: self._retyped(namespace, f"seat:{name}")),
            Spoiling("seat", "half of it", lambda namespace, name: self._halved(namespace, f"seat:{name}", "value")),
            Spoiling("store", "another type of value", lambda namespace, _: self._retyped(namespace, "birth")),
            Spoiling("store", "half of it", lambda namespace, _: self._halved(namespace, "birth", "format")),
            Spoiling(
                "store", "of a newer format", lambda namespace, _: self._changed(namespace, "birth", "format", "2")
            ),
        )

    def _retyped(self, namespace: str, rest: str) -> Spoilt:
        key = self.key(namespace, rest)
        self.ask("DEL", key)
        self.ask("SET", key, "hello")
        return Spoilt(key, lambda: self.ask("GET", key) == "hello")

    def _halved(self, namespace: str, rest: str, field: str) -> Spoilt:
        key = self.key(namespace, rest)
        self.ask("HDEL", key, field)
        return self._left(key)

    def _changed(self, namespace: str, rest: str, field: str, value: str) -> Spoilt:
        key = self.key(namespace, rest)
        self.ask("HSET", key, field, value)
        return self._left(key)

    def _left(self, key: str) -> Spoilt:
        left = self.ask("HGETALL", key)
        return Spoilt(key, lambda: self.ask("HGETALL", key) == left)
