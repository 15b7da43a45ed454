"""What was asked of a backend, written down as a program of hooks, for who must find out what went wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

from drumbeat.hookspecs import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat._clock import Clock
    from drumbeat._facade import Backend

__all__ = ["Program"]

#: What is left out where both sides agree: they change nothing, and there are many.
READS: Final = frozenset({"read_group", "read_leader", "list_groups", "describe", "drop_session"})


class Program:
    """The calls that were made to the backends of one store, in order, with what was answered and when.

    `prefix` is how the names of incarnations begin; it is left out, since it tells nothing.
    """

    def __init__(self, clock: Clock, *, prefix: str) -> None:
        self._clock = clock
        self._began = clock.now()
        self._prefix = prefix
        self._asked = ""
        self._reads = False
        self._pending = False
        self._lines: list[str] = []

    def listens(self, backend: Backend) -> Backend:
        """Return a backend object whose calls are noted."""
        return cast("Backend", _Listener(backend, self._note))

    def answered(self, answer: object) -> None:
        """Write down the newest call with its answer, unless it only reads."""
        self._pending = False
        if not self._reads:
            self._lines.append(f"{self._asked}\n         -> {self._short(answer)}")

    def difference(self, wanted: object, given: object) -> str:
        """Return the two answers to the newest call, side by side."""
        return (
            f"the backend differs from the model in its answer to\n  {self._asked.strip()}\n"
            f"    the model says   {self._short(wanted)}\n    the backend says {self._short(given)}\n"
            "  (a token stands as the number of its term, from 0)"
        )

    def __str__(self) -> str:
        begun = "the calls that were made, at which second, and what the backend answered:"
        return "\n".join(
            [begun, *self._lines, *([f"{self._asked}\n         -> here it failed"] if self._pending else [])]
        )

    def _note(self, hook: str, arguments: tuple[object, ...], options: dict[str, object]) -> None:
        lease = arguments[0] if arguments and isinstance(arguments[0], Lease) else None
        who = "" if lease is None else f"{lease.incarnation} of {lease.member_id}: "
        rest = [repr(value) for value in arguments[lease is not None :]]
        named = [f"{name}={value!r}" for name, value in options.items() if name != "timeout"]
        seconds = self._clock.now() - self._began
        self._asked = self._short(f"{seconds:7.3f}  {who}{hook}({', '.join([*rest, *named])})")
        self._reads, self._pending = hook in READS, True

    def _short(self, told: object) -> str:
        text = f"{type(told).__name__}: {told}" if isinstance(told, Exception) else str(told)
        return text.replace(f"{self._prefix}-", "#")


class _Listener:
    """In the place of a backend's facade: tells of each call before it is made."""

    def __init__(self, backend: Backend, tell: Callable[[str, tuple[object, ...], dict[str, object]], None]) -> None:
        self._backend = backend
        self._tell = tell

    def __getattr__(self, name: str) -> object:
        target = getattr(self._backend, name)
        return partial(self._call, name, target) if callable(target) else target

    def _call(self, hook: str, target: Callable[..., object], *arguments: object, **options: object) -> object:
        self._tell(hook, arguments, options)
        return target(*arguments, **options)
