"""The catalogue as a whole."""

from __future__ import annotations

import pytest

from drumbeat.hookspecs import Capability
from drumbeat_conformance.guarantee import UNTESTED, Guarantee, catalogue

REPLACED = [one for one in catalogue().values() if one.instead]
#: Being volatile is not a promise but a threat: what it costs is told in each backend's own family.
PROMISES = [one for one in Capability if one is not Capability.VOLATILE]


@pytest.mark.parametrize("capability", PROMISES, ids=lambda capability: capability.label)
def test_each_claim_is_tested(capability: Capability) -> None:
    """Whatever a backend may claim, some guarantee tests the claim."""
    assert [one.id for one in catalogue().values() if one.claim is capability] != []


@pytest.mark.parametrize("replaced", REPLACED, ids=lambda one: one.id)
def test_what_stands_in_for_a_guarantee_concerns_that_backend_alone(replaced: Guarantee) -> None:
    """A guarantee that is left out because another one makes its promise is left out for one that is tested there."""
    for scheme, other in replaced.instead.items():
        assert catalogue()[other].scheme == scheme
        assert catalogue()[other].instead == {}


def test_no_promise_is_both_tested_and_untested() -> None:
    """An id means one promise."""
    assert set(catalogue()) & set(UNTESTED) == set()
