"""The folder of a soak, which outlives it only if there is something to look at."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import final


@final
@dataclass(slots=True)
class Folder:
    """Where the histories are, and what was or may have been violated in them: if nothing was, they go."""

    path: Path
    suspicions: list[str] = field(default_factory=list)


@contextmanager
def histories(say: Callable[[str], None]) -> Iterator[Folder]:
    """Give a new folder, and remove it at the end unless something is suspected; tell so if the end comes early."""
    folder = Folder(Path(tempfile.mkdtemp(prefix="drumbeat-soak-")))
    try:
        yield folder
    except BaseException:
        kept = f"{len(folder.suspicions)} suspected, the histories are in {folder.path}"
        gone = "nothing was suspected so far, the histories were removed"
        say(f"soak: ended before it was judged; {kept if folder.suspicions else gone}")
        raise
    finally:
        if not folder.suspicions:
            shutil.rmtree(folder.path, ignore_errors=True)
