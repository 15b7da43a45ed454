"""The contract between Drumbeat's core and a backend, and between the core and an observer.

A backend is an object whose methods are marked with `hookimpl`; its class (or any factory that takes a
`BackendConfig`) is named by an entry point in the group `drumbeat.backends`, whose key is the URL scheme. The core
makes one backend object for each session and calls its hooks from several threads.

Rules that hold for every hook:

- Each hook returns the value that its annotation names, or raises an error of `drumbeat`. It never returns None:
  pluggy reads None as "not implemented", and the core refuses it by the hook's name.
- `timeout` is in seconds and bounds the call. A request that the client library would repeat by itself must not be
  repeated: the core repeats, and reads the clock before each attempt.
- `Unavailable` says that no usable answer came; `SessionLost` says that the server has spoken: it does not know the
  session any more.
- Names arrive checked and in Unicode NFC, values as opaque bytes. `encode_key` makes a safe key from any name.
- Seats and memberships belong to the session named by the lease and end with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, Protocol

import pluggy

from drumbeat._names import encode_key
from drumbeat._url import BackendURL

if TYPE_CHECKING:
    from drumbeat._clock import Clock
    from drumbeat._events import Event

__all__ = [
    "SPEC_VERSION",
    "BackendConfig",
    "BackendFactory",
    "BackendHooks",
    "BackendProfile",
    "BackendURL",
    "Beat",
    "Bound",
    "Cancel",
    "Candidacy",
    "CandidacySubject",
    "Capability",
    "Finding",
    "GroupHooks",
    "GroupRecord",
    "GroupSubject",
    "HeartbeatHooks",
    "Holdings",
    "Joined",
    "LeaderHooks",
    "LeaderRecord",
    "LeaderSubject",
    "Lease",
    "Left",
    "Limits",
    "MemberRecord",
    "Membership",
    "Notify",
    "ObserverHooks",
    "Proclaimed",
    "ReapTicket",
    "Reaped",
    "Resigned",
    "Seat",
    "SessionClosed",
    "SessionRequest",
    "Subject",
    "Updated",
    "Vacant",
    "Waiting",
    "WatchHooks",
    "Withdrawn",
    "Won",
    "encode_key",
    "hookimpl",
    "hookspec",
]

#: The version of this contract. A backend names the one it was written for in `spec_version`; connect compares.
SPEC_VERSION = 1

#: Marks a specification; used in this module only.
hookspec = pluggy.HookspecMarker("drumbeat")
#: Marks the methods of a backend, an interceptor or an observer that implement a hook.
hookimpl = pluggy.HookimplMarker("drumbeat")


class Capability(Enum):
    """What a backend may claim beyond the promises that hold for all; a claim is binding and is tested."""

    PUSH_WATCH = ("push-watch", "changes are pushed to watchers, who need not poll")
    FIFO_CANDIDATES = ("fifo-candidates", "candidates win in the order in which they came")
    CRASH_DETECTION = ("crash-detection", "a killed process is noticed at once, before its lease has run out")
    PERSISTENT = ("persistent", "sessions, groups and seats outlive a restart of the server within their leases")
    TOKENS_SURVIVE_RESTART = ("tokens-survive-restart", "tokens keep rising when the server restarts with its data")
    TOKENS_SURVIVE_DATA_LOSS = ("tokens-survive-data-loss", "tokens keep rising when the server loses its data")
    REAPING = ("reaping", "another process can end the session of a process that is proven dead")
    VOLATILE = ("volatile", "the server may lose everything without saying so")

    def __init__(self, label: str, promise: str) -> None:
        #: The word that reports and the command line use.
        self.label = label
        #: What is claimed, as one sentence.
        self.promise = promise


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on a time, as data: `factor * ttl + constant` seconds."""

    factor: float
    constant: float

    def seconds(self, ttl: float) -> float:
        """Return the bound in seconds for a granted TTL of `ttl` seconds."""
        return self.factor * ttl + self.constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers that a backend or its server imposes."""

    #: Shortest and longest TTL that the server grants, in seconds.
    min_ttl: float
    max_ttl: float
    #: Largest stored value (metadata or proclaimed value), in bytes.
    value_bytes: int
    #: Seconds by which the server may end a lease before its TTL has passed; subtracted from every deadline.
    early_expiry: float = 0.0
    #: Seconds between two reads of something that is waited for, where no push arrives.
    poll_interval: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendProfile:
    """What a backend says of itself and of the server that it talks to."""

    #: The server with its version, for people and reports, for example `"SQLite 3.40.1"`.
    server: str
    capabilities: frozenset[Capability]
    limits: Limits
    #: Worst case from the last heartbeat of a dead leader to the win of a candidate that was already waiting,
    #: while the server runs without interruption; after an interruption it counts from the server's return.
    failover: Bound
    #: Worst case from the last heartbeat of a dead member until no session that was already there sees it.
    eviction: Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """What a backend's factory is given. Making the object must not talk to a server: hooks do."""

    url: BackendURL
    namespace: str
    clock: Clock
    #: What to do in a store without Drumbeat's birth record: wait one longest TTL, or trust that it is new.
    on_empty_store: Literal["wait", "trust"] | None = None


class BackendFactory(Protocol):
    """The value of a `drumbeat.backends` entry point: usually the backend's class."""

    #: The SPEC_VERSION that the backend was written for, as a literal number.
    spec_version: int
    #: The URL options that this backend knows, each with one line for people.
    options: Mapping[str, str]

    def __call__(self, config: BackendConfig) -> object:
        """Return the object with the hooks; raise ConfigurationError for a URL that can never work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """The wish to open a session."""

    #: Unique id of this opening, made by the client, so that a repeated request is harmless.
    incarnation: str
    member_id: str
    #: Seconds that the lease should last; the granted TTL may differ.
    ttl: float
    #: This process's own earlier incarnation, which is ended first; None at the first opening.
    supersedes: str | None = None
    #: End the live session of another process that has this member id, rather than raise Conflict.
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The server's promise to keep a session for `ttl` seconds after the last heartbeat."""

    incarnation: str
    member_id: str
    #: The granted TTL in seconds: the one that the server enforces.
    ttl: float


@dataclass(frozen=True, slots=True)
class Membership:
    """A session's place in a group; `attempt` is the number of the join that made it."""

    group: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Candidacy:
    """One attempt of a session to win an election."""

    election: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Seat:
    """An election won by an attempt of a session; `token` is the fencing token of the term."""

    election: str
    attempt: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All that a session believes it holds at the moment of a heartbeat.

    Attempts are numbers that rise within an incarnation. What the store holds for this session under an attempt of
    at most `newest_attempt` that is not listed here was abandoned, and the heartbeat removes it.
    """

    memberships: tuple[Membership, ...] = ()
    candidacies: tuple[Candidacy, ...] = ()
    seats: tuple[Seat, ...] = ()
    newest_attempt: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat: the lease as it now stands, and what the store no longer holds for us."""

    lease: Lease
    lost: tuple[Seat | Membership, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is gone; `was_open` is whether this call ended it."""

    was_open: bool


@dataclass(frozen=True, slots=True)
class ReapTicket:
    """What another process needs to end one incarnation, and only that one."""

    incarnation: str
    member_id: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """The incarnation of the ticket is gone; `was_open` is whether this call ended it."""

    was_open: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """The session is a member now; `was_member` is whether it had been one, with the value now replaced."""

    was_member: bool


@dataclass(frozen=True, slots=True)
class Updated:
    """The value was replaced, or `was_member` is False and nothing was written."""

    was_member: bool


@dataclass(frozen=True, slots=True)
class Left:
    """The session is not a member; `was_member` is whether this call changed that."""

    was_member: bool


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A live member of a group, as stored."""

    member_id: str
    incarnation: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The members of a group as read at one moment, in any order; an unknown group has none."""

    members: tuple[MemberRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderRecord:
    """Who holds an election, as stored."""

    member_id: str
    incarnation: str
    token: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Vacant:
    """Nobody holds the election."""


@dataclass(frozen=True, slots=True)
class Won:
    """The attempt holds the seat."""

    seat: Seat


@dataclass(frozen=True, slots=True)
class Waiting:
    """The attempt has not won yet.

    `retry_after` is the number of seconds until the holder can lapse, where that is known; `holder` is who is in
    the way, where somebody holds the seat.
    """

    holder: LeaderRecord | Vacant
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The attempt is forgotten; `was_candidate` is whether the store knew it, as a candidate or as the holder."""

    was_candidate: bool


@dataclass(frozen=True, slots=True)
class Resigned:
    """The seat is not ours; `was_held` is whether this call gave it up."""

    was_held: bool


@dataclass(frozen=True, slots=True)
class Proclaimed:
    """The seat's value was replaced, or `was_held` is False and nothing was written."""

    was_held: bool


@dataclass(frozen=True, slots=True)
class GroupSubject:
    """A watch on the members of a group and their values."""

    group: str


@dataclass(frozen=True, slots=True)
class LeaderSubject:
    """A watch on the holder of an election and its value."""

    election: str


@dataclass(frozen=True, slots=True)
class CandidacySubject:
    """A watch on the moment at which one attempt may win; it need not wake for anything else."""

    election: str
    attempt: int


#: What can be watched.
Subject = GroupSubject | LeaderSubject | CandidacySubject
#: A hint without data that a subject may have changed; cheap, safe from any thread, never raises.
Notify = Callable[[], None]
#: Ends a watch; never raises, harmless when repeated, needs no server.
Cancel = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `drumbeat doctor` found: `level` is `"ok"`, `"warning"` or `"error"`."""

    level: Literal["ok", "warning", "error"]
    message: str


class BackendHooks:
    """What a backend says of itself."""

    @hookspec(firstresult=True)
    def describe_backend(self, timeout: float) -> BackendProfile:
        """Return capabilities, limits and bounds; called once at connect, before `open_session`.

        May ask the server for its version and limits. A server too old to keep the promises is a
        ConfigurationError that names its version and the lowest one that will do.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def diagnose_backend(self, timeout: float) -> tuple[Finding, ...]:
        """Return what an operator should know of this server's settings (optional; `drumbeat doctor` prints it)."""
        raise NotImplementedError


class HeartbeatHooks:
    """Opening, keeping and ending a session."""

    @hookspec(firstresult=True)
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Open the session of `request` and return its lease.

        Repeating a request whose answer was lost gives the same session, renewed. The incarnation in
        `request.supersedes` is ended first, with all that it held. Raises Conflict if another live session has
        the member id, unless `request.replace`; ConfigurationError if the TTL is outside the limits.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        """Renew the lease and verify every holding, in one round trip to the server however many there are.

        Seats and memberships that the store does not hold for this session come back in `Beat.lost`; what the store
        holds for it under an abandoned attempt is removed. Creates nothing. Must not wait behind the other hooks.
        Raises SessionLost when the server does not know the session.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """End the session with its memberships, candidacies and seats at once, and wake who waits for them."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        """Let go of every local resource of the session, without talking to the server; must not block.

        Called once an incarnation is over, whether or not `close_session` reached the server, so that no client
        library goes on renewing it. With `forked` it is called in a forked child: the parent's session must stay
        as it is, so nothing may be sent and nothing that the parent shares may be unlocked. Returns `was_open`:
        whether there was something to let go.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """End the session of another process that is proven dead (optional, Capability.REAPING).

        Ends exactly the incarnation of the ticket, with all that it held; a later incarnation is left alone.
        """
        raise NotImplementedError


class GroupHooks:
    """Groups and their members."""

    @hookspec(firstresult=True)
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes, timeout: float) -> Joined:
        """Make the session a member with `value`; once returned, every read by anyone sees it.

        Joining again replaces value and attempt. Raises SessionLost if the session is gone.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def update_member(self, lease: Lease, group: str, value: bytes, timeout: float) -> Updated:
        """Replace the value of a member; writes nothing if the session is not a member."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        """End the membership; once returned, no read by anyone sees it."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def read_group(self, lease: Lease, group: str, timeout: float) -> GroupRecord:
        """Return the live members of a group, read from the server now."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def list_groups(self, lease: Lease, timeout: float) -> tuple[str, ...]:
        """Return the names of the groups of the namespace that have live members, in any order."""
        raise NotImplementedError


class LeaderHooks:
    """Elections. `election` is a name qualified by the core: elections, locks and shards never share one."""

    @hookspec(firstresult=True)
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        """Try once to win; called again until it wins or is withdrawn.

        Idempotent for an attempt: an attempt that holds the seat is told Won with the same token, and `value` is
        kept from the win. Two attempts of one session are two candidates. The token is minted at the win and is
        greater than that of every earlier term of the election. Raises SessionLost if the session is gone.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        """Forget an attempt, freeing the seat if it has won meanwhile; once returned, it never wins."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        """Give up a seat and wake the next candidate; does nothing to a seat with another token."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def proclaim(self, lease: Lease, seat: Seat, value: bytes, timeout: float) -> Proclaimed:
        """Replace the value of a held seat; writes nothing to a seat with another token."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def read_leader(self, lease: Lease, election: str, timeout: float) -> LeaderRecord | Vacant:
        """Return who holds the election, read from the server now; a dead session holds nothing."""
        raise NotImplementedError


class WatchHooks:
    """Push instead of polling (optional, Capability.PUSH_WATCH)."""

    @hookspec(firstresult=True)
    def watch(self, lease: Lease, subject: Subject, notify: Notify, timeout: float) -> Cancel:
        """Call `notify` after every change of the subject from now on, until cancelled or the session ends.

        A hint may come too often, and must not be the only way to see a change: the core reads again after each
        hint and polls slowly besides. `notify` may be called on any thread and is called for changes of others and
        of the session itself.
        """
        raise NotImplementedError


class ObserverHooks:
    """What an observer sees. It runs on a thread that no call and no callback waits for."""

    @hookspec
    def on_event(self, event: Event) -> None:
        """Take one event; what it raises is logged and stops neither other observers nor later events."""
