"""What is compared with the model: a fresh store, and how to get a backend object of it."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from drumbeat._plugins import load_backend_factory, make_backend
from drumbeat._url import BackendURL
from drumbeat.hookspecs import BackendConfig

if TYPE_CHECKING:
    from drumbeat._clock import Clock
    from drumbeat._facade import Backend
    from drumbeat.hookspecs import BackendFactory
    from drumbeat.testing import FakeClock
    from drumbeat_conformance.machine._sides import Opened
    from drumbeat_conformance.target import Site, Target

__all__ = ["NAMESPACE", "FakeStore", "Store", "TargetStore"]

NAMESPACE: Final = "n"


class Store(ABC):
    """A fresh store of the backend that is compared with the model."""

    def __init__(self, clock: Clock, *, namespace: str = NAMESPACE) -> None:
        self.clock = clock
        self._namespace = namespace

    @abstractmethod
    def backend(self) -> Backend:
        """Return a new backend object of the store, as another process would have it."""

    def close(self) -> None:  # noqa: B027 - most stores go with their process
        """Remove the store."""

    def make(self, factory: BackendFactory, url: str) -> Backend:
        """Return a backend object behind its facade."""
        return make_backend(
            factory,
            BackendConfig(
                url=BackendURL.parse(url), namespace=self._namespace, clock=self.clock, on_empty_store="trust"
            ),
        )


class FakeStore(Store):
    """A store whose leases run on a `FakeClock` to the very moment, for `ExactMachine`; derive one of your own."""

    #: The clock that the test moves.
    clock: FakeClock
    #: Whether a lease ends at its very moment, as in the model. Otherwise the store tells in its own time, never too
    #: early, that a session is over, and the model follows it.
    exact: ClassVar[bool] = True
    #: Whether what a session gives up after its lease has run out counts as held until then, for who gives it up.
    late_giving_counts: ClassVar[bool] = False

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)

    def is_over(self, opened: Opened) -> bool:
        """Return whether the store has ended a session, where its leases are not exact."""
        raise NotImplementedError


class TargetStore(Store):
    """A namespace of its own on a target."""

    def __init__(self, target: Target, site: Site) -> None:
        super().__init__(target.clock(), namespace=f"{uuid.uuid4().hex[:8]}-{NAMESPACE}")
        self._factory = target.factory or load_backend_factory(target.scheme)
        self._url = site.url

    def backend(self) -> Backend:
        """Return a new backend object of the namespace."""
        return self.make(self._factory, self._url)
