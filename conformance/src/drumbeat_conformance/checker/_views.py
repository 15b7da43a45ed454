"""What is wrong with views: a change that a watcher missed, and views that stay different."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

from drumbeat.history import Record
from drumbeat_conformance.checker._operation import Operation
from drumbeat_conformance.checker._recording import Recording
from drumbeat_conformance.checker._violation import Kind, Violation, moment

_Identity = tuple[str, str]


@final
@dataclass(frozen=True, slots=True)
class Membership:
    """One incarnation's being in a group: certainly from `since` until `until`, certainly over at `gone`."""

    identity: _Identity
    since: float
    until: float
    gone: float
    proof: tuple[Record, ...]


@final
@dataclass(frozen=True, slots=True)
class Watcher:
    """A member that watched a group until `until`, and what it saw."""

    watch: Operation
    until: float
    #: When it could not see: intervals of SUSPENDED, LOST, and being stopped.
    blind: tuple[tuple[float, float], ...]
    views: tuple[Record, ...]

    @property
    def name(self) -> str:
        """The member id."""
        return self.watch.client

    def had_time(self, since: float, until: float) -> bool:
        """Return whether it watched in all of an interval, and could see."""
        watching = self.watch.called <= since and until <= self.until
        return watching and not any(start < until and since < end for start, end in self.blind)

    def view(self, at: float = math.inf) -> Record | None:
        """Return the last view that it had seen by then."""
        seen = [view for view in self.views if view.at <= at]
        return seen[-1] if seen else None


def find_broken_views(recording: Recording, *, grace: float) -> list[Violation]:
    """Return what watchers missed, and quiet groups that look different to them; `grace` as in `check`."""
    found: list[Violation] = []
    for (namespace, group), watches in _watches(recording.operations).items():
        events = [event for event in recording.events if event.namespace in {namespace, ""}]
        members = _memberships(events, group, grace=grace)
        watchers = _watchers(watches, events, group, end=recording.end)
        missed = {watcher: list(_missed(watcher, members, grace=grace)) for watcher in watchers}
        for watcher in watchers:
            missed[watcher] += _impossible(watcher, members, alone=_is_alone(watcher, watchers), grace=grace)
        found += [violation for violations in missed.values() for violation in violations]
        found += _diverging([one for one in watchers if not missed[one]], members, grace=grace)
    return found


def _watches(operations: Iterable[Operation]) -> dict[tuple[str, str], list[Operation]]:
    found: defaultdict[tuple[str, str], list[Operation]] = defaultdict(list)
    for one in operations:
        if one.op == "watch":
            found[one.namespace, one.object.partition("/")[2]].append(one)
    return found


# Members ------------------------------------------------------------------------------------------------------


def _memberships(events: Sequence[Record], group: str, *, grace: float) -> list[Membership]:
    sessions: defaultdict[str, list[Record]] = defaultdict(list)
    for event in events:
        sessions[event.incarnation].append(event)
    kills = [event for event in events if event.kind == "killed"]
    return [
        _membership(joined, sessions[joined.incarnation], kills, grace=grace)
        for joined in events
        if joined.kind == "joined" and joined.subject == group
    ]


def _membership(joined: Record, session: Sequence[Record], kills: Sequence[Record], *, grace: float) -> Membership:
    identity = (joined.member_id, joined.incarnation)
    own = [one for one in session if one.at >= joined.at and _ends_membership(one, joined)]
    killed = [one for one in kills if _kills(one, joined)]
    ends = [(one.at, one) for one in (*own, *killed)]
    deadlines = [(one.deadline, one) for one in session if one.deadline is not None]
    if deadlines:
        ends.append(max(deadlines, key=lambda pair: pair[0]))
    if not ends:
        return Membership(identity, joined.at, math.inf, math.inf, (joined,))
    until, end = min(ends, key=lambda pair: pair[0])
    # Who left or closed told the server; whoever died is gone once the lease is.
    gone = until if end.kind in {"left", "closed"} else until + grace
    return Membership(identity, joined.at, until, gone, (joined, end))


def _ends_membership(event: Record, joined: Record) -> bool:
    return event.kind in {"closed", "lost"} or (event.kind == "left" and event.subject == joined.subject)


def _kills(kill: Record, victim: Record) -> bool:
    if kill.member_id != victim.member_id or kill.incarnation not in {"", victim.incarnation}:
        return False
    return kill.pid == victim.pid if kill.pid is not None else kill.at >= victim.at


# Watchers -----------------------------------------------------------------------------------------------------


def _watchers(watches: Iterable[Operation], events: Iterable[Record], group: str, *, end: float) -> list[Watcher]:
    by_member: defaultdict[str, list[Record]] = defaultdict(list)
    for event in events:
        by_member[event.member_id].append(event)
    return [_watcher(watch, by_member[watch.client], group, end=end) for watch in watches]


def _watcher(watch: Operation, events: Iterable[Record], group: str, *, end: float) -> Watcher:
    own = [event for event in events if event.at >= watch.called]
    ends = [event.at for event in own if event.kind in {"killed", "closed"}]
    until = min([*ends, end if watch.returned is None else watch.returned])
    own = [event for event in own if event.at <= until]
    views = tuple(event for event in own if event.kind == "view" and event.subject == group)
    return Watcher(watch, until, tuple(_blind(own, until)), views)


def _blind(events: Iterable[Record], until: float) -> Iterable[tuple[float, float]]:
    """Return from when to when a member could not see."""
    closes = {"connected": {"lost", "suspended"}, "continued": {"stopped"}}
    since: dict[str, float] = {}
    for event in events:
        if event.kind in {"lost", "suspended", "stopped"}:
            since.setdefault(event.kind, event.at)
        for kind in closes.get(event.kind, ()):
            if kind in since:
                yield since.pop(kind), event.at
    yield from ((start, until) for start in since.values())


# Judging ------------------------------------------------------------------------------------------------------


def _missed(watcher: Watcher, members: Sequence[Membership], *, grace: float) -> Iterable[Violation]:
    last = watcher.view()
    final = set() if last is None else set(last.members or ())
    settled = watcher.until - grace
    sees_the_end = watcher.had_time(settled, watcher.until)
    for member in members:
        came = max(member.since, watcher.watch.called)
        stays = member.until > watcher.until
        if sees_the_end and stays and member.since <= settled and member.identity not in final:
            yield _violation(watcher, member, f"its last view{_at(last)} does not show {_who(member)}")
        elif sees_the_end and member.gone <= settled and member.identity in final and not _is_back(member, members):
            says = f"its last view{_at(last)} still shows {_who(member)} and was gone by {moment(member.gone)}"
            yield _violation(watcher, member, says)
        elif (
            not stays
            and member.until - came >= grace
            and watcher.had_time(came, came + grace)
            and not _ever_shown(watcher, member)
        ):
            says = f"no view ever showed {_who(member)} and stayed until {moment(member.until)}"
            yield _violation(watcher, member, says)


def _impossible(watcher: Watcher, members: Sequence[Membership], *, alone: bool, grace: float) -> Iterable[Violation]:
    """Return what no group can have looked like, whatever the final view shows."""
    for view in watcher.views:
        ids = [member_id for member_id, _ in view.members or ()]
        twice = next((member_id for member_id in ids if ids.count(member_id) > 1), None)
        if twice is not None:
            had = f"{watcher.name!r} had at {moment(view.at)}"
            says = f"the view of {watcher.watch.object} that {had} shows {twice!r} twice"
            yield Violation(Kind.MISSED, says, (watcher.watch, view))
            return
    joins = Counter(member.identity for member in members)
    changes = _changes(watcher)
    for member in members:
        # Who joined again may have been out in between.
        if joins[member.identity] == 1:
            shown = changes[member.identity]
            found = _vanished(shown, member, grace=grace) or (_returned(shown, member) if alone else None)
            if found is not None:
                yield _violation(watcher, member, found)


def _changes(watcher: Watcher) -> defaultdict[_Identity, list[Record]]:
    """Return by member the views that first showed it, then did not, then did again, and so on."""
    found: defaultdict[_Identity, list[Record]] = defaultdict(list)
    before: set[_Identity] = set()
    for view in watcher.views:
        now = set(view.members or ())
        for identity in now ^ before:
            found[identity].append(view)
        before = now
    return found


def _vanished(shown: Sequence[Record], member: Membership, *, grace: float) -> str | None:
    """Return what is wrong if a view lacks a member that an earlier one had shown, and that was in for long after."""
    for first, view in zip(shown[::2], shown[1::2], strict=False):
        if view.at + grace <= member.until:
            return f"its view of {moment(view.at)} does not show {_who(member)} and was in that of {moment(first.at)}"
    return None


def _returned(shown: Sequence[Record], member: Membership) -> str | None:
    """Return what is wrong if a member was shown, was not, and was shown once more, though it had joined once."""
    if len(shown) < 3:  # noqa: PLR2004 - shown, gone, shown
        return None
    return f"its view of {moment(shown[2].at)} shows once more {_who(member)} and had been shown as gone"


def _is_alone(watcher: Watcher, watchers: Iterable[Watcher]) -> bool:
    """Return whether its views are certainly of one stream: the same member did not watch twice at a time."""
    return not any(
        other is not watcher
        and other.name == watcher.name
        and other.watch.called <= watcher.until
        and watcher.watch.called <= other.until
        for other in watchers
    )


def _is_back(member: Membership, members: Iterable[Membership]) -> bool:
    """Return whether the same incarnation joined once more after it had left."""
    return any(other.identity == member.identity and other.since > member.since for other in members)


def _ever_shown(watcher: Watcher, member: Membership) -> bool:
    return any(member.identity in (view.members or ()) for view in watcher.views)


def _violation(watcher: Watcher, member: Membership, says: str) -> Violation:
    last = watcher.view()
    return Violation(
        Kind.MISSED,
        f"{watcher.name!r} watched {watcher.watch.object} until {moment(watcher.until)}, but {says}",
        (watcher.watch, *member.proof, *(() if last is None else (last,))),
    )


def _who(member: Membership) -> str:
    return "{!r} ({}), which joined at {}".format(*member.identity, moment(member.since))


def _at(view: Record | None) -> str:
    return "" if view is None else f" of {moment(view.at)}"


def _diverging(watchers: Sequence[Watcher], members: Sequence[Membership], *, grace: float) -> Iterable[Violation]:
    changes = sorted(at for member in members for at in (member.since, member.until, member.gone))
    for first, second in combinations(watchers, 2):
        until = min(first.until, second.until)
        settled = until - grace
        if not (first.had_time(settled, until) and second.had_time(settled, until)):
            continue
        one, other = first.view(until), second.view(until)
        quiet = bisect_right(changes, settled) == bisect_right(changes, until)
        if quiet and one is not None and other is not None and one.members != other.members:
            yield _divergence((first, one), (second, other), settled=settled)


def _divergence(first: tuple[Watcher, Record], second: tuple[Watcher, Record], *, settled: float) -> Violation:
    (one, view), (other, other_view) = first, second
    differ = sorted(set(view.members or ()) ^ set(other_view.members or ()))
    names = ", ".join(f"{member_id!r} ({incarnation})" for member_id, incarnation in differ)
    return Violation(
        Kind.DIVERGING,
        f"{one.watch.object} was quiet since {moment(settled)}, but {one.name!r} and {other.name!r} have views of "
        f"{moment(view.at)} and {moment(other_view.at)} that differ in {names}",
        (one.watch, view, other.watch, other_view),
    )
