"""Where everything stands in ZooKeeper's tree, and what is written there: format 1."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from drumbeat import BadData
from drumbeat.hookspecs import Candidacy, Membership, encode_key

FORMAT: Final = 1
#: The data of a namespace's root. It is written once, together with the folders below.
BIRTH: Final = b"drumbeat-zookeeper 1"
FOLDERS: Final = ("sessions", "groups", "elections", "leaders")
#: Seconds; ZooKeeper counts timeouts in milliseconds, in 32 bits.
_LONGEST: Final = 2**31 / 1000


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

    def group_at(self, path: str, data: bytes) -> str:
        """Return the name of the group whose container is at `path`, or raise BadData."""
        try:
            name = data.decode()
        except UnicodeDecodeError as error:
            raise BadData(path, "is not a group of Drumbeat") from error
        if self.group(name) != path:
            raise BadData(path, "is not a group of Drumbeat, or that of another name")
        return name

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
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadData(path, "is not a record of Drumbeat") from error
        if not separator or not record.is_sound():
            raise BadData(path, "is not a whole record of Drumbeat")
        return record

    def is_of(self, incarnation: str, attempt: int) -> bool:
        """Return whether this attempt wrote it."""
        return (self.incarnation, self.attempt) == (incarnation, attempt)

    def is_sound(self) -> bool:
        """Return whether every field has its type, and a value that makes sense."""
        texts = all(isinstance(text, str) for text in (self.incarnation, self.member_id, self.secret))
        # Exactly these types: a bool is an int too.
        whole = {type(self.attempt), type(self.session)} == {int}
        span = type(self.ttl) in {int, float} and 0 < self.ttl < _LONGEST
        return texts and whole and span and re.fullmatch("(?:[0-9a-f]{2})*", self.secret) is not None
