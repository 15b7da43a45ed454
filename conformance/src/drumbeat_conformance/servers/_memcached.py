"""Memcached."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import quote

from drumbeat_conformance.servers._ask import memcached_version
from drumbeat_conformance.servers._certificates import Certificates
from drumbeat_conformance.servers._launch import launch_one
from drumbeat_conformance.servers._server import Place, Plan, Server

#: The user that a server with a password knows.
USER: Final = "drumbeat"


def start_memcached(
    *, arguments: Sequence[str] = (), tls: Certificates | None = None, password: str | None = None
) -> Server:
    """Return a memcached that answers; it keeps nothing over a restart.

    `arguments` are added to its command line; with a `password` it knows the user `drumbeat` alone. Raises CouldNotRun
    or ServerFailed.
    """
    return launch_one("memcached", lambda places: [_plan(places[0], arguments, tls, password)])


def _plan(place: Place, arguments: Sequence[str], tls: Certificates | None, password: str | None) -> Plan:
    argv = ["memcached", f"--listen={place.bind}", f"--port={place.port}", "--udp-port=0"]
    # As root it asks whose rights to take; it reads keys that are ours. Others are not asked.
    argv.append("--user=root")
    if tls:
        tls = tls.copy_to(place.folder / "tls")
        argv += ["--enable-ssl", "--extended", _tls_settings(tls)]
    who = ""
    if password is not None:
        users = place.folder / "users"
        users.write_text(f"{USER}:{password}\n")
        argv += ["--auth-file", str(users)]
        who = f"{USER}:{quote(password, safe='')}@"
    return Plan(
        argv=(*argv, *arguments),
        url=f"memcached://{who}127.0.0.1:{place.port}{tls.as_options() if tls else ''}",
        probe=partial(memcached_version, place.port, tls=tls, user=USER, password=password),
    )


def _tls_settings(tls: Certificates) -> str:
    settings = {
        "ssl_chain_cert": tls.server_certificate,
        "ssl_key": tls.server_key,
        "ssl_ca_cert": tls.authority,
        # Ask for a client's certificate, and do without: https://docs.memcached.org/features/tls/
        "ssl_verify_mode": 1,
    }
    return ",".join(f"{name}={value}" for name, value in settings.items())
