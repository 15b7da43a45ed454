"""The commands that look and never join: members, leader, watch, groups."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from drumbeat import ConfigurationError, Leader, Vacant
from drumbeat.cli import _options as options
from drumbeat.cli._connect import reader
from drumbeat.cli._report import NO, answer, in_columns, print_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drumbeat import Change, Election, Group, Member, Session
    from drumbeat._values import JSON


def members(
    group: str = typer.Argument(metavar="GROUP"),
    *,
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    as_json: bool = options.JSON,
) -> None:
    """Print who is in a group: member id, incarnation and metadata of each, read from the server now.

    --json: {"group", "members": [{"member_id", "incarnation", "metadata"}]}
    """
    with _look(url, namespace) as session:
        view = session.group(group).members()
    if as_json:
        answer({"group": view.group, "members": [_member(member) for member in view]})
    else:
        print_lines(_member_lines(view))


def leader(
    election: str = typer.Argument(metavar="ELECTION"),
    *,
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    as_json: bool = options.JSON,
) -> int:
    """Print who leads an election: member id, token and value, read from the server now. Exits with 1 if nobody does.

    --json: {"election", "leader": {"member_id", "incarnation", "token", "value"} or null}
    """
    with _look(url, namespace) as session:
        seat = session.election(election)
        found = seat.leader()
    if as_json:
        answer(_leader(seat.name, found))
    else:
        print_lines([_leader_line(found)])
    return NO if found is None else 0


def watch(
    group: str | None = typer.Argument(None, metavar="[GROUP]"),
    *,
    election: str | None = typer.Option(
        None, "--election", metavar="ELECTION", help="Watch the leader of an election."
    ),
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    as_json: bool = options.JSON,
) -> None:
    """Print each change of a group, or of an election's leader, until interrupted; first what there is now.

    Changes that follow one another quickly may come as one. A server that does not answer is waited for.

    --json, one object a line: {"group", "joined", "left", "updated", "members"}, each a list as `members` prints it,
    or {"election", "leader"}, as `leader` prints it.
    """
    if (group is None) == (election is None):
        raise ConfigurationError("watch takes a GROUP or --election ELECTION, one of the two")
    with _look(url, namespace) as session:
        if group is not None:
            _watch_group(session.group(group), as_json=as_json)
        elif election is not None:
            _watch_election(session.election(election), as_json=as_json)


def groups(
    *,
    url: str | None = options.URL,
    namespace: str | None = options.NAMESPACE,
    as_json: bool = options.JSON,
) -> None:
    """Print the names of the groups that have members, one a line, read from the server now.

    --json: {"namespace", "groups": [name]}
    """
    with _look(url, namespace) as session:
        names = session.groups()
    if as_json:
        answer({"namespace": session.namespace, "groups": list(names)})
    else:
        print_lines(list(names))


def _look(url: str | None, namespace: str | None) -> Session:
    target = reader(url, namespace)
    return target.connect(target.settings())


def _watch_group(group: Group, *, as_json: bool) -> None:
    for change in group.watch():
        if as_json:
            answer(_change(change))
        else:
            print_lines(_change_lines(change))


def _watch_election(election: Election, *, as_json: bool) -> None:
    for found in election.observe():
        holder = None if isinstance(found, Vacant) else found
        if as_json:
            answer(_leader(election.name, holder))
        else:
            print_lines([_leader_line(holder)])


def _member(member: Member) -> dict[str, object]:
    return {
        "member_id": member.member_id,
        "incarnation": member.incarnation,
        "metadata": dict(member.metadata),
    }


def _leader(election: str, found: Leader | None) -> dict[str, object]:
    return {"election": election, "leader": None if found is None else asdict(found)}


def _change(change: Change) -> dict[str, object]:
    return {
        "group": change.view.group,
        "joined": [_member(member) for member in change.joined],
        "left": [_member(member) for member in change.left],
        "updated": [_member(member) for member in change.updated],
        "members": [_member(member) for member in change.view],
    }


def _member_lines(found: Iterable[Member]) -> list[str]:
    rows = [(member.member_id, member.incarnation, _shown(member.metadata)) for member in found]
    return in_columns(rows)


def _change_lines(change: Change) -> list[str]:
    marked = {"+": change.joined, "-": change.left, "~": change.updated}
    lines = [f"{mark} {line}" for mark, found in marked.items() for line in _member_lines(found)]
    return [*lines, f"= {len(change.view)} in {change.view.group}"]


def _leader_line(found: Leader | None) -> str:
    if found is None:
        return "nobody leads"
    return f"{found.member_id}  token {found.token}  {_shown(found.value)}"


def _shown(value: JSON | Mapping[str, JSON]) -> str:
    return json.dumps(value, ensure_ascii=False)
