"""The remedies of drumbeat-etcd against what etcd does, each taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from drumbeat import Conflict, Vacant
from drumbeat.hookspecs import Holdings, Lease, Seat, SessionRequest, Waiting, Won
from drumbeat_etcd import EtcdBackend, _translate
from drumbeat_etcd._client import Client
from drumbeat_etcd._holdings import Claims
from drumbeat_etcd._operations import Created, Put, Renewal, Transaction
from drumbeat_etcd._watches import Watch, Watches
from drumbeat_mutants import Patch, mutant

#: A bound method, before it was broken.
Original = Callable[..., object]
#: Seconds of a lease that a mutant asks for.
_TTL = 30


@mutant("takes-zero-for-an-answer", breaks="ETCD-1", of="etcd", like="peers 7")
def takes_zero_for_an_answer(patch: Patch) -> None:
    """A heartbeat to which the server answers that there is no such lease counts as one that renewed it."""

    def beat(original: Callable[..., Renewal], self: Client, *arguments: object) -> Renewal:
        renewal = original(self, *arguments)
        return replace(renewal, ttl=max(2, renewal.ttl))

    patch.wrap(Client, "beat", beat)
    patch(EtcdBackend, "_require_session", lambda self, lease, renewal: None)  # noqa: ARG005 - the real signature


@mutant("trusts-the-stream-alone", breaks="ETCD-2", of="etcd", like="hazard: watch compacted or cancelled")
def trusts_the_stream_alone(patch: Patch) -> None:
    """A watch that is placed anew says nothing of what may have happened since it broke."""

    def stand(original: Original, self: Watches, stream: object, watch: Watch, told: object) -> None:
        watch.standing.clear()
        original(self, stream, watch, told)

    patch.wrap(Watches, "_stand", stand)


@mutant("looks-at-the-leader-alone", breaks="ETCD-3", of="etcd", like="hazard: renewed for ever while one seat is gone")
def looks_at_the_leader_alone(patch: Patch) -> None:
    """A heartbeat verifies the key of the leader and not the one of the attempt that made it so."""

    def proofs(original: Callable[..., set[str]], self: Claims, one: object) -> set[str]:
        return {self.keys.leader(one.election)} if isinstance(one, Seat) else original(self, one)

    patch.wrap(Claims, "proofs", proofs)


@mutant("wins-when-the-one-before-goes", breaks="ETCD-4", of="etcd", like="peers 12")
def wins_when_the_one_before_goes(patch: Patch) -> None:
    """A candidate that has waited takes the seat as soon as it is vacant, without a look at its own key."""

    def campaign(
        original: Original, self: EtcdBackend, lease: Lease, election: str, attempt: int, value: bytes, timeout: float
    ) -> object:
        answer = original(self, lease, election, attempt, value, timeout)
        if not (isinstance(answer, Waiting) and answer.holder == Vacant()):
            return answer
        leader = self._keys.leader(election)
        record = self._record(lease, election, attempt, value)
        put = Put(leader, record.encode(), self._lease_id(lease.incarnation))
        won = self._connection().transact(Transaction((Created(leader),), then=(put,)), timeout)
        return Won(Seat(election, attempt, won.revision)) if won.succeeded else answer

    patch.wrap(EtcdBackend, "campaign", campaign)


@mutant("does-not-know-a-full-server", breaks="ETCD-5", of="etcd")
def does_not_know_a_full_server(patch: Patch) -> None:
    """That a full server has refused a write counts as an answer that says nothing of what was applied."""
    known = tuple(text for text in _translate._NOT_APPLIED if "space" not in text)
    patch(_translate, "_NOT_APPLIED", known)


@mutant("leaks-a-lease-for-each-attempt", breaks="ETCD-6", of="etcd", like="hazard: one lease leaked by every attempt")
def leaks_a_lease_for_each_attempt(patch: Patch) -> None:
    """The lease is granted before it is known whether the member id is free, and stays where it is not."""

    def open_session(original: Original, self: EtcdBackend, request: SessionRequest, timeout: float) -> object:
        try:
            return original(self, request, timeout)
        except Conflict:
            self._connection().grant(self._lease_id(request.incarnation), _TTL, timeout)
            raise

    patch.wrap(EtcdBackend, "open_session", open_session)


@mutant("believes-what-it-asked-for", breaks="ETCD-7", of="etcd", like="hazard: granted TTL exceeds the one asked for")
def believes_what_it_asked_for(patch: Patch) -> None:
    """A lease says the TTL that was asked for, whatever the server has granted."""

    def open_session(
        original: Callable[..., Lease], self: EtcdBackend, request: SessionRequest, timeout: float
    ) -> Lease:
        return replace(original(self, request, timeout), ttl=request.ttl)

    patch.wrap(EtcdBackend, "open_session", open_session)


@mutant("heartbeats-share-the-connection", breaks="BEAT-11", of="etcd", like="hazard: keepalive late or stream stuck")
def heartbeats_share_the_connection(patch: Patch) -> None:
    """Heartbeats travel on the connection of all other calls."""

    def call(original: Original, self: Client, *arguments: object, **options: object) -> object:
        return original(self, *arguments, **{name: value for name, value in options.items() if name != "role"})

    patch.wrap(Client, "_call", call)


@mutant("asks-one-after-the-other", breaks="BEAT-6", of="etcd")
def asks_one_after_the_other(patch: Patch) -> None:
    """A heartbeat waits for the renewal before it asks for the keys of the lease."""

    def heartbeat(original: Original, self: EtcdBackend, lease: Lease, holdings: Holdings, timeout: float) -> object:
        self._connection().remaining(self._lease_id(lease.incarnation), timeout)
        return original(self, lease, holdings, timeout)

    patch.wrap(EtcdBackend, "heartbeat", heartbeat)
