"""Any sequence of calls, made to a backend and to the reference model side by side: both must answer the same.

```python
from drumbeat_conformance.machine import backend_machine

TestMachine = backend_machine("mine://localhost:4000").TestCase
```

The model is `drumbeat.memory`. Four processes open sessions, close and reopen them, crash, take each other's member
ids and places, reap, beat (with what they hold, with less, with more, with what they held a while ago), join, update,
leave, campaign, withdraw, resign, hand over, proclaim, and stop beating until their leases have run out; hypothesis
decides who does what, in which order. After each call the backend's answer is compared with the model's: who is a
member with which value, who leads with which value, what a heartbeat says is lost, who is in the way, and that a
session is over. Fencing tokens are compared by their order, which must rise. When a session falls silent it must be
seen by all until its lease has run out, and by nobody after the bound that the backend states.

A difference is told by the call and the two answers to it, and by all calls that led there, as a program of hooks.
Rules lead to what they ask for, whatever went before: who is to resign or to proclaim first wins, who is to leave first
joins, and where nobody lives everybody starts again. So a run of some seconds has each kind of answer many times.

`backend_machine` takes any target. `ExactMachine` is for a store in one's own tree that runs on a `FakeClock`: leases
end at any moment between two calls, the very moment included.

What is not compared: how long a call takes, what is pushed to watchers, and anything while a lease may run out.

It needs hypothesis: `drumbeat-conformance[machine]`.
"""

from __future__ import annotations

try:
    import hypothesis as _hypothesis  # noqa: F401 - only to know whether it is there
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"drumbeat_conformance.machine needs the extra 'machine' ({error.name} is missing); install it with: "
        "python3 -m pip install 'drumbeat-conformance[machine]'",
        name=error.name,
    ) from error

from drumbeat_conformance.machine._exact import ExactMachine, ExactTwins
from drumbeat_conformance.machine._machine import backend_machine
from drumbeat_conformance.machine._paced import PacedMachine, PacedTwins
from drumbeat_conformance.machine._sides import Opened
from drumbeat_conformance.machine._store import NAMESPACE, FakeStore
from drumbeat_conformance.machine._twins import Twins

__all__ = [
    "NAMESPACE",
    "ExactMachine",
    "ExactTwins",
    "FakeStore",
    "Opened",
    "PacedMachine",
    "PacedTwins",
    "Twins",
    "backend_machine",
]
