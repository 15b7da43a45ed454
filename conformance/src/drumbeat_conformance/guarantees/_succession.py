"""One leader after another, and never both at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drumbeat import Session, Term
    from drumbeat_conformance.arena import Arena

__all__ = ["succeed"]


def succeed(arena: Arena, session: Session, term: Term) -> Term:
    """Win `e` after `term`; fail if the two overlap, or if the token is not higher."""
    last_held = 0.0
    waiting = arena.background(lambda: (session.election("e").campaign(), arena.clock.now()))
    while waiting.running:
        if term.held:
            last_held = arena.clock.now()
        arena.wait(arena.ttl / 200)
    successor, won = waiting.result(within=arena.ttl)
    assert last_held < won, "both were held"
    assert not term.held
    assert successor.token > term.token
    return successor
