"""What users see of a group and of a leader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drumbeat._values import decode_metadata, decode_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drumbeat._values import JSON
    from drumbeat.hookspecs import GroupRecord, LeaderRecord


@dataclass(frozen=True, slots=True)
class Member:
    """A live member of a group; its identity is the pair of member id and incarnation."""

    member_id: str
    incarnation: str
    metadata: Mapping[str, JSON] = field(default_factory=dict, hash=False)

    @property
    def identity(self) -> tuple[str, str]:
        """Member id and incarnation: a quick restart changes it, an update of metadata does not."""
        return self.member_id, self.incarnation


@dataclass(frozen=True, slots=True)
class View:
    """The members of a group as read at one moment, in the order of their ids."""

    group: str
    members: tuple[Member, ...] = ()

    @classmethod
    def from_record(cls, group: str, record: GroupRecord) -> View:
        """Return the view in a backend's answer; raise BadData if a value cannot be read."""
        members = [
            Member(
                item.member_id,
                item.incarnation,
                decode_metadata(f"member {item.member_id!r} of group {group!r}", item.value),
            )
            for item in record.members
        ]
        return cls(group, tuple(sorted(members, key=lambda member: member.identity)))

    @property
    def ids(self) -> tuple[str, ...]:
        """The member ids, sorted."""
        return tuple(member.member_id for member in self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def __contains__(self, member_id: object) -> bool:
        return any(member.member_id == member_id for member in self.members)

    def __getitem__(self, member_id: str) -> Member:
        """Return the member with an id; raise KeyError if there is none."""
        for member in self.members:
            if member.member_id == member_id:
                return member
        raise KeyError(member_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a group changed between two views; several changes may come as one."""

    joined: tuple[Member, ...] = ()
    left: tuple[Member, ...] = ()
    #: Members with new metadata, as they are now.
    updated: tuple[Member, ...] = ()
    view: View

    @classmethod
    def between(cls, before: View | None, after: View) -> Change | None:
        """Return what changed, or None; the first view of all is a change even if it is empty."""
        old = {} if before is None else {member.identity: member for member in before}
        new = {member.identity: member for member in after}
        change = cls(
            joined=tuple(member for identity, member in new.items() if identity not in old),
            left=tuple(member for identity, member in old.items() if identity not in new),
            updated=tuple(member for identity, member in new.items() if old.get(identity, member) != member),
            view=after,
        )
        return change if before is None or change.joined or change.left or change.updated else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who holds an election, as read at one moment."""

    member_id: str
    incarnation: str
    token: int
    #: What the holder gave to `campaign(value)` or `proclaim(value)`.
    value: JSON = field(hash=False)

    @classmethod
    def from_record(cls, name: str, record: LeaderRecord) -> Leader:
        """Return the leader in a backend's answer; raise BadData if its value cannot be read."""
        return cls(
            member_id=record.member_id,
            incarnation=record.incarnation,
            token=record.token,
            value=decode_value(f"election {name!r}", record.value),
        )
