"""Whatever happens to the sessions, no two of them lead at a time, and soon after it one does."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from randomised.crowd import ELECTION, GROUP, LOOK, TTL, Agent, Crowd

from drumbeat import Session, hookimpl
from drumbeat.history import find_overlaps, find_token_faults, terms
from drumbeat.hookspecs import Beat, Holdings, Lease, Seat, Waiting, Won
from drumbeat.memory import PROFILE

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

#: Whom something happens to: one of the four agents, or whoever leads.
WHO = st.integers(-4, 3)
#: Seconds, most of them around what ends a lease.
LONG = st.sampled_from([0.1, 0.3, 0.6, 0.9, 0.94, 0.96, 1.0, 1.1, 1.5, 2.2, 3.0]).map(lambda share: share * TTL)
SHORT = st.sampled_from([0.0, 0.05, 0.2, 0.25, 0.5, 0.94, 0.96, 1.0, 1.3]).map(lambda share: share * TTL)
#: Seconds after the last disturbance in which a candidate that waits must have won; and one look more.
BOUND = PROFILE.failover.seconds(TTL) + LOOK


class CrowdMachine(RuleBasedStateMachine):
    """Four agents, and what may happen to them."""

    interceptors: ClassVar[Sequence[object]] = ()
    #: What has happened in all examples, by kind; how many terms there were, and how they ended.
    happened: ClassVar[Counter[str]] = Counter()
    ended: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd(self.interceptors)
        self.agents = [self.crowd.start(f"agent-{number}") for number in range(4)]
        self.replaced: list[Agent] = []

    def teardown(self) -> None:
        """Everything comes to rest, and the record is judged."""
        try:
            self.come_to_rest()
            self._judge()
        finally:
            self.crowd.end()

    # What happens to a session ------------------------------------------------------------------------------

    @rule(who=WHO, same_id=st.booleans())
    def kill(self, who: int, same_id: bool) -> None:
        """Nothing of a session reaches the store any more; the program is started again."""
        agent = self._pick(who)
        agent.freeze(math.inf)
        self._take_place(agent, self.crowd.start(agent.member_id if same_id else f"agent-{len(self.crowd.agents)}"))
        self.happened["killed"] += 1

    @rule(who=WHO, seconds=LONG, answers=st.booleans())
    def freeze(self, who: int, seconds: float, answers: bool) -> None:
        """A session stands still for a while, its requests unsent or its answers unread; perhaps once more."""
        self._pick(who).freeze(self.crowd.clock.now() + seconds, answers=answers)
        self.happened["frozen"] += 1

    @rule(who=WHO, count=st.integers(1, 4))
    def lose_answers(self, who: int, count: int) -> None:
        """A session does not get the next answers to what the store has done for it."""
        self._pick(who).link.lose_answers(count)
        self.happened["lost answers"] += 1

    @rule(who=WHO)
    def replace(self, who: int) -> None:
        """Another process takes a session's member id by force, and the first one does not know."""
        old = self._pick(who)
        if old.session is not None:
            self._take_place(old, self.crowd.replace(old))
            self.replaced.append(old)
            self.happened["replaced"] += 1

    # What a session does ------------------------------------------------------------------------------------

    @rule()
    def resign(self) -> None:
        """Whoever leads resigns, unless it stands still."""
        for agent, term in self.crowd.holders():
            if agent.awake:
                agent.act(lambda _, term=term: term.resign())
                self.happened["resigned"] += 1
        self.crowd.clock.settle()

    @rule(who=WHO)
    def leave_or_join(self, who: int) -> None:
        """A session leaves the group, or joins it again."""
        agent = self._pick(who)
        if agent.awake:
            agent.act(agent.leave if agent.joins else agent.join)
            self.crowd.clock.settle()
            self.happened["left or joined"] += 1

    @rule(who=WHO)
    def close(self, who: int) -> None:
        """A session ends in good order, and its program is started again."""
        agent = self._pick(who)
        if agent.awake:
            agent.act(Session.close)
            self.crowd.clock.settle()
            self._take_place(agent, self.crowd.start(agent.member_id))
            self.happened["closed"] += 1

    # Time ---------------------------------------------------------------------------------------------------

    @rule(seconds=SHORT)
    def pass_time(self, seconds: float) -> None:
        """Things take their course."""
        self.crowd.pass_time(seconds)

    @rule()
    def come_to_rest(self) -> None:
        """All that stood still go on, and nothing more happens: within the bound one leads, and the group is whole."""
        for agent in self.replaced:
            agent.end()
        self.replaced = []
        for agent in self.agents:
            agent.link.lose_answers(0)
            agent.thaw()
        self.crowd.clock.settle()
        self.crowd.pass_time(BOUND)
        ((leader, _),) = self.crowd.holders()
        assert leader in self.agents
        self._compare_group()

    @invariant()
    def one_leads_at_most(self) -> None:
        """No two terms are held at this moment."""
        self.crowd.check()

    def _compare_group(self) -> None:
        views: list[tuple[str, ...]] = []
        for agent in self.agents:
            agent.act(lambda session: views.append(session.group(GROUP).members().ids))
        self.crowd.clock.settle()
        members = tuple(sorted(agent.member_id for agent in self.agents if agent.joins))
        assert [members] * len(self.agents) == views

    def _pick(self, who: int) -> Agent:
        leaders = [agent for agent, _ in self.crowd.holders() if agent in self.agents]
        return leaders[0] if who < 0 and leaders else self.agents[who]

    def _take_place(self, old: Agent, new: Agent) -> None:
        self.agents[self.agents.index(old)] = new

    def _judge(self) -> None:
        records = self.crowd.records
        assert find_overlaps(records) == []
        assert find_token_faults(records) == []
        assert set(self.crowd.heard.values()) <= {1}
        self.ended.update(term.ended for term in terms(records))


def disturb(machine: type[CrowdMachine], *, examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Run a machine; raise AssertionError if a promise was broken."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.timeout(600)  # a failure is shrunk, which takes its time
def test_no_two_lead_whatever_happens() -> None:
    """Over a thousand kills, freezes and resigns: no terms overlap, tokens rise, and soon somebody leads."""
    CrowdMachine.happened.clear()
    disturb(CrowdMachine, examples=60)
    print(CrowdMachine.happened, CrowdMachine.ended)
    happened = CrowdMachine.happened
    assert happened["killed"] + happened["frozen"] + happened["resigned"] >= 1000, happened
