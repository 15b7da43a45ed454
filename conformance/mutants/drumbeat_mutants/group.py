"""Bugs of groups and member ids: stale reads, lost updates, names that meet, and ids taken from the living."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

import drumbeat._group
from drumbeat._cas import records
from drumbeat._cas.observations import Observations, _Sight
from drumbeat._errors import Conflict
from drumbeat._group import Group
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat.cas import MemoryCasBackend
from drumbeat.hookspecs import (
    BackendConfig,
    Beat,
    GroupRecord,
    GroupSubject,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Left,
    Membership,
    Proclaimed,
    Seat,
    SessionRequest,
    Updated,
    Vacant,
    Waiting,
    Won,
)
from drumbeat.memory import MemoryBackend, _Member, _Space
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from collections.abc import Sequence

# Reads -------------------------------------------------------------------------------------------------------


@mutant("reads-from-a-follower", breaks=("GROUP-1", "GROUP-2", "GROUP-19"), like="hazard: zookeeper, a stale read")
def reads_from_a_follower(patch: Patch) -> None:
    """A group is read from a replica that is behind: for a moment the last answer is given again."""

    def read_group(original: Callable[..., GroupRecord], self: MemoryBackend, group: str) -> GroupRecord:
        now = self._store.clock.now()
        record, since = seen.get((self, group), (None, now))
        if record is None or now > since:
            record, since = original(self, group), now
        seen[self, group] = record, since
        return record

    seen: dict[tuple[MemoryBackend, str], tuple[GroupRecord | None, float]] = {}
    patch.wrap(MemoryBackend, "read_group", read_group)


@mutant("lists-every-namespace", breaks=("GROUP-8", "GROUP-17"), like="hazard: a scan without its prefix")
def lists_every_namespace(patch: Patch) -> None:
    """The list of groups is a scan over the whole store, whatever the namespace."""

    def list_groups(self: MemoryBackend) -> tuple[str, ...]:
        with self._store.call(self._namespace):
            return tuple({name for space in self._store.spaces.values() for name in space.groups})

    patch(MemoryBackend, "list_groups", list_groups)


@mutant("a-lock-is-a-group", breaks="GROUP-17", like="peers 6")
def a_lock_is_a_group(patch: Patch) -> None:
    """The list of groups has every name that is in use, be it an election's or a lock's."""

    def list_groups(self: MemoryBackend) -> tuple[str, ...]:
        with self._store.call(self._namespace) as space:
            held = [name for name, place in space.elections.items() if place.holder is not None]
            return (*space.groups, *held)

    patch(MemoryBackend, "list_groups", list_groups)


@mutant("lists-the-empty", breaks="GROUP-23")
def lists_the_empty(patch: Patch) -> None:
    """A group stays in the list when its last member has gone."""

    def remove_member(original: Callable[..., bool], self: _Space, group: str, incarnation: str) -> bool:
        removed = original(self, group, incarnation)
        if removed:
            self.groups.setdefault(group, {})
        return removed

    patch.wrap(_Space, "remove_member", remove_member)


# Joining, updating and leaving -------------------------------------------------------------------------------


@mutant("leaves-with-the-lease", breaks=("GROUP-2", "GROUP-3", "GROUP-22"))
def leaves_with_the_lease(patch: Patch) -> None:
    """A member that leaves is not renewed any more, and stays in the view until then."""

    def leave_group(self: MemoryBackend, lease: Lease, group: str) -> Left:
        with self._store.call(self._namespace) as space:
            return Left(lease.incarnation in space.groups.get(group, {}))

    patch(MemoryBackend, "leave_group", leave_group)


@mutant("every-leave-leaves", breaks=("GROUP-4", "GROUP-21", "GROUP-22"))
def every_leave_leaves(patch: Patch) -> None:
    """Leaving always says that there was a membership: a deletion that finds nothing succeeds too."""

    def leave_group(original: Callable[..., Left], self: MemoryBackend, lease: Lease, group: str) -> Left:
        original(self, lease, group)
        return Left(was_member=True)

    patch.wrap(MemoryBackend, "leave_group", leave_group)


@mutant("inserts-or-ignores", breaks=("GROUP-4", "GROUP-20"))
def inserts_or_ignores(patch: Patch) -> None:
    """A join of a member finds its row and leaves the value as it was."""

    def join_group(
        original: Callable[..., Joined], self: MemoryBackend, lease: Lease, group: str, *rest: object
    ) -> Joined:
        with self._store.call(self._namespace) as space:
            before = space.groups.get(group, {}).get(lease.incarnation)
        joined = original(self, lease, group, *rest)
        if before is not None:
            with self._store.call(self._namespace) as space:
                members = space.groups[group]
                members[lease.incarnation] = replace(members[lease.incarnation], value=before.value)
        return joined

    patch.wrap(MemoryBackend, "join_group", join_group)


@mutant("an-update-joins", breaks="GROUP-21")
def an_update_joins(patch: Patch) -> None:
    """An update writes the value whether or not there is a member to have it."""

    def update_member(
        original: Callable[..., Updated], self: MemoryBackend, lease: Lease, group: str, value: bytes
    ) -> Updated:
        with self._store.call(self._namespace) as space:
            if lease.incarnation in space.sessions:
                space.groups.setdefault(group, {}).setdefault(lease.incarnation, _Member(0, value))
        return original(self, lease, group, value)

    patch.wrap(MemoryBackend, "update_member", update_member)


@mutant("an-update-forgets-the-attempt", breaks="GROUP-19")
def an_update_forgets_the_attempt(patch: Patch) -> None:
    """An update writes the whole record anew, without the attempt that made the membership."""

    def update_member(self: MemoryBackend, lease: Lease, group: str, value: bytes) -> Updated:
        with self._store.call(self._namespace) as space:
            if lease.incarnation not in space.groups.get(group, {}):
                return Updated(was_member=False)
            space.groups[group][lease.incarnation] = _Member(0, value)
            space.changed.add(GroupSubject(group))
            return Updated(was_member=True)

    patch(MemoryBackend, "update_member", update_member)


@mutant("keeps-abandoned-joins", breaks=("GROUP-24", "GROUP-25"), like="hazard: a request that is applied late")
def keeps_abandoned_joins(patch: Patch) -> None:
    """A heartbeat removes abandoned seats and candidacies, and never looks for abandoned memberships."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        with self._store.call(self._namespace) as space:
            kept = {
                group: members[lease.incarnation]
                for group, members in space.groups.items()
                if lease.incarnation in members
            }
        beat = original(self, lease, holdings)
        for group, member in kept.items():
            space.groups.setdefault(group, {})[lease.incarnation] = member
        return beat

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("believes-in-a-failed-join", breaks="GROUP-25")
def believes_in_a_failed_join(patch: Patch) -> None:
    """A join whose answer was lost goes on being listed in heartbeats, though its caller was told that it failed."""

    def undo_place(original: Callable[..., None], self: Incarnation, group: str) -> None:
        if not self.has_place(group):
            original(self, group)

    patch.wrap(Incarnation, "undo_place", undo_place)


@mutant("forgets-that-it-was-a-member", breaks="GROUP-26", like="peers 7")
def forgets_that_it_was_a_member(patch: Patch) -> None:
    """A membership that a heartbeat reports as lost is not joined again."""

    def forget_place(original: Callable[..., None], self: Incarnation, membership: Membership) -> None:
        if not self.has_place(membership.group):
            original(self, membership)

    patch.wrap(Incarnation, "_forget_place", forget_place)


@mutant("updates-by-joining", breaks="GROUP-4")
def updates_by_joining(patch: Patch) -> None:
    """An update of metadata is a join, also for a session that is no member."""

    def update(self: Group, metadata: dict[str, object]) -> bool:
        self.join(metadata)
        return True

    patch(Group, "update", update)


@mutant("writes-rosters-without-comparing", breaks="GROUP-6", of="memory-cas", like="hazard: memcached, no listing")
def writes_rosters_without_comparing(patch: Patch) -> None:
    """The list of members is read, changed and written back, whoever has written it meanwhile."""

    def read_many(
        original: Callable[..., object], self: MemoryCasBackend, keys: Sequence[str], timeout: float
    ) -> object:
        found = original(self, keys, timeout)
        time.sleep(0.002)  # what lies between a server and its client
        return found

    def compare_and_set(
        original: Callable[..., Hashable | None],
        self: MemoryCasBackend,
        key: str,
        value: bytes,
        version: Hashable | None,
        **options: object,
    ) -> Hashable | None:
        if key.startswith("db:roster:"):
            found = self._store.values.get(key)
            version = None if found is None else found[1]
        return original(self, key, value, version, **options)

    patch.wrap(MemoryCasBackend, "read_many", read_many)
    patch.wrap(MemoryCasBackend, "compare_and_set", compare_and_set)


# Values ------------------------------------------------------------------------------------------------------


def _store_values_as(patch: Patch, stored: Callable[[bytes], bytes]) -> None:
    def join_group(original: Callable[..., Joined], *arguments: object) -> Joined:
        *others, value = arguments
        assert isinstance(value, bytes)
        return original(*others, stored(value))

    patch.wrap(MemoryBackend, "join_group", join_group)


@mutant("parses-metadata-in-lua", breaks="GROUP-3", like="hazard: redis, cjson")
def parses_metadata_in_lua(patch: Patch) -> None:
    """A script of the server parses metadata and writes it anew, after which an empty array is an empty object."""

    def as_lua(value: object) -> object:
        if isinstance(value, dict):
            return {name: as_lua(inner) for name, inner in value.items()}
        return ([as_lua(inner) for inner in value] or {}) if isinstance(value, list) else value

    def stored(value: bytes) -> bytes:
        with suppress(ValueError):
            return value[:1] + json.dumps(as_lua(json.loads(value[1:]))).encode()
        return value

    _store_values_as(patch, stored)


@mutant("stores-values-as-text", breaks="GROUP-18")
def stores_values_as_text(patch: Patch) -> None:
    """A value is stored as text, and comes back without the bytes that are none."""
    _store_values_as(patch, lambda value: value.decode(errors="replace").encode())


@mutant("takes-values-of-any-size", breaks="GROUP-10")
def takes_values_of_any_size(patch: Patch) -> None:
    """The size of metadata is left to the store, which has no limit of its own."""

    def encode(original: Callable[..., bytes], metadata: object, *, limit: int) -> bytes:
        return original(metadata, limit=2 * limit)

    patch.wrap(drumbeat._group, "encode_metadata", encode)


# Names -------------------------------------------------------------------------------------------------------


@mutant("replaces-what-keys-cannot-hold", breaks="GROUP-7", of="memory-cas")
def replaces_what_keys_cannot_hold(patch: Patch) -> None:
    """What a store takes for no letter becomes a low line in its keys, so that names meet."""

    def encode_key(name: str) -> str:
        return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)

    patch(records, "encode_key", encode_key)
    records._encode.cache_clear()


@mutant("joins-names-with-a-colon", breaks="GROUP-16", of="memory-cas")
def joins_names_with_a_colon(patch: Patch) -> None:
    """A key is made of names with a colon between, which names may hold."""

    def value(original: Callable[..., str], self: records.Keys, group: str, member_id: str) -> str:
        return original(self, "", f"{group}:{member_id}")

    patch.wrap(records.Keys, "value", value)


@mutant("takes-any-name", breaks="GROUP-15")
def takes_any_name(patch: Patch) -> None:
    """The names of groups are left to the store to refuse."""

    def check_name(_kind: str, name: str) -> str:
        return name

    patch(drumbeat._group, "check_name", check_name)


# Member ids --------------------------------------------------------------------------------------------------


@mutant("the-last-to-come-has-the-id", breaks=("GROUP-5", "GROUP-9", "GROUP-11", "GROUP-12"))
def the_last_to_come_has_the_id(patch: Patch) -> None:
    """A second session with a member id ends the first, as if it had asked to."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        return original(self, replace(request, replace=True))

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("refuses-without-saying-until-when", breaks="GROUP-11")
def refuses_without_saying_until_when(patch: Patch) -> None:
    """The session that is in the way is named, and not when it can lapse."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        try:
            return original(self, request)
        except Conflict as conflict:
            raise Conflict(conflict.member_id, incarnation=conflict.incarnation) from conflict

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("counts-from-the-first-look", breaks="GROUP-12", of="memory-cas")
def counts_from_the_first_look(patch: Patch) -> None:
    """A session is dead once a TTL has passed since it was first looked at, whether or not it has beaten since."""

    def time_left(self: Observations, subject: Hashable, state: Hashable, *, needed: float, read_at: float) -> float:
        sight = self._sights.get(subject)
        since = read_at if sight is None else sight.since
        self._sights[subject] = _Sight(state, since, read_at)
        return since + needed - self._clock.now()

    patch(Observations, "time_left", time_left)


@mutant("gives-up-at-once", breaks=("GROUP-5", "GROUP-14"), like="hazard: a restarted pod under its old id")
def gives_up_at_once(patch: Patch) -> None:
    """A session that shall wait for its member id is refused at the second try."""

    def lapsed_by(self: Keeper, _conflict: Conflict) -> float:
        return self.clock.now()

    patch(Keeper, "_lapsed_by", lapsed_by)


@mutant("fights-back", breaks="GROUP-5")
def fights_back(patch: Patch) -> None:
    """A session that was replaced takes its member id back as soon as it is told."""

    def open_(
        original: Callable[..., Incarnation], self: Keeper, *, supersedes: str | None, **options: object
    ) -> object:
        if supersedes is not None:
            options["on_conflict"] = "replace"
        return original(self, supersedes=supersedes, **options)

    patch.wrap(Keeper, "_open", open_)


@mutant("replacing-inherits", breaks="GROUP-13")
def replacing_inherits(patch: Patch) -> None:
    """What a session held belongs to its member id, so that whoever replaces it has it from then on."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            held = {group: dict(members) for group, members in space.groups.items()}
            olds = [one.incarnation for one in space.sessions.values() if one.member_id == request.member_id]
        lease = original(self, request)
        for group, members in held.items():
            for old in olds if request.replace else ():
                if old in members:
                    space.groups.setdefault(group, {})[request.incarnation] = members[old]
        return lease

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("member-ids-fold-case", breaks="GROUP-32", like="hazard: a collation that ignores case")
def member_ids_fold_case(patch: Patch) -> None:
    """Member ids that differ in case are one, for who opens a session."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            for other in space.sessions.values():
                alike = other.member_id.lower() == request.member_id.lower() and other.member_id != request.member_id
                if alike and other.incarnation != request.supersedes:
                    raise Conflict(request.member_id, incarnation=other.incarnation, retry_after=1.0)
        return original(self, request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("member-ids-stripped", breaks="GROUP-32")
def member_ids_stripped(patch: Patch) -> None:
    """Member ids lose the spaces at their ends in views."""

    def read_group(original: Callable[..., GroupRecord], self: MemoryBackend, group: str) -> GroupRecord:
        members = original(self, group).members
        return GroupRecord(tuple(replace(member, member_id=member.member_id.strip()) for member in members))

    patch.wrap(MemoryBackend, "read_group", read_group)


@mutant("member-id-percent", breaks="GROUP-32")
def member_id_percent(patch: Patch) -> None:
    """A member id in the leader's record is unquoted once more often than it was quoted."""

    def read_leader(
        original: Callable[..., LeaderRecord | Vacant], self: MemoryBackend, election: str
    ) -> LeaderRecord | Vacant:
        leader = original(self, election)
        return replace(leader, member_id=unquote(leader.member_id)) if isinstance(leader, LeaderRecord) else leader

    patch.wrap(MemoryBackend, "read_leader", read_leader)


@mutant("waiting-holder-member-percent", breaks="GROUP-32")
def waiting_holder_member_percent(patch: Patch) -> None:
    """The holder that a candidate is told of has its member id cut off at a slash."""

    def campaign(original: Callable[..., Won | Waiting], self: MemoryBackend, *arguments: object) -> Won | Waiting:
        answer = original(self, *arguments)
        if isinstance(answer, Waiting) and isinstance(answer.holder, LeaderRecord):
            first = answer.holder.member_id.split("/")[0]
            return replace(answer, holder=replace(answer.holder, member_id=first))
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("a-leave-unquotes", breaks="GROUP-7")
def a_leave_unquotes(patch: Patch) -> None:
    """Leaving unquotes the name of the group once more often than joining has quoted it."""

    def leave_group(original: Callable[..., Left], self: MemoryBackend, lease: Lease, group: str) -> Left:
        return original(self, lease, unquote(group))

    patch.wrap(MemoryBackend, "leave_group", leave_group)


@mutant("an-update-cuts-names-off", breaks="GROUP-7")
def an_update_cuts_names_off(patch: Patch) -> None:
    """Updating cuts the name of a group off after 64 letters, as joining does not."""

    def update_member(
        original: Callable[..., Updated], self: MemoryBackend, lease: Lease, group: str, value: bytes
    ) -> Updated:
        return original(self, lease, group[:64], value)

    patch.wrap(MemoryBackend, "update_member", update_member)


# What is mixed up --------------------------------------------------------------------------------------------


def _rename_namespaces(patch: Patch, renamed: Callable[[str], str]) -> None:
    def init(original: Callable[..., None], self: MemoryBackend, config: BackendConfig) -> None:
        original(self, config)
        self._namespace = renamed(self._namespace)

    patch.wrap(MemoryBackend, "__init__", init)


@mutant("namespaces-fold-case", breaks="GROUP-33")
def namespaces_fold_case(patch: Patch) -> None:
    """Namespaces are compared without case."""
    _rename_namespaces(patch, str.lower)


@mutant("namespaces-by-first-part", breaks="GROUP-33")
def namespaces_by_first_part(patch: Patch) -> None:
    """Only what stands before a slash counts of a namespace."""
    _rename_namespaces(patch, lambda namespace: namespace.split("/")[0])


@mutant("namespaces-are-cut-off", breaks="GROUP-33")
def namespaces_are_cut_off(patch: Patch) -> None:
    """Namespaces are cut off after forty letters."""
    _rename_namespaces(patch, lambda namespace: namespace[:40])


@mutant("value-shared-with-group-of-that-name", breaks="GROUP-34")
def value_shared_with_group_of_that_name(patch: Patch) -> None:
    """A session has one value for each name: that of its membership is that of its seat."""

    def join_group(
        original: Callable[..., Joined], self: MemoryBackend, lease: Lease, group: str, *rest: object
    ) -> Joined:
        answer = original(self, lease, group, *rest)
        value = rest[-1]
        assert isinstance(value, bytes)
        with self._store.call(self._namespace) as space:
            place = space.elections.get(group)
            if place is not None and place.holder is not None and place.holder.incarnation == lease.incarnation:
                place.value = value
        return answer

    patch.wrap(MemoryBackend, "join_group", join_group)


@mutant("leave-withdraws", breaks="GROUP-34")
def leave_withdraws(patch: Patch) -> None:
    """Leaving a group gives up the seat of the same name: all keys of a session under a name are deleted."""

    def leave_group(original: Callable[..., Left], self: MemoryBackend, lease: Lease, group: str) -> Left:
        left = original(self, lease, group)
        with self._store.call(self._namespace) as space:
            place = space.elections.get(group)
            if place is not None and place.holder is not None and place.holder.incarnation == lease.incarnation:
                space.forget(group, place.holder)
        return left

    patch.wrap(MemoryBackend, "leave_group", leave_group)


@mutant("locks-and-elections-share-value", breaks="LOCK-7")
def locks_and_elections_share_value(patch: Patch) -> None:
    """A proclaim in an election also changes the value of the lock with that name."""

    def proclaim(
        original: Callable[..., Proclaimed], self: MemoryBackend, lease: Lease, seat: Seat, value: bytes
    ) -> Proclaimed:
        answer = original(self, lease, seat, value)
        with self._store.call(self._namespace) as space:
            lock = space.elections.get(seat.election.replace("election/", "lock/"))
            if lock is not None and answer.was_held:
                lock.value = value
        return answer

    patch.wrap(MemoryBackend, "proclaim", proclaim)
