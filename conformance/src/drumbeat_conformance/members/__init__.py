"""Processes with one session each, which a test starts, has do things, and kills, freezes or forks."""

from __future__ import annotations

from drumbeat_conformance.members._member import Answer, Look, Member, MemberEnded, MemberRaised
from drumbeat_conformance.members._program import PRELOAD

__all__ = ["PRELOAD", "Answer", "Look", "Member", "MemberEnded", "MemberRaised"]
