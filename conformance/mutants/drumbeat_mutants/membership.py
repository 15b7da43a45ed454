"""Bugs of membership: successors harmed, names that meet, lost answers believed, and views that are cut off."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import drumbeat._group
from drumbeat import Unavailable, _incarnation
from drumbeat._group import Group
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat.hookspecs import (
    Beat,
    GroupRecord,
    Holdings,
    Joined,
    Lease,
    Left,
    Membership,
    SessionClosed,
    SessionRequest,
    Updated,
)
from drumbeat.local import _sql
from drumbeat.memory import MemoryBackend, _Member, _Session, _Space
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat._timing import Timing

# Successors --------------------------------------------------------------------------------------------------


@mutant("leaves-by-member-id", breaks=("GROUP-13", "BEAT-14"), like="peers 1")
def leaves_by_member_id(patch: Patch) -> None:
    """A leave removes whoever is in the group under the member id, be it a later incarnation."""

    def leave_group(self: MemoryBackend, lease: Lease, group: str) -> Left:
        with self._store.call(self._namespace) as space:
            members = list(space.groups.get(group, {}))
            alike = [one for one in members if space.sessions[one].member_id == lease.member_id]
            return Left([space.remove_member(group, one) for one in alike] != [])

    patch(MemoryBackend, "leave_group", leave_group)


@mutant("updates-by-member-id", breaks="GROUP-13", like="peers 1")
def updates_by_member_id(patch: Patch) -> None:
    """An update replaces the value of whoever is in the group under the member id."""

    def update_member(
        original: Callable[..., Updated], self: MemoryBackend, lease: Lease, group: str, value: bytes
    ) -> Updated:
        with self._store.call(self._namespace) as space:
            alike = (one for one in space.groups.get(group, {}) if space.sessions[one].member_id == lease.member_id)
            incarnation = next(alike, lease.incarnation)
        return original(self, replace(lease, incarnation=incarnation), group, value)

    patch.wrap(MemoryBackend, "update_member", update_member)


@mutant("closes-by-member-id", breaks=("GROUP-13", "BEAT-14"), like="peers 1")
def closes_by_member_id(patch: Patch) -> None:
    """Closing a session ends whatever session has its member id."""

    def close_session(self: MemoryBackend, lease: Lease) -> SessionClosed:
        with self._store.call(self._namespace) as space:
            alike = [one.incarnation for one in space.sessions.values() if one.member_id == lease.member_id]
            return SessionClosed([space.end(incarnation) for incarnation in alike] != [])

    patch(MemoryBackend, "close_session", close_session)


@mutant("replaces-itself", breaks="BEAT-13")
def replaces_itself(patch: Patch) -> None:
    """A repeated request to replace ends the session that the first one has opened, and begins anew."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            if request.replace:
                space.end(request.incarnation)
        return original(self, request)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("a-join-revives-the-expired", breaks="BEAT-4", like="hazard: a key set by every request")
def a_join_revives_the_expired(patch: Patch) -> None:
    """A join writes the session's key anew where that has expired; only a closed session is refused."""

    def close_session(original: Callable[..., SessionClosed], self: MemoryBackend, lease: Lease) -> SessionClosed:
        closed.add(lease.incarnation)
        return original(self, lease)

    def join_group(original: Callable[..., Joined], self: MemoryBackend, lease: Lease, *rest: object) -> Joined:
        with self._store.call(self._namespace) as space:
            known = {one.member_id for one in space.sessions.values()}
            if lease.incarnation not in closed and lease.member_id not in known:
                until = self._store.clock.now() + lease.ttl
                space.sessions[lease.incarnation] = _Session(lease.incarnation, lease.member_id, lease.ttl, until)
        return original(self, lease, *rest)

    closed: set[str] = set()
    patch.wrap(MemoryBackend, "close_session", close_session)
    patch.wrap(MemoryBackend, "join_group", join_group)


# Names -------------------------------------------------------------------------------------------------------


@mutant("folds-compatible-names", breaks="GROUP-7")
def folds_compatible_names(patch: Patch) -> None:
    """The store compares names by their compatible forms: a wide letter is the same as a narrow one."""

    def folding(original: Callable[..., object], self: MemoryBackend, *given: object) -> object:
        return original(self, *(unicodedata.normalize("NFKC", one) if isinstance(one, str) else one for one in given))

    for hook in ("join_group", "read_group"):
        patch.wrap(MemoryBackend, hook, folding)


@mutant("takes-names-as-they-are-typed", breaks="GROUP-31", like="hazard: names as macOS spells them")
def takes_names_as_they_are_typed(patch: Patch) -> None:
    """A name is sent as it was typed, so that one letter has two spellings, which are two groups."""

    def check_name(original: Callable[[str, str], str], kind: str, name: str) -> str:
        original(kind, name)
        return name

    patch.wrap(drumbeat._group, "check_name", check_name)


@mutant("leaves-by-prefix", breaks="GROUP-28", like="hazard: a scan without its end")
def leaves_by_prefix(patch: Patch) -> None:
    """A leave deletes all keys that begin with the group's, also those of groups with longer names."""

    def leave_group(original: Callable[..., Left], self: MemoryBackend, lease: Lease, group: str) -> Left:
        with self._store.call(self._namespace) as space:
            for name in [name for name in space.groups if name.startswith(group) and name != group]:
                space.remove_member(name, lease.incarnation)
        return original(self, lease, group)

    patch.wrap(MemoryBackend, "leave_group", leave_group)


@mutant("closes-by-prefix", breaks="GROUP-28", like="hazard: a scan without its end")
def closes_by_prefix(patch: Patch) -> None:
    """Closing a session deletes the memberships of all member ids that begin with its own."""

    def close_session(original: Callable[..., SessionClosed], self: MemoryBackend, lease: Lease) -> SessionClosed:
        with self._store.call(self._namespace) as space:
            alike = [one for one in space.sessions.values() if one.member_id.startswith(lease.member_id)]
            for group in list(space.groups):
                for one in alike:
                    space.remove_member(group, one.incarnation)
        return original(self, lease)

    patch.wrap(MemoryBackend, "close_session", close_session)


# Values ------------------------------------------------------------------------------------------------------


@mutant("takes-an-empty-value-for-none", breaks=("GROUP-19", "GROUP-20"))
def takes_an_empty_value_for_none(patch: Patch) -> None:
    """Where the new value is empty, the old one stays."""

    def write(original: Callable[..., object], self: MemoryBackend, lease: Lease, group: str, *rest: object) -> object:
        before = self._store.spaces[self._namespace].groups.get(group, {}).get(lease.incarnation)
        *others, value = rest
        return original(self, lease, group, *others, value or (b"" if before is None else before.value))

    for hook in ("join_group", "update_member"):
        patch.wrap(MemoryBackend, hook, write)


@mutant("gives-out-its-buffers", breaks="GROUP-18")
def gives_out_its_buffers(patch: Patch) -> None:
    """Values come as the client library's buffers, which are equal to bytes and yet none."""

    def read_group(original: Callable[..., GroupRecord], self: MemoryBackend, group: str) -> GroupRecord:
        found = original(self, group).members
        return GroupRecord(tuple(replace(one, value=bytearray(one.value)) for one in found))  # type: ignore[arg-type]

    patch.wrap(MemoryBackend, "read_group", read_group)


# Many --------------------------------------------------------------------------------------------------------


@mutant("shows-the-first-page", breaks="GROUP-30", like="hazard: a server that answers in pages")
def shows_the_first_page(patch: Patch) -> None:
    """A view has the members of the first page of a hundred."""

    def read_group(original: Callable[..., GroupRecord], self: MemoryBackend, group: str) -> GroupRecord:
        return GroupRecord(original(self, group).members[:100])

    patch.wrap(MemoryBackend, "read_group", read_group)


@mutant("lists-the-first-page", breaks="BEAT-23", like="hazard: a server that answers in pages")
def lists_the_first_page(patch: Patch) -> None:
    """The list of groups has those of the first page of thirty-two."""

    def list_groups(original: Callable[..., tuple[str, ...]], self: MemoryBackend) -> tuple[str, ...]:
        return original(self)[:32]

    patch.wrap(MemoryBackend, "list_groups", list_groups)


@mutant("ends-the-first-page", breaks="BEAT-18", like="hazard: a server that answers in pages")
def ends_the_first_page(patch: Patch) -> None:
    """Closing a session ends the first ten of its memberships, and forgets where the others were."""

    def close_session(original: Callable[..., SessionClosed], self: MemoryBackend, lease: Lease) -> SessionClosed:
        with self._store.call(self._namespace) as space:
            session = space.sessions.get(lease.incarnation)
            held = [name for name, members in space.groups.items() if lease.incarnation in members]
        closed = original(self, lease)
        if session is not None and held[10:]:
            with self._store.call(self._namespace) as space:
                space.sessions[lease.incarnation] = replace(session, member_id="")
                for name in held[10:]:
                    space.groups.setdefault(name, {})[lease.incarnation] = _Member(0, b"")
        return closed

    patch.wrap(MemoryBackend, "close_session", close_session)


@mutant("lists-groups-of-the-expired", breaks="BEAT-4")
def lists_groups_of_the_expired(patch: Patch) -> None:
    """The list of groups is an index that a leave and a close keep, and the end of a lease does not."""

    def end(original: Callable[..., bool], self: _Space, incarnation: str) -> bool:
        before = {name for name, members in self.groups.items() if incarnation in members}
        ended = original(self, incarnation)
        if self in expiring:
            left.setdefault(id(self), set()).update(before)
        return ended

    def sweep(original: Callable[..., None], self: _Space, now: float) -> None:
        expiring.append(self)
        original(self, now)
        expiring.remove(self)

    def list_groups(original: Callable[..., tuple[str, ...]], self: MemoryBackend) -> tuple[str, ...]:
        space = self._store.spaces.get(self._namespace)
        return tuple({*original(self), *left.get(id(space), ())})

    expiring: list[_Space] = []
    left: dict[int, set[str]] = {}
    patch.wrap(_Space, "end", end)
    patch.wrap(_Space, "sweep", sweep)
    patch.wrap(MemoryBackend, "list_groups", list_groups)


@mutant("rejoins-one-group", breaks="BEAT-8")
def rejoins_one_group(patch: Patch) -> None:
    """After a reopening the session joins the first of its groups, and takes itself for done."""

    def rejoin(original: Callable[..., None], self: Keeper, incarnation: Incarnation) -> None:
        wanted = self.wanted
        self.wanted = dict(list(wanted.items())[:1])
        try:
            original(self, incarnation)
        finally:
            self.wanted = wanted

    patch.wrap(Keeper, "_rejoin", rejoin)


@mutant("joins-with-what-it-had", breaks="GROUP-4")
def joins_with_what_it_had(patch: Patch) -> None:
    """A join of a member that gives no metadata keeps that from before."""

    def join(original: Callable[..., None], self: Group, metadata: dict[str, object] | None = None) -> None:
        if metadata is not None or self.name not in self._keeper.wanted:
            original(self, metadata)

    patch.wrap(Group, "join", join)


# Lost answers ------------------------------------------------------------------------------------------------


@mutant("leaves-when-it-is-told-so", breaks="GROUP-27", like="peers 7")
def leaves_when_it_is_told_so(patch: Patch) -> None:
    """A group is wanted until the server has answered to a leave, so that one without an answer is undone."""

    def leave(original: Callable[..., bool], self: Group) -> bool:
        before = self._keeper.wanted.get(self.name)
        try:
            return original(self)
        except Unavailable:
            if before is not None:
                self._keeper.wanted[self.name] = before
            raise

    patch.wrap(Group, "leave", leave)


@mutant("leaves-by-itself-too-late", breaks="GROUP-27")
def leaves_by_itself_too_late(patch: Patch) -> None:
    """Heartbeats go on listing a membership whose leave was lost, so that it stays for good."""

    def end_place(_self: Incarnation, _group: str) -> None:
        return

    patch(Incarnation, "end_place", end_place)


@mutant("a-failed-join-leaves", breaks=("GROUP-29", "BEAT-31"))
def a_failed_join_leaves(patch: Patch) -> None:
    """A second join that fails takes the membership from before with it, until that is joined again."""

    def undo_place(original: Callable[..., None], self: Incarnation, group: str) -> None:
        self.end_place(group)
        original(self, group)

    patch.wrap(Incarnation, "undo_place", undo_place)


@mutant("lists-the-newest-join-alone", breaks="BEAT-31")
def lists_the_newest_join_alone(patch: Patch) -> None:
    """While a member joins again, heartbeats list the new membership alone, so that the one which it has is removed."""

    def new_place(original: Callable[..., int], self: Incarnation, group: str) -> int:
        attempt = original(self, group)
        self._places[group] = _incarnation._Place(attempt)
        return attempt

    patch.wrap(Incarnation, "new_place", new_place)


@mutant("takes-an-older-membership-for-its-heir", breaks=("GROUP-24", "GROUP-29"), of="local")
def takes_an_older_membership_for_its_heir(patch: Patch) -> None:
    """A membership that a later join has replaced counts as held, though that join is removed as abandoned."""
    exact = "(attempt = k.value ->> 2 OR attempt > :newest)"
    assert exact in _sql.VERIFY
    patch(_sql, "VERIFY", _sql.VERIFY.replace(exact, "attempt >= k.value ->> 2"))


@mutant("verifies-memberships-by-group", breaks=("GROUP-24", "GROUP-29"))
def verifies_memberships_by_group(patch: Patch) -> None:
    """A heartbeat looks whether the session is in the group, and not by which of its joins."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, lease: Lease, holdings: Holdings) -> Beat:
        with self._store.call(self._namespace) as space:
            held = {name for name, members in space.groups.items() if lease.incarnation in members}
        beat = original(self, lease, holdings)
        lost = (one for one in beat.lost if not (isinstance(one, Membership) and one.group in held))
        return replace(beat, lost=tuple(lost))

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("believes-the-last-answer", breaks="BEAT-32")
def believes_the_last_answer(patch: Patch) -> None:
    """The answer to a heartbeat sets the lease's end, also where a later heartbeat was answered before it."""

    def renew(original: Callable[..., bool], self: Incarnation, lease: Lease, timing: Timing, *, sent: float) -> bool:
        renewed = original(self, lease, timing, sent=sent)
        if renewed:
            self.deadline = sent + timing.usable
        return renewed

    patch.wrap(Incarnation, "renew", renew)


# Leases ------------------------------------------------------------------------------------------------------


@mutant("one-ttl-for-all", breaks="BEAT-33")
def one_ttl_for_all(patch: Patch) -> None:
    """A namespace has one TTL, which the session that opens last brings along for all."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        lease = original(self, request)
        with self._store.call(self._namespace) as space:
            for session in space.sessions.values():
                session.ttl = request.ttl
        return lease

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("measures-metadata-in-letters", breaks="GROUP-10")
def measures_metadata_in_letters(patch: Patch) -> None:
    """The limit counts letters, of which some take several bytes."""

    def encode(original: Callable[..., bytes], metadata: object, *, limit: int) -> bytes:
        stored = original(metadata, limit=4 * limit)
        return original(metadata, limit=limit) if len(stored.decode()) > limit else stored

    patch.wrap(drumbeat._group, "encode_metadata", encode)
