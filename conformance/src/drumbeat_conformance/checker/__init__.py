"""Judging recorded histories: no server, no clock, no thread; lines in, violations out.

`check` takes a `Recording` and returns the `Violation`s in it: overlapping terms, tokens that do not rise, terms that
said "held" after their end or without a win, sessions that went on past theirs, a watcher that missed a change or saw
one that never was, views that diverge, and locks, fenced registers and counters whose answers no order of the
operations explains. A finding is certain as far as the lines are true; where they leave open what happened, the history
gets the benefit of the doubt.

One kind is no finding: `Kind.UNDECIDED` says that a history could not be judged, and why. Of operations that overlap in
very many ways not all orders can be tried, and the times of two hosts, or of two boots, cannot be compared. Nothing is
ever called good that was not judged.

**The lines.** A history is one or several files of JSON lines, of one host and one boot; any process may append to
its own file with `drumbeat.history.append_line`. A line with `op` tells of an operation, and any other of an event:
what `drumbeat.observers.HistoryObserver` writes, and what `drumbeat.history.note` adds: `killed`, `stopped` (SIGSTOP)
and `continued` processes. The fields of an operation:

========== ==========================================================================================================
op         what was done: see below
object     to what: `lock/NAME`, `election/NAME`, `shard/GROUP/NUMBER`, `register/NAME`, `counter/NAME`, `group/NAME`
client     by whom: the member id
called     when it was called, in seconds of CLOCK_BOOTTIME, read before anything was done
returned   when it was answered, read after; left out if no answer came, or one that says "unknown"
outcome    `done` or `refused`; left out with `returned`
token      the fencing token
value      what was written, read, or raised to: a text, a whole number or null
namespace  left out, or as in the events
id         a later line with the same id takes the place of the earlier one
========== ==========================================================================================================

So a program writes the line when it calls, and again, with the answer, when it has one: if it is killed in between, the
operation may have happened at any time after its call, or never.

========= ============== =======================================================================================
object    op             meaning
========= ============== =======================================================================================
a seat    acquire        done: the client has it with this `token`; refused: it gave up
a seat    release        done: the seat is free; refused: it was not held any more
a seat    lapse          from `called` on the seat may be free without a release, and its holder must not believe in it;
                         found in the events, if there are any
a seat    use            the holder asked whether it holds: done if it was told so at any moment from `called` on
register  write          done if `token` is at least the greatest that the register has seen, else refused
register  read           done with its `value`; a `token` is treated as that of a write
counter   increment      done with the new `value`, one more than before; refused if nothing was changed
counter   read           done with its `value`
group     watch          the client watches the group until `returned`, or for as long as it lives: what it must see
========= ============== =======================================================================================

A lock begins free, a register with null, a counter with 0. Equal times are told in no order. A use or a release that is
done needs a win of that client with that token: an acquire, whose answer may be missing, or an event.

>>> from drumbeat_conformance.checker import Operation, Recording, check
>>> first = Operation(op="increment", object="counter/c", client="a", called=1.0, returned=2.0, outcome="done", value=1)
>>> lost = Operation(op="increment", object="counter/c", client="b", called=3.0, returned=4.0, outcome="done", value=1)
>>> for violation in check(Recording(operations=(first, lost))):
...     violation.kind, violation.says.partition(", which")[0]
(<Kind.COUNTER: 'lost update'>, "'b' did increment 1 (done) from 3.000 s to 4.000 s")
"""

from __future__ import annotations

from drumbeat_conformance.checker._evidence import Evidence
from drumbeat_conformance.checker._objects import find_broken_objects
from drumbeat_conformance.checker._operation import Answer, Op, Operation, Value, as_line, parse_operation
from drumbeat_conformance.checker._recording import Recording, parse_recording, read_recording
from drumbeat_conformance.checker._sessions import find_broken_sessions, find_unlike_clocks
from drumbeat_conformance.checker._terms import find_broken_terms
from drumbeat_conformance.checker._views import find_broken_views
from drumbeat_conformance.checker._violation import Kind, Proof, Violation

__all__ = [
    "EFFORT",
    "GRACE",
    "Answer",
    "Kind",
    "Op",
    "Operation",
    "Proof",
    "Recording",
    "Value",
    "Violation",
    "as_line",
    "check",
    "parse_operation",
    "parse_recording",
    "read_recording",
]

#: Seconds in which a change must have reached every watcher, and a dead session must be gone.
GRACE = 10.0
#: Steps that the search for an order of the operations on one object may take: some seconds of work.
EFFORT = 500_000


def check(history: Recording, *, grace: float = GRACE, effort: int = EFFORT) -> tuple[Violation, ...]:
    """Return the promises that a history breaks; none if it may have happened in a world that keeps them all.

    `grace` is in seconds: how long a watcher that could see may take to show a change, and how long after its end a
    dead session may still be shown; at least the backend's failover bound. `effort` bounds the search for an order of
    the operations on each object. What could not be judged is in the answer as `Kind.UNDECIDED`: no broken promise, and
    no proof that none was broken.
    """
    evidence = Evidence(history)
    unlike = tuple(find_unlike_clocks(evidence))
    return unlike or (
        *find_broken_terms(evidence),
        *find_broken_objects(evidence, effort=effort),
        *find_broken_views(history, grace=grace),
        *find_broken_sessions(evidence),
    )
