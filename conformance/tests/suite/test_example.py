"""The examples of README.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
#: It runs a pytest of its own, which loads a lot.
pytestmark = pytest.mark.timeout(240)

README = Path(__file__).parents[2] / "README.md"


def test_the_class_of_the_readme(pytester: pytest.Pytester) -> None:
    """The class under "In your own tests" has at most 15 lines, and tests a backend as it stands there."""
    section = README.read_text().partition("## In your own tests")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) <= 15
    pytester.makepyfile(test_readme=block[1])
    result = pytester.runpytest_subprocess("-k", "CLAIM or LEAD-3 or lead_4__")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 2
    assert {"passed", "deselected"} >= set(outcomes) - {"skipped"}
