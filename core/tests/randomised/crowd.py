"""Sessions on one store and one clock, each of which can be killed, frozen, replaced, and cut off from its answers."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from support import HOOKS

import drumbeat
from drumbeat import Event, Session, Signal, Term, hookimpl
from drumbeat.history import Record
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock, memory_url

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from drumbeat._settings import OnConflict

#: Seconds; the unit of all others.
TTL: Final = 1.0
ELECTION: Final = "e"
GROUP: Final = "g"
#: How often, in seconds, it is looked whether two hold a term while time passes.
LOOK: Final = TTL / 10
#: Seconds of the clock in which everything that was cut off for good has given up.
LONGEST: Final = 20 * TTL


class Link:
    """An interceptor: what lies between one session and the store."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._requests, self._answers = Signal(clock), Signal(clock)
        self._lost = 0
        self._gone = False
        self.open()

    def hold(self, *, answers: bool) -> None:
        """Hold back what comes from now on: answers, or requests already."""
        held, passing = (self._answers, self._requests) if answers else (self._requests, self._answers)
        held.clear()
        passing.set()

    def open(self) -> None:
        """Let everything pass, late or not."""
        self._requests.set()
        self._answers.set()

    def lose_answers(self, count: int) -> None:
        """Lose some answers to requests that the store has served."""
        self._lost = count

    def end(self) -> None:
        """Fail whatever was held back, and all that comes."""
        self._gone = True
        self.open()

    def _pass(self, gate: Signal) -> None:
        gate.wait()
        if self._gone:
            raise drumbeat.Unavailable("this session was cut off for good")

    def _intercept(self) -> Generator[None, object, object]:
        self._pass(self._requests)
        try:
            answer = yield
        finally:
            self._pass(self._answers)
        if self._lost > 0:
            self._lost -= 1
            raise drumbeat.Unavailable("the answer was lost")
        return answer


def _wrapper(hook: str) -> Callable[[Link], Generator[None, object, object]]:
    @hookimpl(wrapper=True, specname=hook)
    def intercept(self: Link) -> Generator[None, object, object]:
        return (yield from self._intercept())

    return intercept


for _hook in HOOKS:
    if _hook != "drop_session":
        setattr(Link, f"_{_hook}", _wrapper(_hook))


class Agent:
    """A program with one session: it joins the group, campaigns, leads until that is over, and campaigns again."""

    def __init__(self, crowd: Crowd, member_id: str, *, replaces: bool = False) -> None:
        self.member_id = member_id
        self.link = Link(crowd.clock)
        self.session: Session | None = None
        #: Whether it wants to be in the group.
        self.joins = True
        #: When it goes on if it is frozen; infinite if it was killed.
        self.frozen_until: float | None = None
        self._crowd = crowd
        self._on_conflict: OnConflict = "replace" if replaces else "wait"
        threading.Thread(target=self._live, name=f"agent-{member_id}", daemon=True).start()

    @property
    def awake(self) -> bool:
        """Whether it has a session and runs."""
        return self.frozen_until is None and self.session is not None

    def freeze(self, until: float, *, answers: bool = False) -> None:
        """Stop it until some moment: before it sends anything more, or before it takes any answer."""
        self.link.hold(answers=answers)
        self.frozen_until = until

    def thaw(self) -> None:
        """Let it go on."""
        self.frozen_until = None
        self.link.open()

    def end(self) -> None:
        """Let its threads end, without a word to the store."""
        self.link.end()
        if self.session is not None:
            self.session.close(timeout=0.0)

    def act(self, action: Callable[[Session], object]) -> None:
        """Do something with the session, in a thread of its own."""
        session = self.session
        assert session is not None

        def run() -> None:
            with suppress(drumbeat.DrumbeatError):
                action(session)

        threading.Thread(target=run, name=f"act-{self.member_id}", daemon=True).start()

    def join(self, session: Session) -> None:
        """Join the group, however often that takes."""
        self.joins = True
        while self.joins:
            with suppress(drumbeat.Unavailable):
                session.group(GROUP).join({"member": self.member_id})
                return

    def leave(self, session: Session) -> None:
        """Leave the group; where the answer is lost, the membership ends at the next heartbeat."""
        self.joins = False
        session.group(GROUP).leave()

    def _live(self) -> None:
        with suppress(drumbeat.Closed, drumbeat.Conflict, drumbeat.Unavailable):
            self.session = drumbeat.connect(
                self._crowd.url,
                member_id=self.member_id,
                lease_ttl=TTL,
                clock=self._crowd.clock,
                on_conflict=self._on_conflict,
                interceptors=[*self._crowd.interceptors, self.link],
                observers=[self._crowd],
            )
            self.join(self.session)
            while True:
                term = self.session.election(ELECTION).campaign(on_lost=self._crowd.hear)
                self._crowd.add(self, term)
                term.lost.wait()


class Crowd:
    """All agents of one example, and what is known of their terms."""

    def __init__(self, interceptors: Sequence[object] = ()) -> None:
        self.clock = FakeClock()
        self.url = memory_url()
        self.interceptors = interceptors
        self.agents: list[Agent] = []
        self.records: list[Record] = []
        #: Wins in their order, with who won.
        self.wins: list[tuple[Agent, Term]] = []
        self.heard: Counter[Term] = Counter()
        self._replaced: set[str] = set()
        self._faults: list[str] = []

    # Agents -------------------------------------------------------------------------------------------------

    def start(self, member_id: str) -> Agent:
        """Start an agent."""
        return self._added(Agent(self, member_id))

    def replace(self, old: Agent) -> Agent:
        """Start an agent that ends the session of another one under its id: what that one held is forced from it."""
        assert old.session is not None
        incarnation = old.session.incarnation
        self._replaced.add(incarnation)
        self.records.append(
            Record(kind="killed", at=self.clock.now(), member_id=old.member_id, incarnation=incarnation)
        )
        return self._added(Agent(self, old.member_id, replaces=True))

    def _added(self, agent: Agent) -> Agent:
        self.agents.append(agent)
        self.clock.settle()
        return agent

    # Terms --------------------------------------------------------------------------------------------------

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Record what a session tells."""
        self.records.append(Record(**{name: getattr(event, name) for name in Event.__dataclass_fields__}))

    def hear(self, term: Term) -> None:
        """Count the telling of a loss."""
        self.heard[term] += 1

    def add(self, agent: Agent, term: Term) -> None:
        """Take note of a win, at which nobody else may hold the seat."""
        self.wins.append((agent, term))
        self.check()

    def holders(self) -> list[tuple[Agent, Term]]:
        """Return the terms that say they are held, but for those that were forced from their holders."""
        return [(a, t) for a, t in list(self.wins) if t.held and t._incarnation.id not in self._replaced]

    def check(self) -> None:
        """Take note of it if two hold terms at this moment, or if one that is lost is held."""
        holders = self.holders()
        if len(holders) > 1 or any(term.lost.is_set() for _, term in holders):
            self._faults.append(f"at {self.clock.now():.3f}: {holders}")

    # Time ---------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Move the clock, wake who was frozen until then, and look at every tenth of a TTL."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            now = self.clock.now()
            thaws = [agent.frozen_until for agent in self.agents if agent.frozen_until is not None]
            self.clock.advance(min([until, now + LOOK, *thaws]) - now)
            for agent in self.agents:
                if agent.frozen_until is not None and agent.frozen_until <= self.clock.now():
                    agent.thaw()
            self.clock.settle()
            self.check()
        assert self._faults == []

    def end(self) -> None:
        """Let all threads end."""
        for agent in self.agents:
            agent.link.end()
        self.clock.advance(LONGEST)
        for agent in self.agents:
            agent.end()
        self.clock.settle()
        MemoryBackend.forget_store(self.url.removeprefix("memory://"))
