"""Processes are killed, frozen, forked and hogged; no seat has two holders, and what they held is free in time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from itertools import chain, repeat, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from drumbeat import SessionLost, Unavailable
from drumbeat.history import terms
from drumbeat.hookspecs import Capability
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._scene import LONG, Scene
from drumbeat_conformance.members import Member, MemberRaised

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.members import Answer

#: Disturbances of one history, and the processes that suffer them.
DISTURBANCES: Final = 50
CHURNERS: Final = 4
#: Processes that join at once, and the seconds that all may take.
CROWD: Final = 100
CROWDED: Final = 150.0
SHARDS: Final = 12
ITEMS: Final = 60


def lead(scene: Scene, *, ttl: float | None = None) -> Member:
    """Start a process that is a member of `g` and leads `e`."""
    leader = scene.member("leader", ttl=ttl)
    leader.ask("join", "g")
    leader.win("e")
    # Its first heartbeats have been answered by then.
    scene.arena.wait(scene.arena.ttl / 2)
    return leader


def assert_over_since(won: float, leader: Member, arena: Arena) -> None:
    """Fail if a process that looks at its term of `e` has ever seen it held since somebody else won."""
    looks = leader.looks("e")
    while not looks or looks[-1].at < won:
        arena.wait(arena.ttl / 50)
        looks += leader.looks("e")
    assert any(look.held for look in looks), "the leader never saw its term held"
    late = [look.at - won for look in looks if look.held and look.at >= won]
    assert late == [], f"the old leader still saw its term held {max(late):.3f} s after its successor had won"


@guarantee("FAULT-4", tier="faults", needs=Needs.PROCESSES)
def a_leader_that_was_frozen_holds_nothing_when_it_wakes(arena: Arena) -> None:
    """A leader that was frozen for longer than its TTL finds its term over at its first look when it wakes.

    A waiting candidate has won meanwhile, within the bound.
    """
    scene = Scene(arena)
    leader = lead(scene)
    leader.ask("look", "e")
    successor = scene.connect("successor")
    with leader.frozen():
        term = successor.election("e").campaign(timeout=successor.failover_bound + arena.ttl)
        won = arena.clock.now()
    assert_over_since(won, leader, arena)
    assert term.held
    scene.check()


@guarantee("FAULT-5", tier="faults", needs=Needs.PROCESSES)
def a_killed_leader_is_replaced_within_the_bound(arena: Arena) -> None:
    """When a leader is killed, a waiting candidate wins within the bound, and the dead one leaves its groups."""
    scene = Scene(arena)
    leader = lead(scene)
    successor = scene.connect("successor")
    waiting = arena.background(lambda: successor.election("e").campaign())
    leader.kill()
    waiting.result(within=successor.failover_bound + arena.ttl)
    bound = successor.backend.eviction.seconds(arena.ttl) + arena.ttl
    arena.eventually(lambda: successor.group("g").members().ids == (), within=bound)
    scene.check()


@guarantee("FAULT-8", tier="faults", needs=Needs.PROCESSES)
def a_forked_child_holds_nothing_and_releases_nothing(arena: Arena) -> None:
    """A forked child of a holder holds nothing and is refused everything; its end takes nothing from its parent."""
    scene = Scene(arena)
    leader = lead(scene)
    onlooker = scene.connect("onlooker")
    before = onlooker.election("e").leader()
    assert leader.ask("fork", "g", "e") == 0, "some of the checks in the child failed"
    leader.ask("look", "e")
    arena.wait(2 * arena.ttl)
    assert [look for look in leader.looks("e") if not look.held] == []
    assert before == onlooker.election("e").leader()
    assert onlooker.group("g").members().ids == ("leader",)


@guarantee("FAULT-11", level="should", tier="faults", claim=Capability.CRASH_DETECTION, needs=Needs.PROCESSES)
def a_killed_process_is_noticed_at_once(arena: Arena) -> None:
    """A killed process is noticed long before its lease has run out: its seat is won, and its membership ends."""
    scene = Scene(arena)
    leader = lead(scene, ttl=LONG)
    successor = scene.connect("successor")
    waiting = arena.background(lambda: successor.election("e").campaign())
    assert successor.group("g").members().ids == ("leader",)
    leader.kill()
    waiting.result(within=LONG / 6)
    arena.eventually(lambda: successor.group("g").members().ids == (), within=LONG / 6)
    scene.check()


@guarantee("FAULT-12", tier="faults", needs=Needs.PROCESSES)
def a_leader_that_is_frozen_for_a_while_loses_nothing(arena: Arena) -> None:
    """A leader that is frozen for less than its TTL keeps its session, its membership and its term."""
    scene = Scene(arena)
    leader = lead(scene, ttl=3 * arena.ttl)
    before = leader.ask("incarnation")
    rival = scene.connect("rival")
    waiting = arena.background(lambda: rival.election("e").campaign(timeout=6 * arena.ttl))
    leader.ask("look", "e")
    for _ in range(2):
        with leader.frozen():
            arena.wait(1.2 * arena.ttl)
        arena.wait(arena.ttl)
    assert [look for look in leader.looks("e") if not look.held] == []
    assert (before, ["leader"]) == (leader.ask("incarnation"), leader.ask("members", "g"))
    assert waiting.running
    assert leader.ask("resign", "e")
    waiting.result(within=6 * arena.ttl)
    scene.check()


@guarantee("FAULT-19", tier="faults", needs=Needs.PROCESSES)
def a_leader_whose_interpreter_was_hogged_holds_nothing_after_it(arena: Arena) -> None:
    """While a call that keeps the interpreter lock starves a leader's threads for two TTLs, its lease runs out.

    Nothing renews it in their place: a waiting candidate wins within the bound, and the leader's first look afterwards
    says that its term is over.
    """
    scene = Scene(arena)
    leader = lead(scene)
    leader.ask("look", "e")
    successor = scene.connect("successor")
    waiting = arena.background(lambda: successor.election("e").campaign())
    hog = leader.tell("hog", successor.failover_bound + 2 * arena.ttl)
    term = waiting.result(within=successor.failover_bound + arena.ttl)
    won = arena.clock.now()
    hog.result()
    assert_over_since(won, leader, arena)
    assert term.held
    scene.check()


@guarantee("FAULT-20", tier="faults", needs=Needs.PROCESSES)
def shards_never_have_two_owners_under_kills_and_freezes(arena: Arena) -> None:
    """While members of a group are killed and frozen, no shard has two owners, and in the end every shard has one.

    So has every item that is shared out by the view, since all processes compute the same owner.
    """
    scene = Scene(arena)

    def sharer(number: int) -> tuple[Member, Answer]:
        member = scene.member(f"m{number}")
        return member, member.tell("take_shards", "g", SHARDS, arena.ttl / 2)

    def wait_for_balance(members: list[Member]) -> None:
        def owned() -> list[int]:
            return sorted(number for member in members for number in member.owned())

        def items() -> list[int]:
            # A busy machine may make a member miss its server for a moment.
            with suppress(MemberRaised):
                return sorted(item for member in members for item in member.share("g", ITEMS))
            return []

        arena.eventually(lambda: owned() == list(range(SHARDS)), within=10 * arena.ttl + LONG / 2)
        arena.eventually(lambda: items() == list(range(ITEMS)), within=5 * arena.ttl)

    begun = [sharer(number) for number in range(3)]
    sharers = [member for member, _ in begun]
    for _, joined in begun:
        joined.result()
    wait_for_balance(sharers)
    for number in (3, 4):
        killed, slow, _ = sharers
        killed.kill()
        with slow.frozen():
            # One that is frozen within a write may keep everybody out of a store that is a file.
            new, joined = sharer(number)
            arena.wait(1.5 * arena.ttl)
        joined.result()
        sharers = [*sharers[1:], new]
        wait_for_balance(sharers)
    scene.check()


def assert_disturbed(scene: Scene) -> None:
    """Fail if the disturbances hit nobody that held the seat, or hit so many that nobody ever resigned."""
    kills = sum(record.kind == "killed" for record in scene.history())
    assert kills >= DISTURBANCES // 2, f"only {kills} kills are on record"
    ended = _ends(scene)
    assert _hit_a_leader(scene), f"no disturbance hit a leader, so that nothing was tested; terms ended so: {ended}"
    assert ended["resigned"], f"no leader ever resigned; terms ended so: {ended}"


def _hit_a_leader(scene: Scene) -> bool:
    ended = _ends(scene)
    return bool(ended["killed"] + ended["deadline"] + ended["term_lost"])


def _ends(scene: Scene) -> Counter[str]:
    now = scene.arena.clock.now()
    return Counter(str(term.ended) for term in terms(scene.history()) if term.until <= now)


@guarantee("FAULT-21", tier="faults", needs=Needs.PROCESSES)
def many_disturbances_make_no_overlap(arena: Arena) -> None:
    """Kills, mostly of leaders, and freezes, shorter and longer than the TTL, leave one leader at a time.

    Tokens rise with each term.
    """
    scene = Scene(arena)
    members: list[Member] = []

    def churner() -> Member:
        members.append(scene.member(f"m{len(members)}"))
        members[-1].tell("churn", "e", 0.02, 0.2, len(members))
        return members[-1]

    onlooker = scene.connect("onlooker")

    def somebody() -> int:
        with suppress(Unavailable, SessionLost):
            leader = onlooker.election("e").leader()
            leading = [place for place, one in enumerate(churners) if leader and leader.member_id == one.member_id]
            if leading:
                return leading[0]
        return arena.draw.randrange(CHURNERS)

    churners = [churner() for _ in range(CHURNERS)]
    for member in churners:
        member.ready()
    thaws: dict[int, float] = {}
    plan = arena.draw.sample(["kill", "freeze"], DISTURBANCES, counts=[DISTURBANCES // 2] * 2)
    # On a busy machine all of them may miss whoever leads just then: more kills follow until one has hit.
    for disturbance in chain(plan, takewhile(lambda _: not _hit_a_leader(scene), repeat("kill", DISTURBANCES))):
        arena.wait(arena.draw.uniform(0.1, 0.4))
        # One place stays awake, so that there is something to disturb.
        while len(thaws) == CHURNERS - 1 or min(thaws.values(), default=math.inf) <= arena.clock.now():
            place = min(thaws, key=thaws.__getitem__)
            del thaws[place]
            churners[place].thaw()
        if disturbance == "kill":
            place = somebody()
            thaws.pop(place, None)
            churners[place].kill()
            churners[place] = churner()
        else:
            place = arena.draw.choice([place for place in range(CHURNERS) if place not in thaws])
            churners[place].freeze()
            thaws[place] = arena.clock.now() + arena.draw.uniform(0.2, 2.5) * arena.ttl
    for place in thaws:
        churners[place].thaw()
    arena.eventually(lambda: len(terms(scene.history())) >= DISTURBANCES, within=60.0)
    assert_disturbed(scene)
    scene.check()


@guarantee("FAULT-22", tier="faults", needs=Needs.PROCESSES, alone=True)
def a_hundred_processes_join_at_once(arena: Arena) -> None:
    """When a hundred processes join at once, all are in, every one sees the same members, and their shares are
    everything and nothing twice. Of those that try at once to lead, one wins.
    """
    arena.actor("onlooker").close()
    command = [sys.executable, "-m", "drumbeat_conformance.members._crowd", arena.url, arena.namespace(), str(CROWD)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CROWDED, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[tuple[list[str], list[int], bool]] = json.loads(done.stdout)
    everybody = [f"m{number:03}" for number in range(CROWD)]
    assert [everybody] * CROWD == [ids for ids, _, _ in found]
    assert sorted(item for _, share, _ in found for item in share) == list(range(5 * CROWD))
    assert sum(leads for _, _, leads in found) == 1


@guarantee("FAULT-23", tier="faults", needs=Needs.PROCESSES)
def a_process_that_died_comes_back_under_its_own_id(arena: Arena) -> None:
    """A process that was killed and started again at once gets in under its own member id, and stands there once."""
    scene = Scene(arena)
    first = lead(scene)
    before = first.ask("incarnation")
    first.kill()
    again = lead(scene)
    assert before != again.ask("incarnation")
    assert again.ask("members", "g") == ["leader"]
    scene.check()


@guarantee("FAULT-24", tier="faults", needs=Needs.PROCESSES)
def processes_that_count_under_a_lock_lose_no_increment(arena: Arena) -> None:
    """Processes that increment a number in a file, each time under the lock, lose no increment."""
    counter = Path(arena.use(TemporaryDirectory(prefix="drumbeat-counter-"))) / "counter"
    counter.write_text("0")
    members = [Member.start(arena, f"m{number}") for number in range(CHURNERS)]
    counts = [member.tell("count", "lock", str(counter), 10) for member in members]
    assert [count.result(within=2 * LONG) for count in counts] == [10] * CHURNERS
    assert str(10 * CHURNERS) == counter.read_text()
