"""Groups show who is in them, to everybody and at once; member ids are taken, kept and given back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain, product
from threading import Barrier
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import ConfigurationError, Conflict, SessionLost, State, Unavailable, Vacant, View
from drumbeat.hookspecs import LeaderRecord, Membership
from drumbeat.testing import Faults
from drumbeat_conformance.actor import TIMEOUT, Actor, leader_id
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl
from drumbeat_conformance.guarantees._lasting import lasting_actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Session
    from drumbeat_conformance.arena import Arena

#: Names that are good, of which no two are the same.
_NAMES: Final = (
    *(
        "g",
        "G",
        "\uff47",
        "g/h",
        "g%2Fh",
        "g:h",
        "a b",
        "..",
        ".",
        "-",
        "*",
        "~",
        "'\";--",
        "election/g",
        "ключ",
        "ä ö",
    ),
    *("鍵" * 33, "é" * 50, "x" * 100, "%" * 99 + "a", "%" * 99 + "b"),
)
#: Member ids that are good, of which no two are the same.
_IDS: Final = (
    *("m", "M", " m", "m ", "\uff4d", "m/x", "m%2Fx", "m%2fx", "m:x", "%6D", "e", "é", "ss", "ß", "x" * 99 + "a"),
    "x" * 99 + "b",
)
#: Names of namespaces, of which no two are the same.
_SPACES: Final = ("other", "Other", "other/a", "other/b", "other%2Fa", "n" * 80 + "a", "n" * 80 + "b")
#: Names that are not: empty, too long in bytes, or with something that cannot be printed.
_BAD_NAMES: Final = ("", "x" * 101, "é" * 51, "a\nb", "a\x00", "\x7f", "a\u2028b", "\ud800")


@guarantee("GROUP-1")
def a_join_is_visible_to_everybody(arena: Arena) -> None:
    """Once a join has returned, every read by anyone shows the member with its value and incarnation."""
    one, two = arena.actor("a"), arena.actor("b")
    assert one.join("g", b"1") is False
    assert two.members("g") == {"a": b"1"}
    assert two.join("g", b"2") is False
    assert {"a": b"1", "b": b"2"} == one.members("g") == two.members("g")
    record = two.backend.read_group(two.lease, "g", timeout=TIMEOUT)
    assert {one.lease.incarnation, two.lease.incarnation} == {member.incarnation for member in record.members}


@guarantee("GROUP-2")
def a_leave_is_visible_to_everybody(arena: Arena) -> None:
    """Once a leave has returned, no read by anyone shows the member; others stay."""
    one, two = arena.actor("a"), arena.actor("b")
    one.join("g")
    two.join("g")
    assert {"a", "b"} == set(two.members("g"))
    assert one.leave("g") is True
    assert {"b"} == set(two.members("g"))
    assert {"b"} == set(one.members("g"))


@guarantee("GROUP-3")
def metadata_comes_back_as_it_was_given(arena: Arena) -> None:
    """Metadata of every JSON kind comes back as it was given, and an update of it is visible to every later read."""
    lease = long_ttl(arena)
    one, two = arena.connect("one", lease_ttl=lease), arena.connect("two", lease_ttl=lease)
    metadata = {"text": "ä\n☃", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}, "big": 2**53}
    one.group("g").join(metadata)
    assert two.group("g").members()["one"].metadata == metadata
    assert one.group("g").update({"n": 1}) is True
    assert two.group("g").members()["one"].metadata == {"n": 1}
    assert one.group("g").leave() is True
    assert two.group("g").members().ids == ()


@guarantee("GROUP-4")
def the_corner_cases_have_one_outcome(arena: Arena) -> None:
    """Joining twice replaces; leaving or updating without having joined does nothing; an unknown group is empty."""
    group = arena.connect("a", lease_ttl=long_ttl(arena)).group("g")
    assert group.members() == View("g")
    assert group.leave() is False
    assert group.update({"n": 1}) is False
    assert group.members() == View("g")
    group.join({"n": 1})
    group.join({"n": 2})
    assert [member.metadata for member in group.members()] == [{"n": 2}]
    group.join()
    assert [member.metadata for member in group.members()] == [{}]
    assert group.leave() is True
    assert group.leave() is False


@guarantee("GROUP-5")
def a_second_session_waits_is_refused_or_replaces_as_it_asked(arena: Arena) -> None:
    """Where a member id is alive, a second session is refused by name at once, waits in vain, or replaces the first.

    It waits until the first one, had it been dead, would have lapsed. One that is replaced is LOST with its terms,
    and does not fight back.
    """
    first = arena.connect("a")
    term = first.election("e").campaign()
    with pytest.raises(Conflict, match="member id 'a' is held by the live session"):
        arena.connect("a", on_conflict="refuse")
    started = arena.clock.now()
    with pytest.raises(Conflict):
        arena.run(lambda: arena.connect("a", on_conflict="wait"), within=first.failover_bound + 3 * arena.ttl)
    assert arena.clock.now() - started >= arena.ttl / 2
    assert term.held
    assert first.state is State.CONNECTED
    second = arena.connect("a", on_conflict="replace")
    arena.eventually(lambda: first.state is State.LOST, within=3 * arena.ttl)
    assert not term.held
    campaign = partial(second.election("e").campaign, timeout=5 * arena.ttl)
    assert arena.run(campaign, within=6 * arena.ttl).token > term.token
    arena.wait(arena.ttl)
    assert second.state is State.CONNECTED


@guarantee("GROUP-6")
def a_crowd_that_joins_at_once_is_all_in(arena: Arena) -> None:
    """Members who join at the same moment all appear, whoever looks; nothing is missing at their next heartbeats.

    All agree on who is in, and on a partition: every item belongs to exactly one of them.
    """
    faults = Faults(arena.clock)
    lease = long_ttl(arena)
    ids = tuple(f"m{number:02}" for number in range(30))
    sessions = [
        arena.connect(id_, interceptors=[faults], heartbeat="manual", lease_ttl=lease, request_timeout=lease / 5)
        for id_ in ids
    ]
    start = Barrier(len(sessions))
    joins = [arena.background(partial(_join_together, session, start)) for session in sessions]
    for join in joins:
        join.result(within=lease / 2)
    assert {ids} == {session.group("g").members().ids for session in sessions}
    items = [f"item-{number}" for number in range(200)]
    shares = [session.group("g").partition(items) for session in sessions]
    assert sorted(items) == sorted(chain.from_iterable(shares))
    for session in sessions:
        session.beat()
    assert faults.calls["join_group"] == len(ids), "a heartbeat found a membership gone, which was joined again"


def _join_together(session: Session, start: Barrier) -> None:
    start.wait(TIMEOUT)
    session.group("g").join()


@guarantee("GROUP-7")
def any_printable_name_works(arena: Arena) -> None:
    """Names of every script and length work, as members, groups and elections, to join, update and leave, and none is
    taken for another.
    """
    lease = long_ttl(arena)
    reader, writer = arena.connect("member ✓ /:%\\", lease_ttl=lease), arena.connect("é" * 50, lease_ttl=lease)
    for name in _NAMES:
        writer.group(name).join({"name": name})
    for name in _NAMES:
        members = reader.group(name).members()
        assert [(member.member_id, member.metadata) for member in members] == [("é" * 50, {"name": name})]
    reader.group("g").join()
    assert {"é" * 50, "member ✓ /:%\\"} == set(writer.group("g").members().ids)
    for name in _NAMES:
        arena.run(partial(writer.election(name).campaign, value={"name": name}), within=5 * arena.ttl)
    for name in _NAMES:
        leader = reader.election(name).leader()
        assert leader is not None, name
        assert ("é" * 50, {"name": name}) == (leader.member_id, leader.value)
    writer.beat()
    assert reader.groups() == tuple(sorted(_NAMES))
    for name in _NAMES:
        assert writer.group(name).update({"again": name}), name
    reader.group("g").leave()
    left = set(_NAMES)
    for name in reversed(_NAMES):
        assert [member.metadata for member in reader.group(name).members()] == [{"again": name}]
        assert writer.group(name).leave(), name
        left.remove(name)
        assert reader.groups() == tuple(sorted(left))


@guarantee("GROUP-32")
def any_two_member_ids_are_two(arena: Arena) -> None:
    """Member ids that differ in case, in a space at an end, in width, in an accent or in what is quoted are alive
    together, and each is shown as it is: in views, to who asks for the leader, and to who waits behind it.
    """
    actors = [lasting_actor(arena, id_) for id_ in _IDS]
    for number, actor in enumerate(actors):
        assert actor.join("g", f"{number}".encode()) is False
        actor.win(f"e{number}")
    members = {id_: f"{number}".encode() for number, id_ in enumerate(_IDS)}
    assert actors[0].members("g") == actors[-1].members("g") == members
    for number, (id_, other) in enumerate(zip(_IDS, actors[1:] + actors[:1], strict=True)):
        assert leader_id(other.leader(f"e{number}")) == id_
        holder = other.wait_for(f"e{number}").holder
        assert isinstance(holder, LeaderRecord)
        assert holder.member_id == id_
    for id_, actor in zip(_IDS, actors, strict=True):
        assert actor.beat().lost == ()
        assert actor.leave("g") is True
        del members[id_]
        assert actors[0].members("g") == members


@guarantee("GROUP-8")
def groups_elections_and_namespaces_do_not_leak(arena: Arena) -> None:
    """A name means something else as a group, as an election, and in another namespace."""
    one, other = arena.actor("a"), arena.actor("a", namespace="other")
    one.join("x", b"member")
    assert one.leader("x") == Vacant()
    assert one.members("y") == {}
    one.win("y", b"leader")
    assert one.members("y") == {}
    assert one.groups() == {"x"}
    assert other.members("x") == {}
    assert other.leader("y") == Vacant()
    assert other.groups() == set()
    other.win("y")
    assert leader_id(one.leader("y")) == "a"
    assert one.beat().lost == ()


@guarantee("GROUP-33")
def namespaces_that_are_named_alike_stay_apart(arena: Arena) -> None:
    """Namespaces that differ in case, in what is quoted, in their last letter, or of which one begins with the other,
    have sessions, groups and elections of their own.
    """
    actors = []
    for namespace in _SPACES:
        actor = Actor(arena, "a", backend=arena.backend(namespace=namespace))
        actor.open(replace(actor.request(), ttl=long_ttl(arena)))
        assert actor.groups() == set()
        assert actor.members("g") == {}
        actor.join("g", namespace.encode())
        actor.win("e", namespace.encode())
        actors.append(actor)
    for namespace, actor in zip(_SPACES, actors, strict=True):
        assert actor.beat().lost == ()
        assert actor.members("g") == {"a": namespace.encode()}
        leader = actor.leader("e")
        assert isinstance(leader, LeaderRecord)
        assert leader.value == namespace.encode()


@guarantee("GROUP-34")
def what_is_done_in_a_group_stays_out_of_an_election(arena: Arena) -> None:
    """Where one session is in a group and leads an election of one name, joining, updating and leaving change nothing
    of the seat, and proclaiming and resigning nothing of the membership.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")

    def found() -> tuple[dict[str, bytes], bytes | None]:
        leader = two.leader("x")
        return two.members("x"), leader.value if isinstance(leader, LeaderRecord) else None

    seat = one.win("x", b"seat")
    for write in (one.join, one.join, one.update):
        write("x", b"member")
        assert found() == ({"a": b"member"}, b"seat")
    assert one.proclaim(seat, b"seat 2") is True
    assert found() == ({"a": b"member"}, b"seat 2")
    assert one.leave("x") is True
    assert found() == ({}, b"seat 2")
    assert one.beat().lost == ()
    one.join("x", b"member 2")
    assert one.resign(seat) is True
    assert found() == ({"a": b"member 2"}, None)
    assert one.beat().lost == ()


@guarantee("GROUP-9")
def a_restarted_process_gets_its_member_id_back(arena: Arena) -> None:
    """Under the member id of a dead process a new one gets in within the bound, and not before the TTL has passed."""
    dead = arena.actor("a")
    dead.join("g")
    seat = dead.win("e")
    sent = arena.clock.now()
    dead.beat()
    reborn = Actor(arena, "a", backend=arena.backend())
    waited = reborn.open_when_possible()
    assert waited <= arena.profile.failover.seconds(arena.ttl) + arena.ttl / 4
    assert arena.clock.now() - sent >= 0.999 * arena.ttl - arena.profile.limits.early_expiry
    assert reborn.members("g") == {}
    assert reborn.leader("e") == Vacant()
    assert reborn.win("e").token > seat.token


@guarantee("GROUP-10")
def metadata_at_the_limit_works_and_above_it_writes_nothing(arena: Arena) -> None:
    """Metadata at the stated limit comes back; above it an error that names the limit leaves what was there."""
    session = arena.connect("a", lease_ttl=long_ttl(arena))
    limit = session.backend.limits.value_bytes
    room = limit - len(b'1{"t":""}')
    group = session.group("g")
    group.join({"t": "x" * room})
    assert group.members()["a"].metadata == {"t": "x" * room}
    writes: tuple[Callable[[dict[str, object]], object], ...] = (group.update, group.join)
    for write, text in product(writes, ("x" * (room + 1), "é" * (room // 2 + 1))):
        with pytest.raises(ConfigurationError, match=f"this backend allows {limit}"):
            write({"t": text})
        assert group.members()["a"].metadata == {"t": "x" * room}


@guarantee("GROUP-11")
def a_live_member_id_is_refused_by_name(arena: Arena) -> None:
    """A second session is told whose the member id is, and when that one can lapse; the first keeps all it has."""
    first = arena.actor("a")
    seat = first.win("e")
    with pytest.raises(Conflict) as refusal:
        arena.actor("a")
    assert ("a", first.lease.incarnation) == (refusal.value.member_id, refusal.value.incarnation)
    assert refusal.value.retry_after is not None
    assert 0 < refusal.value.retry_after <= 1.01 * arena.ttl
    assert first.beat().lost == ()
    assert first.proclaim(seat, b"still here")


@guarantee("GROUP-12")
def insisting_never_ends_a_session_that_beats(arena: Arena) -> None:
    """However long a second session insists, one that beats keeps its member id."""
    first = arena.actor("a")
    second = arena.backend()
    for _ in range(8):
        arena.pass_time(0.25, first)
        with pytest.raises(Conflict):
            second.open_session(first.request(), timeout=TIMEOUT)
    assert first.beat().lost == ()


@guarantee("GROUP-13")
def replacing_ends_the_live_session_of_another_process(arena: Arena) -> None:
    """A session that is replaced ends with all that it held, is told at its next heartbeat, and can do nothing: also
    not to its successor, which has the same member id.
    """
    first, other = arena.actor("a"), arena.actor("b")
    first.join("g")
    first.win("e")
    second = Actor(arena, "a", backend=arena.backend())
    second.open(second.request(replace=True))
    assert second.members("g") == other.members("g") == {}
    assert second.leader("e") == other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        first.beat()
    with pytest.raises(SessionLost):
        first.join("g")
    second.join("g", b"mine")
    assert [first.update("g", b"old"), first.leave("g"), first.close()] == [False, False, False]
    assert other.members("g") == {"a": b"mine"}
    assert second.beat().lost == ()


@guarantee("GROUP-14")
def a_dead_member_comes_back_under_its_own_id(arena: Arena) -> None:
    """A process that connects under the id of a dead one waits for its end, and is a member of its own then."""
    faults = Faults(arena.clock)
    old = arena.connect("a", interceptors=[faults])
    old.group("g").join()
    with faults.failing():
        session = arena.run(lambda: arena.connect("a"), within=old.failover_bound + 3 * arena.ttl)
        session.group("g").join()
        assert [session.incarnation] == [member.incarnation for member in session.group("g").members()]
        old.close(timeout=0.1)


@guarantee("GROUP-15")
def a_bad_name_is_refused_before_anything_is_sent(arena: Arena) -> None:
    """A name that is empty, too long or unprintable is a ConfigurationError, and no hook is called for it."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults], heartbeat="manual")
    faults.calls.clear()
    for name in _BAD_NAMES:
        for use in (session.group, session.election, session.lock):
            with pytest.raises(ConfigurationError):
                use(name)
        with pytest.raises(ConfigurationError):
            arena.connect(name, interceptors=[faults])
    assert not faults.calls


@guarantee("GROUP-16")
def names_that_meet_at_their_seams_stay_apart(arena: Arena) -> None:
    """Group "a:b" with member "c" is not group "a" with member "b:c", and no separator is different."""
    for seam in (":", "/", "%3A", "%2F", ".", "~", "|"):
        one, two = arena.actor("c"), arena.actor(f"b{seam}c")
        one.join(f"a{seam}b", b"1")
        two.join("a", b"2")
        assert one.members(f"a{seam}b") == {"c": b"1"}
        assert one.members("a") == {f"b{seam}c": b"2"}
        one.close()
        two.close()


@guarantee("GROUP-28")
def what_ends_takes_nothing_along_that_is_named_alike(arena: Arena) -> None:
    """Leaving a group and closing a session end that one alone, and none whose name begins with the same letters."""
    one, two = arena.actor("a"), arena.actor("ab")
    for actor in (one, two):
        for name in ("g", "gh", "g/h"):
            actor.join(name)
    assert one.leave("g") is True
    assert {"ab"} == set(two.members("g"))
    assert {"a", "ab"} == set(two.members("gh")) == set(two.members("g/h"))
    one.close()
    assert {"ab"} == set(two.members("g")) == set(two.members("gh")) == set(two.members("g/h"))
    assert two.beat().lost == ()


@guarantee("GROUP-17")
def elections_and_locks_are_no_groups(arena: Arena) -> None:
    """An election or lock is no group, its holder no member, and another namespace sees nothing of either."""
    lease = long_ttl(arena)
    session, other = arena.connect("a", lease_ttl=lease), arena.connect("a", lease_ttl=lease, namespace="other")
    session.election("g").campaign()
    session.lock("g").acquire()
    assert session.groups() == ()
    session.group("g").join()
    assert session.group("g").members().ids == ("a",)
    assert other.groups() == ()
    assert other.group("g").members().ids == ()
    assert other.election("g").leader() is None
    campaign = partial(other.election("g").campaign, timeout=5 * arena.ttl)
    assert arena.run(campaign, within=6 * arena.ttl).held


@guarantee("GROUP-18")
def values_come_back_byte_for_byte(arena: Arena) -> None:
    """Any bytes, from none up to the limit that the backend states, are stored and returned unchanged."""
    limit = arena.profile.limits.value_bytes
    value = (bytes(range(256)) * (limit // 256 + 1))[:limit]
    one, two = arena.actor("a"), arena.actor("b")
    one.join("g", value)
    one.win("e", value)
    two.join("g", b"")
    assert {"a": value, "b": b""} == two.members("g")
    assert {bytes} == {type(found) for found in two.members("g").values()}
    leader = two.leader("e")
    assert isinstance(leader, LeaderRecord)
    assert value == leader.value


@guarantee("GROUP-19")
def an_update_is_visible_to_everybody(arena: Arena) -> None:
    """Once an update has returned, every read shows the new value, and the membership is the same."""
    one, two = arena.actor("a"), arena.actor("b")
    one.join("g", b"1")
    for value in (b"2", b"2", b"", b"1"):
        assert one.update("g", value) is True
        assert two.members("g") == {"a": value}
    assert one.beat().lost == ()
    assert two.members("g") == {"a": b"1"}


@guarantee("GROUP-20")
def joining_again_replaces_the_value(arena: Arena) -> None:
    """A second join says that there was a membership, and replaces its value and attempt."""
    actor = arena.actor("a")
    assert [actor.join("g", b"1"), actor.join("g", b""), actor.join("g", b"2")] == [False, True, True]
    assert actor.members("g") == {"a": b"2"}
    assert actor.beat().lost == ()
    assert actor.members("g") == {"a": b"2"}
    assert actor.join("g", b"") is True
    assert actor.members("g") == {"a": b""}


@guarantee("GROUP-21")
def what_is_not_there_is_said_so(arena: Arena) -> None:
    """Updating or leaving without having joined says so and changes nothing; an unknown group has no members."""
    actor, member = arena.actor("a"), arena.actor("b")
    member.join("g", b"b")
    assert actor.update("g", b"a") is False
    assert actor.leave("g") is False
    assert actor.members("g") == {"b": b"b"}
    assert actor.members("unknown") == {}
    assert actor.groups() == {"g"}


@guarantee("GROUP-22")
def leaving_and_joining_again_makes_a_member(arena: Arena) -> None:
    """After a leave a join starts anew: it finds no membership, and everybody sees its value."""
    one, two = arena.actor("a"), arena.actor("b")
    one.join("g", b"1")
    assert one.leave("g") is True
    assert one.leave("g") is False
    assert one.join("g", b"2") is False
    assert two.members("g") == {"a": b"2"}
    assert one.beat().lost == ()


@guarantee("GROUP-23")
def groups_are_listed_while_somebody_is_in_them(arena: Arena) -> None:
    """A group is listed from the first join on, while it has live members, and again after a new join."""
    one, two = arena.actor("a"), arena.actor("b")
    assert two.groups() == set()
    one.join("g")
    one.join("h")
    assert two.groups() == {"g", "h"}
    one.leave("g")
    assert two.groups() == {"h"}
    assert two.groups() == {"h"}
    one.join("g")
    assert two.groups() == {"g", "h"}
    one.close()
    assert two.groups() == set()


@guarantee("GROUP-24")
def an_abandoned_join_is_removed_by_the_heartbeat(arena: Arena) -> None:
    """A membership under an attempt that its session has given up is gone after the next heartbeat; others stay. Where
    it had taken the place of one that is listed, that one is lost.
    """
    actor, other = arena.actor("a"), arena.actor("b")
    actor.join("g")
    actor.join("h")
    actor.places.pop("g")
    assert {"a"} == set(other.members("g"))
    assert actor.beat().lost == ()
    assert other.members("g") == {}
    assert {"a"} == set(other.members("h"))
    before = Membership("h", actor.places["h"])
    actor.join("h", b"again")
    actor.places["h"] = before.attempt
    assert actor.beat().lost == (before,)
    assert other.members("h") == {}


@guarantee("GROUP-25")
def a_join_whose_answer_is_lost_is_undone(arena: Arena) -> None:
    """A join that raised says that it may have been applied, and does not linger: one heartbeat later it is gone."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults], heartbeat="manual", lease_ttl=long_ttl(arena))
    with faults.dropping_replies("join_group"), pytest.raises(Unavailable, match="may have been applied"):
        session.group("g").join()
    session.beat()
    assert session.group("g").members().ids == ()


@guarantee("GROUP-26")
def a_membership_that_vanished_is_joined_again(arena: Arena) -> None:
    """A membership that the store alone has lost is back after one heartbeat, with its metadata."""
    session = arena.connect("a", heartbeat="manual", lease_ttl=long_ttl(arena))
    group = session.group("g")
    group.join({"n": 1})
    keeper = session._keeper  # noqa: SLF001 - the store is changed behind the session's back
    assert keeper.incarnation is not None
    keeper.backend.leave_group(keeper.incarnation.lease, "g", timeout=TIMEOUT)
    assert group.members().ids == ()
    session.beat()
    assert [member.metadata for member in group.members()] == [{"n": 1}]
