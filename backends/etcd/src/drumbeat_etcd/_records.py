"""Keys and values in etcd: the stored format, version 1."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drumbeat import BadData
from drumbeat.hookspecs import encode_key

if TYPE_CHECKING:
    from drumbeat_etcd._operations import Entry

FORMAT: Final = 1
#: Seconds: no lease is longer, see MaxLeaseTTL in
#: https://github.com/etcd-io/etcd/blob/release-3.4/lease/lessor.go
LONGEST_TTL: Final = 9_000_000_000


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a namespace; every name is encoded, so that a slash only ever separates."""

    namespace: str

    @property
    def root(self) -> str:
        """The prefix of everything."""
        return f"{encode_key(self.namespace)}/"

    @property
    def birth(self) -> str:
        """The record of when and for what TTLs the namespace was made."""
        return f"{self.root}birth"

    @property
    def quarantine(self) -> str:
        """The key that keeps seats from being won, while it exists."""
        return f"{self.root}quarantine"

    @property
    def groups(self) -> str:
        """The prefix of all memberships."""
        return f"{self.root}member/"

    def session(self, member_id: str) -> str:
        """Return the key that makes a member id unique."""
        return f"{self.root}session/{encode_key(member_id)}"

    def members(self, group: str) -> str:
        """Return the prefix of the memberships of a group."""
        return f"{self.groups}{encode_key(group)}/"

    def places(self, group: str, incarnation: str) -> str:
        """Return the prefix of the memberships of a session in a group, of which there is one at most."""
        return f"{self.members(group)}{encode_key(incarnation)}/"

    def place(self, group: str, incarnation: str, attempt: int) -> str:
        """Return the key of a membership; those of later attempts sort after it."""
        return f"{self.places(group, incarnation)}{attempt:016d}"

    def candidates(self, election: str) -> str:
        """Return the prefix of the queue of an election."""
        return f"{self.root}candidate/{encode_key(election)}/"

    def candidate(self, election: str, incarnation: str, attempt: int) -> str:
        """Return the key of an attempt, which stays while the attempt holds the seat."""
        return f"{self.candidacies_of(encode_key(election), incarnation)}{attempt}"

    def candidacies_of(self, encoded: str, incarnation: str) -> str:
        """Return the prefix of a session's attempts in an election whose name is encoded already."""
        return f"{self.root}candidate/{encoded}/{encode_key(incarnation)}/"

    def leader(self, election: str) -> str:
        """Return the key of the seat."""
        return self.seat_of(encode_key(election))

    def seat_of(self, encoded: str) -> str:
        """Return the same for an election whose name is encoded already."""
        return f"{self.root}leader/{encoded}"


def after(prefix: str) -> str:
    """Return the end of the range of all keys that start with `prefix`, which ends in a slash."""
    return f"{prefix[:-1]}0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored value: one line of JSON, and after it what the user stores, as it came."""

    member_id: str = ""
    incarnation: str = ""
    #: Group or election.
    name: str = ""
    attempt: int = 0
    #: Seconds: the TTL that was granted; of a birth record the longest that is.
    ttl: float
    value: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Return what is stored."""
        header = [FORMAT, self.member_id, self.incarnation, self.name, self.attempt, self.ttl]
        return json.dumps(header, separators=(",", ":")).encode() + b"\n" + self.value

    @classmethod
    def decode(cls, entry: Entry) -> Record:
        """Return what an entry holds; raise BadData if it is not a record of this format."""
        line, _, value = entry.value.partition(b"\n")
        try:
            header = json.loads(line)
        except (ValueError, RecursionError):
            raise BadData(entry.key, "its value is not a Drumbeat record") from None
        match header:
            case [1, str(member_id), str(incarnation), str(name), int(attempt), int() | float() as ttl] if (
                0 < ttl <= LONGEST_TTL and not isinstance(attempt, bool) and not isinstance(ttl, bool)
            ):
                return cls(
                    member_id=member_id, incarnation=incarnation, name=name, attempt=attempt, ttl=ttl, value=value
                )
            case [int(other), *_] if other > FORMAT:
                raise BadData(entry.key, f"it has format {other}, and this version of drumbeat-etcd reads {FORMAT}")
            case _:
                raise BadData(entry.key, "its value is not a Drumbeat record")

    def belongs_to(self, incarnation: str, attempt: int) -> bool:
        """Return whether this attempt of this session wrote the record."""
        return (self.incarnation, self.attempt) == (incarnation, attempt)
