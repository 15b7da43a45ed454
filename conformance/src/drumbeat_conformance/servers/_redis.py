"""Redis, alone, watched by sentinels, or as a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import final
from urllib.parse import quote

from drumbeat_conformance.servers._ask import RedisLine, redis_line, redis_version
from drumbeat_conformance.servers._certificates import Certificates
from drumbeat_conformance.servers._errors import ServerFailed
from drumbeat_conformance.servers._launch import launch, launch_one
from drumbeat_conformance.servers._server import Group, Nodes, Place, Plan, Server, Servers

_SLOTS = 16384
# A cluster's nodes talk on the port of the clients plus this.
_BUS = 10_000
# Seconds for servers that all answer to agree with each other.
_PATIENCE = 30.0
# "always", since with less a slow disk may keep what was acknowledged from a program that is killed.
_PERSISTENT = {"appendonly": "yes", "appendfsync": "always", "save": '""'}
_VOLATILE = {"appendonly": "no", "save": '""'}


@final
class Sentinels(Group):
    """A Redis with replicas, and sentinels that watch it under the name `mymaster`."""

    def __init__(self, started: Servers, *, replicas: int) -> None:
        self.sentinels = started.servers[1 + replicas :]
        super().__init__(started, url=f"redis+sentinel://{','.join(each.address for each in self.sentinels)}/mymaster")
        #: The one that was the primary at the start; a failover makes another one so.
        self.primary = started.servers[0]
        #: Those that were replicas at the start.
        self.replicas = started.servers[1 : 1 + replicas]


@final
class RedisCluster(Nodes):
    """A Redis Cluster of primaries that share out all slots."""


def start_redis(
    *,
    arguments: Sequence[str] = (),
    persistent: bool = True,
    password: str | None = None,
    acl: Sequence[str] = (),
    tls: Certificates | None = None,
    steppable: bool = False,
) -> Server:
    """Return a Redis that answers.

    `arguments` are added to its command line. `persistent` means an append-only file, else it keeps nothing over a
    restart. `password` is that of the default user; `acl` are further users, each as in `user` lines of redis.conf,
    such as "alice on >secret ~* &* +@all". With `tls` it speaks TLS alone, and asks for a client's certificate but
    does without. The wall clock of a `steppable` one can be stepped. Raises CouldNotRun or ServerFailed.
    """
    plan = partial(_plan, arguments=arguments, persistent=persistent, password=password, acl=acl, tls=tls)
    return launch_one("redis", lambda places: [plan(places[0])], steppable=steppable)


def start_redis_sentinel(*, replicas: int = 1, sentinels: int = 3) -> Sentinels:
    """Return a Redis whose replicas follow it, and sentinels that all know each other.

    A failover begins once most sentinels have missed the primary for 0.5 s. Raises CouldNotRun or ServerFailed.
    """
    plans = partial(_watched_plans, replicas=replicas, sentinels=sentinels)
    group = Sentinels(launch("redis", plans, nodes=1 + replicas + sentinels), replicas=replicas)
    with _closed_on_failure(group):
        for server in group.sentinels:
            _agree(server, partial(_watches, replicas=replicas, others=sentinels - 1))
    return group


def start_redis_cluster(*, nodes: int = 3) -> RedisCluster:
    """Return a Redis Cluster whose nodes all know who has which slots.

    A node counts as failed once most others have missed it for 1 s. Raises CouldNotRun or ServerFailed.
    """
    cluster = RedisCluster(launch("redis", _cluster_plans, nodes=nodes, offsets=(0, _BUS)), scheme="redis+cluster")
    with _closed_on_failure(cluster):
        _form(cluster.nodes)
    return cluster


@contextmanager
def _closed_on_failure(group: Group) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(group)
        yield
        stack.pop_all()


def _plan(
    place: Place,
    *,
    arguments: Sequence[str] = (),
    persistent: bool = True,
    password: str | None = None,
    acl: Sequence[str] = (),
    tls: Certificates | None = None,
    settings: Sequence[str] = (),
    fact: str = "",
    stage: int = 0,
) -> Plan:
    if tls:
        tls = tls.copy_to(place.folder / "tls")
    lines = [
        f"bind {place.bind}",
        "protected-mode no",
        f"dir {place.data}",
        *(f"{name} {value}" for name, value in (_PERSISTENT if persistent else _VOLATILE).items()),
        *(_tls_settings(place, tls) if tls else [f"port {place.port}"]),
        *([f"requirepass {_quoted(password)}"] if password is not None else []),
        *(f"user {user.removeprefix('user ')}" for user in acl),
        *settings,
    ]
    (place.folder / "redis.conf").write_text("".join(f"{line}\n" for line in lines))
    credentials = "" if password is None else f":{quote(password, safe='')}@"
    return Plan(
        argv=("redis-server", str(place.folder / "redis.conf"), *arguments),
        url=f"redis{'s' if tls else ''}://{credentials}127.0.0.1:{place.port}" + (tls.as_options() if tls else ""),
        probe=partial(redis_version, place.port, tls=tls, password=password, fact=fact),
        stage=stage,
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _tls_settings(place: Place, tls: Certificates) -> list[str]:
    # https://redis.io/docs/latest/operate/oss_and_stack/management/security/encryption/
    return [
        "port 0",
        f"tls-port {place.port}",
        f"tls-cert-file {tls.server_certificate}",
        f"tls-key-file {tls.server_key}",
        f"tls-ca-cert-file {tls.authority}",
        "tls-auth-clients optional",
    ]


def _watched_plans(places: Sequence[Place], *, replicas: int, sentinels: int) -> list[Plan]:
    primary, followers, watchers = places[0], places[1 : 1 + replicas], places[1 + replicas :]
    quick = ["repl-diskless-sync-delay 0", "replica-announce-ip 127.0.0.1"]
    follow = [*quick, f"replicaof 127.0.0.1 {primary.port}"]
    return [
        _plan(primary, settings=quick),
        *(_plan(place, settings=follow, fact="master_link_status:up", stage=1) for place in followers),
        *(_sentinel_plan(place, primary=primary, quorum=sentinels // 2 + 1) for place in watchers),
    ]


def _sentinel_plan(place: Place, *, primary: Place, quorum: int) -> Plan:
    # A sentinel writes what it learns to its own configuration.
    # https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
    configuration = place.folder / "sentinel.conf"
    configuration.write_text(
        f"port {place.port}\nbind {place.bind}\nprotected-mode no\ndir {place.data}\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} {quorum}\n"
        "sentinel announce-ip 127.0.0.1\n"
        "sentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 3000\n"
    )
    return Plan(
        argv=("redis-server", str(configuration), "--sentinel"),
        url=f"redis+sentinel://127.0.0.1:{place.port}/mymaster",
        probe=partial(redis_version, place.port),
        # A sentinel asks for replicas when it starts, and then every 10 s.
        stage=2,
    )


def _watches(line: RedisLine, *, replicas: int, others: int) -> bool:
    answer = line.call("SENTINEL", "MASTER", "mymaster")
    if not isinstance(answer, list):
        return False
    facts = dict(zip(answer[::2], answer[1::2], strict=True))
    followers = line.call("SENTINEL", "REPLICAS", "mymaster")
    ready = [each for each in followers if "slave-repl-offset" in str(each)] if isinstance(followers, list) else []
    counts = facts["num-slaves"], facts["num-other-sentinels"], facts["flags"]
    return counts == (str(replicas), str(others), "master") and len(ready) == replicas


def _cluster_plans(places: Sequence[Place]) -> list[Plan]:
    settings = ["cluster-enabled yes", "cluster-node-timeout 1000", "cluster-announce-ip 127.0.0.1"]
    return [_plan(place, settings=settings) for place in places]


def _form(servers: Sequence[Server]) -> None:
    # https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
    for number, server in enumerate(servers):
        first, last = (_SLOTS * part // len(servers) for part in (number, number + 1))
        with redis_line(server.port) as line:
            line.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            line.call("CLUSTER", "ADDSLOTS", *range(first, last))
            for other in servers[:number]:
                line.call("CLUSTER", "MEET", "127.0.0.1", other.port)
    for server in servers:
        _agree(server, partial(_knows_all, nodes=len(servers)))


def _knows_all(line: RedisLine, *, nodes: int) -> bool:
    facts = str(line.call("CLUSTER", "INFO")).split()
    return {"cluster_state:ok", "cluster_slots_ok:16384", f"cluster_size:{nodes}"} <= set(facts)


def _agree(server: Server, agrees: Callable[[RedisLine], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    with redis_line(server.port) as line:
        while not agrees(line):
            if time.monotonic() > until:
                raise ServerFailed(f"the group of {server.address} did not agree in {_PATIENCE:g} s", server.log())
            time.sleep(0.02)
