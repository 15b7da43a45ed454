"""What a forked child has of its parent's session: nothing, and it takes nothing away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from local.actors import Actor, Process

MakeActor = Callable[..., Actor]
MakeProcess = Callable[..., Process]


def test_a_child_that_drops_leaves_the_parents_session_as_it_is(actor: MakeActor, process: MakeProcess) -> None:
    """Dropping in a child closes its copies of lock, socket and pidfds; the parent holds, hears and watches on."""
    parent, other, holder = process("a"), actor("b"), process("c")
    token = parent.number("campaign", election="e")
    parent.ask("join", group="g")
    holder.ask("campaign", election="f")
    parent.ask("campaign", election="f", attempt=2)
    parent.ask("watch", kind="candidacy", name="f", attempt=2)
    assert parent.ask("fork_and", what="drop") == "True, then False, left 0"
    assert other.leader("e") == "a"
    assert other.members("g") == ["a"]
    assert parent.ask("beat_for", seats=[["e", 1, token]], newest=1) == 0
    holder.kill()
    assert parent.ask("hint") is True
    assert parent.number("campaign", election="f", attempt=2) > 0


def test_the_parents_death_is_noticed_though_its_child_lives(actor: MakeActor, process: MakeProcess) -> None:
    """A child that has dropped the session does not keep the parent's lock."""
    parent, other = process("a"), actor("b")
    parent.ask("campaign", election="e")
    parent.ask("fork_and_stay", what="drop")
    parent.kill()
    assert other.leader("e") is None


def test_a_child_that_uses_the_parents_session_is_refused(process: MakeProcess) -> None:
    """The session belongs to the parent: in a child every hook raises Forked."""
    parent = process("a")
    assert parent.ask("fork_and", what="use") == "Forked"
    assert parent.ask("beat") == []


def test_parent_and_child_can_both_use_the_file(actor: MakeActor, process: MakeProcess, path: Path) -> None:
    """A child opens a session of its own in the same file; nothing that either writes is lost."""
    parent, other = process("a"), actor("b")
    parent.ask("join", group="g")
    for round_ in range(3):
        assert parent.ask("fork_and", what="connect") == "child"
        parent.ask("join", group=f"parent-{round_}")
    assert parent.ask("beat") == []
    assert other.members("g") == ["a"]
    assert [other.members(f"parent-{round_}") for round_ in range(3)] == [["a"]] * 3
    assert other.members("child-0") == []
    assert {finding.level for finding in other.backend.diagnose(timeout=5.0)} == {"ok"}


def test_what_a_child_wrote_outlives_its_parents_connections(process: MakeProcess) -> None:
    """A child's session does not depend on the parent's: the parent may close while the child goes on."""
    parent = process("a")
    child = parent.ask("fork_and_stay", what="outlive")
    assert child == "opened"
    parent.ask("close")
    parent.ask("drop")
    assert parent.ask("ask_child") == "child"
    late = process("late")
    assert late.ask("members", group="g") == ["child"]


def test_a_fork_that_python_does_not_hear_of_is_refused(process: MakeProcess) -> None:
    """If SQLite's connections were inherited open, the child is told to connect only after the fork."""
    parent = process("a")
    assert parent.ask("c_fork_and", what="connect_only") == "Forked"
    assert parent.ask("beat") == []
