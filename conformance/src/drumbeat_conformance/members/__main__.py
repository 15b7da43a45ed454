"""`python -m drumbeat_conformance.members`: a member process, which `Member` starts; it reads commands by lines."""

from __future__ import annotations

from drumbeat_conformance.members._program import main

main()
