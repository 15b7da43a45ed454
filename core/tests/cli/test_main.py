"""What holds for every command: the extra, the help, errors in one line, and what is loaded."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli.running import PATIENCE

import drumbeat
from drumbeat.cli._app import COMMANDS, EPILOG
from drumbeat.cli._report import exit_status

if TYPE_CHECKING:
    from cli.running import Desk

#: Runs the command line where a module cannot be imported.
WITHOUT = "import sys; sys.modules[sys.argv.pop(1)] = None; from drumbeat.cli import main; main()"


@pytest.mark.parametrize("missing", ["typer", "pluggy"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    """Without typer one line names the extra and the status is 2; any other module that is missing is not hidden."""
    asked = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, "members", "g"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if missing == "typer":
        assert asked.returncode == 2
        assert asked.stderr.count("\n") == 1
        assert "python3 -m pip install 'drumbeat[cli]'" in asked.stderr
    else:
        assert asked.returncode == 1
        assert "drumbeat[cli]" not in asked.stderr


def test_the_console_script_is_the_same_program() -> None:
    """`drumbeat` on PATH answers as `python3 -m drumbeat.cli` does."""
    script = Path(sys.executable).parent / "drumbeat"
    answers = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
        for command in ([str(script)], [sys.executable, "-m", "drumbeat.cli"])
    ]
    assert answers[0] == answers[1]
    assert answers[0].startswith("drumbeat ")


def test_help_lists_every_command_and_loads_none(desk: Desk) -> None:
    """`drumbeat --help` shows what there is without loading a database, a client library, or a command."""
    code = "import sys; from drumbeat.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    asked = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert all(f"  {name} " in asked.stdout and summary in asked.stdout for name, (_, summary) in COMMANDS.items())
    loaded = set(asked.stderr.split())
    assert loaded.isdisjoint({"sqlite3", "psutil", "rich", "redis", "kazoo", "pymemcache", "pyetcd"})
    assert loaded.isdisjoint(target.partition(":")[0] for target, _ in COMMANDS.values())


def test_no_arguments_show_the_help(desk: Desk) -> None:
    """Without a command the help is printed."""
    asked, plain = desk.start("--help"), desk.start()
    assert plain.status() == 0
    assert asked.status() == 0
    assert plain.out == asked.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_and_json(desk: Desk, command: str) -> None:
    """Each command explains itself, and has --json."""
    asked = desk.start(command, "--help")
    assert asked.status() == 0
    assert any(line.strip().startswith("--json ") for line in asked.out)


def test_completion_knows_the_options_of_a_command(desk: Desk) -> None:
    """For the shell's completion every command is loaded."""
    asked = desk.start(
        _DRUMBEAT_COMPLETE="complete_bash",
        COMP_WORDS="drumbeat lead --st",
        COMP_CWORD="2",
    )
    assert asked.status() == 0
    assert asked.out == ["--stop-timeout\n"]


def test_an_unknown_command_names_the_nearest(desk: Desk) -> None:
    """A slip in a command's name is told with what was meant."""
    asked = desk.start("member")
    assert asked.status() == 2
    assert "'members'" in asked.err[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["members", "g", "--url", "nonesuch://host"], 2, "no backend for nonesuch:// is installed"),
        (["members", "g", "--url", "lokal://"], 2, "did you mean 'local'?"),
        (["members", "g", "--url", "nonsense"], 2, "not a backend URL"),
        (["members", "g", "--url", ""], 2, "--url is empty"),
        (["members", "g", "--url", "local://?tll=3"], 2, "no option 'tll'"),
        (["members", ""], 2, "group is empty"),
        (["members", "g" * 101], 2, "at most 100"),
        (["leader", "a\tb"], 2, "U+0009"),
        (["doctor", "--ttl", "0.01"], 2, "0.01"),
        (["doctor", "--ttl", "-1"], 2, "above 0"),
        (["doctor", "--ttl", "nan"], 2, "above 0"),
        (["groups", "--url", "local:///dev/null/store.db"], 2, "/dev/null"),
        (["groups", "--namespace", "a", "--url", "local://?namespace=b"], 2, "disagree"),
        (["lead", "e", "--ttl", "1", "--stop-timeout", "0.3", "--", "true"], 2, "at most 0.199 s"),
        (["lead", "e", "--ttl", "0.3", "--", "true"], 2, "Raise --ttl"),
        (["lock", "", "--", "true"], 2, "lock is empty"),
        (["lock", "l", "--", "no-such-command"], 127, "no-such-command: command not found"),
        (["lock", "l", "--", "/etc/passwd"], 126, "/etc/passwd: not an executable file"),
    ],
)
def test_bad_input_is_one_line(desk: Desk, arguments: list[str], status: int, text: str) -> None:
    """What can never work is refused with one line that says why, and with a documented status; never a traceback."""
    asked = desk.start(*arguments)
    assert asked.status() == status
    assert len(asked.err) == 1
    assert asked.err[0].startswith("drumbeat: ")
    assert text in asked.err[0]
    assert asked.out == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["lead", "e"],
        ["lock", "l", "--"],
        ["lead"],
        ["members"],
        ["members", "g", "--unknown"],
        ["doctor", "--ttl", "soon"],
        ["lock", "l", "--timeout", "-1", "--", "true"],
    ],
)
def test_wrong_usage_gives_2(desk: Desk, arguments: list[str]) -> None:
    """A missing command, an unknown option and a number that is none are refused before anything is done."""
    asked = desk.start(*arguments)
    assert asked.status() == 2
    assert asked.out == []
    assert asked.err != []
    assert not desk.store.exists()


def test_an_error_as_json(desk: Desk) -> None:
    """With --json an error is one object on standard error, and standard output stays empty."""
    asked = desk.start("members", "", "--json")
    assert asked.status() == 2
    (error,) = asked.events("error")
    assert error.keys() == {"drumbeat", "error", "message", "exit_status"}
    assert (error["error"], error["exit_status"]) == ("ConfigurationError", 2)
    assert asked.out == []


def test_a_server_that_does_not_answer_gives_69(desk: Desk) -> None:
    """A store that cannot be used now is told apart from a mistake in the command."""
    assert exit_status(drumbeat.Unavailable("no answer")) == 69
    statuses = {int(line.split()[0]) for line in EPILOG.splitlines() if line.split() and line.split()[0].isdigit()}
    assert statuses >= {exit_status(error) for error in every_error()}


def every_error() -> list[drumbeat.DrumbeatError]:
    """Return one error of each kind that a command may end with."""
    return [
        drumbeat.ConfigurationError(),
        drumbeat.NotSupported(),
        drumbeat.BackendError(),
        drumbeat.Unavailable(""),
        drumbeat.AuthenticationError(),
        drumbeat.BadData("key", "problem"),
        drumbeat.Conflict("id", incarnation="other"),
        drumbeat.SessionLost(),
        drumbeat.TermLost(),
        drumbeat.Timeout(),
        drumbeat.Closed(),
    ]


def test_a_file_that_is_no_store_is_told(desk: Desk) -> None:
    """A file of another program is refused by name, with a documented status, and stays as it is."""
    desk.store.write_text("the diary of a stranger, which is longer than the header of any database is " * 20)
    before = desk.store.read_text()
    asked = desk.start("groups")
    assert asked.status() in {2, 65}
    assert len(asked.err) == 1
    assert str(desk.store) in asked.err[0]
    assert desk.store.read_text() == before


def test_a_command_that_the_system_refuses_gives_126(desk: Desk, tmp_path: Path) -> None:
    """A file that is executable but no program is reported as a shell does, and the lock is free again."""
    program = tmp_path / "program"
    program.write_bytes(b"\x00\x01")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    asked = desk.lock("l", [str(program)])
    assert asked.status() == 126
    assert desk.lock("l", ["true"], "--timeout", "0").status() == 0


def test_a_missing_command_is_told_before_the_wait(desk: Desk) -> None:
    """A slip shows at once, even if somebody else leads for another year."""
    holder = desk.lead("e", ["sleep", "60"])
    holder.wait_for_event("started")
    assert desk.lead("e", ["no-such-command"]).status() == 127


@pytest.mark.parametrize("command", [["members", "g"], ["doctor"], ["lock", "l", "--", "true"]])
def test_a_password_is_never_printed(desk: Desk, command: list[str]) -> None:
    """Whatever is wrong with a URL, its password is not in what is printed."""
    urls = ["nonesuch://user:s3cret@host/0", "local://user:s3cret@host/store", "local://u:s3cret@h:x/", "u:s3cret@h"]
    for asked in [desk.start(*command, DRUMBEAT_URL=url) for url in urls]:
        assert asked.status() == 2
        assert len(asked.err) == 1
        assert "s3cret" not in "".join([*asked.out, *asked.err])


@pytest.mark.parametrize("as_json", [False, True])
def test_the_local_default_is_told_once(desk: Desk, tmp_path: Path, *, as_json: bool) -> None:
    """Without a URL one line says that only this host is coordinated, and through which file."""
    arguments = ["groups", *(["--json"] if as_json else [])]
    asked = desk.start(*arguments, DRUMBEAT_URL="", XDG_STATE_HOME=str(tmp_path))
    assert asked.status() == 0
    assert len(asked.err) == 1
    assert asked.err[0].startswith('{"drumbeat": "warning", ' if as_json else "drumbeat: warning: ")
    assert f"{tmp_path}/drumbeat/local.db" in asked.err[0]


def test_closed_streams_are_no_error(desk: Desk) -> None:
    """Where a standard stream was closed by whoever started it, the rest works."""
    prefix = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh"]
    assert desk.start("groups", prefix=prefix).status() == 0
    assert desk.start("members", "", prefix=prefix).status() == 2
    assert desk.start("lock", "l", "--", "sh", "-c", "exit 7", prefix=prefix).status() == 7


def test_the_local_default_can_be_forbidden(desk: Desk, tmp_path: Path) -> None:
    """With DRUMBEAT_REQUIRE_URL the missing URL is an error."""
    asked = desk.start("groups", DRUMBEAT_URL="", DRUMBEAT_REQUIRE_URL="1", XDG_STATE_HOME=str(tmp_path))
    assert asked.status() == 2
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_terminal_lacks_is_escaped(desk: Desk) -> None:
    """A name with characters that the output's encoding lacks is printed escaped, rather than ending in an error."""
    with drumbeat.connect(desk.url, member_id="ägent", lease_ttl=10.0) as session:
        session.group("g").join()
        asked = desk.start("members", "g", PYTHONIOENCODING="ascii")
        assert asked.status() == 0
    assert asked.out[0].startswith("\\xe4gent  ")
