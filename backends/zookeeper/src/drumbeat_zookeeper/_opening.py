"""How a session comes to be: the namespace, the member id, and the end of who had it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from drumbeat import BadData, Conflict, SessionLost, Unavailable
from drumbeat.hookspecs import Lease, SessionRequest
from drumbeat_zookeeper._layout import BIRTH, FOLDERS, Layout, Record
from drumbeat_zookeeper._link import Link, SessionKey
from drumbeat_zookeeper._session import Session
from drumbeat_zookeeper._wire import Node, Refusal, create, get, multi, read, sync

if TYPE_CHECKING:
    from drumbeat_zookeeper._target import Target

#: Seconds that a session of a moment is asked for: what is left of it if the end goes wrong.
BRIEF: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """How a TTL relates to the timeout that ZooKeeper is asked for.

    With one server they are the same. In an ensemble a follower answers a heartbeat, and tells the server that expires
    sessions of it only twice a tick: https://zookeeper.apache.org/doc/r3.8.0/zookeeperInternals.html. If it dies in
    between, the session lives as if its last heartbeat had not been. So ZooKeeper keeps it for a heartbeat's interval
    (a quarter of the TTL) and half a tick longer than we rely on it.
    """

    factor: float
    constant: float

    def asked(self, ttl: float) -> float:
        """Return the timeout to ask for."""
        return ttl * self.factor + self.constant

    def granted(self, timeout: float) -> float:
        """Return the TTL that a timeout is good for."""
        return (timeout - self.constant) / self.factor

    def spare(self, timeout: float) -> float:
        """Return how far apart heartbeats may be for the TTL to hold whatever becomes of the follower."""
        return timeout - self.constant - self.granted(timeout) if self.factor > 1 else math.inf


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens sessions in one namespace."""

    target: Target
    layout: Layout
    on_empty_store: Literal["wait", "trust"] | None

    def open(self, request: SessionRequest, stretch: Stretch, until: float) -> Session:
        """Return the session, or raise with nothing left open."""
        timeout = stretch.asked(request.ttl)
        links = [Link(self.target, timeout=timeout, owns=owns) for owns in (False, True)]
        try:
            reader, owner = links
            reader.start(until)
            self._prepare(reader, until)
            self._make_room(reader, request, until)
            owner.start(until)
            return self._claim(owner, reader, request, stretch, until)
        except BaseException:
            for link in links:
                link.drop()
            raise

    def end(self, key: SessionKey, until: float) -> bool:
        """End a ZooKeeper session by speaking for it; return False if it was over already.

        Whoever uses it as well is thrown out, may come back and throw us out: so this tries until it is over.
        """
        while time.monotonic() < until:
            link = Link(self.target, timeout=BRIEF, owns=True, key=key)
            try:
                link.start(until)
                if link.close(until):
                    return True
            except SessionLost:
                return False
            finally:
                link.drop()
        raise Unavailable(f"{self.target.shown}: the earlier session could not be ended in time")

    def reap(self, incarnation: str, member_id: str, until: float) -> bool:
        """End exactly this incarnation; return whether it was there."""
        reader = Link(self.target, timeout=BRIEF, owns=False)
        try:
            reader.start(until)
            record = self._holder(reader, member_id, until)
            return record is not None and record.incarnation == incarnation and self.end(_key(record), until)
        finally:
            reader.close(until)

    def _prepare(self, reader: Link, until: float) -> None:
        """Make the namespace with its birth record, or check the one that is there."""
        root = self._root(reader, until)
        if root is None:
            for path in _above(self.layout.root):
                reader.call(self._lasting(path, b""), until=until)
            folders = (self._lasting(f"{self.layout.root}/{name}", b"") for name in FOLDERS)
            reader.call(multi(self._lasting(self.layout.root, BIRTH), *folders), until=until)
            root = self._root(reader, until)
        if root is None or root.data != BIRTH:
            raise BadData(self.layout.root, "is not a namespace of Drumbeat, or one of a newer format")

    def _root(self, link: Link, until: float) -> Node | None:
        return _node(link.call(sync("/"), read(get(self.layout.root)), until=until))

    def _lasting(self, path: str, data: bytes) -> object:
        return create(path, data, creator_only=self.target.creator_only, ephemeral=False)

    def _holder(self, reader: Link, member_id: str, until: float) -> Record | None:
        path = self.layout.session(member_id)
        node = _node(reader.call(sync(self.layout.root), read(get(path)), until=until))
        if node is None:
            return None
        record = Record.unpack(path, node.data)
        if node.owner == 0 or node.owner != record.session:
            # To end the session that it names would not remove it, and might hit somebody else.
            raise BadData(path, "is not of the session that it names")
        return record

    def _make_room(self, reader: Link, request: SessionRequest, until: float) -> None:
        """See to it that nobody has the member id, or raise Conflict."""
        record = self._holder(reader, request.member_id, until)
        if record is None or record.incarnation == request.incarnation:
            return
        if not request.replace and record.incarnation != request.supersedes:
            raise Conflict(request.member_id, incarnation=record.incarnation, retry_after=record.ttl)
        self.end(_key(record), until)

    def _claim(self, owner: Link, reader: Link, request: SessionRequest, stretch: Stretch, until: float) -> Session:
        """Make the node that says who has the member id."""
        path = self.layout.session(request.member_id)
        # Any answer tells that the connection is complete, and with it the timeout that was granted.
        owner.call(sync(self.layout.root), until=until)
        lease = Lease(request.incarnation, request.member_id, stretch.granted(owner.granted))
        record = Record(incarnation=lease.incarnation, member_id=lease.member_id, ttl=lease.ttl)
        key = owner.key
        data = replace(record, session=key.number, secret=key.secret.hex()).pack()
        while True:
            made, found = owner.call(
                create(path, data, creator_only=self.target.creator_only),
                read(get(path), get(self.layout.root)),
                until=until,
            )
            if made is not Refusal.EXISTS:
                break
            # What has our own incarnation is of an earlier try, whose answer was lost: it makes room for this one.
            self._make_room(reader, replace(request, incarnation="", supersedes=request.incarnation), until)
        nodes = [node for node in found if isinstance(node, Node)] if isinstance(found, list) else []
        if len(nodes) != 2:  # noqa: PLR2004 - the two that were asked for
            raise BadData(self.layout.root, "lacks a part of what Drumbeat had made there")
        young = lease.ttl - (nodes[0].ctime - nodes[1].ctime) if self.on_empty_store == "wait" else 0.0
        return Session(
            self.layout,
            lease,
            owner=owner,
            reader=reader,
            creator_only=self.target.creator_only,
            grants_from=time.monotonic() + young,
            spare=stretch.spare(owner.granted),
        )


def _key(record: Record) -> SessionKey:
    return SessionKey(record.session, bytes.fromhex(record.secret))


def _node(answers: list[object]) -> Node | None:
    parts = answers[-1]
    found = parts[0] if isinstance(parts, list) else None
    return found if isinstance(found, Node) else None


def _above(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]
