"""Groups over compare-and-set: a roster for each group, a key for each member's value, an index of groups."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from drumbeat._cas.base import Base
from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.records import Entry, GroupIndex, MemberValue, Owner, Roster
from drumbeat._errors import Unavailable
from drumbeat.hookspecs import (
    GroupRecord,
    Holdings,
    Joined,
    Lease,
    Left,
    MemberRecord,
    Membership,
    Updated,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


class Groups(Base):
    """The hooks for groups."""

    def join_group(self, lease: Lease, group: str, attempt: int, *, value: bytes, timeout: float) -> Joined:
        """Store the value, then enter the roster: from that write on every view has the member."""
        call = Call(timeout)
        keys = (self._keys.roster(group), self._keys.value(group, lease.member_id), self._keys.groups)
        while True:
            found = self._read_live(call, lease, keys)
            roster = found.get(self._keys.roster(group), Roster) or Roster()
            # From the first write on there may be something to remove, should the join be abandoned.
            self._mine(lease).joins[group, attempt] = found.version(self._keys.roster(group))
            if (
                self._list_group(call, group, found)
                and self._put_value(call, lease, group, attempt=attempt, value=value, found=found)
                and self._enter(call, group, Entry(Owner.of(lease), attempt), found)
            ):
                return Joined(roster.entry(lease.incarnation) is not None)
            call.lost_race()

    def update_member(self, lease: Lease, group: str, *, value: bytes, timeout: float) -> Updated:
        """Replace the value if the session lives and is in the roster."""
        call = Call(timeout)
        session, key = self._keys.session(lease.member_id), self._keys.value(group, lease.member_id)
        while True:
            found = self._read(call, (session, self._keys.roster(group), key))
            entry = self._entry(lease, group, found)
            if entry is None or not self._is_live(lease, found):
                return Updated(was_member=False)
            if self._put_value(call, lease, group, attempt=entry.attempt, value=value, found=found):
                return Updated(was_member=True)
            call.lost_race()

    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        """Strike the session off the roster."""
        return Left(self._strike(Call(timeout), lease, group))

    def read_group(self, group: str, timeout: float) -> GroupRecord:
        """Return the members in two round trips, however many they are."""
        call = Call(timeout)
        found = self._read(call, (self._keys.roster(group),))
        roster = found.get(self._keys.roster(group), Roster) or Roster()
        owners = [entry.owner for entry in roster.entries]
        self._groups.update(group, owners)
        sessions = (self._keys.session(owner.member_id) for owner in owners)
        values = (self._keys.value(group, owner.member_id) for owner in owners)
        found = found.merged(self._read(call, (*sessions, *values)))
        gone = {owner for owner in owners if self._until_gone(call, owner, found) <= 0}
        if gone:
            # A courtesy to later readers; whoever comes first does it.
            with suppress(Unavailable):
                self._clean_roster(call, group, roster, gone=gone, found=found)
        members = (self._member(group, owner, found) for owner in owners if owner not in gone)
        return GroupRecord(tuple(member for member in members if member is not None))

    def list_groups(self, timeout: float) -> tuple[str, ...]:
        """Return the groups of the index in which somebody lives, in three round trips."""
        call = Call(timeout)
        index = self._read(call, (self._keys.groups,))
        listed = (index.get(self._keys.groups, GroupIndex) or GroupIndex()).groups
        rosters = self._read(call, (self._keys.roster(group) for group in listed))
        owners = {group: self._owners(group, rosters) for group in listed}
        sessions = self._with_sessions(call, rosters, {owner for some in owners.values() for owner in some})
        living = {group for group in listed for owner in owners[group] if self._until_gone(call, owner, sessions) > 0}
        for group in listed:
            self._groups.update(group, owners[group])
        empty = [group for group in listed if not owners[group]]
        if empty:
            with suppress(Unavailable):
                self._unlist(call, empty, index=index, rosters=rosters)
        return tuple(sorted(living))

    # Reading ------------------------------------------------------------------------------------------------

    def _owners(self, group: str, found: Snapshot) -> tuple[Owner, ...]:
        roster = found.get(self._keys.roster(group), Roster)
        return () if roster is None else tuple(entry.owner for entry in roster.entries)

    def _entry(self, lease: Lease, group: str, found: Snapshot) -> Entry | None:
        roster = found.get(self._keys.roster(group), Roster)
        return None if roster is None else roster.entry(lease.incarnation)

    def _member(self, group: str, owner: Owner, found: Snapshot) -> MemberRecord | None:
        """Return a member, unless its value has gone: it left meanwhile, or will join again."""
        value = found.get(self._keys.value(group, owner.member_id), MemberValue)
        if value is None or value.incarnation != owner.incarnation:
            return None
        return MemberRecord(owner.member_id, owner.incarnation, value.value)

    # Joining and leaving ------------------------------------------------------------------------------------

    def _put_value(self, call: Call, lease: Lease, group: str, *, attempt: int, value: bytes, found: Snapshot) -> bool:
        key = self._keys.value(group, lease.member_id)
        old = found.get(key, MemberValue)
        changes = 0 if old is None else old.changes
        new = MemberValue(incarnation=lease.incarnation, attempt=attempt, value=value, changes=changes)
        if new == old:
            return True
        return self._write(call, key, new.counted(), found.version(key)) is not None

    def _enter(self, call: Call, group: str, entry: Entry, found: Snapshot) -> bool:
        key = self._keys.roster(group)
        roster = (found.get(key, Roster) or Roster()).joined_by(entry)
        if self._write(call, key, roster, found.version(key)) is None:
            return False
        self._groups.update(group, [entry.owner for entry in roster.entries])
        return True

    def _strike(self, call: Call, lease: Lease, group: str, *, attempt: int | None = None) -> bool:
        """Take the session (or only one join of it) off a roster, now and for writes that may yet be applied."""
        key, value_key = self._keys.roster(group), self._keys.value(group, lease.member_id)
        while True:
            found = self._read(call, (self._keys.session(lease.member_id), key, value_key))
            entry = self._entry(lease, group, found)
            ours = entry is not None and attempt in {None, entry.attempt}
            gone = {Owner.of(lease)} if entry is None or ours else set()
            must_write = ours or self._may_yet_join(lease, group, attempt, found)
            roster = (found.get(key, Roster) or Roster()).without(gone)
            if not must_write or self._write(call, key, roster, found.version(key)) is not None:
                self._forget_joins(lease, group, attempt)
                with suppress(Unavailable):
                    self._delete_values(call, group, gone, found)
                return ours and self._is_live(lease, found)
            call.lost_race()

    def _joins(self, lease: Lease, group: str, attempt: int | None) -> list[tuple[str, int]]:
        own = self._own.get(lease.incarnation)
        known = [] if own is None else list(own.joins)
        return [join for join in known if join[0] == group and attempt in {None, join[1]}]

    def _may_yet_join(self, lease: Lease, group: str, attempt: int | None, found: Snapshot) -> bool:
        version = found.version(self._keys.roster(group))
        joins = self._joins(lease, group, attempt)
        return any(self._mine(lease).joins.get(join, _NOTHING) == version for join in joins)

    def _forget_joins(self, lease: Lease, group: str, attempt: int | None) -> None:
        for join in self._joins(lease, group, attempt):
            self._mine(lease).joins.pop(join, None)

    # Tidying up ---------------------------------------------------------------------------------------------

    def _clean_roster(
        self, call: Call, group: str, roster: Roster, *, gone: Collection[Owner], found: Snapshot
    ) -> None:
        key = self._keys.roster(group)
        if self._write(call, key, roster.without(gone), found.version(key)) is not None:
            self._delete_values(call, group, gone, found)

    def _delete_values(self, call: Call, group: str, gone: Iterable[Owner], found: Snapshot) -> None:
        for owner in gone:
            key = self._keys.value(group, owner.member_id)
            value = found.legible(key, MemberValue)
            version = found.version(key)
            if value is not None and version is not None and value.incarnation == owner.incarnation:
                with call.requesting(writes=True) as timeout:
                    self._store.delete(key, version, timeout)

    # The index ----------------------------------------------------------------------------------------------

    def _list_group(self, call: Call, group: str, found: Snapshot) -> bool:
        """See to it that the index has the group; return False after a lost race."""
        roster = found.get(self._keys.roster(group), Roster)
        index = found.get(self._keys.groups, GroupIndex) or GroupIndex()
        if roster is not None and roster.listed and group in index.groups:
            return True
        # Also if it is there: whoever is about to remove it expects the version from before.
        return self._write(call, self._keys.groups, index.having(group), found.version(self._keys.groups)) is not None

    def _unlist(self, call: Call, empty: Iterable[str], *, index: Snapshot, rosters: Snapshot) -> None:
        """Remove groups without members from the index.

        The roster is changed first, so that a join that relies on the index as it was fails and starts again.
        """
        gone = set()
        for group in empty:
            key = self._keys.roster(group)
            roster = rosters.get(key, Roster) or Roster()
            if self._write(call, key, roster.unlisted(), rosters.version(key)) is not None:
                gone.add(group)
        left = (index.get(self._keys.groups, GroupIndex) or GroupIndex()).without(gone)
        self._write(call, self._keys.groups, left, index.version(self._keys.groups))

    # Heartbeats ---------------------------------------------------------------------------------------------

    def _lost_places(self, lease: Lease, holdings: Holdings, found: Snapshot) -> Iterator[Membership]:
        for place in holdings.memberships:
            roster = found.legible(self._keys.roster(place.group), Roster)
            entry = None if roster is None else roster.entry(lease.incarnation)
            value = found.legible(self._keys.value(place.group, lease.member_id), MemberValue)
            # A join that was sent after the holdings were listed has not lost the membership, but renewed it.
            held = entry is not None and (entry.attempt == place.attempt or entry.attempt > holdings.newest_attempt)
            if not held or value is None or value.incarnation != lease.incarnation:
                yield place

    def _strike_abandoned(self, call: Call, lease: Lease, holdings: Holdings) -> None:
        wanted = {(place.group, place.attempt) for place in holdings.memberships}
        for group, attempt in list(self._mine(lease).joins):
            if attempt <= holdings.newest_attempt and (group, attempt) not in wanted:
                self._strike(call, lease, group, attempt=attempt)

    def _look_at_rosters(self, call: Call, holdings: Holdings, found: Snapshot) -> None:
        """Learn who is in the groups by now, and put joined groups that are missing back into the index."""
        joined = {place.group for place in holdings.memberships}
        for group in joined.union(self._groups.names()):
            roster = found.legible(self._keys.roster(group), Roster)
            owners = [] if roster is None else [entry.owner for entry in roster.entries]
            if group in joined:
                self._groups.update(group, owners)
            elif self._keys.roster(group) in found.asked:
                self._groups.refresh(group, owners)
        absent = found.version(self._keys.groups) is None
        index = GroupIndex() if absent else found.legible(self._keys.groups, GroupIndex)
        missing = joined.difference(() if index is None else index.groups)
        if index is not None and missing:
            for group in missing:
                index = index.having(group)
            self._write(call, self._keys.groups, index, found.version(self._keys.groups))


_NOTHING = object()
