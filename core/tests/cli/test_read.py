"""The commands that look: members, leader, watch, groups."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli.running import PATIENCE, TTL
from support import eventually

import drumbeat
from drumbeat import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.running import Desk


@pytest.fixture
def session(desk: Desk) -> Iterator[Session]:
    """Give a live session on the desk's store."""
    with drumbeat.connect(desk.url, member_id="agent-1", lease_ttl=10 * TTL) as opened:
        yield opened


def test_members_as_json(desk: Desk, session: Session) -> None:
    """A group is one object: its name, and id, incarnation and metadata of each member."""
    session.group("agents").join({"host": "ä", "weights": [1, 2.5, None]})
    asked = desk.start("members", "agents", "--json")
    assert asked.status() == 0
    member = {
        "member_id": "agent-1",
        "incarnation": session.incarnation,
        "metadata": {"host": "ä", "weights": [1, 2.5, None]},
    }
    assert asked.answers() == [{"group": "agents", "members": [member]}]


def test_members_for_people(desk: Desk, session: Session) -> None:
    """A member is a line with its id, its incarnation and its metadata."""
    session.group("agents").join({"host": "ä"})
    asked = desk.start("members", "agents")
    assert asked.status() == 0
    assert asked.out == [f'agent-1  {session.incarnation}  {{"host": "ä"}}\n']


def test_a_group_that_nobody_is_in_has_no_members(desk: Desk) -> None:
    """An unknown group is an empty one, which is no error."""
    asked = desk.start("members", "agents", "--json")
    assert asked.status() == 0
    assert asked.answers() == [{"group": "agents", "members": []}]
    assert desk.start("members", "agents").status() == 0


def test_leader_as_json(desk: Desk, session: Session) -> None:
    """A leader is one object: id, incarnation, token and value."""
    term = session.election("e").campaign({"port": 80})
    asked = desk.start("leader", "e", "--json")
    assert asked.status() == 0
    leader = {
        "member_id": "agent-1",
        "incarnation": session.incarnation,
        "token": term.token,
        "value": {"port": 80},
    }
    assert asked.answers() == [{"election": "e", "leader": leader}]


def test_leader_for_people(desk: Desk, session: Session) -> None:
    """A leader is a line with its id, its token and its value."""
    term = session.election("e").campaign({"port": 80})
    asked = desk.start("leader", "e")
    assert asked.status() == 0
    assert asked.out == [f'agent-1  token {term.token}  {{"port": 80}}\n']


def test_that_nobody_leads_is_told_by_the_status(desk: Desk) -> None:
    """Where nobody leads the status is 1, for scripts, and the answer says so."""
    asked, for_people = desk.start("leader", "e", "--json"), desk.start("leader", "e")
    assert asked.status() == 1
    assert asked.answers() == [{"election": "e", "leader": None}]
    assert for_people.status() == 1
    assert for_people.out == ["nobody leads\n"]


def test_groups(desk: Desk, session: Session) -> None:
    """The groups with members are listed by name, and nothing else is."""
    session.group("b").join()
    session.group("a").join()
    session.election("e").campaign()
    asked, for_people = desk.start("groups", "--json"), desk.start("groups")
    assert asked.status() == 0
    assert asked.answers() == [{"namespace": "drumbeat", "groups": ["a", "b"]}]
    assert for_people.status() == 0
    assert for_people.out == ["a\n", "b\n"]


def test_another_namespace_is_another_world(desk: Desk, session: Session) -> None:
    """With --namespace only what is there is seen."""
    session.group("a").join()
    asked = desk.start("groups", "--json", "--namespace", "other")
    assert asked.status() == 0
    assert asked.answers() == [{"namespace": "other", "groups": []}]


def test_watch_a_group(desk: Desk, session: Session) -> None:
    """The first line is the whole view; each later one says who joined, who left, and who is in the group now."""
    group = session.group("agents")
    group.join({"v": 1})
    watching = desk.start("watch", "agents", "--json")
    (first,) = watching.answers()
    member = {"member_id": "agent-1", "incarnation": session.incarnation, "metadata": {"v": 1}}
    assert first == {"group": "agents", "joined": [member], "left": [], "updated": [], "members": [member]}
    group.update({"v": 2})
    second = watching.answers(2)[1]
    changed = {**member, "metadata": {"v": 2}}
    assert second == {"group": "agents", "joined": [], "left": [], "updated": [changed], "members": [changed]}
    group.leave()
    third = watching.answers(3)[2]
    assert third == {"group": "agents", "joined": [], "left": [changed], "updated": [], "members": []}


def test_watch_a_group_for_people(desk: Desk, session: Session) -> None:
    """Each change is told by lines that begin with a sign, and ends with how many members there are."""
    group = session.group("agents")
    watching = desk.start("watch", "agents")
    eventually(lambda: watching.out == ["= 0 in agents\n"], within=PATIENCE)
    group.join({"v": 1})
    line = f'+ agent-1  {session.incarnation}  {{"v": 1}}\n'
    eventually(lambda: watching.out[1:] == [line, "= 1 in agents\n"], within=PATIENCE)


def test_watch_an_election(desk: Desk, session: Session) -> None:
    """The first line is who leads now, and each later one who leads then."""
    watching = desk.start("watch", "--election", "e", "--json")
    assert watching.answers() == [{"election": "e", "leader": None}]
    term = session.election("e").campaign()
    leader = {"member_id": "agent-1", "incarnation": session.incarnation, "token": term.token, "value": None}
    assert watching.answers(2)[1] == {"election": "e", "leader": leader}
    term.resign()
    assert watching.answers(3)[2] == {"election": "e", "leader": None}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_watching_ends_when_it_is_interrupted(desk: Desk, number: signal.Signals, status: int) -> None:
    """Ctrl-C and SIGTERM end a watch at once, without a word."""
    watching = desk.start("watch", "agents")
    eventually(lambda: watching.out, within=PATIENCE)
    watching.signal(number)
    assert watching.status(within=2 * TTL) == status
    assert watching.err == []


def test_watching_ends_when_nobody_listens(desk: Desk, session: Session) -> None:
    """`drumbeat watch ... | head -1` ends without a traceback once there is more to say."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "drumbeat.cli", "watch", "agents", "--url", desk.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == b"= 0 in agents\n"
        watching.stdout.close()
        session.group("agents").join()
        assert watching.wait(PATIENCE) == 128 + signal.SIGPIPE
        assert watching.stderr.read() == b""


@pytest.mark.parametrize("arguments", [["watch"], ["watch", "agents", "--election", "e"]])
def test_watch_takes_one_thing(desk: Desk, arguments: list[str]) -> None:
    """A watch on nothing, or on two things, is refused."""
    asked = desk.start(*arguments)
    assert asked.status() == 2
    assert asked.err == ["drumbeat: watch takes a GROUP or --election ELECTION, one of the two\n"]


@pytest.mark.parametrize(
    "arguments", [["members", "agents"], ["leader", "e"], ["groups"], ["doctor"], ["watch", "agents"]]
)
def test_looking_disturbs_nobody(desk: Desk, session: Session, arguments: list[str]) -> None:
    """A reader joins nothing and takes nobody's id, even if the environment and the URL name that of a live member."""
    session.group("agents").join()
    session.election("e").campaign()
    before = session.group("agents").members()
    url = f"{desk.url}?member_id=agent-1&on_conflict=replace"
    asked = desk.start(*arguments, "--url", url, DRUMBEAT_MEMBER_ID="agent-1")
    eventually(lambda: asked.out, within=PATIENCE)
    assert session.group("agents").members() == before
    session.beat()
    leader = session.election("e").leader()
    assert leader is not None
    assert leader.incarnation == session.incarnation
