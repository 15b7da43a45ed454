"""The boundary to pyetcd or etcd3: their generated messages on gRPC channels of our own.

Both packages are the same code generated from etcd's own protocol files. Their clients above that have no timeout
for each request, so only the messages and stubs are used. A request is sent once, with its own timeout.
"""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from drumbeat import AuthenticationError, ConfigurationError, DrumbeatError, Forked, SessionLost, Unavailable
from drumbeat_etcd._channels import open_channel
from drumbeat_etcd._findings import Look
from drumbeat_etcd._operations import (
    Answer,
    Delete,
    Entry,
    Leased,
    Outcome,
    Place,
    Put,
    Read,
    Renewal,
    Told,
    Transaction,
    countdown,
)
from drumbeat_etcd._translate import LeaseExists, TokenRefused, translated

if TYPE_CHECKING:
    from types import ModuleType

    from drumbeat_etcd._grpc import grpc
    from drumbeat_etcd._operations import Created, Operation
    from drumbeat_etcd._options import Options

T = TypeVar("T")
#: What goes with each request: the token of who we are.
Metadata = tuple[tuple[str, str], ...]

#: A server that is cut off from the cluster's leader says so at once, to a watch too, rather than wait for it.
REQUIRE_LEADER: Final = (("hasleader", "true"),)

#: The process that uses gRPC, whose threads a forked child does not have.
_user: int | None = None


def load_messages() -> ModuleType:
    """Return the generated messages and stubs of pyetcd, or else of etcd3."""
    problems = []
    for package in ("pyetcd", "etcd3"):
        try:
            with warnings.catch_warnings():
                # The code generated for etcd3 is older than what protobuf deprecates today.
                warnings.simplefilter("ignore", DeprecationWarning)
                return import_module(f"{package}.etcdrpc")
        except (ImportError, TypeError) as error:
            # With a protobuf that is too new for it, etcd3 raises TypeError.
            problems.append(f"{package}: {str(error).splitlines()[0]}")
    raise ConfigurationError(
        "neither client of etcd can be imported; run `pip install drumbeat-etcd 'protobuf>=5.27.2'`, or "
        f"`pip install 'drumbeat-etcd[etcd3]'` where protobuf must stay below 3.21 ({'; '.join(problems)})"
    )


class _Header(Protocol):
    revision: int


class _KeyValue(Protocol):
    key: bytes
    value: bytes
    create_revision: int
    lease: int


class _Range(Protocol):
    kvs: Sequence[_KeyValue]


class _Deletion(Protocol):
    deleted: int


class _Response(Protocol):
    response_range: _Range
    response_delete_range: _Deletion


class _Alarm(Protocol):
    alarm: int


class _Reply(Protocol):
    """A protobuf message; which of these it has depends on what was asked."""

    header: _Header
    succeeded: bool
    responses: Sequence[_Response]
    TTL: int
    keys: Sequence[bytes]
    version: str
    token: str
    watch_id: int
    created: bool
    canceled: bool
    cancel_reason: str
    members: Sequence[object]
    alarms: Sequence[_Alarm]


class _Stream(Protocol):
    def __next__(self) -> _Reply: ...
    def cancel(self) -> object: ...


class Client:
    """All connections of one session: to each server one for calls and watches, and one for heartbeats."""

    def __init__(self, options: Options, *, prefix: str) -> None:
        refuse_fork()
        self._options = options
        self._rpc = load_messages()
        self._prefix = prefix
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, int], grpc.Channel] = {}
        #: The one that was given up last.
        self._retired: list[grpc.Channel] = []
        #: The number of the server that is asked at present.
        self._current = 0
        self._token: str | None = None
        self._closed = False

    # What etcd is asked -------------------------------------------------------------------------------------

    def version(self, timeout: float) -> str:
        """Return the version of the first server that answers."""
        return self._ask("Maintenance/Status", timeout).version

    def grant(self, lease: int, ttl: int, timeout: float) -> float:
        """Return the TTL in seconds that was granted to a lease, be it now or by a request whose answer was lost."""
        left = countdown(timeout)
        try:
            return float(self._ask("Lease/LeaseGrant", left(), ID=lease, TTL=ttl).TTL)
        except LeaseExists:
            granted = self._ask("Lease/LeaseKeepAlive", left(), ID=lease).TTL
        if granted <= 0:
            raise Unavailable(f"the lease of this session at etcd at {self.address} has just run out")
        return float(granted)

    def revoke(self, lease: int, timeout: float) -> bool:
        """End a lease with all its keys; return whether there was one."""
        try:
            self._ask("Lease/LeaseRevoke", timeout, ID=lease)
        except SessionLost:
            return False
        return True

    def remaining(self, lease: int, timeout: float) -> int:
        """Return the whole seconds that a lease has left; less than 0 if there is none."""
        return self._ask("Lease/LeaseTimeToLive", timeout, ID=lease).TTL

    def transact(self, transaction: Transaction, timeout: float) -> Outcome:
        """Apply a transaction at one moment."""
        return _outcome(self._send("KV/Txn", self._txn(transaction), timeout))

    def beat(self, lease: int, transaction: Transaction, timeout: float) -> Renewal:
        """Renew a lease, list its keys and read, by three requests that are sent together.

        The read needs a majority. So a leader that has been cut off and does not know it yet, and whose successor
        counts the lease from its own beginning, cannot renew it alone.
        """
        requests = (
            # One message is an answer to one: the stream need not be one for the client.
            ("Lease/LeaseKeepAlive", self._rpc.LeaseKeepAliveRequest(ID=lease)),
            ("Lease/LeaseTimeToLive", self._rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)),
            ("KV/Txn", self._txn(transaction)),
        )

        def send(channel: grpc.Channel, timeout: float, metadata: Metadata) -> list[_Reply]:
            pending = [
                channel.unary_unary(*self._method(path)).future(request, timeout=timeout, metadata=metadata)
                for path, request in requests
            ]
            return [answer.result() for answer in pending]

        renewed, listed, read = self._call(send, timeout, role="beats")
        return Renewal(renewed.TTL, frozenset(_text(key) for key in listed.keys), _outcome(read))

    def open_watches(self, timeout: float) -> WatchStream:
        """Open the stream on which any number of watches is told."""
        requests: SimpleQueue[object] = SimpleQueue()

        def send(channel: grpc.Channel, _: float, metadata: Metadata) -> WatchStream:
            watch = channel.stream_stream(*self._method("Watch/Watch"))
            stream: _Stream = watch(iter(requests.get, None), metadata=metadata)
            return WatchStream(self, stream, requests)

        return self._call(send, timeout)

    def look(self, timeout: float) -> Look:
        """Ask each server for its version, all at the same time, and one of them for the cluster's state.

        What a server does not tell, or not to this user, is left out.
        """
        left = countdown(timeout)
        members: int | None = None
        alarms: frozenset[str] = frozenset()
        with suppress(AuthenticationError, Unavailable):
            members = len(self._ask("Cluster/MemberList", left() / 3).members)
        with suppress(AuthenticationError, Unavailable):
            raised = self._ask("Maintenance/Alarm", left() / 2).alarms
            alarms = frozenset(self._rpc.AlarmType.Name(each.alarm) for each in raised)
        versions = self._versions(left)
        if not any(versions.values()):
            raise Unavailable(f"none of the etcd servers answers: {', '.join(versions)}")
        return Look(versions, members, alarms)

    def _versions(self, left: Callable[[], float]) -> dict[str, str | None]:
        pending: dict[str, grpc.Future] = {}
        for number, address in enumerate(self._options.endpoints):
            with suppress(DrumbeatError), translated(address, prefix=self._prefix):
                channel = self._channel("calls", left(), number)
                status = channel.unary_unary(*self._method("Maintenance/Status"))
                metadata = self._metadata(channel, left())
                pending[address] = status.future(self.message("StatusRequest"), timeout=left(), metadata=metadata)
        versions: dict[str, str | None] = dict.fromkeys(self._options.endpoints)
        for address, answer in pending.items():
            with suppress(DrumbeatError), translated(address, prefix=self._prefix):
                versions[address] = answer.result().version
        return versions

    # How it is asked ----------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The server that is asked at present."""
        return self._options.endpoints[self._current]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise errors as Drumbeat's; after one that another server may not have, turn to the next server."""
        tried = self._current
        try:
            with translated(self._options.endpoints[tried], prefix=self._prefix):
                yield
        except Unavailable:
            with self._lock:
                if self._current == tried:
                    self._current = (tried + 1) % len(self._options.endpoints)
            raise

    def close(self) -> None:
        """End all connections, and with them the calls that are under way."""
        with self._lock:
            self._closed = True
            channels = [*self._channels.values(), *self._retired]
            self._channels, self._retired = {}, []
        for channel in channels:
            channel.close()

    def abandon(self) -> None:
        """Keep a forked child from ever tidying up: gRPC would shut down sockets that belong to the parent."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def message(self, kind: str, **fields: object) -> object:
        """Return a protobuf message."""
        made: object = getattr(self._rpc, kind)(**fields)
        return made

    def _ask(self, path: str, timeout: float, **fields: object) -> _Reply:
        request = self.message(f"{path.rpartition('/')[2]}Request", **fields)
        return self._send(path, request, timeout)

    def _call(self, send: Callable[[grpc.Channel, float, Metadata], T], timeout: float, *, role: str = "calls") -> T:
        """Send once, and again only if nothing was sent or our token was refused."""
        left = countdown(timeout)
        untried = len(self._options.endpoints)
        fresh_token = False
        channel: grpc.Channel | None = None
        while True:
            try:
                with self.translated():
                    channel = self._channel(role, left())
                    return send(channel, left(), self._metadata(channel, left()))
            except TokenRefused:
                if fresh_token:
                    raise
                fresh_token, self._token = True, None
            except Unavailable as error:
                if channel is not None and error.outcome == "unknown":
                    self._give_up(channel)
                untried -= 1
                if untried == 0 or error.outcome == "unknown":
                    raise

    def _send(self, path: str, request: object, timeout: float) -> _Reply:
        def send(channel: grpc.Channel, timeout: float, metadata: Metadata) -> _Reply:
            reply: _Reply = channel.unary_unary(*self._method(path))(request, timeout=timeout, metadata=metadata)
            return reply

        return self._call(send, timeout)

    def _method(self, path: str) -> tuple[str, Callable[[object], bytes], Callable[[bytes], _Reply]]:
        name = path.rpartition("/")[2]
        request, reply = (getattr(self._rpc, f"{name}{side}") for side in ("Request", "Response"))
        return f"/etcdserverpb.{path}", request.SerializeToString, reply.FromString

    def _metadata(self, channel: grpc.Channel, timeout: float) -> Metadata:
        if self._options.username is None:
            return REQUIRE_LEADER
        token = self._token
        if token is None:
            who = self._rpc.AuthenticateRequest(name=self._options.username, password=self._options.password)
            authenticate = channel.unary_unary(*self._method("Auth/Authenticate"))
            token = self._token = authenticate(who, timeout=timeout).token
        return (*REQUIRE_LEADER, ("token", token))

    def _channel(self, role: str, timeout: float, number: int | None = None) -> grpc.Channel:
        with self._lock:
            place = (role, self._current if number is None else number)
            known = self._channels.get(place)
        if known is not None:
            return known
        made = open_channel(self._options.endpoints[place[1]], self._options.tls, timeout)
        with self._lock:
            if self._closed:
                raise Unavailable(f"the connection to etcd at {self.address} was closed here", outcome="not_applied")
            return self._channels.setdefault(place, made)

    def _give_up(self, channel: grpc.Channel) -> None:
        """Let go of a connection that does not answer: while it is asked, gRPC waits on a half-open one for ever."""
        with self._lock:
            places = [place for place, known in self._channels.items() if known is channel]
            for place in places:
                del self._channels[place]
            # Other calls may be under way on it, and end in time by themselves before the next one is given up.
            retired, self._retired = (self._retired, [channel]) if places else ([], self._retired)
        for old in retired:
            old.close()

    def _txn(self, transaction: Transaction) -> object:
        compare = [self._compare(condition) for condition in transaction.conditions]
        success, failure = (
            [self._operation(one) for one in some] for some in (transaction.then, transaction.otherwise)
        )
        return self.message("TxnRequest", compare=compare, success=success, failure=failure)

    def _compare(self, condition: Created | Leased) -> object:
        key = condition.key.encode()
        if isinstance(condition, Leased):
            return self._rpc.Compare(key=key, target="LEASE", result="EQUAL", lease=condition.lease)
        return self._rpc.Compare(
            key=key,
            range_end=(condition.end or "").encode(),
            target="CREATE",
            result="EQUAL",
            create_revision=condition.revision,
        )

    def _operation(self, operation: Operation) -> object:
        if isinstance(operation, Transaction):
            return self.message("RequestOp", request_txn=self._txn(operation))
        key = operation.key.encode()
        if isinstance(operation, Put):
            put = self.message("PutRequest", key=key, value=operation.value, lease=operation.lease)
            return self.message("RequestOp", request_put=put)
        end = (operation.end or "").encode()
        if isinstance(operation, Delete):
            deletion = self.message("DeleteRangeRequest", key=key, range_end=end)
            return self.message("RequestOp", request_delete_range=deletion)
        return self.message("RequestOp", request_range=self.message("RangeRequest", **_range(operation)))


class WatchStream:
    """One stream of watches: an iterator over what the server says of them."""

    def __init__(self, client: Client, stream: _Stream, requests: SimpleQueue[object]) -> None:
        self._client = client
        self._stream = stream
        self._requests = requests

    def create(self, place: Place) -> None:
        """Ask for a watch; the answers to several come in the order in which they were asked for."""
        create = self._client.message(
            "WatchCreateRequest",
            key=place.key.encode(),
            range_end=(place.end or "").encode(),
            start_revision=place.start,
        )
        self._requests.put(self._client.message("WatchRequest", create_request=create))

    def cancel(self, watch_id: int) -> None:
        """Ask for the end of a watch."""
        cancel = self._client.message("WatchCancelRequest", watch_id=watch_id)
        self._requests.put(self._client.message("WatchRequest", cancel_request=cancel))

    def end(self) -> None:
        """End the stream, also for the thread that reads it; harmless when repeated."""
        self._requests.put(None)
        self._stream.cancel()

    def __iter__(self) -> Iterator[Told]:
        """Yield until the stream ends, which raises."""
        while True:
            with self._client.translated():
                reply: _Reply | None = next(self._stream, None)
            if reply is None:
                raise Unavailable(f"etcd at {self._client.address} has ended the stream of watches")
            yield Told(reply.watch_id, reply.created, reply.canceled, reply.cancel_reason)


def refuse_fork() -> None:
    """Raise Forked in a child of a process that has used gRPC, where every call would hang."""
    global _user  # noqa: PLW0603 - a fact about the process
    _user = _user or os.getpid()
    if _user != os.getpid():
        raise Forked(
            f"gRPC does not work in process {os.getpid()}, a forked child of process {_user}, which has used it; "
            "connect to etcd in a process that was started by exec, for example by multiprocessing's 'spawn'"
        )


def _range(read: Read) -> dict[str, object]:
    fields: dict[str, object] = {"key": read.key.encode(), "range_end": (read.end or "").encode()}
    fields["keys_only"] = read.keys_only
    if read.oldest:
        fields |= {"limit": 1, "sort_order": "ASCEND", "sort_target": "CREATE"}
    if read.newest_before is not None:
        fields |= {"limit": 1, "sort_order": "DESCEND", "sort_target": "CREATE"}
        fields["max_create_revision"] = read.newest_before - 1
    return fields


def _outcome(reply: _Reply) -> Outcome:
    answers = tuple(
        Answer(tuple(_entry(kv) for kv in answer.response_range.kvs), answer.response_delete_range.deleted)
        for answer in reply.responses
    )
    return Outcome(reply.succeeded, reply.header.revision, answers)


def _entry(kv: _KeyValue) -> Entry:
    return Entry(_text(kv.key), kv.value, kv.create_revision, kv.lease)


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
