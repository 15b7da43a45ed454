"""The remedies of drumbeat-redis against what Redis does, each taken away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from drumbeat.hookspecs import Lease, Waiting, Won
from drumbeat_mutants import Patch, mutant
from drumbeat_redis import RedisBackend, _translate
from drumbeat_redis._hints import Hints
from drumbeat_redis._link import Link, Reply, Word, _checked
from drumbeat_redis._script import Script

#: A bound method, before it was broken.
Original = Callable[..., object]


def rewrite(patch: Patch, *changes: tuple[str, str]) -> None:
    """Replace pieces of the script, each of which stands there once."""

    def load(original: Callable[[type[Script]], Script], kind: type[Script]) -> Script:
        text = original(kind).text.decode()
        for old, new in changes:
            assert text.count(old) == 1, f"the script has {old!r} {text.count(old)} times"
            text = text.replace(old, new)
        return Script(text.encode(), hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    patch.wrap(Script, "load", load)


@mutant("sends-its-script-once", breaks="REDIS-1", of="redis", like="hazard: script cache lost on failover or FLUSH")
def sends_its_script_once(patch: Patch) -> None:
    """A connection sends the script's text with its first call, and never again, whatever the server forgets."""

    def evaluate(
        original: Original, self: Link, script: Script, arguments: Sequence[Word], *, replicas: int, deadline: float
    ) -> object:
        if "sent" not in vars(self):
            vars(self)["sent"] = True
            return original(self, script, arguments, replicas=replicas, deadline=deadline)
        with _translate.asking(self.address, user=self.user):
            answers: list[Reply] = _checked(self._exchange([("EVALSHA", script.sha, 1, *arguments)], deadline))
        return answers

    patch.wrap(Link, "evaluate", evaluate)


@mutant("trusts-idle-connections", breaks="REDIS-2", of="redis", like="hazard: SUBSCRIBE drops silently")
def trusts_idle_connections(patch: Patch) -> None:
    """A connection from the pool is used without a look whether it still stands."""
    patch(Link, "is_idle", lambda self: True)  # noqa: ARG005 - the signature of the real one


@mutant("counts-terms", breaks="REDIS-3", of="redis", like="hazard: eviction, FLUSHALL, restart without AOF")
def counts_terms(patch: Patch) -> None:
    """A token is the last one plus one, so that it begins again with the data."""
    rewrite(patch, ("local token = digits(math.max(before + 1, now))", "local token = digits(before + 1)"))


@mutant("waits-for-events", breaks="REDIS-4", of="redis", like="hazard: `expired` events are no signal")
def waits_for_events(patch: Patch) -> None:
    """A candidate is not told until when the leader's lease lasts, and relies on being told that it is over."""

    def campaign(original: Original, self: RedisBackend, *arguments: object, **options: object) -> object:
        answer = original(self, *arguments, **options)
        return Waiting(answer.holder, None) if isinstance(answer, Waiting) else answer

    patch.wrap(RedisBackend, "campaign", campaign)


@mutant(
    "forgets-what-it-missed", breaks="REDIS-5", of="redis", like="hazard: SUBSCRIBE races the read, or drops silently"
)
def forgets_what_it_missed(patch: Patch) -> None:
    """A subscription that is made again tells nobody that something may have happened meanwhile."""

    def disconnected(original: Original, self: Hints) -> None:
        original(self)
        self._missed.clear()

    patch.wrap(Hints, "_disconnected", disconnected)


@mutant("renews-without-a-look", breaks="REDIS-6", of="redis", like="hazard: renewed for ever while one seat is gone")
def renews_without_a_look(patch: Patch) -> None:
    """A heartbeat renews the session and does not look at its seats."""
    rewrite(
        patch,
        (
            "  return seat.incarnation ~= ARGV[3] or seat.attempt ~= attempt or seat.token ~= token\nend",
            "  return false\nend",
        ),
    )


@mutant(
    "takes-tokens-from-the-clock", breaks=("REDIS-7", "REDIS-8"), of="redis", like="hazard: server wall clock steps"
)
def takes_tokens_from_the_clock(patch: Patch) -> None:
    """A token is what the server's clock shows, also where it showed more before."""
    rewrite(patch, ("local token = digits(math.max(before + 1, now))", "local token = digits(now)"))


@mutant("grants-by-the-clock-alone", breaks="REDIS-7", of="redis", like="hazard: server wall clock steps")
def grants_by_the_clock_alone(patch: Patch) -> None:
    """Seats are granted from a moment of the server's clock on, and no more once it has stepped back before that."""
    rewrite(
        patch,
        ("granting = wait > 0 and now + wait * 1000 or 0}", "granting = now + wait * 1000}"),
        ("    call('HSET', KEYS[1], 'granting', '0')\n", ""),
    )


@mutant("writes-tokens-as-lua-does", breaks="REDIS-8", of="redis", like="hazard: Lua never concatenates tokens")
def writes_tokens_as_lua_does(patch: Patch) -> None:
    """A token above the last one goes through Lua's own way to write numbers, which keeps fourteen digits."""
    rewrite(patch, ("math.max(before + 1, now)", "math.max(tonumber(tostring(before + 1)), now)"))


@mutant("writes-down-each-heartbeat", breaks="REDIS-9", of="redis", like="hazard: eviction")
def writes_down_each_heartbeat(patch: Patch) -> None:
    """A heartbeat also writes when it came, which a server out of memory refuses."""
    beaten = "  call('HSET', mine, 'beaten', digits(microseconds()))\n"
    old = "  -- An expiry that is not above 0 would remove the session.\n"
    rewrite(patch, (old, beaten + old))


@mutant("does-not-know-a-replica", breaks="REDIS-10", of="redis", like="hazard: Sentinel or Cluster failover")
def does_not_know_a_replica(patch: Patch) -> None:
    """The refusal of a primary that became a replica is an error like any that nobody expects."""
    known = {word: text for word, text in _translate._REFUSALS.items() if word != "READONLY"}
    patch(_translate, "_REFUSALS", known)


@mutant("sends-a-heartbeat-for-each-seat", breaks="BEAT-6", of="redis")
def sends_a_heartbeat_for_each_seat(patch: Patch) -> None:
    """A heartbeat verifies one seat after the other, each by a request of its own."""

    def heartbeat(original: Original, self: RedisBackend, lease: Lease, holdings: object, timeout: float) -> object:
        seats = holdings.seats  # type: ignore[attr-defined]
        for seat in seats[1:]:
            original(self, lease, replace(holdings, seats=(seat,), newest_attempt=0), timeout)  # type: ignore[type-var]
        return original(self, lease, holdings, timeout)

    patch.wrap(RedisBackend, "heartbeat", heartbeat)


@mutant("never-takes-no-for-an-answer", breaks="REDIS-6", of="redis", like="hazard: client-side retries")
def never_takes_no_for_an_answer(patch: Patch) -> None:
    """Who won an election once is told again that it has, from memory, though its seat is gone from the server."""
    won: dict[tuple[str, str, int], Won] = {}

    def campaign(
        original: Original, self: RedisBackend, lease: Lease, election: str, attempt: int, value: bytes, timeout: float
    ) -> object:
        known = next(
            (term for (own, name, _), term in won.items() if (own, name) == (lease.incarnation, election)), None
        )
        answer = known or original(self, lease, election, attempt, value, timeout)
        if isinstance(answer, Won):
            won[lease.incarnation, election, attempt] = answer
        return answer

    patch.wrap(RedisBackend, "campaign", campaign)
