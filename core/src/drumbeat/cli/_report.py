"""What a command says of itself on standard error, and the exit status that goes with each error."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

import typer

from drumbeat import (
    AuthenticationError,
    BackendError,
    BadData,
    ConfigurationError,
    Conflict,
    DrumbeatError,
    DrumbeatWarning,
    NotSupported,
    SessionLost,
    TermLost,
    Timeout,
    Unavailable,
)

if TYPE_CHECKING:
    from types import FrameType

NO: Final = 1
#: As sysexits.h calls it EX_TEMPFAIL: the same command may well succeed later.
TRY_LATER: Final = 75
CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127
#: A process that was ended by signal N counts as having exited with this plus N, as in a shell.
BY_SIGNAL: Final = 128

#: The first row that an error belongs to decides; `_app.EPILOG` tells users the same.
_STATUS: Final[tuple[tuple[type[DrumbeatError], int], ...]] = (
    (ConfigurationError, 2),
    (NotSupported, 2),
    (BadData, 65),
    (Unavailable, 69),
    (AuthenticationError, 77),
    (BackendError, 70),
    (Timeout, 124),
    (Conflict, TRY_LATER),
    (SessionLost, TRY_LATER),
    (TermLost, TRY_LATER),
)


class CannotRun(DrumbeatError):
    """The command to be run was not found, or the system refuses to execute it; it did not run."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


def exit_status(error: DrumbeatError) -> int:
    """Return the status with which a command ends that raised `error`."""
    if isinstance(error, CannotRun):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 70)


def as_line(kind: str, text: str, *, as_json: bool, **facts: object) -> str:
    """Return one line for standard error: for people, or a JSON object whose first key is `drumbeat`."""
    if as_json:
        return json.dumps({"drumbeat": kind, **facts})
    return f"drumbeat: {' '.join(text.split())}"


def answer(document: object) -> None:
    """Print a machine-readable answer as one line, at once."""
    print_lines([json.dumps(document)])


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output, at once."""
    _write(sys.stdout, lines)


def _write(stream: TextIO | None, lines: Iterable[str]) -> None:
    # A stream that was closed before this program started is None.
    if stream is not None:
        stream.writelines(f"{line}\n" for line in lines)
        stream.flush()


def in_columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines whose columns are aligned; the last one may be as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]


def reported(function: Callable[..., int | None]) -> Callable[..., NoReturn]:
    """Return a command that exits with the status of `function`, and tells its errors in one line each."""

    @functools.wraps(function)
    def command(*arguments: object, **options: object) -> NoReturn:
        as_json = bool(options.get("as_json"))
        _tell_warnings_plainly(as_json=as_json)
        _end_by_signal()
        _write_any_character()
        try:
            status = function(*arguments, **options) or 0
        except DrumbeatError as error:
            status = exit_status(error)
            facts = {"error": type(error).__name__, "message": str(error), "exit_status": status}
            _write(sys.stderr, [as_line("error", str(error), as_json=as_json, **facts)])
        except KeyboardInterrupt:
            status = BY_SIGNAL + signal.SIGINT
        except BrokenPipeError:
            # What reads our output has gone; nothing more can be said, not even by the interpreter as it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = BY_SIGNAL + signal.SIGPIPE
        raise typer.Exit(status)

    return command


def _tell_warnings_plainly(*, as_json: bool) -> None:
    show_others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: object) -> None:
        if issubclass(category, DrumbeatWarning):
            line = as_line("warning", f"warning: {message}", as_json=as_json, message=str(message))
            _write(sys.stderr, [line])
        else:
            show_others(message, category, *where)  # type: ignore[arg-type]

    warnings.showwarning = show  # type: ignore[assignment]
    warnings.simplefilter("always", DrumbeatWarning)


def _end_by_signal() -> None:
    """Have SIGTERM and SIGHUP end the command as Ctrl-C does, by way of every `with` block; unless ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(BY_SIGNAL + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _write_any_character() -> None:
    """Escape what the terminal's encoding lacks, rather than fail over a name."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
