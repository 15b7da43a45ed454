"""The typed face of a backend: one method for each hook, each refusing None by the hook's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar, cast, overload

from drumbeat._errors import BackendError, ConfigurationError, DrumbeatError, NotSupported
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
        return self._ask("describe_backend", BackendProfile, timeout=timeout)

    def diagnose(self, *, timeout: float) -> tuple[Finding, ...]:
        """Return what the backend says of its server's settings; nothing if it has no such hook."""
        if not self.implements("diagnose_backend"):
            return ()
        return self._ask("diagnose_backend", tuple, timeout=timeout)

    def open_session(self, request: SessionRequest, *, timeout: float) -> Lease:
        return self._ask("open_session", Lease, request=request, timeout=timeout)

    def heartbeat(self, lease: Lease, holdings: Holdings, *, timeout: float) -> Beat:
        return self._ask("heartbeat", Beat, lease=lease, holdings=holdings, timeout=timeout)

    def close_session(self, lease: Lease, *, timeout: float) -> SessionClosed:
        return self._ask("close_session", SessionClosed, lease=lease, timeout=timeout)

    def drop_session(self, lease: Lease, *, forked: bool = False) -> SessionClosed:
        return self._ask("drop_session", SessionClosed, lease=lease, forked=forked)

    def reap_session(self, ticket: ReapTicket, *, timeout: float) -> Reaped:
        self._require("reap_session")
        return self._ask("reap_session", Reaped, ticket=ticket, timeout=timeout)

    def join_group(self, lease: Lease, group: str, *, attempt: int, value: bytes, timeout: float) -> Joined:
        return self._ask("join_group", Joined, lease=lease, group=group, attempt=attempt, value=value, timeout=timeout)

    def update_member(self, lease: Lease, group: str, *, value: bytes, timeout: float) -> Updated:
        return self._ask("update_member", Updated, lease=lease, group=group, value=value, timeout=timeout)

    def leave_group(self, lease: Lease, group: str, *, timeout: float) -> Left:
        return self._ask("leave_group", Left, lease=lease, group=group, timeout=timeout)

    def read_group(self, lease: Lease, group: str, *, timeout: float) -> GroupRecord:
        return self._ask("read_group", GroupRecord, lease=lease, group=group, timeout=timeout)

    def list_groups(self, lease: Lease, *, timeout: float) -> tuple[str, ...]:
        return self._ask("list_groups", tuple, lease=lease, timeout=timeout)

    def campaign(self, lease: Lease, election: str, *, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        return self._ask(
            "campaign", Won, Waiting, lease=lease, election=election, attempt=attempt, value=value, timeout=timeout
        )

    def withdraw(self, lease: Lease, election: str, *, attempt: int, timeout: float) -> Withdrawn:
        return self._ask("withdraw", Withdrawn, lease=lease, election=election, attempt=attempt, timeout=timeout)

    def resign(self, lease: Lease, seat: Seat, *, timeout: float) -> Resigned:
        return self._ask("resign", Resigned, lease=lease, seat=seat, timeout=timeout)

    def proclaim(self, lease: Lease, seat: Seat, *, value: bytes, timeout: float) -> Proclaimed:
        return self._ask("proclaim", Proclaimed, lease=lease, seat=seat, value=value, timeout=timeout)

    def read_leader(self, lease: Lease, election: str, *, timeout: float) -> LeaderRecord | Vacant:
        return self._ask("read_leader", LeaderRecord, Vacant, lease=lease, election=election, timeout=timeout)

    def watch(self, lease: Lease, subject: Subject, notify: Notify, *, timeout: float) -> Cancel:
        self._require("watch")
        answer = self._call("watch", lease=lease, subject=subject, notify=notify, timeout=timeout)
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
    def _ask(self, hook: str, kind: type[T], /, **arguments: object) -> T: ...

    @overload
    def _ask(self, hook: str, kind: type[T], other: type[U], /, **arguments: object) -> T | U: ...

    def _ask(self, hook: str, /, *kinds: type[T | U], **arguments: object) -> T | U:
        answer = self._call(hook, **arguments)
        if not isinstance(answer, kinds):
            self._refuse(hook, answer, " or ".join(kind.__name__ for kind in kinds))
        return answer

    def _call(self, hook: str, /, **arguments: object) -> object:
        caller: pluggy.HookCaller = getattr(self._hooks, hook)
        try:
            return caller(**arguments)
        except DrumbeatError:
            raise
        except Exception as error:
            # Its message may hold a secret of the client library's: the original is chained, not quoted.
            raise BackendError(
                f"the hook {hook} of the backend for {self.scheme}:// raised {type(error).__name__}, which is no "
                "error of Drumbeat; what it did is unknown. This is a defect of the backend"
            ) from error

    def _refuse(self, hook: str, answer: object, wanted: str) -> NoReturn:
        raise BackendError(
            f"the hook {hook} of the backend for {self.scheme}:// returned {answer!r}, which must be {wanted} and "
            "never None; what it did is unknown. This is a defect of the backend"
        )
