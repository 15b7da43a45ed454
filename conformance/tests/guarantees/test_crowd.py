"""A hundred processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support import Cluster

CROWD = Path(__file__).parent / "crowd.py"
COUNT = 100


@pytest.mark.crowded
@pytest.mark.timeout(200)
def test_a_hundred_processes_join_at_once(shared: Cluster) -> None:
    """GROUP-6: all are in, everybody sees the same members, and the shares are everything and nothing twice."""
    command = [sys.executable, str(CROWD), shared.url, shared.namespace, str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[tuple[list[str], list[str]]] = json.loads(done.stdout)
    everybody = [f"m{number:03}" for number in range(COUNT)]
    assert [everybody] * COUNT == [ids for ids, _ in found]
    shared_out = sorted(item for _, share in found for item in share)
    assert sorted(f"item {number}" for number in range(500)) == shared_out
