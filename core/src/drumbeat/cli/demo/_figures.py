"""The demo's figures, computed from what was recorded and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from drumbeat import Partition
from drumbeat.cli.demo._records import (
    Dismissed,
    Frozen,
    Joined,
    Killed,
    Polled,
    Record,
    Rejected,
    Resumed,
    Started,
    Woke,
)
from drumbeat.history import History, find_overlaps, find_token_faults, terms

if TYPE_CHECKING:
    from drumbeat.cli.demo._orders import Cycles
    from drumbeat.cli.demo._store import Summary
    from drumbeat.history import TermRecord

R = TypeVar("R", bound=Record)

#: A machine with fewer meters than this is too small to show how work is shared.
ENOUGH_METERS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was recorded of a run."""

    records: Sequence[Record]
    #: What the observers of the agents' sessions recorded, and the kill.
    history: History
    #: What the store holds, in the order of the writes.
    summaries: Sequence[Summary]
    meters: tuple[str, ...]
    cycles: Cycles

    def all(self, kind: type[R], *, since: float = float("-inf")) -> list[R]:
        """Return the records of one kind from a moment on, in the order of time."""
        found = [record for record in self.records if isinstance(record, kind) and record.at >= since]
        return sorted(found, key=lambda record: record.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run is judged by; None stands for what did not happen. Durations are in seconds."""

    agents: int
    meters: int
    #: The granted TTL.
    lease_ttl: float
    #: From the kill to the next leader's win.
    failover_seconds: float | None
    #: From the kill until every meter has been polled again.
    reassigned_seconds: float | None
    missed_polls: int
    duplicate_polls: int
    #: Pairs of terms that were held at the same time, by the recorded history.
    overlapping_terms: int
    #: The fencing token of each term, in the order of the wins.
    tokens: tuple[int, ...]
    #: Worst case that the backend promises for a failover.
    failover_bound: float
    #: From the freeze to the next leader's win, and until every meter has been polled again.
    freeze_failover_seconds: float | None
    freeze_reassigned_seconds: float | None
    #: From the waking of the frozen leader until it knew that its term is lost.
    noticed_seconds: float | None
    #: The tokens of writes that the store refused.
    rejected_tokens: tuple[int, ...]
    #: How many cycles missed and duplicate polls were looked for in.
    judged_cycles: int
    #: How many summaries the store took.
    summaries: int


def compute(evidence: Evidence) -> Figures:
    """Return the figures of a run, finished or not."""
    held = terms(evidence.history)
    judged = judged_cycles(evidence)
    missed, duplicate = count_polls(evidence, judged)
    joined = evidence.all(Joined)
    killed, frozen = _moment(evidence.all(Killed)), _moment(evidence.all(Frozen))
    return Figures(
        agents=len({record.agent for record in evidence.all(Started)}),
        meters=len(evidence.meters),
        lease_ttl=max((record.lease_ttl for record in joined), default=0.0),
        failover_seconds=_next_win(held, killed),
        reassigned_seconds=_reassigned(evidence, killed),
        missed_polls=missed,
        duplicate_polls=duplicate,
        overlapping_terms=len(find_overlaps(evidence.history)),
        tokens=tuple(term.token for term in held),
        failover_bound=max((record.failover_bound for record in joined), default=0.0),
        freeze_failover_seconds=_next_win(held, frozen),
        freeze_reassigned_seconds=_reassigned(evidence, frozen),
        noticed_seconds=_noticed(evidence),
        rejected_tokens=tuple(record.token for record in evidence.all(Rejected)),
        judged_cycles=len(judged),
        summaries=len(evidence.summaries),
    )


# Polls ------------------------------------------------------------------------------------------------------


def count_polls(evidence: Evidence, judged: Iterable[int]) -> tuple[int, int]:
    """Return how many polls were missed and how many were duplicate in the judged cycles.

    In each cycle each meter must be polled once, by one agent. A meter that no agent polled in a cycle is one missed
    poll; one that was polled n times is n - 1 duplicate polls. A poll belongs to the cycle that the agent wrote down,
    which is the one in which it began, since all agents number the cycles by the clock that they share.
    """
    polls = Counter((poll.cycle, meter) for poll in evidence.all(Polled) for meter in poll.values)
    counts = [polls[cycle, meter] for cycle in judged for meter in evidence.meters]
    return counts.count(0), sum(count - 1 for count in counts if count > 1)


def judged_cycles(evidence: Evidence) -> list[int]:
    """Return the numbers of the cycles that lie wholly outside every change.

    A change begins with its cause: the start of the demo, the kill, the freeze, the waking, the end. It ends when
    each agent that then lives has polled its share among exactly the agents that then live (see `agreed_at`): until
    that moment two agents may legitimately see different members. Inside a change a poll may be missing, because its
    owner is dead and the others do not know yet, or double, because one member sees the change before another.
    """
    cycles = evidence.cycles
    polled = {poll.cycle for poll in evidence.all(Polled)}
    changes = list(_changes(evidence))
    return [
        number
        for number in range(min(polled, default=0), max(polled, default=-1) + 1)
        if all(end < cycles.start(number) or cycles.start(number + 1) <= begin for begin, end in changes)
    ]


def agreed_at(polls: Iterable[Polled], living: Iterable[str], *, meters: Sequence[str], since: float) -> float | None:
    """Return when each living agent had, after `since`, polled just the share that is its own among the living.

    Until then some agent acted by an older view. None if there is an agent that has not got so far.
    """
    shares = {agent: frozenset(share) for agent, share in Partition(living).split(meters).items()}
    first: dict[str, float] = {}
    for poll in _begun(polls, since):
        if frozenset(poll.values) == shares.get(poll.agent):
            first.setdefault(poll.agent, poll.at)
    return max(first.values()) if first and first.keys() == shares.keys() else None


def polled_again_at(polls: Iterable[Polled], *, meters: Sequence[str], since: float) -> float | None:
    """Return when each meter had been polled by a poll that began after `since`; None if that is not so."""
    first: dict[str, float] = {}
    for poll in _begun(polls, since):
        for meter in poll.values:
            first.setdefault(meter, poll.at)
    return max(first.values()) if first and first.keys() == set(meters) else None


def _begun(polls: Iterable[Polled], since: float) -> list[Polled]:
    return sorted((poll for poll in polls if poll.began >= since), key=lambda poll: poll.at)


def _reassigned(evidence: Evidence, since: float | None) -> float | None:
    if since is None:
        return None
    return _delay(since, polled_again_at(evidence.all(Polled), meters=evidence.meters, since=since))


def _changes(evidence: Evidence) -> Iterator[tuple[float, float]]:
    """Give the beginning and the end of each change; one that has not ended lasts for ever."""
    living = {record.agent for record in evidence.all(Started)}
    yield float("-inf"), _end_of_change(evidence, living, since=float("-inf"))
    for record in evidence.all(Record):
        if isinstance(record, Killed | Frozen):
            living.discard(record.agent)
        elif isinstance(record, Resumed):
            living.add(record.agent)
        elif isinstance(record, Dismissed):
            living.clear()
        else:
            continue
        yield record.at, _end_of_change(evidence, living, since=record.at)


def _end_of_change(evidence: Evidence, living: Iterable[str], *, since: float) -> float:
    agreed = agreed_at(evidence.all(Polled), living, meters=evidence.meters, since=since)
    return float("inf") if agreed is None else agreed


# Terms ------------------------------------------------------------------------------------------------------


def _next_win(held: Iterable[TermRecord], since: float | None) -> float | None:
    wins = [term.since for term in held if since is not None and term.since >= since]
    return _delay(since, min(wins, default=None))


def _noticed(evidence: Evidence) -> float | None:
    for resumed in evidence.all(Resumed):
        for woke in evidence.all(Woke, since=resumed.at):
            if woke.agent == resumed.agent:
                return None if woke.held else woke.at - resumed.at
    return None


def _moment(records: Sequence[Record]) -> float | None:
    return records[0].at if records else None


def _delay(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else until - since


# Judgement --------------------------------------------------------------------------------------------------


def find_faults(evidence: Evidence, figures: Figures) -> list[str]:
    """Return what is wrong with a run, one sentence each; a good one has nothing."""
    checks = {
        f"only {figures.meters} meters can be read here": figures.meters >= ENOUGH_METERS,
        "nobody led after the leader was killed": figures.failover_seconds is not None,
        "not every meter was polled again after the kill": figures.reassigned_seconds is not None,
        "nobody led after the leader was frozen": figures.freeze_failover_seconds is not None,
        "not every meter was polled again after the freeze": figures.freeze_reassigned_seconds is not None,
        f"{figures.missed_polls} polls were missed outside the changes": figures.missed_polls == 0,
        f"{figures.duplicate_polls} polls were made twice outside the changes": figures.duplicate_polls == 0,
        "no cycle lay outside the changes": figures.judged_cycles > 0,
        f"{figures.overlapping_terms} pairs of terms overlapped": figures.overlapping_terms == 0,
        f"the tokens {list(figures.tokens)} do not rise": not find_token_faults(evidence.history),
        "the woken leader did not know that its term is lost": figures.noticed_seconds is not None,
        "the store did not reject the write of the woken leader": _old_token_rejected(evidence),
        "the store took a token lower than one it had seen": _tokens_rise(evidence.summaries),
        "the failover took longer than the backend promises": _within_bound(figures),
    }
    return [sentence for sentence, fulfilled in checks.items() if not fulfilled]


def _old_token_rejected(evidence: Evidence) -> bool:
    woken = {(woke.agent, woke.token) for woke in evidence.all(Woke) if not woke.held}
    return any((rejected.agent, rejected.token) in woken for rejected in evidence.all(Rejected))


def _tokens_rise(summaries: Iterable[Summary]) -> bool:
    return all(earlier.token <= later.token for earlier, later in pairwise(summaries))


def _within_bound(figures: Figures) -> bool:
    delays = (figures.failover_seconds, figures.freeze_failover_seconds)
    return all(delay is None or delay <= figures.failover_bound for delay in delays)
