"""One polling agent: a process that shares the meters with its group, and leads when it is elected.

Nothing here is special to the demo's backend: it is what a program that uses Drumbeat looks like.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import drumbeat
from drumbeat.cli.demo._leash import die_with_parent
from drumbeat.cli.demo._meters import read_meters
from drumbeat.cli.demo._orders import ELECTION, GROUP, Orders
from drumbeat.cli.demo._records import (
    Joined,
    Journal,
    Over,
    Polled,
    Reader,
    Rejected,
    StateChanged,
    Summarised,
    Woke,
    Won,
)
from drumbeat.cli.demo._store import StaleToken, Summary, SummaryStore
from drumbeat.cli.demo._summary import summarise
from drumbeat.observers import HistoryObserver


class Agent:
    """Polls its share of the meters in every cycle, and writes the summaries while it leads."""

    def __init__(self, session: drumbeat.Session, orders: Orders) -> None:
        self.name = session.member_id
        self.session = session
        self.group = session.group(GROUP)
        self.election = session.election(ELECTION)
        self.cycles = orders.cycles
        self.meters = orders.meters.read_text().splitlines()
        self.journal = Journal(orders.journal)
        self.samples = Reader(orders.folder)
        self.polls: list[Polled] = []
        self.store = SummaryStore(orders.store)
        self.clock = drumbeat.SystemClock()
        self.stopping = drumbeat.Signal(self.clock)
        #: The newest term, which may be over.
        self.term: drumbeat.Term | None = None

    def join(self) -> None:
        """Become a member of the group."""
        self.session.on_state(self.report_state)
        self.group.join({"pid": os.getpid()})
        self.journal.write(
            Joined(
                agent=self.name,
                at=self.clock.now(),
                server=self.session.backend.server,
                lease_ttl=self.session.lease_ttl,
                failover_bound=self.session.failover_bound,
            )
        )

    def report_state(self, state: drumbeat.State) -> None:
        """Write down that the session is, for example, LOST."""
        self.journal.write(StateChanged(agent=self.name, at=self.clock.now(), state=state.value))

    def each_cycle(self, over: drumbeat.Signal) -> Iterator[int]:
        """Give the number of each cycle as it begins, but for those that were slept through, until `over`."""
        cycle = self.cycles.number(self.clock.now())
        while not over.wait_until(self.cycles.start(cycle + 1)):
            cycle = max(cycle + 1, self.cycles.number(self.clock.now()))
            yield cycle

    def poll(self) -> None:
        """In each cycle, read the meters that fall to this agent among the members of that moment."""
        for cycle in self.each_cycle(self.stopping):
            began = self.clock.now()
            try:
                mine = self.group.partition(self.meters)
            except drumbeat.Closed:
                return
            except drumbeat.Unavailable:
                # Nobody can say what is ours while the server does not answer: the others will take it over.
                continue
            values = read_meters(mine)
            now = self.clock.now()
            self.journal.write(Polled(agent=self.name, at=now, cycle=cycle, began=began, values=values))

    def lead(self) -> None:
        """Become the leader, and again after each loss; work as one for as long as the term is held."""
        with suppress(drumbeat.Closed):
            while True:
                with self.election.campaign({"pid": os.getpid()}) as term:
                    self.term = term
                    self.journal.write(Won(agent=self.name, at=self.clock.now(), token=term.token))
                    self.write_summaries(term)
                self.journal.write(Over(agent=self.name, at=self.clock.now(), token=term.token))

    def write_summaries(self, term: drumbeat.Term) -> None:
        """Write the summary of each cycle that has ended and has none yet, until the term is over."""
        newest = self.store.newest_cycle()
        due = self.cycles.number(self.clock.now()) + 1 if newest is None else newest + 1
        for cycle in self.each_cycle(term.lost):
            while due < cycle:
                text = self.summarise(due)
                if not (term.held and self.write(due, text, token=term.token)):
                    return
                due += 1

    def summarise(self, cycle: int) -> str:
        """Return the summary of a cycle, from what all agents have polled in it."""
        self.polls += [record for record in self.samples.new() if isinstance(record, Polled)]
        self.polls = [poll for poll in self.polls if poll.cycle >= cycle]
        return summarise([poll for poll in self.polls if poll.cycle == cycle], meters=len(self.meters))

    def write(self, cycle: int, text: str, *, token: int) -> bool:
        """Send a summary with the token of the term that entitles to it; return whether the store took it."""
        try:
            self.store.write(Summary(cycle=cycle, token=token, agent=self.name, text=text))
        except StaleToken as stale:
            now = self.clock.now()
            self.journal.write(Rejected(agent=self.name, at=now, token=token, highest=stale.highest))
            return False
        self.journal.write(Summarised(agent=self.name, at=self.clock.now(), token=token, cycle=cycle, text=text))
        return True

    def notice_waking(self) -> None:
        """Look at the term whenever the process goes on after a stop, and once write in spite of what it says."""
        while True:
            signal.sigwait({signal.SIGCONT})
            term = self.term
            if term is None:
                continue
            held = term.held
            self.journal.write(Woke(agent=self.name, at=self.clock.now(), token=term.token, held=held))
            if not held:
                # A check cannot exclude a pause before the write. Here that write is sent: the store must refuse.
                cycle = self.cycles.number(self.clock.now()) - 1
                self.write(cycle, "written with the token of a lost term", token=term.token)


def main() -> None:
    """Follow the orders on standard input until it is closed."""
    # Blocked in all threads, so that the one that waits for it is the one that gets it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
    threading.excepthook = end_process
    orders = Orders.from_line(sys.stdin.buffer.readline())
    die_with_parent(orders.director)
    with drumbeat.connect(
        orders.url,
        namespace=orders.namespace,
        member_id=orders.member_id,
        lease_ttl=orders.lease_ttl,
        heartbeat="auto",
        on_empty_store="trust",
        observers=[HistoryObserver(orders.history)],
    ) as session:
        agent = Agent(session, orders)
        agent.join()
        threads = [threading.Thread(target=work, daemon=True) for work in (agent.poll, agent.lead)]
        threading.Thread(target=agent.notice_waking, daemon=True).start()
        for thread in threads:
            thread.start()
        sys.stdin.buffer.read()
        agent.stopping.set()
    for thread in threads:
        thread.join(1.0)


def end_process(failure: threading.ExceptHookArgs) -> None:
    """End the process when one of its threads fails: its heartbeats must not outlive its work."""
    threading.__excepthook__(failure)
    os._exit(1)


if __name__ == "__main__":
    main()
