"""What `connect` accepts, where settings come from, and what a backend must be."""

from __future__ import annotations

import importlib.metadata
import sys
import types
import uuid
import warnings
from typing import TYPE_CHECKING

import pytest
from support import Tap

import drumbeat
from drumbeat import ConfigurationError, hookimpl
from drumbeat.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], None]:
    """Install a backend factory under a scheme, as a third party's entry point would."""
    real = importlib.metadata.entry_points
    added: list[importlib.metadata.EntryPoint] = []

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        # Only what the core brings: which other packages are installed differs from place to place.
        own = [point for point in real(group=group) if point.value.startswith("drumbeat.")]
        return [*own, *(point for point in added if point.group == group)]

    def install(scheme: str, factory: object) -> None:
        module = types.ModuleType(f"third_party_{scheme.replace('-', '_')}")
        module.factory = factory  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        added.append(importlib.metadata.EntryPoint(scheme, f"{module.__name__}:factory", "drumbeat.backends"))

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    return install


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://localhost", "install it with: python3 -m pip install drumbeat-redis"),
        ("rediss://localhost", "drumbeat-redis"),
        ("zookeeper://a,b", "drumbeat-zookeeper"),
        ("memry://x", r"no backend for memry:// is installed, did you mean 'memory'\?; installed are: local, memory"),
        ("qqq://x", "none is like it; installed are: local, memory"),
        ("memory://x?lease_tll=3", r"has no option 'lease_tll', did you mean 'lease_ttl'\?; it takes: .*namespace"),
        ("memory://x?lease_ttl=soon", "lease_ttl must be a number of seconds above 0, not 'soon'"),
        ("memory://x?heartbeat=often", "heartbeat must be one of auto, manual, not 'often'"),
        ("memory://x?on_conflict=fight", "on_conflict must be one of wait, refuse, replace"),
        ("memory://x?namespace=a%0Ab", r"namespace 'a\\nb' holds U\+000A"),
        ("memory://x?observers=loging", "unknown observer 'loging'.*logging"),
    ],
)
@pytest.mark.usefixtures("register")
def test_a_url_that_cannot_work_is_refused_by_what_to_do(url: str, problem: str) -> None:
    """An unknown scheme names the package, an unknown option the nearest known one, a bad value what is allowed."""
    with pytest.raises(ConfigurationError, match=problem):
        drumbeat.connect(url)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("no_such_module:Backend", "No module named 'no_such_module'"),
        ("drumbeat.memory:NoSuchClass", "has no attribute 'NoSuchClass'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, value: str, problem: str) -> None:
    """A broken installation of a backend is told by its scheme and reason, with what to do."""
    point = importlib.metadata.EntryPoint("broken", value, "drumbeat.backends")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [point])
    with pytest.raises(ConfigurationError, match=rf"broken:// .*cannot be loaded: .*{problem}.*install"):
        drumbeat.connect("broken://x")


@pytest.mark.parametrize("name", ["", "x" * 101, "a\tb"])
def test_a_bad_member_id_is_refused(name: str) -> None:
    """A member id follows the rules of all names; an empty one is not replaced in silence."""
    with pytest.raises(ConfigurationError, match="member_id"):
        drumbeat.connect("memory://x", member_id=name)


def test_keyword_comes_before_url_before_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer source of an option wins: argument, then URL, then environment, then default."""
    monkeypatch.setenv("DRUMBEAT_LEASE_TTL", "7")
    monkeypatch.setenv("DRUMBEAT_MEMBER_ID", "by-environment")
    url = f"memory://{uuid.uuid4()}"
    with drumbeat.connect(url) as session:
        assert (session.lease_ttl, session.member_id, session.namespace) == (7.0, "by-environment", "drumbeat")
    with drumbeat.connect(f"{url}?lease_ttl=8&member_id=by-url&namespace=n") as session:
        assert (session.lease_ttl, session.member_id, session.namespace) == (8.0, "by-url", "n")
    with drumbeat.connect(f"{url}?lease_ttl=8", lease_ttl=9.0, member_id="by-keyword") as session:
        assert (session.lease_ttl, session.member_id) == (9.0, "by-keyword")


def test_two_namespaces_are_an_error() -> None:
    """A namespace by argument that differs from the URL's is refused, because peers would not meet."""
    with pytest.raises(ConfigurationError, match="'a' by argument and 'b' in the URL"):
        drumbeat.connect("memory://x?namespace=b", namespace="a")


def test_the_environment_names_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument DRUMBEAT_URL counts."""
    monkeypatch.setenv("DRUMBEAT_URL", f"memory://{uuid.uuid4()}")
    with drumbeat.connect() as session:
        assert "memory" in session.backend.server


def test_the_local_default_warns_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without any URL the session is local, and the warning names the file and that it is this host only."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with (
        pytest.warns(
            drumbeat.DrumbeatWarning, match=rf"this host only, through {tmp_path}/drumbeat/local\.db"
        ) as caught,
        drumbeat.connect() as session,
    ):
        assert "SQLite" in session.backend.server
    assert caught[0].filename == __file__


def test_the_local_default_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """DRUMBEAT_REQUIRE_URL turns the local default into an error that says what to set."""
    monkeypatch.setenv("DRUMBEAT_REQUIRE_URL", "1")
    with pytest.raises(ConfigurationError, match="set DRUMBEAT_URL"):
        drumbeat.connect()


def test_saying_local_does_not_warn(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A local session that was asked for is no surprise."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drumbeat.connect("local://").close()


def test_a_third_party_backend_is_found_by_its_scheme(register: Callable[[str, object], None]) -> None:
    """A backend of another package works by its URL alone."""
    register("third", MemoryBackend)
    with drumbeat.connect("third://x") as session:
        assert session.election("e").campaign().held


def test_another_contract_version_is_refused(register: Callable[[str, object], None]) -> None:
    """A backend written for another contract is refused with both versions."""

    class Newer(MemoryBackend):
        spec_version = 99

    register("newer", Newer)
    with pytest.raises(ConfigurationError, match="contract version 99, this core has version 1"):
        drumbeat.connect("newer://")


def test_two_packages_for_one_scheme_are_an_error(register: Callable[[str, object], None]) -> None:
    """Two backends under one scheme are refused instead of letting one win by chance."""
    register("memory", MemoryBackend)
    with pytest.raises(ConfigurationError, match="two packages register 'memory'"):
        drumbeat.connect("memory://")


def test_a_misspelt_hook_names_the_nearest(register: Callable[[str, object], None]) -> None:
    """A hook that does not exist is an error at connect, with the one that was probably meant."""

    class Misspelt(MemoryBackend):
        @hookimpl
        def heart_beat(self) -> None:
            """Never called."""

    register("misspelt", Misspelt)
    with pytest.raises(ConfigurationError, match=r"there is no hook 'heart_beat', did you mean 'heartbeat'\?"):
        drumbeat.connect("misspelt://")


def test_a_wrong_parameter_is_refused(register: Callable[[str, object], None]) -> None:
    """A hook that asks for something that the contract does not give is an error at connect that names it."""

    class WrongParameter(MemoryBackend):
        @hookimpl
        def read_leader(self, lease: object, name: str) -> None:  # type: ignore[override]
            """Never called."""

    register("wrong", WrongParameter)
    with pytest.raises(ConfigurationError, match=r"does not fit the contract.*name"):
        drumbeat.connect("wrong://")


def test_missing_hooks_are_named(register: Callable[[str, object], None]) -> None:
    """A backend without all required hooks is refused with the list of what is missing."""

    class Little:
        spec_version = 1
        options: dict[str, str] = {}  # noqa: RUF012 - a class attribute of the contract

        def __init__(self, config: object) -> None:
            """Take the settings."""

        @hookimpl
        def heartbeat(self) -> None:
            """Never called."""

    register("little", Little)
    with pytest.raises(ConfigurationError, match="does not implement campaign, close_session, describe_backend"):
        drumbeat.connect("little://")


def test_a_hook_that_answers_none_is_refused_by_its_name(register: Callable[[str, object], None]) -> None:
    """None means 'not implemented' to pluggy, so a hook that returns it is a defect that is named."""

    class Forgetful(MemoryBackend):
        @hookimpl
        def leave_group(self) -> None:  # type: ignore[override]
            """Forget to answer."""

    register("forgetful", Forgetful)
    with (
        drumbeat.connect("forgetful://x") as session,
        pytest.raises(drumbeat.BackendError, match=r"hook leave_group .* returned None, which must be Left"),
    ):
        session.group("g").leave()


def test_a_hook_that_answers_something_else_is_refused(register: Callable[[str, object], None]) -> None:
    """An answer of the wrong type is refused at the boundary, not somewhere inside."""

    class Wrong(MemoryBackend):
        @hookimpl
        def list_groups(self) -> list[str]:  # type: ignore[override]
            """Answer with a list."""
            return []

    register("wrong-type", Wrong)
    with (
        drumbeat.connect("wrong-type://x") as session,
        pytest.raises(drumbeat.BackendError, match=r"returned \[\], which must be tuple"),
    ):
        session.groups()


def test_a_claim_without_its_hook_is_refused(register: Callable[[str, object], None]) -> None:
    """A backend that claims to push but has no watch hook is refused."""

    class Boaster(MemoryBackend):
        watch = None  # type: ignore[assignment]

    register("boaster", Boaster)
    with pytest.raises(ConfigurationError, match="claims push-watch but lacks the hook watch"):
        drumbeat.connect("boaster://x")


def test_an_unclaimed_operation_is_not_supported(register: Callable[[str, object], None]) -> None:
    """Asking a backend for a hook that it leaves out raises NotSupported."""
    with drumbeat.connect(f"memory-cas://{uuid.uuid4()}", on_empty_store="trust") as session:
        keeper = session._keeper
        assert keeper.incarnation is not None
        with pytest.raises(drumbeat.NotSupported, match="has no watch"):
            keeper.backend.watch(keeper.incarnation.lease, None, lambda: None, timeout=1.0)  # type: ignore[arg-type]


def test_an_observer_without_a_hook_is_refused() -> None:
    """An observer whose method is not marked would see nothing, so it is an error that says how to mark it."""

    class Deaf:
        def on_event(self, event: drumbeat.Event) -> None:
            """Never called."""

    with pytest.raises(ConfigurationError, match=r"Deaf has no hook.*drumbeat\.hookimpl"):
        drumbeat.connect(f"memory://{uuid.uuid4()}", observers=[Deaf()])


def test_an_interceptor_that_is_given_twice_is_refused() -> None:
    """The same interceptor twice is a mistake that is named."""
    tap = Tap()
    with pytest.raises(ConfigurationError, match="the interceptor Tap was given twice"):
        drumbeat.connect(f"memory://{uuid.uuid4()}", interceptors=[tap, tap])
