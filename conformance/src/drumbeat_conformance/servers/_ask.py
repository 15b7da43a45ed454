"""Questions to a server over a bare socket: does it serve, and in which version."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from drumbeat_conformance.servers._certificates import Certificates
from drumbeat_conformance.servers._errors import NotYet

# Seconds for one question; who asks tries again.
_TIMEOUT = 2.0

Reply = str | int | None | list["Reply"]


class Refused(Exception):
    """Redis answered a command with an error."""


class RedisLine:
    """A connection to Redis that speaks its protocol plainly.

    https://redis.io/docs/latest/develop/reference/protocol-spec/
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def call(self, *words: str | int) -> Reply:
        """Send one command and return its answer; raise Refused for an error."""
        parts = [str(word).encode() for word in words]
        sent = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._stream.write(sent)
        self._stream.flush()
        return self._read()

    def _read(self) -> Reply:
        line = self._stream.readline().decode().rstrip("\r\n")
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise Refused(rest)
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if kind == "*":
            return [self._read() for _ in range(int(rest))]
        if kind == "$":
            return None if rest == "-1" else self._stream.read(int(rest) + 2)[:-2].decode()
        raise NotYet(f"Redis closed the connection or answered {line!r}")


@contextmanager
def redis_line(
    port: int, *, host: str = "127.0.0.1", tls: Certificates | None = None, password: str | None = None
) -> Iterator[RedisLine]:
    """Return a connection to the Redis on `port`, authenticated if a password is given."""
    with _stream(port, tls, host=host) as stream:
        line = RedisLine(stream)
        if password is not None:
            line.call("AUTH", password)
        yield line


def redis_version(port: int, *, tls: Certificates | None = None, password: str | None = None, fact: str = "") -> str:
    """Return the version of a Redis whose INFO has the fact; empty if it serves but does not know us."""
    try:
        with redis_line(port, tls=tls, password=password) as line:
            line.call("PING")
            info = str(line.call("INFO"))
    except Refused as error:
        if str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            return ""
        raise NotYet(str(error)) from error
    found = re.search(r"redis_version:(\S+)", info)
    if found is None or fact not in info:
        raise NotYet(f"Redis does not say {fact!r}")
    return found[1]


def memcached_version(
    port: int, *, tls: Certificates | None = None, user: str = "", password: str | None = None
) -> str:
    """Return the version of a memcached."""
    with _stream(port, tls) as stream:
        if password is not None:
            token = f"{user} {password}".encode()
            stream.write(b"set auth 0 0 %d\r\n%b\r\n" % (len(token), token))
            stream.flush()
            stream.readline()
        stream.write(b"version\r\n")
        stream.flush()
        answer = stream.readline().decode()
    if not answer.startswith("VERSION "):
        raise NotYet(f"memcached answered {answer!r}")
    return answer.split()[1]


def zookeeper_version(port: int, *, tls: Certificates | None = None, mode: str = "") -> str:
    """Return the version of a ZooKeeper that serves in `mode`, such as "read-only"; empty means any.

    https://zookeeper.apache.org/doc/r3.8.0/zookeeperAdmin.html#sc_4lw
    """
    with _stream(port, tls) as stream:
        stream.write(b"srvr")
        stream.flush()
        answer = stream.read().decode()
    found = re.search(r"version: ([0-9.]+)", answer)
    if found is None or f"Mode: {mode}" not in answer:
        raise NotYet(f"ZooKeeper answered {answer!r}")
    return found[1]


def etcd_version(port: int, *, tls: Certificates | None = None) -> str:
    """Return the version of an etcd that has a leader.

    https://etcd.io/docs/v3.4/op-guide/monitoring/#health-check
    """
    health = _get(port, "/health", tls=tls)
    if health.get("health") not in ("true", True):
        raise NotYet(f"etcd answered {health!r}")
    return str(_get(port, "/version", tls=tls)["etcdserver"])


def _get(port: int, path: str, *, tls: Certificates | None) -> dict[str, object]:
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT, context=tls.client_context())
    try:
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
    except (http.client.HTTPException, ValueError) as error:
        raise NotYet(f"etcd answered no JSON: {error}") from error
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise NotYet(f"etcd answered {answer!r}")
    return answer


@contextmanager
def _stream(port: int, tls: Certificates | None, *, host: str = "127.0.0.1") -> Iterator[BinaryIO]:
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT) as plain,
        _secured(plain, tls) as line,
        line.makefile("rwb") as stream,
    ):
        # BufferedRWPair is a BinaryIO in all but its declared type.
        yield stream  # type: ignore[misc]


@contextmanager
def _secured(plain: socket.socket, tls: Certificates | None) -> Iterator[socket.socket]:
    if tls is None:
        yield plain
        return
    context: ssl.SSLContext = tls.client_context()
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
        yield secured
