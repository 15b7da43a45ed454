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
JSON: Final = typer.Option(False, "--json", help="Machine-readable output, of a shape that stays.")
