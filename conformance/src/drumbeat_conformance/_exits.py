"""An `os._exit` while a run is open: pytest would end in silence, and with whatever status it was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import pytest

__all__ = ["ENDED", "watch_for_exits"]

#: The status of a process that was ended so: EX_SOFTWARE in sysexits.h.
ENDED: Final = 70


def watch_for_exits(config: pytest.Config) -> Callable[[], None]:
    """Have `os._exit` in this process say what happened and end with 70, until what is returned is called.

    Children that were forked end as they please.
    """
    before, pid = os._exit, os.getpid()

    def end(status: int) -> NoReturn:
        if os.getpid() != pid:
            before(status)
        with suppress(BaseException):
            # Standard error is otherwise kept for a report that never comes.
            capture = config.pluginmanager.get_plugin("capturemanager")
            if capture is not None:
                capture.suspend_global_capture(in_=False)
        with suppress(OSError):
            said = f"os._exit({status}) while guarantees were being tested: no verdict, exit status {ENDED}"
            os.write(2, f"\ndrumbeat-conformance: {said}\n".encode())
        before(ENDED)

    def over() -> None:
        if os._exit is end:
            os._exit = before

    os._exit = end
    return over
