"""A process with one session, told what to do by lines: `python member.py URL NAMESPACE TTL MEMBER_ID`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import drumbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat import Session, Term

#: Seconds between two looks at a term.
LOOK = 0.01


def say(*words: object) -> None:
    """Write one line, in one piece."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def look(term: Term) -> None:
    """Say again and again whether the term is held, and when that was."""
    while True:
        # The clock is read first, so that a pause in between cannot make an old answer look new.
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        say("held" if term.held else "over", at)
        time.sleep(LOOK)


def failures_in_child(session: Session, term: Term) -> int:
    """Return how many checks fail in a forked child, which must hold nothing and be refused everything."""
    signal.alarm(20)
    failed = int(term.held)
    uses: list[Callable[[], object]] = [
        session.group("g").members,
        session.election("other").leader,
        lambda: session.election("e").campaign(timeout=0),
        session.beat,
    ]
    for use in uses:
        with suppress(drumbeat.Forked):
            use()
            failed += 1
    term.resign()
    session.close(timeout=1.0)
    return failed


def fork(session: Session, term: Term) -> None:
    """Fork, and say how the child ended: 0 if all was as promised."""
    child = os.fork()
    if child == 0:
        os._exit(failures_in_child(session, term))
    _, status = os.waitpid(child, 0)
    say("child", os.waitstatus_to_exitcode(status))


def main() -> None:
    """Obey until the input ends."""
    url, namespace, ttl, member_id = sys.argv[1:]
    with drumbeat.connect(
        url, namespace=namespace, member_id=member_id, lease_ttl=float(ttl), on_empty_store="trust"
    ) as session:
        session.group("g").join()
        term = session.election("e").campaign()
        say("won", term.token)
        for line in sys.stdin:
            if line.strip() == "look":
                threading.Thread(target=look, args=[term], daemon=True).start()
            if line.strip() == "fork":
                fork(session, term)


if __name__ == "__main__":
    main()
