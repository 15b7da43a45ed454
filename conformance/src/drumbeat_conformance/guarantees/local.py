"""What goes wrong with a file and kernel locks, each provoked on the local backend."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from drumbeat import BadData, ConfigurationError, SessionLost, State
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._succession import succeed
from drumbeat_conformance.members import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_conformance.arena import Arena

#: Seconds of a lease that nobody waits for, and in which a death must be noticed without it.
_LONG: Final = 60.0
_AT_ONCE: Final = 5.0
#: No file can be made there, whoever asks.
_NOWHERE: Final = "/proc/drumbeat.db"
#: Opens and closes each file that it is given, as a backup or a text editor does.
_LOOK: Final = "import sys\nfor name in sys.argv[1:]: open(name, 'rb').close()"


def file_of(arena: Arena) -> Path:
    """Return the file of the arena's store."""
    return Path(urlsplit(arena.url).path)


def locks_of(path: Path) -> Path:
    """Return the file whose locks tell who lives."""
    return path.with_name(f"{path.name}.locks")


def _remove_all(path: Path) -> None:
    _remove(path)
    locks_of(path).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _replace(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as copy:
        source.backup(copy)
    _remove(path)
    other.rename(path)


@guarantee("LOCAL-1", tier="faults", scheme="local", needs=Needs.PROCESSES)
def a_deleted_file_makes_no_second_leader(arena: Arena) -> None:
    """When the file is deleted, or another takes its place, nobody leads before the term of its leader is over.

    The locks in the file beside it tell of the leader, so that one must not be deleted.
    """
    for change in (_remove, _replace):
        leader = arena.connect(heartbeat="manual", on_empty_store=None)
        term = leader.election("e").campaign(timeout=5 * arena.ttl)
        leader.beat()
        change(file_of(arena))
        other = arena.connect(on_empty_store=None)
        succeed(arena, other, term)
        for session in (leader, other):
            session.close()


@guarantee("LOCAL-2", tier="faults", scheme="local", needs=Needs.PROCESSES)
def a_deleted_file_is_noticed_within_a_heartbeat(arena: Arena) -> None:
    """When all files are deleted, sessions are LOST within a heartbeat, and rejoin their groups in new ones.

    The next token is higher than that of the term that went with the files.
    """
    session = arena.connect("a")
    session.group("g").join({"n": 1})
    term, before = session.election("e").campaign(), session.incarnation
    _remove_all(file_of(arena))
    arena.eventually(lambda: not term.held, within=arena.ttl * 0.75)
    arena.eventually(lambda: session.incarnation != before and session.state is State.CONNECTED, within=5 * arena.ttl)
    arena.eventually(lambda: "a" in session.group("g").members(), within=5 * arena.ttl)
    assert session.election("e").campaign(timeout=5 * arena.ttl).token > term.token


@guarantee("LOCAL-3", tier="faults", scheme="local", needs=Needs.PROCESSES)
def a_file_that_is_not_ours_is_left_as_it_is(arena: Arena) -> None:
    """A file of another program, one that was cut off, and one of a newer format are errors that name the file.

    It stays byte for byte the same.
    """
    path = file_of(arena)
    spoilings: dict[str, Callable[[], object]] = {
        "another program's words": lambda: path.write_text("name,value\n" * 1000),
        "another program's tables": lambda: _tell(path, "CREATE TABLE theirs (x)"),
        "cut off": lambda: _cut_off(arena, path),
        "of a newer format": lambda: _tell(path, f"PRAGMA user_version = {_make(arena) + 1}"),
    }
    for how, spoil in spoilings.items():
        _remove_all(path)
        spoil()
        found = path.read_bytes()
        with pytest.raises(BadData) as failure:
            arena.actor("b")
        assert str(path) == failure.value.key, how
        assert found == path.read_bytes(), how


@guarantee("LOCAL-4", tier="faults", scheme="local", needs=Needs.PROCESSES)
def a_place_that_cannot_be_written_is_refused(arena: Arena) -> None:
    """Where no file can be made, or the path is a folder, connecting is a ConfigurationError that names the place."""
    folder = file_of(arena).parent
    for place in (_NOWHERE, str(folder)):
        with pytest.raises(ConfigurationError) as failure:
            arena.run(lambda place=place: arena.connect(url=f"local://{place}"), within=5 * arena.ttl)  # type: ignore[misc]
        assert place in str(failure.value)
    assert list(folder.iterdir()) == []


@guarantee("LOCAL-5", tier="faults", scheme="local", needs=Needs.PROCESSES)
def a_killed_process_is_noticed_at_once(arena: Arena) -> None:
    """When a process is killed, a waiting candidate wins its seat and its groups are rid of it long before its TTL."""
    leader = Member.start(arena, "leader", ttl=_LONG)
    leader.ask("join", "g")
    token = leader.win("e")
    successor = arena.connect("successor", lease_ttl=_LONG)
    waiting = arena.background(lambda: successor.election("e").campaign())
    arena.eventually(lambda: successor.group("g").members().ids == ("leader",), within=_AT_ONCE)
    leader.kill()
    assert waiting.result(within=_AT_ONCE).token > token
    assert successor.group("g").members().ids == ()


@guarantee("LOCAL-6", tier="faults", scheme="local", needs=Needs.PROCESSES)
def whoever_opens_the_files_ends_no_session(arena: Arena) -> None:
    """Opening and closing the store's files, in a session's own process or in a child of it, ends no session."""
    path = file_of(arena)
    session = arena.connect("a", lease_ttl=_LONG)
    session.group("g").join()
    term = session.election("e").campaign()
    onlooker = Member.start(arena, "onlooker", ttl=_LONG)
    os.close(os.open(locks_of(path), os.O_RDWR))
    subprocess.run([sys.executable, "-c", _LOOK, str(locks_of(path)), str(path)], check=True, close_fds=False)
    assert onlooker.ask("members", "g") == ["a"]
    session.beat()
    assert term.held
    assert session.state is State.CONNECTED


@guarantee("LOCAL-7", tier="faults", scheme="local", needs=Needs.PROCESSES)
def a_row_that_an_operator_deletes_is_lost_within_a_heartbeat(arena: Arena) -> None:
    """A seat, a membership or a session that is deleted in the file is told by the next heartbeat; the rest is kept.

    The seat's next token is higher.
    """
    path, actor = file_of(arena), lasting_actor(arena, "a")
    kept, seat = actor.win("kept"), actor.win("e")
    actor.join("g")
    (place,) = actor.holdings().memberships
    _tell(path, "DELETE FROM seats WHERE place LIKE '%/e'", "DELETE FROM members")
    assert set(actor.beat().lost) == {seat, place}
    del actor.seats["e"], actor.places["g"]
    assert actor.beat().lost == ()
    assert actor.proclaim(kept, b"v")
    assert actor.win("e").token > seat.token
    _tell(path, "DELETE FROM sessions")
    with pytest.raises(SessionLost):
        actor.beat()


@guarantee("LOCAL-8", tier="faults", scheme="local", needs=Needs.PROCESSES)
def sessions_of_another_boot_are_over(arena: Arena) -> None:
    """What a session held before the host restarted is free, though its deadline, by a clock that began anew, is ahead.

    The next token is higher than that of before.
    """
    before, after = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    before.join("g")
    seat = before.win("e")
    _tell(file_of(arena), "UPDATE sessions SET boot = 'an earlier one' WHERE member_id = 'a'")
    assert after.members("g") == {}
    assert after.win("e").token > seat.token
    with pytest.raises(SessionLost):
        before.beat()


def _make(arena: Arena) -> int:
    """Make the file, closed by all; return the number of its format."""
    actor = arena.actor("a")
    actor.close()
    actor.backend.drop_session(actor.lease)
    with closing(sqlite3.connect(file_of(arena))) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _cut_off(arena: Arena, path: Path) -> None:
    _make(arena)
    os.truncate(path, path.stat().st_size // 2)


def _tell(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        for statement in statements:
            connection.execute(statement)
