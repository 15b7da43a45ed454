"""`python -m drumbeat_conformance.soak`: a process of a soak, which its conductor starts."""

from __future__ import annotations

import sys

from drumbeat_conformance.soak._watchman import watch
from drumbeat_conformance.soak._work import work

if sys.argv[1] == "watch":
    watch(*sys.argv[2:])
else:
    work(sys.argv[1])
