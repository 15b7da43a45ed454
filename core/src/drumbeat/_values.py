"""Metadata and values: small JSON documents, stored as opaque bytes with the format number first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from drumbeat._clock import MAX_SHOWN_BITS
from drumbeat._errors import BadData, ConfigurationError

#: A JSON document as Python holds it.
JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

FORMAT = b"1"
#: Above this an integer loses digits in the stores and languages that read numbers as doubles.
MAX_INTEGER = 2**53
#: How deep a document may be nested, so that whoever reads it can.
MAX_DEPTH = 50


def encode_value(kind: str, value: object, *, limit: int) -> bytes:
    """Return the stored form of a JSON document, or raise ConfigurationError; nothing has been sent then."""
    _check(kind, value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        stored = FORMAT + text.encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{kind} is not a JSON document: {error}") from error
    if len(stored) > limit:
        raise ConfigurationError(
            f"{kind} takes {len(stored)} bytes as JSON; this backend allows {limit}. "
            "Keep large things elsewhere and put a reference here"
        )
    return stored


def encode_metadata(metadata: Mapping[str, object] | None, *, limit: int) -> bytes:
    """Return the stored form of a member's metadata, which must be a JSON object."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata must be a mapping of names to values, not {metadata!r}")
    return encode_value("metadata", dict(metadata or {}), limit=limit)


def decode_value(key: str, stored: bytes) -> JSON:
    """Return the JSON document in `stored`; raise BadData naming `key` for rubbish or a newer format."""
    if stored[:1] != FORMAT:
        raise BadData(key, f"holds a value of unknown format {stored[:12]!r} (this version reads format 1)")
    try:
        value: JSON = json.loads(stored[1:])
    except ValueError as error:
        raise BadData(key, f"holds a value that is not JSON ({error})") from error
    return value


def decode_metadata(key: str, stored: bytes) -> dict[str, JSON]:
    """Return the metadata in `stored`, which must be a JSON object."""
    value = decode_value(key, stored)
    if not isinstance(value, dict):
        raise BadData(key, f"holds metadata that is a JSON {type(value).__name__}, not an object")
    return value


def _check(kind: str, value: object, path: str = "", depth: int = 0) -> None:
    where = f"{kind}{path}"
    if depth > MAX_DEPTH:
        raise ConfigurationError(f"{kind} is nested more than {MAX_DEPTH} deep, or contains itself")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                _refuse(where, f"has the key {name!r}; JSON names are strings")
            _check(kind, inner, f"{path}[{name!r}]", depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(kind, inner, f"{path}[{index}]", depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INTEGER:
        shown = value if value.bit_length() < MAX_SHOWN_BITS else "a huge integer"
        _refuse(where, f"is {shown}; integers beyond 2**53 lose digits in other languages, send a string")


def _refuse(where: str, problem: str) -> NoReturn:
    raise ConfigurationError(f"{where} {problem}")
