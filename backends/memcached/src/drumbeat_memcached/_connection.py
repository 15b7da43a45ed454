"""One connection to the server: made by pymemcache, read and written here within one deadline."""

from __future__ import annotations

import select
import socket
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat import AuthenticationError, BackendError, ConfigurationError
from drumbeat_memcached._commands import gets, read_values, store
from drumbeat_memcached._stats import Stats
from drumbeat_memcached._translate import refused, translated

if TYPE_CHECKING:
    import ssl

    from drumbeat_memcached._target import Target

#: The oldest release line that this backend was tried with.
OLDEST: Final = (1, 6)
#: Longer than any line of an answer.
MAX_LINE: Final = 2048
CHUNK: Final = 65_536
#: The key of the number that tells one start of a server from another.
START: Final = "drumbeat:start"


@dataclass(frozen=True, slots=True)
class _Named:
    """A TLS context for a server that is dialled by address, and whose certificate has its name."""

    context: ssl.SSLContext
    name: str

    def wrap_socket(self, sock: socket.socket, *, server_hostname: str) -> ssl.SSLSocket:  # noqa: ARG002 - the address
        return self.context.wrap_socket(sock, server_hostname=self.name)


class Connection:
    """A connection that has been greeted: the server's version will do, and it knows who we are.

    After any error it must be closed, so that a late answer is never taken for the answer to a later request.
    """

    def __init__(self, target: Target, sock: socket.socket, deadline: float) -> None:
        self.target = target
        self._sock = sock
        #: When, on the monotonic clock, the whole answer to what is sent must have come.
        self.deadline = deadline
        self._buffer = bytearray()
        #: The server's release, and which start of it this is, where that was to be learned.
        self.version, self.start = "", ""

    @classmethod
    def dial(cls, target: Target, deadline: float, *, learns_start: bool = True) -> Connection:
        """Connect and greet, by `deadline` on the monotonic clock; without learning the start, nothing is written."""
        with translated(target, outcome="not_applied"):
            connection = cls(target, _connect(target, deadline), deadline)
            try:
                connection._greet()
                if learns_start:
                    connection.start = connection._read_start()
            except BaseException:
                connection.close()
                raise
            return connection

    def is_idle(self) -> bool:
        """Return whether the connection can take a request: it is open, and nothing is left to be read."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not self._buffer and not poll.poll(0)

    def close(self) -> None:
        """Close this process's descriptor; nothing is sent, so a forked child may do it."""
        self._sock.close()

    # Requests and answers -----------------------------------------------------------------------------------

    def send(self, request: bytes) -> None:
        """Send a request."""
        rest = memoryview(request)
        while rest:
            self._sock.settimeout(self._left())
            rest = rest[self._sock.send(rest[:CHUNK]) :]

    def line(self) -> bytes:
        """Return the next line of an answer without its end."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise refused(self.target, bytes(self._buffer))
            self._receive()
        return self._take(end, skip=2)

    def block(self, size: int) -> bytes:
        """Return the next `size` bytes of an answer, which a line end follows."""
        while len(self._buffer) < size + 2:
            self._receive()
        return self._take(size, skip=2)

    def stats(self) -> Stats:
        """Return what the server says of itself; the request for it was sent."""
        found: dict[str, str] = {}
        while (line := self.line()) != b"END":
            word, _, rest = line.partition(b" ")
            if word != b"STAT":
                raise refused(self.target, line)
            name, _, value = rest.decode("utf-8", "replace").partition(" ")
            found[name] = value
        return Stats(found)

    def _take(self, size: int, *, skip: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[: size + skip]
        return taken

    def _receive(self) -> None:
        self._sock.settimeout(self._left())
        received = self._sock.recv(CHUNK)
        if not received:
            raise ConnectionResetError("it was closed by the other end")
        self._buffer += received

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    # Greeting -----------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        self.send(b"version\r\n")
        answer = self.line()
        if answer.startswith(b"CLIENT_ERROR unauthenticated") and self.target.username is not None:
            self._authenticate()
            self.send(b"version\r\n")
            answer = self.line()
            if not answer.startswith(b"VERSION "):
                # Not quoted: it may be the password that we have just sent.
                raise BackendError(
                    f"what listens at {self.target} does not answer as Memcached does; see host and port"
                )
        elif self.target.username is not None and answer.startswith(b"VERSION "):
            # Sent now, the password would be stored as a value that anybody can read.
            raise ConfigurationError(
                f"Memcached at {self.target} asks for no password; start it with -Y FILE, or leave user and password "
                "out of the URL"
            )
        self._check_version(answer)

    def _read_start(self) -> str:
        """Return what tells this start of the server from every other.

        A container's server has the same process id after each start, and two may come within one second; so the
        first to ask leaves a number of its own, which goes with everything else that the server loses.
        """
        mine = uuid.uuid4().hex.encode()
        self.send(store(START, mine, None, None) + gets([START]) + b"stats\r\n")
        added = self.line()
        # A server that is full keeps no number; only its own words tell one start from another then.
        if added not in {b"STORED", b"NOT_STORED"} and not added.startswith(b"SERVER_ERROR out of memory"):
            raise refused(self.target, added)
        number, _ = read_values(self).get(START, (b"", None))
        return f"{self.stats().start} {number[:40].decode('ascii', 'replace')}"

    def _authenticate(self) -> None:
        # https://github.com/memcached/memcached/blob/1.6.18/doc/protocol.txt ("Authentication")
        token = f"{self.target.username} {self.target.password}".encode()
        self.send(b"set auth 0 0 %d\r\n%b\r\n" % (len(token), token))
        if self.line() != b"STORED":
            raise AuthenticationError(f"Memcached at {self.target} refused the user and the password of the URL")

    def _check_version(self, answer: bytes) -> None:
        word, _, version = answer.partition(b" ")
        if word != b"VERSION":
            raise refused(self.target, answer)
        self.version = version[:40].decode("ascii", "replace")
        numbers = self.version.split(".")
        if not all(part.isdecimal() for part in numbers[:2]) or tuple(map(int, numbers[:2])) < OLDEST:
            raise ConfigurationError(
                f"Memcached at {self.target} has version {self.version!r}; Drumbeat needs at least "
                f"{'.'.join(map(str, OLDEST))}"
            )


def _connect(target: Target, deadline: float) -> socket.socket:
    addresses = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    for tried, (*_, address) in enumerate(addresses, start=1):
        left = max(0.001, deadline - time.monotonic()) / (len(addresses) - tried + 1)
        try:
            return _connect_to(target, str(address[0]), left)
        except (ConnectionError, TimeoutError):
            if tried == len(addresses):
                raise
    raise OSError("its name has no address")


def _connect_to(target: Target, address: str, timeout: float) -> socket.socket:
    from pymemcache.client.base import Client  # type: ignore[import-untyped]

    # By address, since the client would try only the first of a name's; connecting and the TLS handshake each have
    # the client's timeout, so that together they have ours.
    client = Client(
        (address, target.port),
        connect_timeout=timeout if target.tls is None else timeout / 2,
        no_delay=True,
        ignore_exc=False,
        default_noreply=False,
        tls_context=None if target.tls is None else _Named(target.tls, target.host),  # pyright: ignore[reportArgumentType]
    )
    # Its public calls bound the wait for each piece of an answer, and none the wait for the whole.
    client._connect()  # noqa: SLF001
    sock = client.sock
    assert isinstance(sock, socket.socket)  # noqa: S101 - for the type checkers; pymemcache has no types
    return sock
