"""The options that several commands share, each with the one meaning that it has everywhere."""

from __future__ import annotations

from typing import Final

import typer

URL: Final = typer.Option(
    None, "--url", metavar="URL", help="The backend; otherwise DRUMBEAT_URL, otherwise a file of this host."
)
NAMESPACE: Final = typer.Option(
    None, "--namespace", metavar="NAME", help="Keeps applications on one server apart. [default: drumbeat]"
)
TTL: Final = typer.Option(
    None, "--ttl", metavar="SECONDS", help="The lease: after so long a silence a session is dead. [default: 10]"
)
MEMBER_ID: Final = typer.Option(
    None, "--member-id", metavar="ID", help="Unique in the namespace. [default: host, process id and a random part]"
)


def flag(*names: str, meaning: str) -> bool:
    """Return an option without a value, which is off unless it is given."""
    option: bool = typer.Option(False, *names, help=meaning)  # noqa: FBT003 - typer takes the default first
    return option


JSON: Final = flag("--json", meaning="Machine-readable output, of a shape that stays.")
