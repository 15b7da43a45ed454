"""`python -m drumbeat_conformance.cli` is `drumbeat-conformance`."""

from __future__ import annotations

from drumbeat_conformance.cli import main

if __name__ == "__main__":
    main()
