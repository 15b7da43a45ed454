"""etcd, alone or as a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

from drumbeat_conformance.servers._ask import etcd_version
from drumbeat_conformance.servers._certificates import Certificates
from drumbeat_conformance.servers._launch import launch, launch_one
from drumbeat_conformance.servers._server import Nodes, Place, Plan, Server

# Milliseconds; the defaults are 100 and 1000. https://etcd.io/docs/v3.4/tuning/#time-parameters
_QUICK = ("--heartbeat-interval=20", "--election-timeout=200")


@final
class EtcdCluster(Nodes):
    """An etcd cluster whose members all answer."""


def start_etcd(*, quick: bool = True, tls: Certificates | None = None, arguments: Sequence[str] = ()) -> Server:
    """Return an etcd that answers, a cluster of its own.

    `quick` means a heartbeat of 20 ms and an election timeout of 200 ms in place of the defaults. With `tls` it asks
    each client for a certificate. `arguments` are added to its command line. Raises CouldNotRun or ServerFailed.
    """
    return launch_one("etcd", partial(_plans, quick=quick, tls=tls, arguments=arguments), ports=2)


def start_etcd_cluster(*, nodes: int = 3, quick: bool = True) -> EtcdCluster:
    """Return an etcd cluster that has a leader; `quick` is that of `start_etcd`.

    Raises CouldNotRun or ServerFailed.
    """
    return EtcdCluster(launch("etcd", partial(_plans, quick=quick), nodes=nodes, ports=2), scheme="etcd")


def _plans(
    places: Sequence[Place], *, quick: bool, tls: Certificates | None = None, arguments: Sequence[str] = ()
) -> list[Plan]:
    peers = ",".join(f"{place.port}=http://127.0.0.1:{place.ports[1]}" for place in places)
    return [_plan(place, peers=peers, quick=quick, tls=tls, arguments=arguments) for place in places]


def _plan(place: Place, *, peers: str, quick: bool, tls: Certificates | None, arguments: Sequence[str]) -> Plan:
    scheme = "https" if tls else "http"
    argv = [
        "etcd",
        f"--name={place.port}",
        f"--data-dir={place.data}",
        f"--listen-client-urls={scheme}://{place.bind}:{place.port}",
        f"--advertise-client-urls={scheme}://127.0.0.1:{place.port}",
        f"--listen-peer-urls=http://127.0.0.1:{place.ports[1]}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{place.ports[1]}",
        f"--initial-cluster={peers}",
        *(_QUICK if quick else ()),
    ]
    if tls:
        tls = tls.copy_to(place.folder / "tls")
        argv += ["--client-cert-auth", f"--trusted-ca-file={tls.authority}"]
        argv += [f"--cert-file={tls.server_certificate}", f"--key-file={tls.server_key}"]
    return Plan(
        argv=(*argv, *arguments),
        url=f"etcd{'s' if tls else ''}://127.0.0.1:{place.port}{tls.as_options(client=True) if tls else ''}",
        probe=partial(etcd_version, place.port, tls=tls),
    )
