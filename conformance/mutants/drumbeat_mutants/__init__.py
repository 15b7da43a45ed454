"""Backends that are broken on purpose, one bug each: the proof that every guarantee finds what it is about.

`python -m drumbeat_mutants` breaks the real code in a process of its own for each, tests it, and fails where a bug
goes unnoticed. The package is no part of a wheel.
"""

from __future__ import annotations

from drumbeat_mutants._mutant import MUTANTS, Mutant, Patch, mutant

__all__ = ["MUTANTS", "Mutant", "Patch", "mutant"]
