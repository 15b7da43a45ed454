"""Soaking a backend: a group of processes under random faults for minutes or hours, with the checker on.

`soak` is what `drumbeat-conformance URL --soak 10m` runs.
"""

from __future__ import annotations

from drumbeat_conformance.soak._conductor import soak
from drumbeat_conformance.soak._report import Figures, SoakReport, to_json

__all__ = ["Figures", "SoakReport", "soak", "to_json"]
