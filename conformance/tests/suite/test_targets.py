"""What a target may be, beside a URL and a built-in name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drumbeat import ConfigurationError
from drumbeat_conformance.cli._asked import Asked
from drumbeat_conformance.servers import start_redis
from drumbeat_conformance.target import Target

if TYPE_CHECKING:
    from drumbeat_conformance.operators import Operator


def test_a_scheme_alone_is_a_server_of_ones_own() -> None:
    """Where the URL names no server, the one that somebody's function starts is there for every guarantee."""
    target = Target.of("redis://", own=start_redis)
    with target.calm() as site:
        assert site.url.startswith("redis://127.0.0.1:")
        assert target.serves(site)


def test_a_scheme_alone_is_nothing_without_a_server() -> None:
    """A name that nobody knows is refused, with what would be needed."""
    with pytest.raises(ConfigurationError, match="a start of servers of your own"):
        Target.of("acme-store")


def operator(url: str) -> Operator:
    """Give nobody: what is asked here is only whether it is asked for."""
    raise NotImplementedError(url)


def test_the_command_takes_an_operator() -> None:
    """Somebody who reads the store without the backend can be named on the command line, and is in the command told."""
    named = f"{__name__}:operator"
    asked = Asked(name="local", tiers=("contract",), operator=named)
    assert asked.target().operator is operator
    assert f"--operator {named}" in asked.command()
