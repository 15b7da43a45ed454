"""The hooks of `drumbeat.hookspecs` on ZooKeeper."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from drumbeat import ConfigurationError, SessionLost, Unavailable
from drumbeat.hookspecs import (
    BackendConfig,
    BackendProfile,
    Beat,
    Bound,
    Cancel,
    Candidacy,
    Capability,
    Finding,
    GroupRecord,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Left,
    Limits,
    Notify,
    Proclaimed,
    Reaped,
    ReapTicket,
    Resigned,
    Seat,
    SessionClosed,
    SessionRequest,
    Subject,
    Updated,
    Vacant,
    Waiting,
    Withdrawn,
    Won,
    encode_key,
    hookimpl,
)
from drumbeat_zookeeper._layout import Layout
from drumbeat_zookeeper._srvr import USUAL_TICK, Told, ask
from drumbeat_zookeeper._target import OPTIONS, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drumbeat_zookeeper._link import SessionKey
    from drumbeat_zookeeper._opening import Opener, Stretch
    from drumbeat_zookeeper._session import Session

CAPABILITIES: Final = frozenset(
    {
        Capability.PUSH_WATCH,
        Capability.FIFO_CANDIDATES,
        Capability.PERSISTENT,
        Capability.TOKENS_SURVIVE_RESTART,
        Capability.REAPING,
    }
)
#: Seconds; what the server does not tell of its own limits, it tells by granting another TTL.
MIN_TTL: Final = 0.1
MAX_TTL: Final = 86_400.0
#: jute.maxbuffer is 1 MB, for a whole request: https://zookeeper.apache.org/doc/r3.8.0/zookeeperAdmin.html
VALUE_BYTES: Final = 65_536


class ZooKeeperBackend:
    """`zookeeper://HOST:PORT,HOST:PORT/CHROOT`: a session is a ZooKeeper session, its places are ephemeral nodes.

    A call that gets no answer raises Unavailable and has its connection replaced; what it may have done is undone
    by the next heartbeat. Errors never name a password.
    """

    spec_version: ClassVar[int] = 1
    options: ClassVar[Mapping[str, str]] = OPTIONS

    def __init__(self, config: BackendConfig) -> None:
        self._target = Target.from_url(config.url)
        self._layout = Layout(f"{self._target.chroot}/{encode_key(config.namespace)}")
        self._on_empty_store: Literal["wait", "trust"] | None = config.on_empty_store
        self._told: Told | None = None
        self._sessions: dict[str, Session] = {}
        #: Incarnations of this object that the server may still know though they were let go of.
        self._unended: dict[str, SessionKey] = {}

    @hookimpl
    def describe_backend(self, timeout: float) -> BackendProfile:
        """Ask a server for its version and, where it may tell them, its settings."""
        told = self._told = ask(self._target, timeout)
        stretch = self._stretch()
        # A session ends at the first tick after its timeout: ExpiryQueue rounds up. Then a request or two.
        bound = Bound(stretch.factor, stretch.constant + told.tick + 1.0)
        return BackendProfile(
            server=f"ZooKeeper {told.version}",
            capabilities=CAPABILITIES,
            limits=Limits(min_ttl=MIN_TTL, max_ttl=MAX_TTL, value_bytes=VALUE_BYTES, poll_interval=5.0),
            failover=bound,
            eviction=bound,
        )

    @hookimpl
    def diagnose_backend(self, timeout: float) -> tuple[Finding, ...]:
        """Return what the server tells of itself, and what of it an operator may want to change."""
        told = ask(self._target, timeout)
        alone = Finding("warning", "it is the only server: while it is down nobody can lead; run an ensemble of three")
        open_nodes = Finding("warning", "everybody may change what is stored; give a user and a password in the URL")
        few = told.connections is not None and 0 < told.connections < 1000  # noqa: PLR2004 - a guess, for people
        return (
            Finding("ok", f"{told.address} runs version {told.version}, mode {told.mode or 'unknown'}"),
            *([] if told.several else [alone]),
            *([] if self._target.creator_only else [open_nodes]),
            *(
                [Finding("warning", f"maxClientCnxns is {told.connections}: a session takes two connections")]
                if few
                else []
            ),
            Finding(
                "ok", f"sessions may last {told.min_ttl or '?'} to {told.max_ttl or '?'} s; a tick is {told.tick} s"
            ),
        )

    # Sessions -----------------------------------------------------------------------------------------------

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Open a ZooKeeper session and take the member id."""
        until = time.monotonic() + timeout
        known = self._sessions.get(request.incarnation)
        if known is not None:
            return known.beat(Holdings(), until).lease
        if not MIN_TTL <= request.ttl <= MAX_TTL:
            raise ConfigurationError(
                f"a TTL of {request.ttl:g} s is outside what zookeeper:// asks for: {MIN_TTL:g} to {MAX_TTL:g} s"
            )
        if request.supersedes is not None:
            self._supersede(request.supersedes, until)
        session = self._opener().open(request, self._stretch(), until)
        self._sessions[request.incarnation] = session
        self._unended[request.incarnation] = session.owner.key
        return session.lease

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        """Renew the session by the only request that does so, and read what it holds."""
        return self._live(lease).beat(holdings, time.monotonic() + timeout)

    @hookimpl
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """End the ZooKeeper session, with all its nodes, in one transaction."""
        session = self._sessions.pop(lease.incarnation, None)
        if session is None:
            return SessionClosed(was_open=False)
        until = time.monotonic() + timeout
        session.end_watches()
        was_over = session.owner.over
        ended = session.owner.close(until)
        session.reader.close(until)
        if not ended and not was_over:
            raise Unavailable(f"{self._target.shown}: the server did not confirm the end of the session")
        self._unended.pop(lease.incarnation, None)
        return SessionClosed(was_open=ended)

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        """Let go of both connections."""
        session = self._sessions.pop(lease.incarnation, None)
        if session is None:
            return SessionClosed(was_open=False)
        if not forked:
            # In a child nothing rings, and another thread of the parent may have had the lock.
            session.end_watches()
        for link in (session.owner, session.reader):
            if forked:
                link.drop_in_child()
            else:
                link.drop()
        return SessionClosed(was_open=True)

    @hookimpl
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """End the ZooKeeper session of another process by the key in its node."""
        until = time.monotonic() + timeout
        return Reaped(self._opener().reap(ticket.incarnation, ticket.member_id, until))

    # Groups -------------------------------------------------------------------------------------------------

    @hookimpl
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes, timeout: float) -> Joined:
        """Make an ephemeral node."""
        return Joined(self._live(lease).join(group, attempt, value, time.monotonic() + timeout))

    @hookimpl
    def update_member(self, lease: Lease, group: str, value: bytes, timeout: float) -> Updated:
        """Replace the node's data."""
        with suppress(SessionLost):
            return Updated(self._live(lease).update(group, value, time.monotonic() + timeout))
        return Updated(was_member=False)

    @hookimpl
    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        """Remove the node."""
        with suppress(SessionLost):
            return Left(self._live(lease).leave(group, time.monotonic() + timeout))
        return Left(was_member=False)

    @hookimpl
    def read_group(self, lease: Lease, group: str, timeout: float) -> GroupRecord:
        """Read all nodes of the group in two round trips."""
        return self._live(lease).members(group, time.monotonic() + timeout)

    @hookimpl
    def list_groups(self, lease: Lease, timeout: float) -> tuple[str, ...]:
        """Return the groups that are not empty, in two round trips."""
        return self._live(lease).groups(time.monotonic() + timeout)

    # Elections ----------------------------------------------------------------------------------------------

    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        """Queue by an ephemeral node, and win when it is the oldest."""
        return self._live(lease).campaign(election, attempt, value, time.monotonic() + timeout)

    @hookimpl
    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        """Remove the node, and the leader's if it has won."""
        with suppress(SessionLost):
            return Withdrawn(self._live(lease).withdraw(Candidacy(election, attempt), time.monotonic() + timeout))
        return Withdrawn(was_candidate=False)

    @hookimpl
    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        """Remove both nodes in one transaction, if the own one holds the seat."""
        with suppress(SessionLost):
            return Resigned(self._live(lease).resign(seat, time.monotonic() + timeout))
        return Resigned(was_held=False)

    @hookimpl
    def proclaim(self, lease: Lease, seat: Seat, value: bytes, timeout: float) -> Proclaimed:
        """Replace the leader's data, in a transaction that checks the own node."""
        with suppress(SessionLost):
            return Proclaimed(self._live(lease).proclaim(seat, value, time.monotonic() + timeout))
        return Proclaimed(was_held=False)

    @hookimpl
    def read_leader(self, lease: Lease, election: str, timeout: float) -> LeaderRecord | Vacant:
        """Read the leader's node."""
        return self._live(lease).leader(election, time.monotonic() + timeout)

    @hookimpl
    def watch(self, lease: Lease, subject: Subject, notify: Notify, timeout: float) -> Cancel:
        """Watch by ZooKeeper's watches, on the connection that does not beat."""
        return self._live(lease).watch(subject, notify, time.monotonic() + timeout)

    # Inside -------------------------------------------------------------------------------------------------

    def _live(self, lease: Lease) -> Session:
        session = self._sessions.get(lease.incarnation)
        if session is None:
            raise SessionLost(f"{self._target.shown}: session {lease.incarnation} of {lease.member_id!r} is over")
        return session

    def _supersede(self, incarnation: str, until: float) -> None:
        session = self._sessions.pop(incarnation, None)
        if session is not None:
            session.end_watches()
            for link in (session.owner, session.reader):
                link.drop()
        key = self._unended.get(incarnation)
        if key is not None:
            self._opener().end(key, until)
            self._unended.pop(incarnation, None)

    def _opener(self) -> Opener:
        # kazoo is loaded when it is first needed, so that to look at a URL costs little.
        from drumbeat_zookeeper._opening import Opener

        return Opener(self._target, self._layout, self._on_empty_store)

    def _stretch(self) -> Stretch:
        from drumbeat_zookeeper._opening import Stretch

        several = len(self._target.hosts) > 1 if self._told is None else self._told.several
        tick = USUAL_TICK if self._told is None else self._told.tick
        return Stretch(factor=1.25, constant=tick / 2) if several else Stretch(factor=1.0, constant=0.0)
