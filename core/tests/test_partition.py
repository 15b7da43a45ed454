"""Every process computes the same owner for every item, and only what must move moves."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drumbeat
from drumbeat import Member, Partition, View
from drumbeat import _partition as partition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ITEMS = [f"item {number}" for number in range(300)]

weights = st.one_of(st.just(1.0), st.sampled_from([0.0, 0.5, 2.0, 3.0]), st.floats(1e-6, 1e6))
members = st.dictionaries(st.text(max_size=8), weights, max_size=6)


def owners(weighted: Mapping[str, float]) -> dict[str, str | None]:
    """Return the owner of each item."""
    whole = Partition(weighted)
    return {item: whole.owner(item) for item in ITEMS}


def by_the_book(weighted: Mapping[str, float], item: str) -> str | None:
    """Return the item's owner by the format as it is written down, with no thought for speed."""
    slot = int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "big") % 16_384

    def score(member: str) -> float:
        stream = hashlib.shake_128(b"drumbeat.partition.1:" + member.encode()).digest(4 * slot + 4)
        return math.log((int.from_bytes(stream[-4:], "little") + 0.5) / 2**32) / weighted[member]

    able = sorted((weight, member) for member, weight in weighted.items() if weight)
    return max((member for _, member in able), key=score, default=None)


def metadata_weights(**metadata: object) -> View:
    """Return a view whose members have these weights in their metadata."""
    found = [Member(name, f"i-{name}", {"weight": weight}) for name, weight in metadata.items()]  # type: ignore[dict-item]
    return View("g", tuple(found))


def test_the_format_is_stable() -> None:
    """Owners and shard numbers are those of the first release: no process disagrees with an older one."""
    equal = Partition(["a", "b", "ç"])
    assert "".join(equal.owner(item) or "-" for item in ITEMS[:12]) == "aççbbabçaçba"
    unequal = Partition({"a": 1, "b": 2.5, "ç": 0.25, "d": 2.5})
    assert "".join(unequal.owner(item) or "-" for item in ITEMS[:12]) == "bbbbbbbdddba"
    assert [partition.number_of(item, 64) for item in ITEMS[:8]] == [34, 21, 51, 18, 46, 16, 14, 37]
    assert partition.seats(unequal.weights, 8, "a") == [
        ("a", 0), ("a", 0), ("a", 0), ("d", 1), ("d", 2), ("b", 2), ("b", 1), ("d", 3),
    ]  # fmt: skip
    whole = hashlib.sha256(repr(unequal.split(range(100_000))).encode()).hexdigest()
    assert whole == "b19a19121b1a2c248d613a65aa4ed49928252e7342531a01f2809acaa0a289e2"


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_the_hash_seed_does_not_matter(seed: str) -> None:
    """PART-1: processes with different PYTHONHASHSEED compute the same shares."""
    program = "import drumbeat; print(drumbeat.Partition({'b': 2, 'a': 1, 'c': 1}).split(map(str, range(500))))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == repr(Partition({"c": 1, "a": 1, "b": 2}).split(map(str, range(500))))


@given(members)
@settings(max_examples=40)
def test_shares_follow_the_written_format(weighted: dict[str, float]) -> None:
    """The fast way gives what the written format says, for any members and weights."""
    found = owners(weighted)
    assert found == {item: by_the_book(weighted, item) for item in ITEMS}


@given(members)
@settings(max_examples=40)
def test_shares_are_disjoint_and_complete(weighted: dict[str, float]) -> None:
    """PART-1: each item has one owner, if anybody can own something, and `share` is what `split` says."""
    whole = Partition(weighted)
    shares = whole.split(ITEMS)
    assert list(shares) == sorted(weighted)
    expected = ITEMS if any(weighted.values()) else []
    assert sorted(item for share in shares.values() for item in share) == sorted(expected)
    for member, share in shares.items():
        assert whole.share(member, ITEMS) == share
        assert {whole.owner(item) for item in share} <= {member}


@given(members, st.text(max_size=8), weights)
@settings(max_examples=40)
def test_a_join_moves_items_to_the_new_member_alone(weighted: dict[str, float], new: str, weight: float) -> None:
    """PART-2: after a join every item has its old owner or the new member; a leave is the same backwards."""
    weighted.pop(new, None)
    before, after = owners(weighted), owners({**weighted, new: weight})
    for item in ITEMS:
        assert after[item] in {before[item], new}


@given(members, st.data())
@settings(max_examples=40)
def test_a_new_weight_moves_items_of_that_member_alone(weighted: dict[str, float], data: st.DataObject) -> None:
    """PART-2: a heavier member only gains and a lighter one only loses; nothing moves between two others."""
    weighted["m"] = weighted.get("m", 1.0)
    other = data.draw(weights)
    before, after = owners(weighted), owners({**weighted, "m": other})
    heavier = other >= weighted["m"]
    for item in ITEMS:
        moved = before[item] != after[item]
        assert not moved or (after[item] if heavier else before[item]) == "m"


@given(members, st.data())
@settings(max_examples=40)
def test_the_order_of_succession_is_that_of_the_partition(weighted: dict[str, float], data: st.DataObject) -> None:
    """A member with k others before it on a slot owns the slot once those k, in turn the owners, have gone."""
    weighted["m"] = data.draw(weights.filter(bool))
    for slot, (owner, before) in enumerate(partition.seats(weighted, 8, "m") or []):
        left = dict(weighted)
        for _ in range(before):
            first = (partition.seats(left, 8, "m") or [])[slot][0]
            assert first != "m"
            del left[first]
        assert (partition.seats(left, 8, "m") or [])[slot] == ("m", 0)
        assert (owner == "m") == (before == 0)


def test_who_has_no_weight_has_no_seats() -> None:
    """A member of weight 0, or none at all, takes no part in the shards."""
    assert partition.seats({"a": 0.0, "b": 1.0}, 4, "a") is None
    assert partition.seats({"b": 1.0}, 4, "a") is None


@pytest.mark.parametrize("size", [2, 3, 10, 100])
def test_equal_members_have_about_equal_shares(size: int) -> None:
    """No share is further from the mean than four standard deviations of the stated bound."""
    shares = Partition([f"member-{number}" for number in range(size)]).split(range(100_000))
    deviation = math.sqrt((size - 1) * (1 / 16_384 + 1 / 100_000))
    for share in shares.values():
        assert abs(len(share) / (100_000 / size) - 1) < 4 * deviation


def test_shares_follow_the_weights() -> None:
    """Shares are in proportion to weights from a half to eight, within four standard deviations."""
    weighted = {"half": 0.5, "one": 1.0, "also one": 1.0, "two": 2.0, "eight": 8.0}
    shares = Partition(weighted).split(range(100_000))
    for member, weight in weighted.items():
        fraction = weight / sum(weighted.values())
        deviation = math.sqrt((1 - fraction) / fraction * (1 / 16_384 + 1 / 100_000))
        assert abs(len(shares[member]) / (100_000 * fraction) - 1) < 4 * deviation


def test_the_work_is_items_plus_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharing n items among m members takes n + m hashes, and the members' part of it once for any further call."""
    calls: list[str] = []

    def counting(name: str) -> Callable[..., object]:
        real = getattr(partition, name)

        def call(*args: object, **options: object) -> object:
            calls.append(name)
            return real(*args, **options)

        return call

    for name in ("shake_128", "blake2b"):
        monkeypatch.setattr(partition, name, counting(name))
    whole = Partition([f"counted-{number}" for number in range(20)])
    whole.split(range(1000))
    assert (calls.count("shake_128"), calls.count("blake2b")) == (20, 1000)
    Partition(whole.weights).share("counted-3", range(1000))
    assert (calls.count("shake_128"), calls.count("blake2b")) == (20, 2000)


def test_only_the_key_counts() -> None:
    """Items with one key stay together, in the order given, doubles included, and any str is a key."""
    whole = Partition(["a", "b"])
    pairs = [(number % 7, number) for number in range(50)]
    shares = whole.split(pairs, key=lambda pair: f"meter {pair[0]}")
    for member, share in shares.items():
        assert list(share) == [pair for pair in pairs if whole.owner(f"meter {pair[0]}") == member]
    assert whole.owner("\ud800") in {"a", "b"}
    with pytest.raises(TypeError, match="'int'"):
        whole.owner(3, key=lambda item: item)  # type: ignore[arg-type,return-value]


def test_nobody_owns_what_nobody_can() -> None:
    """Without members, or with weights of 0 alone, an item has no owner; weight 0 beside others owns nothing."""
    assert Partition([]).owner("x") is None
    assert Partition([]).split(["x"]) == {}
    assert Partition({"a": 0}).split(["x"]) == {"a": ()}
    assert Partition({"a": 0}).share("a", ["x"]) == ()
    assert Partition({"a": 0, "b": 1}).split(["x"]) == {"a": (), "b": ("x",)}


def test_a_stranger_has_no_share() -> None:
    """Asking for the share of somebody else than a member is an error that names the members."""
    with pytest.raises(drumbeat.ConfigurationError, match=r"'c' is not in this partition.*members: a, b"):
        Partition(["b", "a"]).share("c", ["x"])


@pytest.mark.parametrize("weight", [-1, 1e-7, 1e7, math.nan, math.inf, True, "2", None])
def test_a_weight_that_is_none_is_refused(weight: object) -> None:
    """A weight out of range, or no number, is an error that names the member and the range."""
    with pytest.raises(drumbeat.ConfigurationError, match=r"weight of member 'a' is .*; it must be 0 or a number from"):
        Partition({"a": weight})


def test_partitions_are_values() -> None:
    """Two partitions of the same members with the same weights are equal, however they were given."""
    assert Partition(["b", "a"]) == Partition({"a": 1, "b": 1.0})
    assert Partition(["a"]) != Partition({"a": 2})
    assert Partition(["a"]) != "a"
    assert {Partition(["a"]): "found"}[Partition({"a": 1})] == "found"
    assert repr(Partition(["a"])) == "Partition({'a': 1.0})"


def test_weights_come_from_metadata() -> None:
    """A member's metadata may give its weight, which is 1 otherwise; a rule of one's own takes precedence."""
    plain = View("g", (Member("a", "1", {"weight": 2}), Member("b", "2", {"zone": "x"})))
    assert Partition.of(plain) == Partition({"a": 2, "b": 1})
    assert Partition.of(plain, weight=lambda member: 0.5 if "zone" in member.metadata else 3) == Partition(
        {"a": 3, "b": 0.5}
    )


@pytest.mark.parametrize("weight", ["heavy", -1, True, None, [1], 1e300])
def test_metadata_that_is_no_weight_counts_as_one(weight: object) -> None:
    """What one member writes cannot stop the others: it counts as 1 for all of them, with a warning by name."""
    with pytest.warns(drumbeat.DrumbeatWarning, match=r"member 'b' of group 'g' has the weight .* counts as 1"):
        found = Partition.of(metadata_weights(a=2, b=weight))
    assert found == Partition({"a": 2, "b": 1})


def test_a_rule_that_gives_no_weight_is_an_error() -> None:
    """A weight of one's own rule that is out of range is refused, naming the member."""
    with pytest.raises(drumbeat.ConfigurationError, match="weight of member 'a' is -3"):
        Partition.of(metadata_weights(a=1), weight=lambda _member: -3)
