"""Reports as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from drumbeat import BadData
from drumbeat_conformance.report._model import Report

__all__ = ["FORMAT", "read_report", "to_json"]

T = TypeVar("T")

#: Rises when a reader of the former shape would misunderstand the new one.
FORMAT: Final = 1


def to_json(report: Report) -> str:
    """Return a report as JSON text that `read_report` takes."""
    return json.dumps({"format": FORMAT, **asdict(report)}, indent=2) + "\n"


def read_report(path: Path) -> Report:
    """Read a report back; raise BadData, naming the file, for anything but a whole report of this format."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(str(path), f"is no JSON: {error}") from error
    reader = _Reader(str(path))
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        reader.refuse("is no report of conformance in format 1")
    return reader.value(found, Report, "the report")


class _Reader:
    """Makes typed values of plain ones, and refuses what does not fit."""

    def __init__(self, source: str) -> None:
        self._source = source

    def refuse(self, problem: str) -> NoReturn:
        raise BadData(self._source, problem)

    def value(self, given: object, kind: type[T], where: str) -> T:
        """Return `given` as a `kind`."""
        return cast("T", self._read(given, kind, where))

    def _read(self, given: object, kind: object, where: str) -> object:
        if get_origin(kind) is tuple:
            return self._tuple(given, get_args(kind)[0], where)
        if get_origin(kind) is Literal:
            return (
                given if given in get_args(kind) else self.refuse(f"{where} is {given!r}, not one of {get_args(kind)}")
            )
        assert isinstance(kind, type)
        if hasattr(kind, "__dataclass_fields__"):
            return self._record(given, kind, where)
        if kind is float and type(given) is int:
            return float(given)
        return given if type(given) is kind else self.refuse(f"{where} is {given!r}, not of type {kind.__name__}")

    def _tuple(self, given: object, kind: object, where: str) -> tuple[object, ...]:
        if not isinstance(given, list):
            self.refuse(f"{where} is {given!r}, not a list")
        return tuple(self._read(item, kind, f"{where}[{index}]") for index, item in enumerate(given))

    def _record(self, given: object, kind: type, where: str) -> object:
        names = {field.name for field in fields(kind)}
        if not isinstance(given, Mapping) or set(given) != names:
            self.refuse(f"{where} does not have exactly the keys {', '.join(sorted(names))}")
        hints = get_type_hints(kind)
        return kind(**{name: self._read(given[name], hints[name], f"{where}.{name}") for name in names})
