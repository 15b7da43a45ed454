"""`python3 -m drumbeat.cli`, the same as `drumbeat`."""

from __future__ import annotations

from drumbeat.cli import main

main()
