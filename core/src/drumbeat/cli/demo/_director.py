"""The run itself: agents are started, the leader is killed, its successor frozen and woken, and all are ended."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

import drumbeat
from drumbeat.cli.demo._figures import Evidence, agreed_at, polled_again_at
from drumbeat.cli.demo._orders import Cycles, Orders
from drumbeat.cli.demo._plan import PEACEFUL_CYCLES, TIME_LIMIT
from drumbeat.cli.demo._records import (
    Dismissed,
    Frozen,
    Joined,
    Killed,
    Milestone,
    Over,
    Polled,
    Reader,
    Record,
    Rejected,
    Resumed,
    Started,
    Summarised,
    Woke,
    Won,
)
from drumbeat.cli.demo._store import SummaryStore
from drumbeat.history import History, note, read_history

if TYPE_CHECKING:
    from pathlib import Path

    from drumbeat.cli.demo._interrupts import Interrupts
    from drumbeat.cli.demo._plan import Plan
    from drumbeat.cli.demo._screen import Screen
    from drumbeat.cli.demo._team import Team

T = TypeVar("T")
R = TypeVar("R", bound=Record)

#: Seconds between two looks at what the agents have written.
TICK: Final = 0.05
#: Seconds that an agent may take to start, and cycles that it may be late where nothing is wrong.
START_WITHIN: Final = 10.0
LATE_CYCLES: Final = 3
#: The frozen leader sleeps for its TTL times this at least.
OVERSLEEP: Final = 1.2


class DemoFailed(Exception):
    """Something that had to happen did not."""


class Director:
    """Leads one run, and collects the evidence for its figures."""

    def __init__(
        self, plan: Plan, folder: Path, *, began: float, team: Team, screen: Screen, interrupts: Interrupts
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._deadline = began + TIME_LIMIT
        self._team = team
        self._screen = screen
        self._interrupts = interrupts
        self._clock = drumbeat.SystemClock()
        self._cycles = Cycles(self._clock.now(), plan.cycle)
        self._meters = plan.meters
        self._reader = Reader(folder)
        self._records: list[Record] = []
        self._living: set[str] = set()
        self._orders = [self._order(f"agent-{number}") for number in range(1, plan.agents + 1)]
        self._store = SummaryStore(self._orders[0].store)

    def run(self) -> None:
        """Play the whole run; raise DemoFailed if it comes to a standstill, Interrupted if it is asked to stop."""
        self._start()
        self._keep_peace()
        self._kill_leader()
        self._keep_peace()
        self._freeze_and_wake_leader()
        self._keep_peace()
        self._dismiss()

    def evidence(self) -> Evidence:
        """Return all that is known of the run by now."""
        history = self._orders[0].history
        return Evidence(
            records=self._records,
            history=read_history(history) if history.exists() else History(()),
            summaries=self._store.summaries(),
            meters=self._meters,
            cycles=self._cycles,
        )

    # The acts -----------------------------------------------------------------------------------------------

    def _order(self, name: str) -> Orders:
        return Orders(
            url=self._plan.url,
            namespace=self._plan.namespace,
            member_id=name,
            lease_ttl=self._plan.lease_ttl,
            cycles=self._cycles,
            director=os.getpid(),
            folder=self._folder,
        )

    def _start(self) -> None:
        self._store.create()
        self._orders[0].meters.write_text("\n".join(self._meters))
        for orders in self._orders:
            pid = self._team.start(orders)
            self._add(Started(agent=orders.member_id, at=self._clock.now(), pid=pid))
            self._living.add(orders.member_id)
        at = self._agree(since=0.0, within=START_WITHIN + self._plan.failover_bound)
        self._mark(at, f"{len(self._living)} agents share the {len(self._meters)} meters")
        self._until(self._leader, "nobody was elected", within=START_WITHIN)

    def _keep_peace(self) -> None:
        """Let some whole cycles pass, and a random part of one, so that what comes next may come at any moment."""
        after = self._cycles.number(self._clock.now()) + 1 + PEACEFUL_CYCLES
        within = (PEACEFUL_CYCLES + LATE_CYCLES) * self._plan.cycle
        self._until(lambda: self._have_polled(after), f"not everybody had polled cycle {after}", within=within)
        strike = self._clock.now() + self._plan.cycle * secrets.SystemRandom().random()
        self._until(lambda: self._clock.now() >= strike or None, "time stood still", within=within)

    def _kill_leader(self) -> None:
        leader = self._until(self._leader, "nobody led", within=self._plan.failover_bound)
        at = self._clock.now()
        note(self._orders[0].history, kind="killed", member_id=leader, at=at)
        self._team.kill(leader)
        self._add(Killed(agent=leader, at=at))
        self._living.discard(leader)
        self._take_over(since=at, cause="kill")

    def _freeze_and_wake_leader(self) -> None:
        leader = self._until(self._leader, "nobody led", within=self._plan.failover_bound)
        at = self._freeze(leader)
        self._take_over(since=at, cause="freeze")
        enough = at + OVERSLEEP * self._lease_ttl()
        self._until(lambda: self._clock.now() >= enough or None, "time stood still", within=self._lease_ttl() * 2)
        at = self._clock.now()
        self._team.wake(leader)
        self._add(Resumed(agent=leader, at=at))
        self._living.add(leader)
        within = self._lease_ttl()
        self._until(lambda: self._first(Woke, at), "the woken leader did not look at its term", within=within)
        self._until(lambda: self._first(Rejected, at), "no write with the old token was rejected", within=within)
        back = self._agree(since=at, within=self._plan.failover_bound)
        self._mark(back, f"{len(self._living)} agents share the {len(self._meters)} meters again")

    def _freeze(self, leader: str) -> float:
        """Stop an agent, but not inside a write to the store, where it would lock out everybody; return when."""
        while True:
            at = self._clock.now()
            self._team.freeze(leader)
            if self._store.is_free():
                break
            self._team.wake(leader)
            self._tick()
        self._add(Frozen(agent=leader, at=at))
        self._living.discard(leader)
        return at

    def _take_over(self, *, since: float, cause: str) -> None:
        """Wait until somebody else leads and writes, and all meters are polled again."""
        within = self._plan.failover_bound + LATE_CYCLES * self._plan.cycle
        won = self._until(lambda: self._first(Won, since), f"nobody led after the {cause}", within=within)
        self._until(lambda: self._first(Summarised, won.at), "the new leader wrote no summary", within=within)
        self._agree(since=since, within=within)
        again = self._until(
            lambda: polled_again_at(self._all(Polled), meters=self._meters, since=since),
            f"not every meter was polled again after the {cause}",
            within=within,
        )
        who = "1 agent" if len(self._living) == 1 else f"{len(self._living)} agents"
        self._mark(again, f"every meter is polled by {who}, {again - since:.3f} s after the {cause}")

    def _agree(self, *, since: float, within: float) -> float:
        """Wait until the living agents share the meters among just themselves; return since when they do."""
        return self._until(
            lambda: agreed_at(self._all(Polled), self._living, meters=self._meters, since=since),
            f"{len(self._living)} agents did not come to share the meters",
            within=within + LATE_CYCLES * self._plan.cycle,
        )

    def _dismiss(self) -> None:
        at = self._clock.now()
        for name in sorted(self._living):
            self._add(Dismissed(agent=name, at=at))
        self._team.dismiss(last=self._leader())
        self._collect()

    # What is known ------------------------------------------------------------------------------------------

    def _all(self, kind: type[R]) -> Iterator[R]:
        return (record for record in self._records if isinstance(record, kind))

    def _first(self, kind: type[R], since: float) -> R | None:
        return next((record for record in self._all(kind) if record.at >= since), None)

    def _leader(self) -> str | None:
        """Return who leads by its own account, if that one is neither killed nor frozen."""
        won = max(self._all(Won), key=lambda record: record.token, default=None)
        if won is None or won.agent not in self._living or any(over.token == won.token for over in self._all(Over)):
            return None
        return won.agent

    def _have_polled(self, cycle: int) -> bool | None:
        return self._living <= {poll.agent for poll in self._all(Polled) if poll.cycle >= cycle} or None

    def _lease_ttl(self) -> float:
        return max((joined.lease_ttl for joined in self._all(Joined)), default=self._plan.lease_ttl)

    # Waiting ------------------------------------------------------------------------------------------------

    def _until(self, found: Callable[[], T | None], failure: str, *, within: float) -> T:
        """Return what `found` returns once that is not None; raise DemoFailed after `within` seconds."""
        deadline = min(self._clock.now() + within, self._deadline)
        while (answer := found()) is None:
            if self._clock.now() >= deadline:
                raise DemoFailed(f"{failure} within {within:.1f} s")
            self._tick()
        return answer

    def _tick(self) -> None:
        time.sleep(TICK)
        self._interrupts.check()
        self._collect()
        self._screen.refresh(self._clock.now())
        for failure in self._team.failures():
            raise DemoFailed(failure)

    def _collect(self) -> None:
        for record in self._reader.new():
            self._add(record)

    def _mark(self, at: float, text: str) -> None:
        self._add(Milestone(agent="", at=at, text=text))

    def _add(self, record: Record) -> None:
        self._records.append(record)
        self._screen.add(record)
