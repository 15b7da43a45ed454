"""The thread that runs callbacks and observers."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from support import eventually

from drumbeat import ConfigurationError, Event, SystemClock, TermLost, _dispatcher, hookimpl
from drumbeat._dispatcher import Dispatcher
from drumbeat._plugins import observer_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOCK = SystemClock()
#: Seconds that anything here may take at most.
SOON = 10.0


class Recorder:
    """An observer that remembers, and runs what a test puts before that."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.before = before
        self.seen: list[float] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.before()
        self.seen.append(event.at)


def fail() -> None:
    """Do what no callback and no observer should."""
    raise ZeroDivisionError("on purpose")


def waited(release: threading.Event) -> None:
    """Wait for a test to go on."""
    release.wait(SOON)


def event(number: float) -> Event:
    """Return an event that is known by its number."""
    return Event(kind="beat", at=number, namespace="n", member_id="a", incarnation="a1")


@pytest.fixture
def make() -> Iterator[Callable[..., Dispatcher]]:
    """Make dispatchers, and stop them afterwards."""
    made: list[Dispatcher] = []

    def make_one(*observers: object) -> Dispatcher:
        hooks = tuple(observer_hook(observer) for observer in observers)
        dispatcher = Dispatcher(CLOCK, name=f"dispatcher-{len(made)}", observers=hooks)
        made.append(dispatcher)
        return dispatcher

    yield make_one
    for dispatcher in made:
        dispatcher.stop(CLOCK.now() + SOON)


def test_callbacks_run_in_the_order_of_their_calls(make: Callable[..., Dispatcher]) -> None:
    """A thousand callbacks run one after another, in the order in which they came."""
    dispatcher, ran = make(), []
    for number in range(1000):
        dispatcher.call(lambda number=number: ran.append(number))  # type: ignore[misc]
    eventually(lambda: len(ran) == 1000, within=SOON)
    assert ran == list(range(1000))


def test_a_callback_that_raises_stops_no_later_one(
    make: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged with its traceback, and the next one runs."""
    dispatcher, ran = make(), threading.Event()
    dispatcher.call(fail)
    dispatcher.call(ran.set)
    assert ran.wait(SOON)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "ZeroDivisionError" in caplog.text


def test_callbacks_never_run_on_the_thread_that_calls(make: Callable[..., Dispatcher]) -> None:
    """A call returns at once, however long the callback takes."""
    dispatcher, release, names = make(), threading.Event(), []

    def tell() -> None:
        release.wait(SOON)
        names.append(threading.current_thread().name)

    dispatcher.call(tell)
    assert not dispatcher.is_current_thread()
    release.set()
    eventually(lambda: names, within=SOON)
    assert names == ["dispatcher-0"]


def test_no_thread_is_started_for_nothing(make: Callable[..., Dispatcher]) -> None:
    """Without observers, events start no thread; with nothing to do, neither does stopping."""
    dispatcher = make()
    before = threading.active_count()
    dispatcher.emit(event(1))
    assert threading.active_count() == before
    dispatcher.stop(CLOCK.now() + SOON)
    assert threading.active_count() == before


def test_every_observer_sees_every_event_in_order(make: Callable[..., Dispatcher]) -> None:
    """A thousand events reach each observer in the order in which they happened."""
    one, two = Recorder(), Recorder()
    dispatcher = make(one, two)
    for number in range(1000):
        dispatcher.emit(event(number))
    eventually(lambda: len(one.seen) == len(two.seen) == 1000, within=SOON)
    assert one.seen == two.seen == list(range(1000))


def test_an_observer_that_raises_stops_neither_the_others_nor_later_events(
    make: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    """Each event reaches each observer although the one before raises at every event; each time is logged."""
    good, bad = Recorder(), Recorder(fail)
    other = Recorder()
    dispatcher = make(good, bad, other)
    for number in range(3):
        dispatcher.emit(event(number))
    eventually(lambda: len(good.seen) == len(other.seen) == 3, within=SOON)
    assert bad.seen == []
    eventually(lambda: len(caplog.records) == 3, within=SOON)
    assert caplog.text.count("ZeroDivisionError: on purpose") == 3


def test_an_observer_that_blocks_delays_no_emitter(make: Callable[..., Dispatcher]) -> None:
    """Emitting returns at once while an observer hangs, and it gets everything once it goes on."""
    release = threading.Event()
    slow = Recorder(lambda: release.wait(SOON))
    dispatcher = make(slow)
    before = CLOCK.now()
    for number in range(100):
        dispatcher.emit(event(number))
    assert CLOCK.now() - before < SOON / 2
    assert slow.seen == []
    release.set()
    eventually(lambda: slow.seen == list(range(100)), within=SOON)


def test_an_observer_that_blocks_delays_no_callback(make: Callable[..., Dispatcher]) -> None:
    """Callbacks run at once while an observer hangs: `on_lost` is about safety, observing is not."""
    entered, release, ran = threading.Event(), threading.Event(), threading.Event()

    def enter() -> None:
        entered.set()
        release.wait(SOON)

    dispatcher = make(Recorder(enter))
    dispatcher.emit(event(1))
    assert entered.wait(SOON)
    dispatcher.call(ran.set)
    assert ran.wait(SOON / 2)
    release.set()


def test_a_callback_that_blocks_delays_no_observer(make: Callable[..., Dispatcher]) -> None:
    """Observers go on seeing what happens while a callback hangs."""
    release, recorder = threading.Event(), Recorder()
    dispatcher = make(recorder)
    dispatcher.call(lambda: waited(release))
    dispatcher.emit(event(1))
    eventually(lambda: recorder.seen == [1], within=SOON / 2)
    release.set()


@pytest.mark.parametrize("error", [TermLost("over"), SystemExit(3)], ids=["an error of Drumbeat", "SystemExit"])
def test_nothing_that_a_callback_raises_is_hidden(
    make: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Also an error of Drumbeat's own and an exit are logged as errors, and end no thread."""
    dispatcher, ran = make(), threading.Event()

    def fail() -> None:
        raise error

    dispatcher.call(fail)
    dispatcher.call(ran.set)
    assert ran.wait(SOON)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert type(error).__name__ in caplog.text


def test_what_comes_after_the_stop_still_runs(make: Callable[..., Dispatcher]) -> None:
    """A callback that is queued by another thread just after the stop is run all the same."""
    dispatcher, first, second = make(), threading.Event(), threading.Event()
    dispatcher.call(first.set)
    dispatcher.stop(CLOCK.now() + SOON)
    assert first.is_set()
    dispatcher.call(second.set)
    assert second.wait(SOON)


def test_events_beyond_the_limit_are_dropped_and_counted(
    make: Callable[..., Dispatcher], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that is too slow misses the oldest events, and a warning says how many."""
    entered, release = threading.Event(), threading.Event()

    def enter() -> None:
        entered.set()
        release.wait(SOON)

    slow = Recorder(enter)
    dispatcher = make(slow)
    dispatcher.emit(event(-1))
    assert entered.wait(SOON)
    for number in range(_dispatcher.MAX_EVENTS + 7):
        dispatcher.emit(event(number))
    release.set()
    eventually(lambda: len(slow.seen) == _dispatcher.MAX_EVENTS + 1, within=SOON)
    assert slow.seen == [-1, *range(7, _dispatcher.MAX_EVENTS + 7)]
    assert caplog.messages == ["7 events were dropped: the observers are slower than what happens"]


def test_stopping_lets_what_is_queued_run(make: Callable[..., Dispatcher]) -> None:
    """When stopping returns, every event and callback that was queued before has been dealt with."""
    recorder, ran = Recorder(), []
    dispatcher = make(recorder)
    for number in range(500):
        dispatcher.emit(event(number))
        dispatcher.call(lambda number=number: ran.append(number))  # type: ignore[misc]
    dispatcher.stop(CLOCK.now() + SOON)
    assert (len(recorder.seen), len(ran)) == (500, 500)


def test_stopping_is_bounded(make: Callable[..., Dispatcher]) -> None:
    """A callback that never returns holds the stop up until its deadline, and no longer."""
    dispatcher, release = make(), threading.Event()
    dispatcher.call(lambda: waited(release))
    deadline = CLOCK.now() + 0.1
    dispatcher.stop(deadline)
    assert deadline <= CLOCK.now() < deadline + SOON / 2
    release.set()


def test_a_callback_may_stop_its_own_dispatcher(make: Callable[..., Dispatcher]) -> None:
    """Stopping from a callback does not wait for itself, and what was queued before still runs."""
    dispatcher, queued, ran, told = make(), threading.Event(), threading.Event(), []

    def stop() -> None:
        queued.wait(SOON)
        told.append(dispatcher.is_current_thread())
        dispatcher.stop(CLOCK.now() + SOON)

    dispatcher.call(stop)
    dispatcher.call(ran.set)
    queued.set()
    assert ran.wait(SOON / 2)
    assert told == [True]


def test_a_misspelt_observer_hook_names_the_nearest() -> None:
    """An observer with a hook that does not exist is refused, with the name that was meant."""

    class Misspelt:
        @hookimpl
        def on_evnet(self, event: Event) -> None:
            """Never called."""

    with pytest.raises(ConfigurationError, match=r"Misspelt does not fit.*no hook 'on_evnet', did you mean 'on_event'"):
        observer_hook(Misspelt())
