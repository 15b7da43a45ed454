"""One polling agent: a process that shares the meters with its group, and leads when it is elected.

Nothing here is special to the demo's backend or host: it is what a program that uses Drumbeat looks like.
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
from drumbeat.cli.demo._meters import Reading, read_meters
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


class Agent:
    """Polls its share of the meters in every cycle, and writes the summaries while it leads."""

    def __init__(self, session: drumbeat.Session, orders: Orders) -> None:
        self.name = session.member_id
        self.session = session
        self.group = session.group(GROUP)
        self.election = session.election(ELECTION)
        self.cycles = orders.cycles
        self.meters = orders.meters.read_text().split("\n")
        self.journal = Journal(orders.journal)
        self.samples = Reader(orders.folder)
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

    def poll(self) -> None:
        """In each cycle, read the meters that the present members leave to this one."""
        for cycle in self.each_cycle(self.stopping):
            began = self.clock.now()
            try:
                mine = self.group.partition(self.meters)
            except drumbeat.Closed:
                return
            except drumbeat.DrumbeatError:
                # Without a view of the group, nobody can say what is ours: better none than somebody else's.
                continue
            values = read_meters(mine)
            self.journal.write(Polled(agent=self.name, at=self.clock.now(), cycle=cycle, began=began, ...))

    def lead(self) -> None:
        """Become the leader, again and again, and work as one for as long as the term is held."""
        with suppress(drumbeat.Closed):
            while True:
                with self.election.campaign({"pid": os.getpid()}) as term:
                    self.term = term
                    self.journal.write(Won(agent=self.name, at=self.clock.now(), token=term.token))
                    self.write_summaries(term)
                self.journal.write(Over(agent=self.name, at=self.clock.now(), token=term.token))

    def write_summaries(self, term: drumbeat.Term) -> None:
        """Write a summary of each cycle that has ended, until the term is over."""
        for cycle in self.each_cycle(term.lost):
            ...
