"""Groups: a call that returned is seen by every later read, by anyone."""

from __future__ import annotations

from collections.abc import Callable

from local.actors import TIMEOUT, Actor

from drumbeat.hookspecs import GroupRecord, MemberRecord

Make = Callable[..., Actor]


def test_joins_updates_and_leaves_are_seen_at_once(actor: Make) -> None:
    """Whatever returned is in the next read of another session, values byte for byte."""
    one, two = actor("a"), actor("b")
    value = bytes(range(256)) * 256
    assert one.backend.join_group(one.lease, "g", attempt=1, value=value, timeout=TIMEOUT).was_member is False
    record = two.backend.read_group(two.lease, "g", timeout=TIMEOUT)
    assert record == GroupRecord((MemberRecord("a", one.lease.incarnation, value),))
    assert one.backend.update_member(one.lease, "g", value=b"new", timeout=TIMEOUT).was_member is True
    assert two.backend.read_group(two.lease, "g", timeout=TIMEOUT).members[0].value == b"new"
    assert one.leave("g") is True
    assert two.members("g") == []


def test_joining_twice_and_leaving_without_joining_have_their_answers(actor: Make) -> None:
    """Joining again replaces the value; leaving and updating without being a member change nothing."""
    one = actor("a")
    assert one.leave("g") is False
    assert one.backend.update_member(one.lease, "g", value=b"x", timeout=TIMEOUT).was_member is False
    assert one.members("g") == []
    assert one.join("g", 1, "first") is False
    assert one.join("g", 2, "second") is True
    record = one.backend.read_group(one.lease, "g", timeout=TIMEOUT)
    assert [member.value for member in record.members] == [b"second"]


def test_any_printable_name_works(actor: Make) -> None:
    """Names with quotes, slashes, wild cards and other scripts are groups and elections like any other."""
    one, two = actor("a"), actor("b")
    names = ["it's", 'a"b', "a/b", "%", "_", "a*", "日本", "🥁", "a" * 100, "leader x", "group/é"]
    for number, name in enumerate(names, start=1):
        one.join(name, number)
        assert one.campaign(name, 100 + number) > 0
    assert set(two.backend.list_groups(two.lease, timeout=TIMEOUT)) == set(names)
    assert all(two.members(name) == ["a"] and two.leader(name) == "a" for name in names)


def test_elections_are_no_groups(actor: Make) -> None:
    """An election never shows up as a group, nor its holder as a member."""
    one = actor("a")
    one.campaign("e")
    assert one.backend.list_groups(one.lease, timeout=TIMEOUT) == ()
    assert one.members("e") == []


def test_groups_of_the_dead_are_not_listed(actor: Make) -> None:
    """A group whose only member has died is no group any more."""
    one, two = actor("a"), actor("b")
    one.join("g")
    one.join("h")
    two.join("h")
    one.drop()
    assert two.backend.list_groups(two.lease, timeout=TIMEOUT) == ("h",)
