"""The typed face of a backend: one method for each hook, each refusing None by the hook's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar, cast, overload

from drumbeat._errors import BackendError, ConfigurationError, NotSupported
from drumbeat.hookspecs import (
    BackendProfile,
    Beat,
    Cancel,
    Finding,
    GroupRecord,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Left,
    Notify,
    Proclaimed,
    Reaped,
    ReapTicket,
    Resigned,
    Seat,
    SessionClosed,
    SessionRequest,
    Subject,
    Updated,
    Vacant,
    Waiting,
    Withdrawn,
    Won,
)

if TYPE_CHECKING:
    import pluggy

T = TypeVar("T")
U = TypeVar("U")

#: Hooks that a backend may leave out.
OPTIONAL_HOOKS = frozenset({"diagnose_backend", "reap_session", "watch"})


class Backend:
    """One backend object behind its plugin manager."""

    def __init__(self, manager: pluggy.PluginManager, *, scheme: str) -> None:
        self._hooks = manager.hook
        self.scheme = scheme

    def describe(self, *, timeout: float) -> BackendProfile:
        answer = self._hooks.describe_backend(timeout=timeout)
        return self._checked("describe_backend", answer, BackendProfile)

    def diagnose(self, *, timeout: float) -> tuple[Finding, ...]:
        """Return what the backend says of its server's settings; nothing if it has no such hook."""
        if not self.implements("diagnose_backend"):
            return ()
        return self._checked("diagnose_backend", self._hooks.diagnose_backend(timeout=timeout), tuple)

    def open_session(self, request: SessionRequest, *, timeout: float) -> Lease:
        return self._checked("open_session", self._hooks.open_session(request=request, timeout=timeout), Lease)

    def heartbeat(self, lease: Lease, holdings: Holdings, *, timeout: float) -> Beat:
        answer = self._hooks.heartbeat(lease=lease, holdings=holdings, timeout=timeout)
        return self._checked("heartbeat", answer, Beat)

    def close_session(self, lease: Lease, *, timeout: float) -> SessionClosed:
        answer = self._hooks.close_session(lease=lease, timeout=timeout)
        return self._checked("close_session", answer, SessionClosed)

    def drop_session(self, lease: Lease, *, forked: bool = False) -> SessionClosed:
        answer = self._hooks.drop_session(lease=lease, forked=forked)
        return self._checked("drop_session", answer, SessionClosed)

    def reap_session(self, ticket: ReapTicket, *, timeout: float) -> Reaped:
        self._require("reap_session")
        return self._checked("reap_session", self._hooks.reap_session(ticket=ticket, timeout=timeout), Reaped)

    def join_group(self, lease: Lease, group: str, *, attempt: int, value: bytes, timeout: float) -> Joined:
        answer = self._hooks.join_group(lease=lease, group=group, attempt=attempt, value=value, timeout=timeout)
        return self._checked("join_group", answer, Joined)

    def update_member(self, lease: Lease, group: str, *, value: bytes, timeout: float) -> Updated:
        answer = self._hooks.update_member(lease=lease, group=group, value=value, timeout=timeout)
        return self._checked("update_member", answer, Updated)

    def leave_group(self, lease: Lease, group: str, *, timeout: float) -> Left:
        answer = self._hooks.leave_group(lease=lease, group=group, timeout=timeout)
        return self._checked("leave_group", answer, Left)

    def read_group(self, lease: Lease, group: str, *, timeout: float) -> GroupRecord:
        answer = self._hooks.read_group(lease=lease, group=group, timeout=timeout)
        return self._checked("read_group", answer, GroupRecord)

    def list_groups(self, lease: Lease, *, timeout: float) -> tuple[str, ...]:
        return self._checked("list_groups", self._hooks.list_groups(lease=lease, timeout=timeout), tuple)

    def campaign(self, lease: Lease, election: str, *, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        answer = self._hooks.campaign(lease=lease, election=election, attempt=attempt, value=value, timeout=timeout)
        return self._checked("campaign", answer, Won, Waiting)

    def withdraw(self, lease: Lease, election: str, *, attempt: int, timeout: float) -> Withdrawn:
        answer = self._hooks.withdraw(lease=lease, election=election, attempt=attempt, timeout=timeout)
        return self._checked("withdraw", answer, Withdrawn)

    def resign(self, lease: Lease, seat: Seat, *, timeout: float) -> Resigned:
        return self._checked("resign", self._hooks.resign(lease=lease, seat=seat, timeout=timeout), Resigned)

    def proclaim(self, lease: Lease, seat: Seat, *, value: bytes, timeout: float) -> Proclaimed:
        answer = self._hooks.proclaim(lease=lease, seat=seat, value=value, timeout=timeout)
        return self._checked("proclaim", answer, Proclaimed)

    def read_leader(self, lease: Lease, election: str, *, timeout: float) -> LeaderRecord | Vacant:
        answer = self._hooks.read_leader(lease=lease, election=election, timeout=timeout)
        return self._checked("read_leader", answer, LeaderRecord, Vacant)

    def watch(self, lease: Lease, subject: Subject, notify: Notify, *, timeout: float) -> Cancel:
        self._require("watch")
        answer = self._hooks.watch(lease=lease, subject=subject, notify=notify, timeout=timeout)
        if not callable(answer):
            self._refuse("watch", answer, "a function")
        return cast("Cancel", answer)

    def implements(self, hook: str) -> bool:
        """Return whether the backend has an implementation of `hook`."""
        caller: pluggy.HookCaller = getattr(self._hooks, hook)
        return any(not impl.wrapper and not impl.hookwrapper for impl in caller.get_hookimpls())

    def require_all(self) -> None:
        """Raise ConfigurationError naming each hook that a backend must have and this one lacks."""
        names = [name for name in sorted(vars(self._hooks)) if not name.startswith("_")]
        missing = [name for name in names if name not in OPTIONAL_HOOKS and not self.implements(name)]
        if missing:
            raise ConfigurationError(
                f"the backend for {self.scheme}:// does not implement {', '.join(missing)}; "
                "see drumbeat.hookspecs for what each must do"
            )

    def _require(self, hook: str) -> None:
        if not self.implements(hook):
            raise NotSupported(f"the backend for {self.scheme}:// has no {hook}; see `drumbeat backends`")

    @overload
    def _checked(self, hook: str, answer: object, kind: type[T], /) -> T: ...

    @overload
    def _checked(self, hook: str, answer: object, kind: type[T], other: type[U], /) -> T | U: ...

    def _checked(self, hook: str, answer: object, /, *kinds: type[T | U]) -> T | U:
        if not isinstance(answer, kinds):
            self._refuse(hook, answer, " or ".join(kind.__name__ for kind in kinds))
        return answer

    def _refuse(self, hook: str, answer: object, wanted: str) -> NoReturn:
        raise BackendError(
            f"the hook {hook} of the backend for {self.scheme}:// returned {answer!r}, which must be {wanted} and "
            "never None; what it did is unknown. This is a defect of the backend"
        )
