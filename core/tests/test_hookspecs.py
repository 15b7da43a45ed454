"""The contract is documented and typed."""

from __future__ import annotations

import inspect

import pytest

import drumbeat
from drumbeat import hookspecs
from drumbeat._facade import OPTIONAL_HOOKS
from drumbeat._plugins import BACKEND_SPECS

SPECS = [
    (spec, name, hook)
    for spec in (*BACKEND_SPECS, hookspecs.ObserverHooks)
    for name, hook in vars(spec).items()
    if inspect.isfunction(hook)
]
EXPORTED = [
    (module.__name__, name)
    for module in (drumbeat, hookspecs)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
]


@pytest.mark.parametrize(("spec", "name", "hook"), SPECS, ids=[name for _, name, _ in SPECS])
def test_every_hook_is_documented_and_typed(spec: type, name: str, hook: object) -> None:
    """Each hook has a docstring and an annotation for every parameter and for its answer, which is never None."""
    signature = inspect.signature(hook)  # type: ignore[arg-type]
    assert inspect.getdoc(hook)
    assert signature.return_annotation is not inspect.Signature.empty
    assert (signature.return_annotation == "None") == (spec is hookspecs.ObserverHooks)
    for parameter in list(signature.parameters.values())[1:]:
        assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_every_backend_hook_gives_a_first_result() -> None:
    """A backend hook stops at the one backend's answer; observers are all told."""
    first = {name: getattr(hook, "drumbeat_spec")["firstresult"] for _, name, hook in SPECS}  # noqa: B009 - pluggy's
    assert {name for name, value in first.items() if not value} == {"on_event"}


def test_optional_hooks_say_so() -> None:
    """A hook may be left out exactly if its documentation, or that of its class, says optional."""
    said = {
        name
        for spec, name, hook in SPECS
        if "(optional" in (inspect.getdoc(hook) or "") or "(optional" in (inspect.getdoc(spec) or "")
    }
    assert said == OPTIONAL_HOOKS


@pytest.mark.parametrize(("module", "name"), EXPORTED, ids=[f"{m}.{n}" for m, n in EXPORTED])
def test_every_exported_name_has_a_docstring_of_its_own(module: str, name: str) -> None:
    """Whatever is exported is explained, with its public methods and properties."""
    exported = getattr(inspect.importlib.import_module(module), name)  # type: ignore[attr-defined]
    assert exported.__doc__
    assert not exported.__doc__.startswith(f"{name}("), "the docstring that dataclasses make"
    for attribute, member in vars(exported).items() if inspect.isclass(exported) else ():
        if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{name}.{attribute}"


def test_capabilities_have_a_label_and_a_promise() -> None:
    """Each capability is one word for reports and one sentence for people, all different."""
    labels = [capability.label for capability in drumbeat.Capability]
    promises = [capability.promise for capability in drumbeat.Capability]
    assert len(set(labels)) == len(set(promises)) == len(drumbeat.Capability)
