"""Which names are accepted, and what keys they get."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drumbeat import ConfigurationError
from drumbeat._names import MAX_KEY_BYTES, check_name
from drumbeat.hookspecs import encode_key

NAMES = st.text(min_size=1, max_size=100).filter(
    lambda text: (
        len(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")) <= 100
        and not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in text)
    )
)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("a" * 101, "has 101 bytes"),
        ("ä" * 51, "has 102 bytes"),
        ("a\nb", "U\\+000A"),
        ("a\x00", "U\\+0000"),
        ("\u2028", "U\\+2028"),
        ("\ud800", "U\\+D800"),
    ],
)
def test_bad_names_are_refused_by_what_is_wrong(name: str, problem: str) -> None:
    """A name that is empty, too long or holds a control character is refused, and the message says why."""
    with pytest.raises(ConfigurationError, match=f"^group .*{problem}"):
        check_name("group", name)


def test_a_name_must_be_text() -> None:
    """A name that is not a str is refused."""
    with pytest.raises(ConfigurationError, match="must be a str, not int"):
        check_name("group", 3)  # type: ignore[arg-type]


def test_two_spellings_of_one_text_are_one_name() -> None:
    """A name is compared in Unicode NFC, however it was typed."""
    assert check_name("group", "caf\u00e9") == check_name("group", "cafe\u0301")


@given(NAMES)
def test_any_printable_name_has_a_safe_key(name: str) -> None:
    """Every name that is accepted has an ASCII key of at most 200 bytes without slashes, dots alone or spaces."""
    key = encode_key(check_name("group", name))
    assert 0 < len(key.encode("ascii")) <= MAX_KEY_BYTES
    assert set(key).isdisjoint(" /:*?\\\r\n\t")
    assert key not in {".", ".."}


@given(NAMES, NAMES)
def test_two_names_never_share_a_key(one: str, other: str) -> None:
    """Different names have different keys, also where the key is cut."""
    names = check_name("group", one), check_name("group", other)
    assert (names[0] == names[1]) == (encode_key(names[0]) == encode_key(names[1]))


def test_long_keys_differ_by_their_tail() -> None:
    """Two long names with one beginning keep different keys of at most 200 bytes."""
    keys = {encode_key("ä" * 49 + ending) for ending in "ab"}
    assert len(keys) == 2
    assert max(map(len, keys)) <= MAX_KEY_BYTES
