"""ZooKeeper, alone or as an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import final

from drumbeat_conformance.servers._ask import zookeeper_version
from drumbeat_conformance.servers._certificates import Certificates
from drumbeat_conformance.servers._launch import launch, launch_one
from drumbeat_conformance.servers._server import Nodes, Place, Plan, Server

# Runs the server from the jars of Debian's package, or else from those beside zkServer.sh, as the one process.
# Debian's zkServer.sh leaves out the part of Netty that TLS needs, and every log but one in a system folder.
_SCRIPT = """
jars=/usr/share/java
if [ -e "$jars/zookeeper.jar" ]; then
    classpath="$jars/zookeeper.jar:$jars/netty-codec.jar:$jars/netty-resolver.jar:$jars/slf4j-simple.jar"
else
    classpath="$(dirname "$(readlink -f "$(command -v zkServer.sh)")")/../lib/*"
fi
settings="$1"
shift
exec java "$@" -cp "$(dirname "$settings"):$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$settings"
"""
# Quick to start rather than quick to run.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-Djava.awt.headless=true")
# https://zookeeper.apache.org/doc/r3.8.0/zookeeperAdmin.html#sc_configuration
_SETTINGS: Mapping[str, object] = {
    "4lw.commands.whitelist": "*",
    "admin.enableServer": "false",
    "maxClientCnxns": 0,
}
_DEFAULTS: Mapping[str, object] = {"tickTime": 2000, "initLimit": 10, "syncLimit": 5}
# Milliseconds, and ticks. The limits would shrink with the tick.
_QUICK: Mapping[str, object] = {
    "tickTime": 100,
    "initLimit": 200,
    "syncLimit": 50,
    "minSessionTimeout": 100,
    "maxSessionTimeout": 60_000,
    "forceSync": "no",
    # Kilobytes that each new log file takes at once.
    "preAllocSize": 1024,
}
# For logback (ZooKeeper 3.8 and later as its makers ship it), log4j (before) and simple (Debian's jars).
_LOGGING = {
    "logback.xml": (
        "<configuration><appender name='out' class='ch.qos.logback.core.ConsoleAppender'><encoder>"
        "<pattern>%d %level %logger{0} %msg%n</pattern></encoder></appender>"
        "<root level='INFO'><appender-ref ref='out'/></root></configuration>\n"
    ),
    "log4j.properties": (
        "log4j.rootLogger=INFO, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n"
    ),
    "simplelogger.properties": "org.slf4j.simpleLogger.showDateTime=true\n",
}


@final
class Ensemble(Nodes):
    """A ZooKeeper ensemble whose servers all answer."""


def start_zookeeper(
    *,
    quick: bool = True,
    settings: Mapping[str, object] | None = None,
    jaas: str | None = None,
    tls: Certificates | None = None,
    read_only: bool = False,
) -> Server:
    """Return a ZooKeeper that answers.

    `quick` means ticks of 100 ms, sessions from 0.1 s to 60 s and no syncs to disk, in place of the defaults;
    `settings` are lines of zoo.cfg that replace any of ours. `jaas` is the text of a JAAS file, whose `Server` section
    tells who may authenticate by SASL. With `tls` it speaks TLS alone, and asks for a client's certificate but does
    without. With `read_only` it is a server that has lost its ensemble, and serves in read-only mode.
    Raises CouldNotRun or ServerFailed.
    """
    configure = partial(_plans, quick=quick, settings=settings or {}, jaas=jaas, tls=tls, read_only=read_only)
    return launch_one("zookeeper", configure, ports=3)


def start_zookeeper_ensemble(
    *, nodes: int = 3, quick: bool = True, settings: Mapping[str, object] | None = None
) -> Ensemble:
    """Return a ZooKeeper ensemble that has a leader; `quick` and `settings` are those of `start_zookeeper`.

    Raises CouldNotRun or ServerFailed.
    """
    configure = partial(_plans, quick=quick, settings=settings or {})
    return Ensemble(launch("zookeeper", configure, nodes=nodes, ports=3), scheme="zookeeper")


def _plans(
    places: Sequence[Place],
    *,
    quick: bool,
    settings: Mapping[str, object],
    jaas: str | None = None,
    tls: Certificates | None = None,
    read_only: bool = False,
) -> list[Plan]:
    members = {number: f"127.0.0.1:{place.ports[1]}:{place.ports[2]}" for number, place in enumerate(places, 1)}
    if read_only:
        # The rest of its ensemble, which never comes: nobody listens on ports this low.
        members |= {2: "127.0.0.1:2:3", 3: "127.0.0.1:4:5"}
    ensemble = {f"server.{number}": address for number, address in members.items()} if len(members) > 1 else {}
    ours = {**_SETTINGS, **(_QUICK if quick else _DEFAULTS), **ensemble, **settings}
    return [
        _plan(place, number=number, settings=ours, jaas=jaas, tls=tls, read_only=read_only)
        for number, place in enumerate(places, 1)
    ]


def _plan(
    place: Place,
    *,
    number: int,
    settings: Mapping[str, object],
    jaas: str | None,
    tls: Certificates | None,
    read_only: bool,
) -> Plan:
    flags = [*_JVM, f"-Dreadonlymode.enabled={str(read_only).lower()}"]
    if tls:
        tls = tls.copy_to(place.folder / "tls")
        settings = {**_tls_settings(tls), **settings}
    if jaas is not None:
        (place.folder / "jaas").write_text(jaas)
        flags.append(f"-Djava.security.auth.login.config={place.folder / 'jaas'}")
        settings = {"authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider", **settings}
    port = "secureClientPort" if tls else "clientPort"
    _configure(place, settings={"dataDir": place.data, port: place.port, f"{port}Address": place.bind, **settings})
    return Plan(
        argv=("sh", "-c", _SCRIPT, "zookeeper", str(place.folder / "zoo.cfg"), *flags),
        url=f"zookeeper://127.0.0.1:{place.port}{tls.as_options() if tls else ''}",
        probe=partial(zookeeper_version, place.port, tls=tls, mode="read-only" if read_only else ""),
        seeds={"myid": f"{number}\n"},
    )


def _configure(place: Place, *, settings: Mapping[str, object]) -> None:
    (place.folder / "zoo.cfg").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    for name, text in _LOGGING.items():
        (place.folder / name).write_text(text)


def _tls_settings(tls: Certificates) -> dict[str, object]:
    # https://zookeeper.apache.org/doc/r3.8.0/zookeeperAdmin.html#sc_authOptions
    keys = tls.server_certificate.with_name("server-both.pem")
    keys.write_bytes(tls.server_key.read_bytes() + tls.server_certificate.read_bytes())
    return {
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "ssl.keyStore.location": keys,
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": tls.authority,
        "ssl.trustStore.type": "PEM",
        "ssl.clientAuth": "want",
        "ssl.hostnameVerification": "false",
    }
