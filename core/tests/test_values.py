"""Metadata and values as they are stored."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drumbeat import BadData, ConfigurationError
from drumbeat._values import JSON, decode_metadata, decode_value, encode_metadata, encode_value

LIMIT = 10_000
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(DOCUMENTS)
def test_a_value_comes_back_as_it_was_given(value: JSON) -> None:
    """What is stored and read again is the same JSON document."""
    assert decode_value("key", encode_value("value", value, limit=LIMIT)) == value


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"when": object()}, "not a JSON document"),
        ({"n": math.nan}, "not a JSON document"),
        ({"n": math.inf}, "not a JSON document"),
        ({"n": 2**53 + 1}, r"metadata\['n'\] is 9007199254740993"),
        ({"a": [{"b": -(2**60)}]}, r"metadata\['a'\]\[0\]\['b'\] is"),
        ({1: "a"}, "has the key 1"),
        ({"a": "\ud800"}, "not a JSON document"),
        ([1, 2], "must be a mapping"),
        ("text", "must be a mapping"),
    ],
)
def test_metadata_that_is_no_json_object_is_refused(metadata: object, problem: str) -> None:
    """Metadata that would not come back as it was given is refused, and the message names the place."""
    with pytest.raises(ConfigurationError, match=problem):
        encode_metadata(metadata, limit=LIMIT)  # type: ignore[arg-type]


def test_metadata_that_contains_itself_is_refused() -> None:
    """A circular document is refused instead of exhausting the stack."""
    circle: dict[str, object] = {}
    circle["self"] = circle
    with pytest.raises(ConfigurationError, match="contains itself"):
        encode_metadata(circle, limit=LIMIT)


def test_the_limit_counts_the_stored_bytes() -> None:
    """Metadata of exactly the limit is accepted, one byte more is refused with both numbers."""
    stored = encode_metadata({"a": "ä"}, limit=LIMIT)
    assert stored == b'1{"a":"\xc3\xa4"}'
    assert encode_metadata({"a": "ä"}, limit=len(stored)) == stored
    with pytest.raises(ConfigurationError, match=f"takes {len(stored)} bytes as JSON; this backend allows 10"):
        encode_metadata({"a": "ä"}, limit=10)


@pytest.mark.parametrize("stored", [b"", b"9{}", b"1{", b"1\xff", b"rubbish"])
def test_rubbish_and_newer_formats_name_the_key(stored: bytes) -> None:
    """A stored value that cannot be read is BadData with the key."""
    with pytest.raises(BadData, match="the key"):
        decode_value("the key", stored)


def test_metadata_that_is_stored_as_another_type_is_bad_data() -> None:
    """Stored metadata must be an object."""
    with pytest.raises(BadData, match="a JSON list, not an object"):
        decode_metadata("the key", b"1[]")
