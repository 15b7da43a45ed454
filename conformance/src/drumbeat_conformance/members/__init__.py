"""Processes with one session each, which a test starts, has do things, and kills, freezes or forks.

What a `Member` can be told by `ask` and `tell`, with the arguments in brackets: `incarnation`, `state`,
`join` (group, metadata), `members` (group), `campaign` (election, timeout), `held` (election), `resign` (election),
`look` and `looks` (election), `churn` (election, shortest, longest, seed), `partition` (group, count),
`take_shards` (group, count, grace), `owned`, `count` (lock, file, times), `hog` (seconds), `fork` (group, election) and
`close` (timeout). The package's README says what each does and returns.
"""

from __future__ import annotations

from drumbeat_conformance.members._member import Answer, Look, Member, MemberEnded, MemberRaised
from drumbeat_conformance.members._program import PRELOAD

__all__ = ["PRELOAD", "Answer", "Look", "Member", "MemberEnded", "MemberRaised"]
