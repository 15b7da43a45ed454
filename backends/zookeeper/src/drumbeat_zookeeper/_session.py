"""One Drumbeat session on ZooKeeper: what it holds, and how it asks."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from drumbeat import BadData, SessionLost
from drumbeat.hookspecs import (
    Beat,
    Candidacy,
    CandidacySubject,
    GroupRecord,
    GroupSubject,
    Holdings,
    LeaderRecord,
    Lease,
    MemberRecord,
    Membership,
    Seat,
    Vacant,
    Waiting,
    Won,
)
from drumbeat_zookeeper._layout import Layout, Record
from drumbeat_zookeeper._watches import Watch, Watches
from drumbeat_zookeeper._wire import (
    Node,
    Refusal,
    check,
    children,
    container,
    create,
    delete,
    done,
    get,
    multi,
    put,
    read,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drumbeat.hookspecs import Cancel, Notify, Subject
    from drumbeat_zookeeper._link import Link

#: How many things one request asks for; it keeps a request far below jute.maxbuffer, 1 MB.
_AT_ONCE: Final = 500
#: What the version of a candidate's node says: the winning transaction raises it.
_CANDIDATE: Final = 0
_HOLDER: Final = 1


class Session:
    """What one incarnation does. `owner` is the link whose session its nodes live as long as, `reader` the other.

    Every node that is made carries incarnation and attempt in its name, and is remembered here before the request is
    sent. So no list has to be searched for what a lost answer has left behind, and no request touches the node of
    another attempt. Requests of one link are applied in the order in which they were sent, also over a reconnection.
    """

    def __init__(
        self,
        layout: Layout,
        lease: Lease,
        *,
        owner: Link,
        reader: Link,
        creator_only: bool,
        grants_from: float,
        spare: float,
    ) -> None:
        self.lease = lease
        self.owner = owner
        self.reader = reader
        self._layout = layout
        self._creator_only = creator_only
        self._grants_from = grants_from
        #: Seconds between two heartbeats for which a dying follower's silence is made up for.
        self._spare = spare
        self._last_sent = time.monotonic()
        self._watches = Watches(reader)
        self._record = Record(incarnation=lease.incarnation, member_id=lease.member_id, ttl=lease.ttl)
        #: The attempts whose nodes may exist.
        self._made: set[Membership | Candidacy] = set()
        self._tokens: dict[Candidacy, int] = {}
        #: What stands before a waiting attempt.
        self._ahead: dict[Candidacy, str] = {}
        #: When the candidates of each election came, as zxids; a name comes twice only where an operator deleted its
        #: node. Each dict is replaced, and never changed, since several threads may campaign.
        self._came: dict[str, dict[str, int]] = {}

    # The session --------------------------------------------------------------------------------------------

    def beat(self, holdings: Holdings, until: float) -> Beat:
        """Renew the session, verify everything, and remove what was abandoned."""
        held: dict[Seat | Membership, tuple[str, ...]] = {
            **{seat: (self._place(_candidacy(seat)), self._layout.leader(seat.election)) for seat in holdings.seats},
            **{membership: (self._place(membership),) for membership in holdings.memberships},
        }
        own = self._layout.session(self.lease.member_id)
        paths = [path for places in held.values() for path in places]
        sent = time.monotonic()
        found, *answers = self._read(self.owner, [get(own), *(children(path) for path in paths)], until)
        if not isinstance(found, Node) or found.owner != self.owner.key.number:
            raise SessionLost(f"{own} is not this session's any more")
        self._remove_abandoned(holdings, until)
        missing = {path for path, answer in zip(paths, answers, strict=True) if not done(answer)}
        return Beat(
            self._renewed(sent),
            tuple(item for item, places in held.items() if self._is_lost(item, not missing & {*places}, holdings)),
        )

    def _renewed(self, sent: float) -> Lease:
        """Return the lease, shorter if this heartbeat came so late that the one before it may not bear it."""
        late = sent - self._last_sent - self._spare
        self._last_sent = sent
        return self.lease if late <= 0 else replace(self.lease, ttl=max(0.0, self.lease.ttl - late))

    def _is_lost(self, item: Seat | Membership, is_there: bool, holdings: Holdings) -> bool:
        if isinstance(item, Seat):
            return not is_there or not self._is_mine(item)
        # A join that is newer than the holdings has not lost the membership, but renewed it.
        return not is_there and all(made.attempt <= holdings.newest_attempt for made in self._memberships(item.group))

    def _remove_abandoned(self, holdings: Holdings, until: float) -> None:
        wanted: set[Membership | Candidacy] = {*holdings.memberships, *holdings.candidacies}
        wanted |= {_candidacy(seat) for seat in holdings.seats}
        for made in tuple(self._made):
            if made.attempt > holdings.newest_attempt or made in wanted:
                continue
            if isinstance(made, Candidacy):
                self.give_up(made, until)
            else:
                self._delete([made], until)

    def end_watches(self) -> None:
        """Give no more hints."""
        self._watches.clear()

    # Groups -------------------------------------------------------------------------------------------------

    def join(self, group: str, attempt: int, value: bytes, until: float) -> bool:
        """Make the member's node of this attempt, and remove that of an earlier one."""
        new = Membership(group, attempt)
        earlier = [made for made in self._memberships(group) if made != new]
        self._made.add(new)
        data = replace(self._record, attempt=attempt, value=value).pack()
        made = create(self._place(new), data, creator_only=self._creator_only)
        removed = [delete(self._place(old)) for old in earlier]
        answers = self._make(made, self._layout.group(group), group, until, removed)
        self._made.difference_update(earlier)
        return answers[0] is Refusal.EXISTS or any(done(answer) for answer in answers[1:])

    def update(self, group: str, value: bytes, until: float) -> bool:
        """Replace the value; the group's node is written too, since a watch on it tells of children but not of them."""
        made = self._memberships(group)
        answers = self.owner.call(
            *(
                multi(
                    put(self._place(member), replace(self._record, attempt=member.attempt, value=value).pack()),
                    put(self._layout.group(group), group.encode()),
                )
                for member in made
            ),
            until=until,
        )
        return any(done(answer) for answer in answers)

    def leave(self, group: str, until: float) -> bool:
        """Remove the member's node."""
        return self._delete(self._memberships(group), until)

    def members(self, group: str, until: float) -> GroupRecord:
        """Read a group, in two round trips."""
        folder = self._layout.group(group)
        (names,) = self._fresh([children(folder)], until)
        paths = [f"{folder}/{name}" for name in names] if isinstance(names, tuple) else []
        nodes = self._read(self.reader, [get(path) for path in paths], until)
        newest: dict[str, Record] = {}
        for path, node in zip(paths, nodes, strict=True):
            if not isinstance(node, Node):
                continue
            record = Record.unpack(path, node.data)
            known = newest.get(record.incarnation)
            # A member that joins again stands there twice for a moment.
            if known is None or known.attempt < record.attempt:
                newest[record.incarnation] = record
        return GroupRecord(
            tuple(MemberRecord(record.member_id, record.incarnation, record.value) for record in newest.values())
        )

    def groups(self, until: float) -> tuple[str, ...]:
        """Return the names of the groups that are not empty."""
        (names,) = self._fresh([children(self._layout.groups)], until)
        paths = [f"{self._layout.groups}/{name}" for name in names] if isinstance(names, tuple) else []
        nodes = self._read(self.reader, [get(path) for path in paths], until)
        return tuple(
            self._layout.group_at(path, node.data)
            for path, node in zip(paths, nodes, strict=True)
            if isinstance(node, Node) and node.children
        )

    def _memberships(self, group: str) -> list[Membership]:
        return [made for made in tuple(self._made) if isinstance(made, Membership) and made.group == group]

    def _delete(self, memberships: Sequence[Membership], until: float) -> bool:
        answers = self.owner.call(*(delete(self._place(made)) for made in memberships), until=until)
        self._made.difference_update(memberships)
        return any(done(answer) for answer in answers)

    # Elections ----------------------------------------------------------------------------------------------

    def campaign(self, election: str, attempt: int, value: bytes, until: float) -> Won | Waiting:
        """Enter the queue if need be, and win if nobody stands before."""
        me = Candidacy(election, attempt)
        mine, leader = self._place(me), self._layout.leader(election)
        while True:
            if me not in self._made:
                self._enter(me, until)
            # In this order, so that an attempt that wins meanwhile is seen in one of the two.
            names, found = self._fresh([children(self._layout.election(election)), get(leader)], until)
            holder = self._leader(leader, found)
            if holder and isinstance(found, Node) and holder.is_of(self.lease.incarnation, attempt):
                return self._won(me, found)
            queue = self._in_order(election, names, until)
            if holder is None and mine in queue[1:]:
                # Whose node was deleted and made again stands further back than it did.
                queue = self._in_order(election, names, until, anew=True)
            if mine in queue:
                break
            self._made.discard(me)
        if queue[0] != mine or holder is not None:
            ahead = leader if queue[0] == mine else queue[queue.index(mine) - 1]
            return self._wait(me, ahead, found, holder)
        if time.monotonic() < self._grants_from:
            return Waiting(Vacant(), self._grants_from - time.monotonic())
        return self._win(me, value, until)

    def _enter(self, me: Candidacy, until: float) -> None:
        self._made.add(me)
        data = replace(self._record, attempt=me.attempt).pack()
        made = create(self._place(me), data, creator_only=self._creator_only)
        self._make(made, self._layout.election(me.election), me.election, until, [])

    def _in_order(self, election: str, names: object, until: float, *, anew: bool = False) -> list[str]:
        """Return the candidates in the order in which they came: by czxid, since sequence numbers start again."""
        folder = self._layout.election(election)
        paths = [f"{folder}/{name}" for name in names] if isinstance(names, tuple) else []
        known = {} if anew else self._came.get(election, {})
        there = {path: known[path] for path in paths if path in known}
        new = [path for path in paths if path not in there]
        for path, node in zip(new, self._read(self.reader, [get(path) for path in new], until), strict=True):
            if isinstance(node, Node):
                Record.unpack(path, node.data)
                there[path] = node.czxid
        self._came[election] = there
        return sorted(there, key=there.__getitem__)

    def _win(self, me: Candidacy, value: bytes, until: float) -> Won | Waiting:
        """Publish the leader if the own node still waits, in one transaction; its zxid is the token."""
        mine, leader = self._place(me), self._layout.leader(me.election)
        data = replace(self._record, attempt=me.attempt)
        answer, read_back = self.owner.call(
            multi(
                put(mine, data.pack(), _CANDIDATE),
                create(leader, replace(data, value=value).pack(), creator_only=self._creator_only),
            ),
            read(get(leader)),
            until=until,
        )
        found = read_back[0] if isinstance(read_back, list) else None
        if done(answer) and isinstance(found, Node):
            return self._won(me, found)
        if isinstance(answer, list) and answer[1] is Refusal.MISSING:
            raise BadData(self._layout.root, "lacks a part of what Drumbeat had made there")
        if isinstance(answer, list) and answer[0] is Refusal.VERSION:
            # It has won before, and the leader's node is gone: this attempt's term is over, and it queues anew.
            self.give_up(me, until)
        return self._wait(me, leader, found, self._leader(leader, found))

    def _won(self, me: Candidacy, found: Node) -> Won:
        self._ahead.pop(me, None)
        self._tokens[me] = found.czxid
        return Won(Seat(me.election, me.attempt, found.czxid))

    def _wait(self, me: Candidacy, ahead: str, found: object, holder: Record | None) -> Waiting:
        self._ahead[me] = ahead
        self._watches.move(me, ahead)
        return Waiting(_leader_record(found, holder), None if holder is None else holder.ttl)

    def give_up(self, me: Candidacy, until: float) -> tuple[bool, bool]:
        """Free the seat that the attempt may have, and leave the queue; return whether it had the seat, and a place."""
        mine, leader = self._place(me), self._layout.leader(me.election)
        seat, place, left = self.owner.call(
            multi(delete(mine, _HOLDER), delete(leader)), delete(mine), read(get(leader)), until=until
        )
        node = left[0] if isinstance(left, list) else None
        # What others wrote there is not read: rubbish in one election must not end the heartbeats of all.
        ours = isinstance(node, Node) and node.owner == self.owner.key.number
        found = self._leader(leader, node) if ours else None
        if found is not None and found.is_of(self.lease.incarnation, me.attempt):
            # Somebody else removed our place, so the leader's node stayed; it is ours, and nobody else removes it.
            self.owner.call(delete(leader), until=until)
        self._made.discard(me)
        self._tokens.pop(me, None)
        self._ahead.pop(me, None)
        return done(seat), done(seat) or done(place)

    def withdraw(self, me: Candidacy, until: float) -> bool:
        """Forget an attempt."""
        return self.give_up(me, until)[1]

    def resign(self, seat: Seat, until: float) -> bool:
        """Free a seat. The node that is named by incarnation and attempt stands for the token."""
        return self._is_mine(seat) and self.give_up(_candidacy(seat), until)[0]

    def proclaim(self, seat: Seat, value: bytes, until: float) -> bool:
        """Replace the leader's value, if the own node still holds the seat."""
        if not self._is_mine(seat):
            return False
        data = replace(self._record, attempt=seat.attempt, value=value).pack()
        mine, leader = self._place(_candidacy(seat)), self._layout.leader(seat.election)
        (answer,) = self.owner.call(multi(check(mine, _HOLDER), put(leader, data)), until=until)
        return done(answer)

    def leader(self, election: str, until: float) -> LeaderRecord | Vacant:
        """Read who holds an election."""
        path = self._layout.leader(election)
        (found,) = self._fresh([get(path)], until)
        return _leader_record(found, self._leader(path, found))

    def _is_mine(self, seat: Seat) -> bool:
        return self._tokens.get(_candidacy(seat)) == seat.token

    def _leader(self, path: str, found: object) -> Record | None:
        return Record.unpack(path, found.data) if isinstance(found, Node) else None

    # Watches ------------------------------------------------------------------------------------------------

    def watch(self, subject: Subject, notify: Notify, until: float) -> Cancel:
        """Watch one path: the group's, the leader's, or that of who stands before an attempt."""
        if isinstance(subject, GroupSubject):
            watch = Watch(self._layout.group(subject.group), notify, folder=True)
        elif isinstance(subject, CandidacySubject):
            me = Candidacy(subject.election, subject.attempt)
            watch = Watch(self._ahead.get(me, self._place(me)), notify, waiter=me)
        else:
            watch = Watch(self._layout.leader(subject.election), notify)
        self._watches.add(watch, until)
        return lambda: self._watches.remove(watch)

    # Asking -------------------------------------------------------------------------------------------------

    def _place(self, what: Membership | Candidacy) -> str:
        return self._layout.place(self.lease.incarnation, what)

    def _make(self, made: object, folder: str, name: str, until: float, more: Sequence[object]) -> list[object]:
        """Send a creation, making the container that it needs, which the server removes once it is empty."""
        while True:
            answers = self.owner.call(made, *more, until=until)
            if answers[0] is not Refusal.MISSING:
                return answers
            (answer,) = self.owner.call(container(folder, name.encode(), creator_only=self._creator_only), until=until)
            if answer is Refusal.MISSING:
                raise BadData(self._layout.root, "lacks a part of what Drumbeat had made there")

    def _fresh(self, asked: Sequence[object], until: float) -> list[object]:
        """Read what is true now, not what a server that lags behind believes."""
        _, answers = self.reader.call(sync(self._layout.root), read(*asked), until=until)
        return list(answers) if isinstance(answers, list) else []

    def _read(self, link: Link, asked: Sequence[object], until: float) -> list[object]:
        """Read any number of things in one round trip; what the owner reads is as new as the server's leader."""
        parts = [read(*asked[start : start + _AT_ONCE]) for start in range(0, len(asked), _AT_ONCE)]
        if link is self.owner:
            parts.insert(0, sync(self._layout.root))
        answers = link.call(*parts, until=until) if parts else []
        return [item for answer in answers if isinstance(answer, list) for item in answer]


def _candidacy(seat: Seat) -> Candidacy:
    return Candidacy(seat.election, seat.attempt)


def _leader_record(found: object, record: Record | None) -> LeaderRecord | Vacant:
    if record is None or not isinstance(found, Node):
        return Vacant()
    return LeaderRecord(
        member_id=record.member_id, incarnation=record.incarnation, token=found.czxid, value=record.value
    )
