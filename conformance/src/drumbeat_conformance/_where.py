"""Where a guarantee broke: the statement that failed, in a text without paths of this machine."""

from __future__ import annotations

import os
import sys
import tokenize
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Final

__all__ = ["portable", "stack_of", "statement_at", "statement_of"]

#: Characters of a statement that are shown.
_SHOWN: Final = 300
#: Tokens that begin no statement.
_BETWEEN: Final = frozenset(
    {tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)


def statement_of(error: BaseException, check: Callable[..., object]) -> str:
    """Return the statement of a guarantee, or of a helper beside it, in which `error` was raised; else nothing."""
    return _innermost(traceback.walk_tb(error.__traceback__), check)


def statement_at(frame: FrameType | None, check: Callable[..., object]) -> str:
    """Return the statement of a guarantee, or of a helper beside it, that a thread is in; else nothing."""
    return _innermost(reversed(list(traceback.walk_stack(frame))), check)


def stack_of(frame: FrameType | None) -> str:
    """Return the stack of a thread."""
    summary = traceback.extract_stack(frame)
    return "".join(f"  {portable(entry.filename)}:{entry.lineno} in {entry.name}: {entry.line}\n" for entry in summary)


def portable(path: str) -> str:
    """Return the path of a module as it is imported, wherever this machine keeps it."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - what pytest shows may climb out of the current folder
    for root in sorted((os.path.abspath(entry) for entry in sys.path if entry), key=len, reverse=True):  # noqa: PTH100
        if absolute.startswith(root + os.sep):
            return absolute[len(root) + 1 :]
    return os.path.basename(absolute)  # noqa: PTH119


def _innermost(frames: Iterable[tuple[FrameType, int]], check: Callable[..., object]) -> str:
    beside = check.__module__.rpartition(".")[0]
    found = ""
    for frame, line in frames:
        module = frame.f_globals.get("__name__", "")
        if module == check.__module__ or (beside and module.startswith(f"{beside}.")):
            found = _statement(frame.f_code.co_filename, line) or found
    return found


def _statement(path: str, line: int) -> str:
    source = _lines(path)
    first, last = next((span for span in _statements(source) if span[0] <= line <= span[1]), (line, line - 1))
    text = " ".join("".join(source[first - 1 : last]).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"{portable(path)}:{line}: {shown}" if shown else ""


def _statements(source: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last line of each statement of a file, of one with a block those of its head.

    From tokens: `ast.parse` in several threads at once raises SystemError before CPython 3.11.8
    (github.com/python/cpython, issue 106905).
    """
    first = 0
    lines = iter(source)
    with suppress(tokenize.TokenError, IndentationError):
        for token in tokenize.generate_tokens(lambda: next(lines, "")):
            if token.type not in _BETWEEN:
                first = first or token.start[0]
            elif token.type == tokenize.NEWLINE:
                yield first, token.end[0]
                first = 0


def _lines(path: str) -> list[str]:
    # Not of linecache, whose functions miss entries that another thread removes meanwhile.
    try:
        with tokenize.open(path) as source:
            return source.readlines()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []
