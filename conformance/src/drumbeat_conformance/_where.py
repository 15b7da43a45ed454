"""Where a guarantee broke: the statement that failed, in a text without paths of this machine."""

from __future__ import annotations

import ast
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Final

__all__ = ["portable", "stack_of", "statement_at", "statement_of"]

#: Characters of a statement that are shown.
_SHOWN: Final = 300


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
    source = linecache.getlines(path)
    try:
        tree = ast.parse("".join(source))
    except SyntaxError:
        return ""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _covers(node, line)]
    if not around:
        return ""
    narrowest = min(around, key=lambda node: (node.end_lineno or line) - node.lineno)
    text = " ".join("".join(source[narrowest.lineno - 1 : narrowest.end_lineno]).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"{portable(path)}:{line}: {shown}"


def _covers(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
