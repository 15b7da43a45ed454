"""The table of commands, each loaded only when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Final

import typer

from drumbeat.cli import _options as options
from drumbeat.cli._report import reported

#: What a command is: a function whose parameters are typer's; it returns its exit status, None being 0.
Command = Callable[..., int | None]

#: Name: where its function is, and the line that `drumbeat --help` shows without loading it.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("drumbeat.cli.demo:demo", "Show a group at work while its leaders are killed and frozen."),
    "members": ("drumbeat.cli._read:members", "Print who is in a group."),
    "leader": ("drumbeat.cli._read:leader", "Print who leads an election."),
    "watch": ("drumbeat.cli._read:watch", "Print each change of a group or election, until interrupted."),
    "groups": ("drumbeat.cli._read:groups", "Print the groups that have members."),
    "lead": ("drumbeat.cli._hold:lead", "Run a command only while this process leads an election."),
    "lock": ("drumbeat.cli._hold:lock", "Run a command while this process holds a lock."),
    "backends": ("drumbeat.cli._backends:backends", "List the installed backends and what each one claims."),
    "doctor": ("drumbeat.cli._doctor:doctor", "Connect to a backend and report on its server."),
    "new-backend": ("drumbeat.cli._new_backend:new_backend", "Write a package for a backend of your own."),
}

HELP: Final = """Keep a group of processes in step: who is in the group, who is alive, who leads.

The backend is --url, else DRUMBEAT_URL, else a file of this host. With --json the answer is one JSON object on
standard output (JSON lines for watch), and what else is said comes as JSON lines on standard error.
"""

EPILOG: Final = """\b
Exit status, beside that of the command that lead and lock run:
  0    done
  1    no: nobody leads, doctor found an error, or demo a broken promise
  2    asked for something that can never work as written
  65   the store holds something that this version cannot read
  69   no usable answer from the server
  70   the backend or its server did something outside the contract
  75   the term was lost and the command stopped, or the member id is taken
  77   the server refused the credentials
  124  lock --timeout ran out
  126  the command cannot be executed
  127  the command was not found
  128+N  ended by signal N: the command, or the wait for its turn
"""


def run(arguments: Sequence[str]) -> None:
    """Run one command line, and exit with its status."""
    build(arguments)(args=list(arguments), prog_name="drumbeat")


def build(arguments: Sequence[str]) -> typer.Typer:
    """Return the application, in which the command that `arguments` name is loaded and the others are known by name."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(help=HELP, epilog=EPILOG, invoke_without_command=True)(_options_of_all)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    completing = "_DRUMBEAT_COMPLETE" in os.environ
    for name, (target, summary) in COMMANDS.items():
        function = _load(target) if completing or name == wanted else _unused
        app.command(name, short_help=summary)(reported(function))
    return app


def _load(target: str) -> Command:
    module, _, name = target.partition(":")
    function: Command = getattr(import_module(module), name)
    return function


def _unused() -> None:
    """Stand for a command that this run does not use."""


def _options_of_all(
    context: typer.Context, *, version: bool = options.flag("--version", meaning="Print the version and exit.")
) -> None:
    """Take the options that stand before the command."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"drumbeat {version_of('drumbeat')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    else:
        return
    raise typer.Exit
