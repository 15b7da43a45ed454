"""What a CompareAndSetBackend keeps in its store: six kinds of records, each under a key of its own.

| key | record | what it says |
|---|---|---|
| `db:birth:NAMESPACE` | `Birth` | when the store was born, and the longest TTL that it allows |
| `db:session:NAMESPACE:MEMBER` | `Session` | which incarnation has the member id, and whether it lives |
| `db:seat:NAMESPACE:ELECTION` | `SeatRecord` | who holds an election, or that nobody does; keeps the token |
| `db:roster:NAMESPACE:GROUP` | `Roster` | who is in a group |
| `db:value:NAMESPACE:GROUP:MEMBER` | `MemberValue` | a member's metadata |
| `db:groups:NAMESPACE` | `GroupIndex` | which groups there are |

Names are encoded by `encode_key`, which never yields a colon; a key longer than 200 characters ends in a hash of the
whole. A value is the format number, `1`, and a JSON object without line breaks; opaque bytes are in base64.

Each record counts its changes, so that a key never returns to bytes that it held before, and a store may use the value
itself as its version.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Self

from drumbeat._errors import BadData
from drumbeat.hookspecs import LeaderRecord, Lease, encode_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FORMAT: Final = b"1"
MAX_KEY: Final = 200

State = Literal["alive", "dead", "closed"]
STATES: Final[Mapping[str, State]] = {"alive": "alive", "dead": "dead", "closed": "closed"}


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str

    @property
    def birth(self) -> str:
        """The key of the birth record."""
        return self._key("birth")

    @property
    def groups(self) -> str:
        """The key of the index of groups."""
        return self._key("groups")

    def session(self, member_id: str) -> str:
        """Return the key of a member id's session."""
        return self._key("session", member_id)

    def seat(self, election: str) -> str:
        """Return the key of an election's seat."""
        return self._key("seat", election)

    def roster(self, group: str) -> str:
        """Return the key of a group's roster."""
        return self._key("roster", group)

    def value(self, group: str, member_id: str) -> str:
        """Return the key of a member's value."""
        return self._key("value", group, member_id)

    def _key(self, kind: str, *names: str) -> str:
        return _encode(kind, self.namespace, *names)


@lru_cache(maxsize=4096)
def _encode(kind: str, *names: str) -> str:
    key = ":".join(("db", kind, *(encode_key(name) for name in names)))
    if len(key) <= MAX_KEY:
        return key
    tail = hashlib.sha256(key.encode()).hexdigest()[:40]
    return f"{key[: MAX_KEY - len(tail) - 1]}~{tail}"


class Record:
    """One stored value: a JSON object behind the format number."""

    __slots__ = ()

    @classmethod
    def decode(cls, key: str, stored: bytes) -> Self:
        """Return the record in `stored`; raise BadData naming `key` for rubbish or a newer format."""
        if stored[:1] != FORMAT:
            raise BadData(key, f"holds a record of unknown format {stored[:12]!r} (this version reads format 1)")
        try:
            document: object = json.loads(stored[1:])
        except ValueError as error:
            raise BadData(key, f"holds a record that is not JSON ({error})") from error
        return cls.read(Fields(key, document))

    def encode(self) -> bytes:
        """Return the stored form."""
        return FORMAT + json.dumps(self.fields(), separators=(",", ":")).encode()

    @classmethod
    @abstractmethod
    def read(cls, fields: Fields) -> Self:
        """Return the record that the fields make."""

    @abstractmethod
    def fields(self) -> dict[str, object]:
        """Return the record as JSON."""


class Fields:
    """The fields of one stored JSON object, each read as the type it must have; anything else is BadData."""

    def __init__(self, key: str, document: object) -> None:
        self._key = key
        if not isinstance(document, dict):
            raise BadData(key, f"holds a JSON {type(document).__name__} where a record is expected")
        self._document: dict[str, object] = document

    def text(self, name: str) -> str:
        """Return a string."""
        found = self._document.get(name)
        return found if isinstance(found, str) else self._refuse(name, found)

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None if there is none."""
        return None if self._document.get(name) is None else self.text(name)

    def integer(self, name: str) -> int:
        """Return an integer."""
        found = self._document.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else self._refuse(name, found)

    def seconds(self, name: str) -> float:
        """Return a duration above zero."""
        found = self._document.get(name)
        usable = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < float("inf")
        return float(found) if usable and isinstance(found, int | float) else self._refuse(name, found)

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        found = self._document.get(name)
        return found if isinstance(found, bool) else self._refuse(name, found)

    def opaque(self, name: str) -> bytes:
        """Return bytes."""
        try:
            return base64.b64decode(self.text(name), validate=True)
        except binascii.Error:
            return self._refuse(name, self._document.get(name))

    def record(self, name: str) -> Fields | None:
        """Return an object inside this one, or None if there is none."""
        found = self._document.get(name)
        return None if found is None else Fields(self._key, found)

    def records(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        return [Fields(self._key, item) for item in self._list(name)]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(item if isinstance(item, str) else self._refuse(name, item) for item in self._list(name))

    def choice(self, name: str, choices: Mapping[str, State]) -> State:
        """Return one of the words that are allowed."""
        found = choices.get(self.text(name))
        return found if found is not None else self._refuse(name, self._document.get(name))

    def _list(self, name: str) -> list[object]:
        found = self._document.get(name)
        return found if isinstance(found, list) else self._refuse(name, found)

    def _refuse(self, name: str, found: object) -> NoReturn:
        raise BadData(self._key, f"holds a record whose field {name!r} is {found!r:.60}")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose something is: one incarnation, with the TTL that decides when its silence means death."""

    member_id: str
    incarnation: str
    ttl: float = field(compare=False)

    @classmethod
    def of(cls, lease: Lease) -> Owner:
        """Return the owner that a session is."""
        return cls(lease.member_id, lease.incarnation, lease.ttl)

    @classmethod
    def read(cls, fields: Fields) -> Owner:
        """Return the owner that the fields make."""
        return cls(fields.text("member"), fields.text("incarnation"), fields.seconds("ttl"))

    def fields(self) -> dict[str, object]:
        """Return the owner as JSON."""
        return {"member": self.member_id, "incarnation": self.incarnation, "ttl": self.ttl}


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth(Record):
    """The store's beginning: a new `epoch` means that everything before it was lost."""

    epoch: str
    longest_ttl: float
    #: Microseconds since 1970, for people.
    born: int
    #: Whether every session that lived before this birth is over by now, so that seats may be granted.
    settled: bool
    #: What the store said of its losses at birth; while it still says so, it has lost nothing since.
    loss_mark: str | None

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            epoch=fields.text("epoch"),
            longest_ttl=fields.seconds("longest_ttl"),
            born=fields.integer("born"),
            settled=fields.flag("settled"),
            loss_mark=fields.optional_text("loss_mark"),
        )

    def fields(self) -> dict[str, object]:
        return {
            "epoch": self.epoch,
            "longest_ttl": self.longest_ttl,
            "born": self.born,
            "settled": self.settled,
            "loss_mark": self.loss_mark,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Record):
    """The newest incarnation of a member id, and the counter that it raises with every heartbeat."""

    incarnation: str
    ttl: float
    beat: int = 0
    state: State = "alive"
    #: The incarnation that was known to be over when this one took its place.
    previous: str | None = None

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            incarnation=fields.text("incarnation"),
            ttl=fields.seconds("ttl"),
            beat=fields.integer("beat"),
            state=fields.choice("state", STATES),
            previous=fields.optional_text("previous"),
        )

    def fields(self) -> dict[str, object]:
        return {
            "incarnation": self.incarnation,
            "ttl": self.ttl,
            "beat": self.beat,
            "state": self.state,
            "previous": self.previous,
        }

    def is_live(self, incarnation: str) -> bool:
        """Return whether this is the record of a live session of that incarnation."""
        return self.incarnation == incarnation and self.state == "alive"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatRecord(Record):
    """An election's seat; vacant, it keeps the token of its last term."""

    token: int = 0
    owner: Owner | None = None
    attempt: int = 0
    value: bytes = b""
    #: False where a volatile store had no record: a term may be going on that the store has forgotten.
    proven: bool = True
    changes: int = 0

    @classmethod
    def read(cls, fields: Fields) -> Self:
        owner = fields.record("owner")
        return cls(
            token=fields.integer("token"),
            owner=None if owner is None else Owner.read(owner),
            attempt=fields.integer("attempt"),
            value=fields.opaque("value"),
            proven=fields.flag("proven"),
            changes=fields.integer("changes"),
        )

    def fields(self) -> dict[str, object]:
        return {
            "token": self.token,
            "owner": None if self.owner is None else self.owner.fields(),
            "attempt": self.attempt,
            "value": _text(self.value),
            "proven": self.proven,
            "changes": self.changes,
        }

    def won_by(self, owner: Owner, attempt: int, *, value: bytes, token: int) -> SeatRecord:
        """Return the seat of a new term."""
        return SeatRecord(token=token, owner=owner, attempt=attempt, value=value, changes=self.changes + 1)

    def vacated(self) -> SeatRecord:
        """Return the seat with nobody on it; the token stays."""
        return SeatRecord(token=self.token, changes=self.changes + 1)

    def with_value(self, value: bytes) -> SeatRecord:
        """Return the seat with another value."""
        return replace(self, value=value, changes=self.changes + 1)

    def touched(self) -> SeatRecord:
        """Return the seat as it is, but as a new record, so that a write that is still under way fails."""
        return replace(self, changes=self.changes + 1)

    def is_held_by(self, owner: Owner, attempt: int) -> bool:
        """Return whether that attempt of that session holds the seat."""
        return self.owner == owner and self.attempt == attempt

    def holder(self) -> LeaderRecord | None:
        """Return the holder as the core wants it."""
        if self.owner is None:
            return None
        return LeaderRecord(
            member_id=self.owner.member_id,
            incarnation=self.owner.incarnation,
            token=self.token,
            value=self.value,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a roster."""

    owner: Owner
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster(Record):
    """The members of a group; `listed` promises that the index of groups has the group."""

    entries: tuple[Entry, ...] = ()
    listed: bool = False
    changes: int = 0

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            entries=tuple(Entry(Owner.read(item), item.integer("attempt")) for item in fields.records("members")),
            listed=fields.flag("listed"),
            changes=fields.integer("changes"),
        )

    def fields(self) -> dict[str, object]:
        return {
            "members": [{**entry.owner.fields(), "attempt": entry.attempt} for entry in self.entries],
            "listed": self.listed,
            "changes": self.changes,
        }

    def entry(self, incarnation: str) -> Entry | None:
        """Return the line of one incarnation."""
        return next((entry for entry in self.entries if entry.owner.incarnation == incarnation), None)

    def joined_by(self, new: Entry) -> Roster:
        """Return the roster with a new line, in place of what the same member id had."""
        others = tuple(entry for entry in self.entries if entry.owner.member_id != new.owner.member_id)
        return Roster(entries=(*others, new), listed=True, changes=self.changes + 1)

    def without(self, gone: Collection[Owner]) -> Roster:
        """Return the roster without some of its lines."""
        left = tuple(entry for entry in self.entries if entry.owner not in gone)
        return replace(self, entries=left, changes=self.changes + 1)

    def unlisted(self) -> Roster:
        """Return the roster of a group that is about to leave the index."""
        return replace(self, listed=False, changes=self.changes + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberValue(Record):
    """A member's value, apart from the roster so that neither grows with the other."""

    incarnation: str
    attempt: int
    value: bytes
    changes: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            incarnation=fields.text("incarnation"),
            attempt=fields.integer("attempt"),
            value=fields.opaque("value"),
            changes=fields.integer("changes"),
        )

    def fields(self) -> dict[str, object]:
        return {
            "incarnation": self.incarnation,
            "attempt": self.attempt,
            "value": _text(self.value),
            "changes": self.changes,
        }

    def counted(self) -> MemberValue:
        """Return the value as a new record."""
        return replace(self, changes=self.changes + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupIndex(Record):
    """The names of the groups."""

    groups: tuple[str, ...] = ()
    changes: int = 0

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(groups=fields.texts("groups"), changes=fields.integer("changes"))

    def fields(self) -> dict[str, object]:
        return {"groups": list(self.groups), "changes": self.changes}

    def having(self, group: str) -> GroupIndex:
        """Return the index with a group in it, as a new record even if it is there already."""
        return GroupIndex(groups=tuple(sorted({*self.groups, group})), changes=self.changes + 1)

    def without(self, gone: Collection[str]) -> GroupIndex:
        """Return the index without some groups."""
        left = tuple(group for group in self.groups if group not in gone)
        return GroupIndex(groups=left, changes=self.changes + 1)


def _text(opaque: bytes) -> str:
    return base64.b64encode(opaque).decode()
