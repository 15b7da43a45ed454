"""Names: what is accepted, and the one encoding that stores with narrow key rules use."""

from __future__ import annotations

import unicodedata

from drumbeat._errors import ConfigurationError

MAX_NAME_BYTES = 100
MAX_KEY_BYTES = 200

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def check_name(kind: str, name: str) -> str:
    """Return `name` in its stored form (Unicode NFC), or raise ConfigurationError saying what is wrong.

    A name has 1 to 100 bytes of UTF-8 and no control characters; `kind` is the word for the message.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"{kind} must be a str, not {type(name).__name__}")
    normal = unicodedata.normalize("NFC", name)
    if not normal:
        raise ConfigurationError(f"{kind} is empty; give it 1 to {MAX_NAME_BYTES} bytes")
    for character in normal:
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            code = f"U+{ord(character):04X}"
            raise ConfigurationError(f"{kind} {name!r} holds {code}, a control or unprintable character")
    size = len(normal.encode())
    if size > MAX_NAME_BYTES:
        raise ConfigurationError(f"{kind} has {size} bytes in UTF-8; at most {MAX_NAME_BYTES} are allowed")
    return normal


def encode_key(name: str) -> str:
    """Return an ASCII key for `name`, of at most 200 bytes, safe in every store we know.

    Letters, digits, `-`, `_` and `.` stay; every other byte becomes `%XX`; a result that would be longer is
    cut and ends in a hash of the whole name, so two names never share a key.
    """
    encoded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode())
    if encoded in {".", ".."}:
        return encoded.replace(".", "%2E")
    if len(encoded) <= MAX_KEY_BYTES:
        return encoded
    import hashlib

    tail = hashlib.sha256(name.encode()).hexdigest()[:40]
    return f"{encoded[: MAX_KEY_BYTES - len(tail) - 1]}~{tail}"
