"""A backend of your own in sixty lines: a folder of small files, for the processes of one host.

`CompareAndSetBackend` does everything but store bytes, so a backend over it says only how to read keys and how to
replace one if nobody else has. Here each key is a file, and what it holds is its own version.

Register the class by an entry point of your package; its name is the scheme of the URL:

    [project.entry-points."drumbeat.backends"]
    folder = "your_package:FolderBackend"

Then `drumbeat.connect("folder:///run/agents")` works, and so does `drumbeat demo --url folder:///run/agents`.
"""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from drumbeat import ConfigurationError, Unavailable
from drumbeat.cas import CompareAndSetBackend
from drumbeat.hookspecs import BackendConfig, Capability

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence


class FolderBackend(CompareAndSetBackend):
    """Keeps everything in the folder that the URL's path names, which must exist."""

    server = "a folder of files"
    extra_capabilities = frozenset({Capability.PERSISTENT})

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._folder = Path(config.url.path)
        if not self._folder.is_dir():
            raise ConfigurationError(f"{self._folder} is no folder; make it first")

    def read_many(
        self,
        keys: Sequence[str],
        timeout: float,  # noqa: ARG002 - nobody is asked, so nobody can be slow
    ) -> Mapping[str, tuple[bytes, Hashable]]:
        """Read the files that are there."""
        with self._translated():
            found = {key: self._content(key) for key in keys}
        return {key: (content, content) for key, content in found.items() if content is not None}

    def compare_and_set(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        expire: float | None = None,  # noqa: ARG002 - files stay
        timeout: float,
    ) -> bytes | None:
        """Replace a file whose content is still `version`, under a lock that the kernel frees if we die."""
        with self._translated(), (self._folder / "lock").open("a") as lock:
            _acquire(lock, timeout)
            if self._content(key) != version:
                return None
            new = self._folder / "new"
            new.write_bytes(value)
            new.replace(self._folder / key)
            return value

    def _content(self, key: str) -> bytes | None:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"{self._folder}: {error}") from error


def _acquire(lock: TextIO, timeout: float) -> None:
    until = time.monotonic() + timeout
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise Unavailable(f"{lock.name} is locked", outcome="not_applied") from None
            time.sleep(0.001)
