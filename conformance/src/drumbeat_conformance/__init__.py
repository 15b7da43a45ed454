"""The conformance suite of Drumbeat: a backend's promises, tested in its own pytest run or by `drumbeat-conformance`.

```python
from drumbeat_conformance import Conformance


class TestMine(Conformance):
    target = "mine://localhost:4000"
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drumbeat_conformance.run import GuaranteeBroken, KnownFailure
    from drumbeat_conformance.suite import Conformance
    from drumbeat_conformance.target import ControlledServer, Site, Target

__all__ = ["Conformance", "ControlledServer", "GuaranteeBroken", "KnownFailure", "Site", "Target"]

#: Where the public names live. They are loaded when a name is first used: pytest imports this package before it can
#: rewrite the assertions in the modules below it.
_HOMES: Final = {
    "Conformance": "suite",
    "ControlledServer": "target",
    "GuaranteeBroken": "run",
    "KnownFailure": "run",
    "Site": "target",
    "Target": "target",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
