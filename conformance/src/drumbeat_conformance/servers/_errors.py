"""What goes wrong when a server is started for a test."""

from __future__ import annotations

from typing import final


@final
class CouldNotRun(Exception):
    """This machine has no way to run a server of a kind: neither a container nor the program.

    Nothing was started. `reasons` says why, one line for each way that was tried; `remedy` says what to install.
    """

    def __init__(self, kind: str, reasons: tuple[str, ...], remedy: str) -> None:
        super().__init__(kind, reasons, remedy)
        self.kind = kind
        self.reasons = reasons
        self.remedy = remedy

    def __str__(self) -> str:
        return f"no {self.kind} server can run here: {'; '.join(self.reasons)}. {self.remedy}"


@final
class ServerFailed(Exception):
    """A server was started, and ended or did not answer in time; the message ends with what it logged."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(what, log)
        self.what = what
        self.log = log

    @property
    def is_about_ports(self) -> bool:
        """Whether somebody else took a port first."""
        log = self.log.lower()
        return "already in use" in log or "already allocated" in log

    def __str__(self) -> str:
        return f"{self.what}; its log ends with:\n{self.log[-3000:]}"


@final
class NotYet(Exception):
    """A server answers, but does not serve yet."""
