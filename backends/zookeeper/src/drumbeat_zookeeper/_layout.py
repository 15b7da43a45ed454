"""Where everything stands in ZooKeeper's tree, and what is written there: format 1."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from drumbeat import BadData
from drumbeat.hookspecs import Candidacy, Membership, encode_key

FORMAT: Final = 1
#: The data of a namespace's root. It is written once, together with the folders below.
BIRTH: Final = b"drumbeat-zookeeper 1"
FOLDERS: Final = ("sessions", "groups", "elections", "leaders")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one namespace, whose node is `root`."""

    root: str

    def session(self, member_id: str) -> str:
        """The ephemeral node that makes a member id unique."""
        return f"{self.root}/sessions/{encode_key(member_id)}"

    @property
    def groups(self) -> str:
        """The folder of all groups."""
        return f"{self.root}/groups"

    def group(self, group: str) -> str:
        """The container of a group's members; its data is the group's name, rewritten when a value changes."""
        return f"{self.root}/groups/{encode_key(group)}"

    def election(self, election: str) -> str:
        """The container of an election's candidates, the holder among them."""
        return f"{self.root}/elections/{encode_key(election)}"

    def leader(self, election: str) -> str:
        """The ephemeral node that says who holds an election; its czxid is the token."""
        return f"{self.root}/leaders/{encode_key(election)}"

    def place(self, incarnation: str, what: Membership | Candidacy) -> str:
        """The node of one attempt of one incarnation: no other request ever makes the same one."""
        folder = self.group(what.group) if isinstance(what, Membership) else self.election(what.election)
        return f"{folder}/{encode_key(incarnation)}-{what.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a session writes into its nodes."""

    incarnation: str
    member_id: str
    #: The granted TTL in seconds.
    ttl: float
    attempt: int = 0
    #: ZooKeeper's own session, in the node of a session only: who may write there may end it.
    session: int = 0
    secret: str = field(default="", repr=False)
    value: bytes = field(default=b"", repr=False)

    def pack(self) -> bytes:
        """Return the bytes to store: one line of JSON, then the value as it is."""
        head = {name: getattr(self, name) for name in self.__slots__ if name != "value"}
        return json.dumps({"format": FORMAT, **head}).encode() + b"\n" + self.value

    @classmethod
    def unpack(cls, path: str, data: bytes) -> Record:
        """Return what was stored at `path`, or raise BadData."""
        head, separator, value = data.partition(b"\n")
        try:
            fields = json.loads(head)
            version = fields.pop("format")
            if version != FORMAT:
                raise BadData(path, f"was written in format {version!r}, and this version knows format {FORMAT}")
            record = cls(**fields, value=value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadData(path, "is not a record of Drumbeat") from error
        if not separator or not record.is_sound():
            raise BadData(path, "is not a whole record of Drumbeat")
        return record

    def is_of(self, incarnation: str, attempt: int) -> bool:
        """Return whether this attempt wrote it."""
        return (self.incarnation, self.attempt) == (incarnation, attempt)

    def is_sound(self) -> bool:
        """Return whether every field has its type."""
        texts = (self.incarnation, self.member_id, self.secret)
        whole = all(isinstance(number, int) for number in (self.attempt, self.session))
        return whole and all(isinstance(text, str) for text in texts) and isinstance(self.ttl, int | float)
