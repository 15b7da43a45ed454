"""The figures of a run, computed from made-up records."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drumbeat import Partition
from drumbeat.cli.demo._figures import Evidence, Figures, compute, find_faults, judged_cycles
from drumbeat.cli.demo._orders import Cycles
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
from drumbeat.cli.demo._store import Summary
from drumbeat.history import History
from drumbeat.history import Record as HistoryRecord

METERS = tuple(f"meter.{number}" for number in range(120))
AGENTS = ("a", "b", "c")
#: Each cycle with the agents that share the meters in it; a is killed in 4, b sleeps from 9 until 13.
VIEWS = {
    **dict.fromkeys(range(1, 5), AGENTS),
    **dict.fromkeys(range(5, 10), ("b", "c")),
    **dict.fromkeys(range(12, 14), ("c",)),
    **dict.fromkeys(range(14, 18), ("b", "c")),
}
#: Those that lie outside the changes: not the first one, 4, 9 to 13, the one of the return, and the last one.
JUDGED = [2, 3, 6, 7, 8, 15, 16]


def polls_of(cycle: int, agents: tuple[str, ...]) -> list[Polled]:
    """Return the polls of a cycle in which every agent reads exactly its share, 10 ms after the cycle begins."""
    shares = Partition(agents).split(METERS)
    return [
        Polled(agent=agent, at=cycle + 0.02, cycle=cycle, began=cycle + 0.01, values=dict.fromkeys(shares[agent], 1))
        for agent in agents
    ]


def polls_by_dead_views() -> list[Polled]:
    """Return the polls of c alone in the cycles in which it does not know yet that b is frozen."""
    return [poll for cycle in (10, 11) for poll in polls_of(cycle, ("b", "c")) if poll.agent == "c"]


def happened() -> list[Record]:
    """Return what agents and director wrote down, but for the polls."""
    return [
        *(Started(agent=agent, at=0.1, pid=1) for agent in AGENTS),
        *(Joined(agent=agent, at=0.5, server="s", lease_ttl=3.0, failover_bound=3.5) for agent in AGENTS),
        Killed(agent="a", at=4.5),
        Frozen(agent="b", at=9.5),
        Resumed(agent="b", at=13.5),
        Woke(agent="b", at=13.502, token=20, held=False),
        Rejected(agent="b", at=13.503, token=20, highest=30),
        Dismissed(agent="b", at=17.5),
        Dismissed(agent="c", at=17.5),
    ]


def term_event(kind: str, at: float, agent: str, token: int | None = None) -> HistoryRecord:
    """Return one line of a history."""
    return HistoryRecord(
        kind=kind,
        at=at,
        member_id=agent,
        namespace="" if kind == "killed" else "n",
        incarnation="" if kind == "killed" else f"{agent}-1",
        subject=None if kind == "killed" else "election/summaries",
        token=token,
    )


def history(*changed: HistoryRecord) -> History:
    """Return a history in which a leads until it is killed, then b until it is frozen, then c; with changes."""
    good = {
        (record.kind, record.member_id): record
        for record in (
            term_event("won", 1.0, "a", 10),
            term_event("killed", 4.5, "a"),
            term_event("won", 4.6, "b", 20),
            term_event("term_lost", 12.0, "b", 20),
            term_event("won", 12.1, "c", 30),
            term_event("resigned", 17.6, "c", 30),
        )
    }
    good.update({(record.kind, record.member_id): record for record in changed})
    return History(tuple(sorted(good.values(), key=lambda record: record.at)))


def evidence(
    *,
    polls: list[Polled] | None = None,
    records: list[Record] | None = None,
    recorded: History | None = None,
    tokens: tuple[int, ...] = (10, 20, 20, 30),
) -> Evidence:
    """Return the evidence of a run in which all is well, but for what is given."""
    good = [*chain.from_iterable(polls_of(cycle, agents) for cycle, agents in VIEWS.items()), *polls_by_dead_views()]
    return Evidence(
        records=[*(happened() if records is None else records), *(good if polls is None else polls)],
        history=history() if recorded is None else recorded,
        summaries=[Summary(cycle=n, token=token, agent="a", text="") for n, token in enumerate(tokens)],
        meters=METERS,
        cycles=Cycles(0.0, 1.0),
    )


def faults_of(given: Evidence) -> list[str]:
    """Return what is wrong with a run."""
    return find_faults(given, compute(given))


def without(kind: type[Record]) -> list[Record]:
    """Return what happened, but for one kind of record."""
    return [record for record in happened() if not isinstance(record, kind)]


def good_polls() -> list[Polled]:
    """Return the polls of the run in which all is well."""
    return evidence().all(Polled)


def test_a_good_run_has_these_figures_and_no_faults() -> None:
    """Every figure of a run in which all is well is what its records say."""
    figures = compute(evidence())
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(figures).items()}
    expected = Figures(
        agents=3,
        meters=120,
        lease_ttl=3.0,
        failover_seconds=0.1,
        reassigned_seconds=0.52,
        missed_polls=0,
        duplicate_polls=0,
        overlapping_terms=0,
        tokens=(10, 20, 30),
        failover_bound=3.5,
        freeze_failover_seconds=2.6,
        freeze_reassigned_seconds=2.52,
        noticed_seconds=0.002,
        rejected_tokens=(20,),
        judged_cycles=len(JUDGED),
        summaries=4,
    )
    assert rounded == asdict(expected)
    assert find_faults(evidence(), figures) == []


def test_only_cycles_wholly_outside_the_changes_are_judged() -> None:
    """A cycle counts only if no agent could legitimately have had another view during any part of it."""
    assert judged_cycles(evidence()) == JUDGED


@given(st.sets(st.tuples(st.sampled_from(JUDGED), st.sampled_from(METERS)), max_size=20), st.integers(0, 2))
def test_every_poll_that_is_missing_or_made_again_is_counted(chosen: set[tuple[int, str]], times: int) -> None:
    """Outside the changes a meter polled n times in a cycle is n - 1 duplicate polls, or one missed poll if n is 0."""
    # The first cycle after a change is needed whole, for it ends the change; it is never among the judged ones.
    polls = [
        replace(poll, values={meter: 1 for meter in poll.values if (poll.cycle, meter) not in chosen})
        for poll in good_polls()
    ]
    again = [
        Polled(agent="c", at=cycle + 0.5, cycle=cycle, began=cycle + 0.4, values={meter: 1})
        for cycle, meter in chosen
        for _ in range(times)
    ]
    figures = compute(evidence(polls=polls + again))
    expected = (len(chosen), 0) if times == 0 else (0, len(chosen) * (times - 1))
    assert (figures.missed_polls, figures.duplicate_polls) == expected


def test_an_agent_that_misses_a_cycle_misses_its_whole_share() -> None:
    """A share that nobody polls in a peaceful cycle is missed meter by meter, and that is a fault."""
    polls = [poll for poll in good_polls() if (poll.cycle, poll.agent) != (7, "c")]
    missed = len(Partition(("b", "c")).split(METERS)["c"])
    figures = compute(evidence(polls=polls))
    assert figures.missed_polls == missed
    assert faults_of(evidence(polls=polls)) == [f"{missed} polls were missed outside the changes"]


def test_polls_during_a_change_are_not_held_against_anybody() -> None:
    """What is missing or double between the kill and the agreement of the survivors counts as neither."""
    polls = [poll for poll in good_polls() if poll.cycle not in {4, 10, 11}]
    polls += [poll for poll in good_polls() if poll.cycle == 9]
    figures = compute(evidence(polls=polls))
    assert (figures.missed_polls, figures.duplicate_polls) == (0, 0)


def test_two_terms_at_once_are_counted() -> None:
    """A successor that wins before the frozen leader's term was over is an overlap, and that is a fault."""
    recorded = history(term_event("won", 11.9, "c", 30))
    assert compute(evidence(recorded=recorded)).overlapping_terms == 1
    assert faults_of(evidence(recorded=recorded)) == ["1 pairs of terms overlapped"]


def test_tokens_that_do_not_rise_are_a_fault() -> None:
    """A later term with a lower token is told, with the tokens."""
    recorded = history(term_event("won", 12.1, "c", 15), term_event("resigned", 17.6, "c", 15))
    assert "the tokens [10, 20, 15] do not rise" in faults_of(evidence(recorded=recorded))


def test_a_kill_without_a_successor_has_no_failover_time() -> None:
    """What did not happen has no figure, and is a fault."""
    recorded = History((term_event("won", 1.0, "a", 10), term_event("killed", 4.5, "a")))
    figures = compute(evidence(recorded=recorded))
    assert (figures.failover_seconds, figures.freeze_failover_seconds) == (None, None)
    faults = faults_of(evidence(recorded=recorded))
    assert {"nobody led after the leader was killed", "nobody led after the leader was frozen"} <= set(faults)


def test_meters_that_nobody_takes_over_are_a_fault_and_end_the_judging() -> None:
    """As long as a dead agent's meters are not polled again, the change goes on and no later cycle is judged."""
    polls = [poll for poll in good_polls() if poll.cycle < 5]
    given = evidence(polls=polls)
    assert compute(given).reassigned_seconds is None
    assert judged_cycles(given) == [2, 3]
    assert "not every meter was polled again after the kill" in faults_of(given)


def test_a_poll_that_began_before_the_kill_is_no_poll_after_it() -> None:
    """A meter counts as polled again only by a poll that began after the kill."""
    polls = [replace(poll, at=4.6) if poll.cycle == 4 else poll for poll in good_polls()]
    assert compute(evidence(polls=polls)).reassigned_seconds == pytest.approx(0.52)


def test_a_leader_that_still_believes_after_waking_is_a_fault() -> None:
    """A woken leader whose term says that it is held has noticed nothing."""
    records: list[Record] = [*without(Woke), Woke(agent="b", at=13.502, token=20, held=True)]
    assert compute(evidence(records=records)).noticed_seconds is None
    assert "the woken leader did not know that its term is lost" in faults_of(evidence(records=records))


def test_an_old_token_that_is_not_rejected_is_a_fault() -> None:
    """Without a rejection of the token that the woken leader had, the run has failed."""
    elsewhere: list[Record] = [*without(Rejected), Rejected(agent="b", at=13.503, token=10, highest=30)]
    for records in (without(Rejected), elsewhere):
        assert faults_of(evidence(records=records)) == ["the store did not reject the write of the woken leader"]


def test_a_store_that_took_an_old_token_is_a_fault() -> None:
    """A summary that stands behind one with a higher token should have been rejected."""
    assert faults_of(evidence(tokens=(10, 30, 20))) == ["the store took a token lower than one it had seen"]


def test_a_failover_beyond_the_backends_bound_is_a_fault() -> None:
    """A backend is held to the worst case that it states."""
    records: list[Record] = [*without(Joined), Joined(agent="a", at=0.5, server="s", lease_ttl=2.0, failover_bound=2.5)]
    assert faults_of(evidence(records=records)) == ["the failover took longer than the backend promises"]


def test_too_few_meters_are_a_fault() -> None:
    """Fewer than 100 meters are not the job."""
    polls = [replace(poll, values=dict(list(poll.values.items())[:1])) for poll in good_polls()]
    few = replace(evidence(polls=polls), meters=METERS[:99])
    assert "only 99 meters can be read here" in faults_of(few)


def test_a_run_of_which_nothing_is_known_is_full_of_faults() -> None:
    """Figures of an empty run can be computed, and are not mistaken for good ones."""
    empty = Evidence(records=[], history=History(()), summaries=[], meters=METERS, cycles=Cycles(0.0, 1.0))
    figures = compute(empty)
    assert (figures.agents, figures.tokens, figures.judged_cycles) == (0, (), 0)
    assert {
        "nobody led after the leader was killed",
        "no cycle lay outside the changes",
        "the woken leader did not know that its term is lost",
        "the store did not reject the write of the woken leader",
    } <= set(find_faults(empty, figures))


def test_a_cycle_belongs_to_the_moment_that_begins_it() -> None:
    """Cycles are numbered from the epoch, and each begins where the one before it ends."""
    cycles = Cycles(100.0, 0.5)
    assert [cycles.number(at) for at in (99.9, 100.0, 100.4, 100.5, 101.9)] == [-1, 0, 0, 1, 3]
    assert cycles.start(3) == 101.5
