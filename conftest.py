"""What holds for the tests of every package."""

from __future__ import annotations

import pytest

#: Fixtures that are made for each backend in turn.
_PER_BACKEND = ("world", "queueing_world", "pushing_world", "cluster", "shared", "site")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one file, and in it of one backend, on one worker of xdist."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(f"{item.path}{_backend(item)}"))


def _backend(item: pytest.Item) -> str:
    chosen = getattr(item, "callspec", None)
    if chosen is None:
        return ""
    made_for = (chosen.params[name] for name in _PER_BACKEND if name in chosen.params)
    return "".join(str(getattr(backend, "name", backend)) for backend in made_for)
