"""Files that cannot be used, are used by others, or vanish: an error that says so, and nothing overwritten."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from local.actors import LONG, TIMEOUT, Actor, Process, Refused, backend_for
from support import eventually

from drumbeat import BadData, ConfigurationError, SessionLost, Unavailable
from drumbeat.hookspecs import Waiting
from drumbeat.local import _kernel, _sql, _translate

MakeActor = Callable[..., Actor]
MakeProcess = Callable[..., Process]


def test_the_files_are_their_owners_alone(actor: MakeActor, path: Path) -> None:
    """The database and what stands beside it are made readable and writable for their owner alone."""
    actor("a")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["test.db", "test.db-wal", "test.db-shm", "test.db.locks"], 0o600)


def test_an_empty_file_is_made_into_a_store(path: Path) -> None:
    """An empty file, as `touch` or tempfile makes it, is filled."""
    path.touch()
    one = Actor(path)
    one.open("a")
    assert one.beat() == []
    one.drop()


def _text(path: Path) -> None:
    path.write_text("name,value\n" * 1000)


def _short(path: Path) -> None:
    path.write_bytes(b"\0")


def _foreign(path: Path) -> None:
    _write(path, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")


def _foreign_with_id(path: Path) -> None:
    _write(path, "PRAGMA application_id = 1", "CREATE TABLE theirs (x)")


def _foreign_without_tables(path: Path) -> None:
    _write(path, "PRAGMA user_version = 5")


def _foreign_in_wal_mode(path: Path) -> None:
    # Cut off, so that a log with content is left, which a careless reader would write into the file.
    program = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE theirs (x)'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.with_name("test.db-wal").stat().st_size > 0


def _newer(path: Path) -> None:
    _made(path)
    _write(path, "PRAGMA user_version = 2")


def _older(path: Path) -> None:
    _made(path)
    _write(path, "PRAGMA user_version = 0")


def _without_a_table(path: Path) -> None:
    _made(path)
    _write(path, "DROP TABLE births")


def _truncated(path: Path) -> None:
    _made(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _overwritten(path: Path) -> None:
    _made(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(path.stat().st_size - 100))


BAD = {
    _text: "file is not a database",
    _short: "belongs to another program",
    _foreign: "belongs to another program",
    _foreign_with_id: "belongs to another program",
    _foreign_without_tables: "belongs to another program",
    _foreign_in_wal_mode: "belongs to another program",
    _newer: "has format 2, this version reads format 1; a newer Drumbeat wrote it",
    _older: "has format 0, this version reads format 1. Nothing was overwritten",
    _without_a_table: "no such table: births",
    _truncated: "malformed",
    _overwritten: "malformed",
}


@pytest.mark.parametrize(("spoil", "problem"), BAD.items(), ids=[make.__name__[1:] for make in BAD])
def test_a_file_that_is_not_ours_is_left_as_it_is(path: Path, spoil: Callable[[Path], None], problem: str) -> None:
    """What Drumbeat did not write, or cannot read, is an error naming the file, which stays byte for byte the same."""
    spoil(path)
    before = _contents(path)
    with pytest.raises(BadData, match=problem) as caught:
        Actor(path).open("a")
    assert caught.value.key == str(path)
    assert "Nothing was overwritten" in str(caught.value)
    assert _contents(path) == before


def test_a_file_that_is_spoilt_under_a_session_is_an_error_that_says_so(actor: MakeActor, path: Path) -> None:
    """Damage that comes later is BadData too, from the next call that meets it."""
    one = actor("a")
    _write(path, "DROP TABLE members")
    with pytest.raises(BadData, match="is damaged, or not a Drumbeat file"):
        one.join("g")


def test_a_making_that_was_cut_off_is_done_again(path: Path) -> None:
    """If a process dies while it makes the file, what it left is undone and made anew."""
    elsewhere = path.with_name("elsewhere.db")
    making = sqlite3.connect(elsewhere, isolation_level=None)
    # A tiny cache makes SQLite write before the commit, so that the journal is there to be copied.
    making.executescript("PRAGMA cache_size = 1;" + _sql.SCHEMA.replace("COMMIT;", ""))
    path.with_name("test.db-journal").write_bytes(elsewhere.with_name("elsewhere.db-journal").read_bytes())
    making.execute("COMMIT")
    making.close()
    path.write_bytes(elsewhere.read_bytes())
    one = Actor(path)
    with pytest.raises(Unavailable, match="its making was cut off and has been undone") as caught:
        one.open("a")
    assert caught.value.outcome == "not_applied"
    one.open("a")
    assert one.beat() == []
    one.drop()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.chmod(0o000), "may not read and write .*/test.db"),
        (lambda path: path.chmod(0o444), "may not read and write .*/test.db"),
        (lambda path: path.parent.chmod(0o555), "may not make files in"),
        (lambda path: path.parent.chmod(0o000), "cannot be used"),
        (lambda path: path.with_name("test.db.locks").chmod(0o000), "Permission denied .*test.db.locks"),
    ],
    ids=["unreadable", "read-only", "read-only folder", "closed folder", "closed locks"],
)
def test_what_permissions_forbid_is_an_error_that_names_it(
    path: Path, process: MakeProcess, spoil: Callable[[Path], None], problem: str
) -> None:
    """A file or folder that may not be read or written is a ConfigurationError; afterwards it works again."""
    _made(path)
    path.parent.chmod(0o777)
    for file in path.parent.iterdir():
        file.chmod(0o666)
    one = process()
    before = _contents(path)
    spoil(path)
    one.ask("lower_rights")
    with pytest.raises(Refused, match=problem) as caught:
        one.ask("open", member_id="a")
    assert caught.value.kind == "ConfigurationError"
    path.parent.chmod(0o755)
    path.chmod(0o600)
    assert _contents(path) == before


def test_a_new_file_in_a_folder_that_may_not_be_written_is_an_error(path: Path, process: MakeProcess) -> None:
    """A file that cannot be made is a ConfigurationError that names the reason."""
    one = process()
    path.parent.chmod(0o555)
    one.ask("lower_rights")
    with pytest.raises(Refused, match=r"ConfigurationError: .*Permission denied .*Nothing was written"):
        one.ask("open", member_id="a")


def test_a_folder_that_is_missing_or_is_no_folder_is_an_error(path: Path) -> None:
    """A path that can never work is a ConfigurationError; no folder is made for it."""
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        Actor(path / "missing" / "x.db").open("a")
    path.mkdir()
    with pytest.raises(ConfigurationError, match="is a folder or a special file"):
        Actor(path).open("a")
    assert list(path.iterdir()) == []


def test_a_read_only_file_system_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When SQLite may not write because of the mount, the error says so."""
    _made(path)
    status = os.statvfs(path.parent)
    read_only = os.statvfs_result((*status[:8], status.f_flag | os.ST_RDONLY, status.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert _translate.why_refused(path) == f"the file system of {path.parent} is mounted read-only"


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "lustre", "glusterfs", "afs"]
)
def test_network_file_systems_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Where locks do not tell who is alive, opening is refused with the reason, and nothing is made."""
    mounts = path.with_name("mounts")
    folder = str(path.parent).replace("-", "\\055")
    mounts.write_text(
        f"21 1 0:39 / / rw,relatime - ext4 /dev/vda rw\n"
        f"30 21 0:39 / {folder} rw,relatime shared:1 - ext4 /dev/vda rw\n"
        f"31 21 0:40 / {folder} rw,relatime shared:1 master:2 - {kind} server:/export rw\n"
        f"32 21 0:41 / {folder}-other rw,relatime - tmpfs tmpfs rw\n"
    )
    monkeypatch.setattr(_kernel, "MOUNTS", mounts)
    with pytest.raises(ConfigurationError, match=rf"is on a network file system \({kind}\)"):
        Actor(path).open("a")
    assert list(path.parent.iterdir()) == [mounts]


def test_the_file_system_of_a_path_is_that_of_the_mount_that_it_is_on(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """The innermost mount counts, the later of two, and of several that with the device; the rest is unknown."""
    mounts = path.with_name("mounts")
    monkeypatch.setattr(_kernel, "MOUNTS", mounts)
    folder = path.parent
    device = folder.stat().st_dev

    def found(*lines: str) -> str:
        mounts.write_text("".join(f"1 0 {line} rw\n" for line in lines))
        return _kernel.file_system(path)

    root, inner = "0:1 / / rw - ext4 x", f"0:2 / {folder} rw - tmpfs x"
    assert found(root) == "ext4"
    assert found(root, inner) == found(inner, root) == "tmpfs"
    assert found(root, inner, f"0:3 / {folder} rw - xfs x") == "xfs"
    assert found(root, f"0:2 / {folder}-other rw - tmpfs x", f"0:3 / {folder}/test rw - xfs x") == "ext4"
    assert found(inner, f"{os.major(device)}:{os.minor(device)} / / rw - btrfs x") == "btrfs"
    mounts.unlink()
    assert _kernel.file_system(path) == "unknown"


def test_a_disk_that_is_full_from_the_start_is_an_error_and_leaves_nothing_half_made(
    path: Path, process: MakeProcess
) -> None:
    """Without room to make the file the error says so; with room again the same process makes it."""
    one = process()
    one.ask("limit", what="RLIMIT_FSIZE", value=1000)
    with pytest.raises(Refused, match=r"Unavailable: .*(limits on the size of files|no room to write)"):
        one.ask("open", member_id="a")
    one.ask("limit", what="RLIMIT_FSIZE", value=-1)
    one.ask("open", member_id="a")
    assert one.ask("beat") == []


def test_a_disk_that_gets_full_keeps_what_there_was(path: Path, process: MakeProcess) -> None:
    """A write without room is Unavailable and changes nothing; later calls work once there is room."""
    one, other = process("a"), process("b")
    one.ask("join", group="g", value="small")
    one.ask("limit", what="RLIMIT_FSIZE", value=path.with_name("test.db-wal").stat().st_size)
    with pytest.raises(Refused, match=r"Unavailable: .*Look at the disk"):
        one.ask("join", group="h", value="x" * 60_000)
    assert other.ask("members", group="h") == []
    one.ask("limit", what="RLIMIT_FSIZE", value=-1)
    assert one.ask("join", group="h", value="x" * 60_000) is False
    assert other.ask("members", group="g") == ["a"]
    assert other.ask("members", group="h") == ["a"]


def test_sqlites_own_word_for_a_full_disk_is_understood(actor: MakeActor) -> None:
    """SQLITE_FULL is Unavailable, certainly not applied, and says what to do."""
    one = actor("a")
    connection = one.opened.store.work._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match=r"there is no room to write .* Free some space") as caught:
        one.join("g", value="x" * 100_000)
    assert caught.value.outcome == "not_applied"


def test_too_many_open_files_are_an_error_that_names_the_limit(path: Path, process: MakeProcess) -> None:
    """Without descriptors left, the error names the limit; a running session stays as it is."""
    one = process("a")
    one.ask("limit", what="RLIMIT_NOFILE", value=3)
    with pytest.raises(Refused, match=r"Unavailable: .*RLIMIT_NOFILE, is 3"):
        one.ask("open", member_id="b")
    one.ask("limit", what="RLIMIT_NOFILE", value=-1)
    assert one.ask("beat") == []


def test_a_file_deleted_under_a_session_is_noticed_and_the_next_session_uses_the_new_one(
    actor: MakeActor, path: Path
) -> None:
    """The next heartbeat says SessionLost; reopening makes a new file and works there."""
    one = actor("a")
    one.join("g")
    token = one.campaign("e")
    lost = one.lease
    for file in path.parent.iterdir():
        file.unlink()
    for call in (one.beat, lambda: one.join("h"), lambda: one.campaign("e"), one.close):
        with pytest.raises(SessionLost, match="was deleted or replaced under the session"):
            call()
    one.open("a", supersedes=lost.incarnation)
    one.backend.drop_session(lost)
    assert one.beat() == []
    assert one.members("g") == []
    assert one.campaign("e") > token


@pytest.mark.parametrize("name", ["test.db", "test.db.locks"])
def test_a_single_file_deleted_is_noticed_and_harms_no_one(
    actor: MakeActor, process: MakeProcess, path: Path, name: str
) -> None:
    """If only the database or only the lock file is deleted, sessions from before are over and the rest is sound."""
    one, other = actor("a"), process("c")
    one.join("g")
    other.ask("join", group="g")
    path.with_name(name).unlink()
    late = process("d")
    late.ask("join", group="g")
    two = actor("b")
    two.join("g")
    with pytest.raises(SessionLost, match="deleted or replaced"):
        one.beat()
    with pytest.raises(Refused, match=r"SessionLost: .*deleted or replaced"):
        other.ask("beat")
    assert late.ask("beat") == []
    assert two.beat() == []
    assert {"b", "d"} <= set(two.members("g"))
    other.ask("drop")
    one.drop()
    for number in range(100):
        two.join(f"g{number}", value="x" * 5000)
    findings = two.backend.diagnose(timeout=TIMEOUT)
    assert findings[-1].message == "SQLite's check of the file says: ok"


def test_a_new_file_gives_no_seat_while_those_of_the_old_one_may_hold_it(actor: MakeActor, path: Path) -> None:
    """While a process still has the deleted file's session open, a new file grants nothing; then it does."""
    one = actor("a")
    one.campaign("e")
    path.unlink()
    two = actor("b")
    answer = two.backend.campaign(two.lease, "e", attempt=1, value=b"", timeout=TIMEOUT)
    assert isinstance(answer, Waiting)
    assert answer.retry_after is not None
    with pytest.raises(SessionLost):
        one.beat()
    one.drop()
    assert two.campaign("e") > 0


@pytest.mark.parametrize(("on_empty_store", "wins"), [("wait", False), ("trust", True), (None, True)])
def test_an_empty_store_is_waited_for_only_if_asked(path: Path, on_empty_store: str | None, wins: bool) -> None:
    """A new file grants at once, except to a namespace that was told to wait out the longest TTL."""
    one = Actor(path, on_empty_store=on_empty_store)  # type: ignore[arg-type]
    one.open("a")
    assert bool(one.campaign("e")) is wins
    answer = one.backend.campaign(one.lease, "f", attempt=2, value=b"", timeout=TIMEOUT)
    if isinstance(answer, Waiting):
        assert answer.retry_after is not None
        assert 3590.0 < answer.retry_after <= 3600.0
    one.drop()


def test_the_file_that_a_link_leads_to_is_the_one_that_is_locked(actor: MakeActor, path: Path) -> None:
    """Sessions that reach one file by different names see each other."""
    one = actor("a")
    link = path.with_name("link.db")
    link.symlink_to(path)
    two = Actor(link)
    two.open("b")
    two.join("g")
    assert one.members("g") == ["b"]
    two.drop()
    assert one.members("g") == []
    assert not path.with_name("link.db.locks").exists()


def test_many_processes_make_the_file_together(path: Path, process: MakeProcess) -> None:
    """However many processes start at once on no file, one makes it and all are in it."""
    processes = [process() for _ in range(8)]
    for number, one in enumerate(processes):
        one.tell("open", member_id=str(number), ttl=LONG)
    assert len({one.answer() for one in processes}) == 8
    for one in processes:
        one.ask("join", group="g")
    assert processes[0].ask("members", group="g") == sorted(map(str, range(8)))


def test_a_process_that_stands_still_while_making_the_file_delays_others_no_longer_than_they_allow(path: Path) -> None:
    """Whoever waits for another to make the file says in time that it did nothing."""
    making = _kernel.LockFile(path.with_name("test.db.locks"), mode=0o600)
    assert making.take(0)
    backend = backend_for(path)
    from drumbeat.hookspecs import SessionRequest

    with pytest.raises(Unavailable, match="another process is making the file") as caught:
        backend.open_session(SessionRequest(incarnation="i", member_id="a", ttl=LONG), timeout=0.1)
    assert caught.value.outcome == "not_applied"
    assert not path.exists()
    making.close()


def test_200_sessions_of_a_process_share_the_file(path: Path, process: MakeProcess) -> None:
    """A session takes two descriptors, lock and socket; what SQLite needs is there once; all are closed in the end."""
    one = process("a")
    before = one.number("open_many", count=1)
    one.ask("close_many")
    with_200 = one.number("open_many", count=200)
    assert with_200 - before == 2 * 199
    one.tell("close_many")
    one.answer()
    one.ask("drop")
    eventually(lambda: len(list(Path(f"/proc/{one.pid}/fd").iterdir())) <= 6, within=5.0)


def _made(path: Path) -> None:
    one = Actor(path)
    one.open("before")
    one.close()
    one.drop()


def _write(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def _contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".locks"}
