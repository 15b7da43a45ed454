"""A fresh file, sessions in this process and sessions in processes of their own, all ended after the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local.actors import Actor, Process


@pytest.fixture
def path() -> Iterator[Path]:
    """The path of a database that does not exist yet, in a folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="drumbeat-"))
    folder.chmod(0o755)
    yield folder / "test.db"
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def actor(path: Path) -> Iterator[Callable[..., Actor]]:
    """Make a session in this process that is open, by its member id."""
    made: list[Actor] = []

    def make(member_id: str, *, namespace: str = "ns", ttl: float = 60.0) -> Actor:
        one = Actor(path, namespace=namespace)
        made.append(one)
        one.open(member_id, ttl=ttl)
        return one

    yield make
    for one in made:
        one.drop()


@pytest.fixture
def process(path: Path) -> Iterator[Callable[..., Process]]:
    """Make a session in a process of its own, opened if it is given a member id."""
    made: list[Process] = []

    def make(member_id: str | None = None, *, ttl: float = 60.0) -> Process:
        one = Process(path)
        made.append(one)
        if member_id is not None:
            one.ask("open", member_id=member_id, ttl=ttl)
        return one

    yield make
    for one in made:
        one.end()
