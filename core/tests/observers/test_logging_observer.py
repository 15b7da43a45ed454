"""The observer that logs."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

import drumbeat
from drumbeat import Event
from drumbeat._events import EventKind
from drumbeat.observers import LoggingObserver
from drumbeat.testing import lose, memory_url


def event(kind: str, **more: object) -> Event:
    """Return an event of a session of member `a`."""
    return Event(kind=kind, at=7.0, namespace="n", member_id="a", incarnation="a1", **more)  # type: ignore[arg-type]


SAID = [
    (event("connected", reason="opened"), "INFO", "a is connected (opened)"),
    (
        event("suspended", reason="no answer"),
        "WARNING",
        "a is suspended: heartbeats fail, but what it holds is still held (no answer)",
    ),
    (event("lost", reason="too late"), "WARNING", "a is lost: it holds nothing any more (too late)"),
    (event("closed"), "INFO", "a is closed"),
    (event("beat", seconds=0.0123), "DEBUG", "heartbeat of a answered in 12.3 ms"),
    (event("beat_failed", reason="no answer"), "INFO", "heartbeat of a failed (no answer)"),
    (event("joined", subject="g"), "INFO", "a joined g"),
    (event("left", subject="g"), "INFO", "a left g"),
    (event("updated", subject="g"), "INFO", "a changed its metadata in g"),
    (event("view", subject="g", members=(("a", "a1"), ("b", "b1"))), "DEBUG", "a sees 2 in g: a, b"),
    (
        event("view", subject="g", members=tuple((f"m{number}", "i") for number in range(99))),
        "DEBUG",
        "a sees 99 in g: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ...",
    ),
    (event("campaigning", subject="election/e"), "DEBUG", "a campaigns for election/e"),
    (event("won", subject="election/e", token=7), "INFO", "a won election/e with token 7"),
    (event("resigned", subject="lock/l", token=7), "INFO", "a resigned from lock/l, token 7"),
    (
        event("term_lost", subject="election/e", token=7, reason="gone"),
        "WARNING",
        "a lost election/e, token 7: it must stop what that term protects (gone)",
    ),
    (event("warning", reason="look at this"), "WARNING", "a (look at this)"),
]


@pytest.mark.parametrize(("told", "level", "text"), SAID, ids=range(len(SAID)))
def test_each_event_is_a_line_for_people(caplog: pytest.LogCaptureFixture, told: Event, level: str, text: str) -> None:
    """The line says who, what and why, at a level that tells whether somebody must look."""
    caplog.set_level(logging.DEBUG, "drumbeat.events")
    LoggingObserver().on_event(told)
    assert caplog.record_tuples == [("drumbeat.events", logging.getLevelNamesMapping()[level], text)]


def test_every_kind_of_event_is_covered() -> None:
    """The table above leaves out no kind of event."""
    assert {told.kind for told, _, _ in SAID} == set(get_args(EventKind))


def test_a_percent_sign_in_a_name_is_only_text(caplog: pytest.LogCaptureFixture) -> None:
    """Names and reasons are never read as formats."""
    LoggingObserver().on_event(event("lost", reason="100 %s {member_id}"))
    assert caplog.messages == ["a is lost: it holds nothing any more (100 %s {member_id})"]


def test_the_fields_are_attributes_of_the_record(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is set in the event can be had from the log record, with a prefix; what is not set is not there."""
    caplog.set_level(logging.INFO, "drumbeat.events")
    LoggingObserver().on_event(event("won", subject="election/e", token=7, deadline=17.0))
    (record,) = caplog.records
    fields = {name: value for name, value in vars(record).items() if name.startswith("drumbeat_")}
    expected = {"kind": "won", "at": 7.0, "namespace": "n", "member_id": "a", "incarnation": "a1"}
    expected |= {"subject": "election/e", "token": 7, "deadline": 17.0}
    assert fields == {f"drumbeat_{name}": value for name, value in expected.items()}


def test_switched_on_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """`observers=["logging"]` is all that it takes to see a session's life in the log."""
    caplog.set_level(logging.INFO, "drumbeat.events")
    with drumbeat.connect(memory_url(), member_id="a", observers=["logging"]) as session:
        lose(session.election("e").campaign(), "a test")
    assert caplog.messages == [
        "a is connected (opened)",
        "a won election/e with token 1",
        "a lost election/e, token 1: it must stop what that term protects (a test)",
        "a is closed (closed)",
    ]


def test_switched_on_by_the_url(caplog: pytest.LogCaptureFixture) -> None:
    """The URL can switch observers on as well, so that no program has to be changed for it."""
    caplog.set_level(logging.INFO, "drumbeat.events")
    drumbeat.connect(memory_url() + "?observers=logging&member_id=a").close()
    assert caplog.messages == ["a is connected (opened)", "a is closed (closed)"]


def test_what_nobody_would_see_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the logger's level, no text is made."""
    monkeypatch.setattr("drumbeat.observers._logging._describe", None)
    logging.getLogger("drumbeat.events").setLevel(logging.ERROR)
    try:
        LoggingObserver().on_event(event("lost"))
    finally:
        logging.getLogger("drumbeat.events").setLevel(logging.NOTSET)
