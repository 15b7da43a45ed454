"""The files that a command line asks for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from drumbeat import ConfigurationError
from drumbeat_conformance.target import FOLDER

if TYPE_CHECKING:
    from drumbeat_conformance.report import Report

__all__ = ["Files"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where to write what."""

    json: Path | None
    markdown: Path | None
    junit: Path | None
    badge: Path | None

    def refuse(self, option: str, *, writes: Sequence[str]) -> None:
        """Raise ConfigurationError for a file that was asked for, but that `option` does not write."""
        idle = [name for name, path in self._given() if path is not None and name not in writes]
        if idle:
            instead = f"of these files it writes {' and '.join(writes)} alone" if writes else "it writes no file"
            raise ConfigurationError(f"{option} cannot go with {' or '.join(idle)}: {instead}")

    def refuse_unwritable(self) -> None:
        """Raise ConfigurationError now for what could not be written after minutes of testing."""
        self._refuse_one_for_two()
        for path in (self.json, self.markdown, self.junit, self.badge):
            if path is None:
                continue
            folder = path.absolute().parent
            if path.is_dir() or not folder.is_dir():
                raise ConfigurationError(f"{path} cannot be written: {folder} must be a folder")
            if not os.access(path if path.exists() else folder, os.W_OK):
                raise ConfigurationError(f"{path} cannot be written: this user may not write there")

    def _refuse_one_for_two(self) -> None:
        taken: dict[Path, str] = {}
        for option, path in self._given():
            # What is no file, such as /dev/null, takes all.
            if path is None or (path.exists() and not path.is_file()):
                continue
            other = taken.setdefault(path.resolve(), option)
            if other != option:
                raise ConfigurationError(f"{other} and {option} name the same file {path}; each needs one of its own")

    def _given(self) -> list[tuple[str, Path | None]]:
        named = {"--json": self.json, "--markdown": self.markdown, "--junit": self.junit, "--badge": self.badge}
        return [*named.items()]

    def write(self, report: Report, *, junit: Path) -> Iterator[str]:
        """Write what was asked for, whatever becomes of the other files; return what could not be, and why.

        `junit` is what pytest wrote.
        """
        from drumbeat_conformance.report import badge_json, badge_svg, to_json, to_markdown

        badge = badge_svg if self.badge is not None and self.badge.suffix == ".svg" else badge_json
        yield from _written(self.json, lambda: _portable(to_json(report)))
        yield from _written(self.markdown, lambda: _portable(to_markdown(report)))
        yield from _written(self.badge, lambda: badge(report))
        yield from _written(self.junit, lambda: _portable(junit.read_text(encoding="utf-8")))

    def write_soak(self, text: str) -> Iterator[str]:
        """Write the JSON of a soak, if it was asked for; return what could not be, and why."""
        yield from _written(self.json, lambda: text)


def _written(path: Path | None, text: Callable[[], str]) -> Iterator[str]:
    if path is None:
        return
    try:
        path.write_text(text(), encoding="utf-8")
    except OSError as error:
        yield f"{path} could not be written: {error.strerror or error}"


def _portable(text: str) -> str:
    """Return a text without the folder for temporary files that this run had for itself."""
    return text.replace(tempfile.gettempdir(), FOLDER)
