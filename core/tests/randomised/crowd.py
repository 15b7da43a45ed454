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
    """A program with one session: it joins the group, campaigns, leads until it is told otherwise, and begins anew."""

    def __init__(
        self, crowd: Crowd, member_id: str, *, replaces: bool = False, interceptors: Sequence[object] = ()
    ) -> None:
        self.member_id = member_id
        self.link = Link(crowd.clock)
        self.session: Session | None = None
        self.joined = False
        #: When it goes on, if it is frozen; infinite if it was killed.
        self.frozen_until: float | None = None
        self._crowd = crowd
        self._interceptors = [self.link, *interceptors]
        self._on_conflict = "replace" if replaces else "wait"
        self.thread = threading.Thread(target=self._live, name=f"agent-{member_id}", daemon=True)
        self.thread.start()

    @property
    def awake(self) -> bool:
        """Whether it has a session and may be called."""
        return self.frozen_until is None and self.session is not None

    def run(self, action: Callable[[Session], object]) -> None:
        """Do something with the session, in a thread of its own, as the program would."""
        session = self.session
        assert session is not None

        def act() -> None:
            with suppress(drumbeat.DrumbeatError):
                action(session)

        threading.Thread(target=act, name=f"act-{self.member_id}", daemon=True).start()

    def stay_out(self, session: Session) -> None:
        """Leave the group."""
        self.joined = False
        session.group(GROUP).leave()

    def join(self, session: Session) -> None:
        """Join the group, whatever it takes."""
        self.joined = True
        while self.joined:
            with suppress(drumbeat.Unavailable):
                session.group(GROUP).join({"member": self.member_id})
                return

    def _live(self) -> None:
        with suppress(drumbeat.Closed, drumbeat.Conflict, drumbeat.Unavailable):
            self.session = drumbeat.connect(
                self._crowd.url,
                member_id=self.member_id,
                lease_ttl=TTL,
                clock=self._crowd.clock,
                on_conflict=self._on_conflict,  # type: ignore[arg-type]
                interceptors=self._interceptors,
                observers=[self._crowd],
            )
            self.join(self.session)
            while True:
                term = self.session.election(ELECTION).campaign(on_lost=self._crowd.hear_of_loss)
                self._crowd.add(term)
                term.lost.wait()


class Crowd:
    """All agents of one example, and what is known of their terms."""

    def __init__(self, interceptors: Sequence[object] = ()) -> None:
        self.clock = FakeClock()
        self.url = memory_url()
        self.records: list[Record] = []
        self.agents: list[Agent] = []
        self.told: Counter[Term] = Counter()
        self._interceptors = interceptors
        self._terms: list[Term] = []
        self._replaced: set[str] = set()
        self._faults: list[str] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Record what a session tells."""
        self.records.append(Record(**{name: getattr(event, name) for name in Event.__dataclass_fields__}))

    def start(self, member_id: str, *, replaces: bool = False) -> Agent:
        """Start an agent."""
        agent = Agent(self, member_id, replaces=replaces, interceptors=self._interceptors)
        self.agents.append(agent)
        return agent

    def hear_of_loss(self, term: Term) -> None:
        """Count the telling of a loss."""
        self.told[term] += 1

    def add(self, term: Term) -> None:
        """Take note of a win, at which nobody else may hold the seat."""
        self._terms.append(term)
        self.check()

    def holders(self) -> list[Term]:
        """Return the terms that say they are held."""
        return [term for term in list(self._terms) if term.held and term._incarnation.id not in self._replaced]

    def check(self) -> None:
        """Take note if two hold a term at this moment."""
        holders = self.holders()
        if len(holders) > 1:
            self._faults.append(f"at {self.clock.now():.3f}: {holders}")
