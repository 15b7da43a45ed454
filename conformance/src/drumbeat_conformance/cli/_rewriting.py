"""The first plugin of the command line's session: has failed assertions show their values.

`drumbeat_conformance.plugin` asks for that too, but the command line imports it before pytest begins, when there is
nothing yet that rewrites; and the plugins that follow import the arena.
"""

from __future__ import annotations

import pytest

from drumbeat_conformance.plugin import REWRITTEN

pytest.register_assert_rewrite(*REWRITTEN)
