"""One connection to one server: all that Drumbeat uses of the client library, typed."""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from redis._parsers import _RESP2Parser
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from drumbeat_redis._translate import asking, introducing

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from drumbeat.options import TLS
    from drumbeat_redis._script import Script
    from drumbeat_redis._settings import Settings

#: Seconds by which WAIT may answer after its timeout: servers look every 1/hz, by default ten times a second
#: (https://redis.io/docs/latest/operate/oss_and_stack/management/config-file/).
WAIT_LATENESS: Final = 0.15

#: What a server answers; None is nil.
Reply: TypeAlias = "bytes | int | list[Reply] | None"
Word: TypeAlias = "str | bytes | int"


class _Driver(Protocol):
    """The part of redis-py's connections that is used, the same from version 5 on."""

    deadline: float
    socket_timeout: float | None
    socket_connect_timeout: float | None

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def pack_commands(self, commands: Sequence[Sequence[Word]]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def read_response(self) -> Reply: ...


class _BoundedSocket:
    """A socket whose operations all end at its connection's deadline, however many there are.

    A timeout of the socket alone would start anew with every piece of an answer.
    """

    def __init__(self, sock: socket.socket, driver: _Bounded) -> None:
        self.bare = sock
        self._driver = driver
        self._timeout: float | None = None

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def recv(self, size: int) -> bytes:
        self._bound()
        return self.bare.recv(size)

    def sendall(self, data: bytes) -> None:
        self._bound()
        self.bare.sendall(data)

    def shutdown(self, how: int) -> None:
        self.bare.shutdown(how)

    def close(self) -> None:
        self.bare.close()

    def _bound(self) -> None:
        left = self._driver.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.bare.settimeout(left if self._timeout is None else min(left, self._timeout))


class _Bounded:
    """Mixed into redis-py's connections: gives them a bounded socket."""

    deadline = math.inf
    bounded: _BoundedSocket | None = None

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments)
        # No CLIENT SETINFO, which would be two more round trips; its names differ among versions of the client.
        for name in ("lib_name", "lib_version", "driver_info"):
            setattr(self, name, None)

    def _connect(self) -> _BoundedSocket:
        self.bounded = _BoundedSocket(super()._connect(), self)  # type: ignore[misc]
        return self.bounded


class _PlainConnection(_Bounded, Connection):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


class _TLSConnection(_Bounded, SSLConnection):  # pyright: ignore[reportIncompatibleMethodOverride]
    pass


class Link:
    """A connection that logs in. Not for two threads at a time.

    It repeats nothing by itself. Whoever got an error from it must close it, so that an answer that comes late is
    never taken for the next one.
    """

    def __init__(self, settings: Settings, host: str, port: int, *, login: bool = True, database: int = 0) -> None:
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        known = login and (settings.username is not None or settings.password is not None)
        self.user = (settings.username or "default") if known else None
        make: Callable[..., _Bounded] = _PlainConnection if settings.tls is None else _TLSConnection
        self._bounded = make(
            host=host,
            port=port,
            db=database,
            username=self.user,
            password=(settings.password or "") if known else None,
            # Core repeats, and looks at the clock before each attempt.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            # One behaviour, whether or not hiredis is installed: its parser goes round the bounded socket.
            parser_class=_RESP2Parser,
            **_tls_arguments(settings.tls),
        )
        self._driver = cast("_Driver", self._bounded)
        self._tls = settings.tls is not None

    def connect(self, deadline: float) -> None:
        """Connect and log in; raise Unavailable, AuthenticationError, ConfigurationError or BackendError."""
        driver = self._driver
        driver.deadline = deadline
        driver.socket_timeout = driver.socket_connect_timeout = max(0.001, deadline - time.monotonic())
        try:
            with introducing(self.address, user=self.user, tls=self._tls):
                driver.connect()
        except BaseException:
            self.close()
            raise

    def ask(self, *commands: Sequence[Word], deadline: float) -> list[Reply]:
        """Ask what changes nothing; return the answers, or raise the first error once all are read."""
        with introducing(self.address, user=self.user, tls=self._tls):
            return _checked(self._exchange(commands, deadline))

    def evaluate(self, script: Script, arguments: Sequence[Word], *, replicas: int, deadline: float) -> list[Reply]:
        """Run a script and return its answer, and the number of replicas that have it, if that was asked for.

        The server forgets scripts at a restart or failover; then the text follows at once, since nothing was done.
        """
        left = deadline - time.monotonic()
        patience = max(1, int((left - min(WAIT_LATENESS, left / 2)) * 1000))
        wait: list[Sequence[Word]] = [("WAIT", replicas, patience)] if replicas else []
        with asking(self.address, user=self.user):
            answers = self._exchange([("EVALSHA", script.sha, 1, *arguments), *wait], deadline)
            if isinstance(answers[0], NoScriptError):
                answers = self._exchange([("EVAL", script.text, 1, *arguments), *wait], deadline)
            return _checked(answers)

    def send(self, *commands: Sequence[Word], deadline: float) -> None:
        """Send commands whose answers are received one by one."""
        self._driver.deadline = deadline
        with asking(self.address, user=self.user):
            self._driver.send_packed_command(self._driver.pack_commands(commands))

    def receive(self, *, deadline: float) -> Reply:
        """Return what the server says next, or None if it has not said anything yet."""
        self._driver.deadline = deadline
        with asking(self.address, user=self.user):
            return self._driver.read_response() if self._driver.can_read(timeout=0) else None

    def is_idle(self) -> bool:
        """Return whether the connection stands and nothing unexpected has come: neither its end nor an answer."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return not poll.poll(0)

    def fileno(self) -> int:
        """Return the descriptor to wait on, or -1."""
        return -1 if self._bounded.bounded is None else self._bounded.bounded.bare.fileno()

    def close(self) -> None:
        """End the connection."""
        self._driver.disconnect()

    def abandon(self) -> None:
        """Close a forked child's copy of the descriptor, and nothing that the parent uses."""
        if self._bounded.bounded is not None:
            self._bounded.bounded.close()

    def _exchange(self, commands: Sequence[Sequence[Word]], deadline: float) -> list[Reply | ResponseError]:
        self._driver.deadline = deadline
        self._driver.send_packed_command(self._driver.pack_commands(commands))
        return [self._answer() for _ in commands]

    def _answer(self) -> Reply | ResponseError:
        try:
            return self._driver.read_response()
        except ResponseError as error:
            return error


def _checked(answers: Sequence[Reply | ResponseError]) -> list[Reply]:
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return cast("list[Reply]", answers)


def _tls_arguments(tls: TLS | None) -> dict[str, object]:
    if tls is None:
        return {}
    return {
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
    }
