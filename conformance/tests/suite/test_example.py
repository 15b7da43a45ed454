"""The examples of README.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
#: It runs a pytest of its own, which loads a lot.
pytestmark = pytest.mark.timeout(240)

README = Path(__file__).parents[2] / "README.md"


def example(section: str) -> str:
    """Return the first block of Python in a section."""
    return blocks(README.read_text().partition(f"\n## {section}\n")[2])[0]


def blocks(text: str) -> list[str]:
    """Return the blocks of Python in a text."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_class_of_the_readme(pytester: pytest.Pytester) -> None:
    """The class under "In your own tests" has at most 15 lines, and tests a backend as it stands there."""
    code = example("In your own tests")
    assert len(code.splitlines()) <= 15
    pytester.makepyfile(test_readme=code)
    result = pytester.runpytest_subprocess("-k", "CLAIM or LEAD-3 or lead_4__")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 2
    assert {"passed", "deselected"} >= set(outcomes) - {"skipped"}


@pytest.mark.parametrize(
    ("section", "count"),
    [("Any sequence of calls", 1), ("Judging a history", 1), ("Faults", 3), ("Servers in tests", 1)],
)
def test_an_example_of_the_readme_passes(section: str, count: int, pytester: pytest.Pytester) -> None:
    """The first example of a section is whole, and passes; those with a server are left out where none can run."""
    require_passed(pytester, example(section), count=count)


def test_the_last_example_passes(pytester: pytest.Pytester) -> None:
    """The one that counts round trips at the wire is whole too."""
    require_passed(pytester, blocks(README.read_text())[-1], count=1)


def require_passed(pytester: pytest.Pytester, code: str, *, count: int) -> None:
    """Fail unless so many tests of a module pass, or are left out for want of a server."""
    pytester.makepyfile(test_readme=code)
    outcomes = pytester.runpytest_subprocess("-p", "no:cacheprovider").parseoutcomes()
    assert sum(outcomes.get(one, 0) for one in ("passed", "skipped")) == count
    assert outcomes.get("skipped", 0) <= len(re.findall(r"\((?:start_redis|redis_server)", code))
    assert not {"failed", "errors", "error"} & set(outcomes)
