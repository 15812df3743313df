"""What a reader of events is told: all that it wants, in order, or how much of it is gone."""

from typing import get_args

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from primep2p.model.errors import CallError
from primep2p.model.views.events import (
    KINDS,
    AnyEvent,
    EventsMissed,
    LogLine,
    PeerChanged,
    RunFinished,
    StepChanged,
)
from primep2p.services.watching.hub import Hub, Watch
from primep2p.services.watching.recent import OLDEST, Recent

RUN, OTHER = "ab" * 32, "cd" * 32


def line(number: int) -> LogLine:
    return LogLine(level="info", sentence=str(number))


def everything(event: AnyEvent) -> bool:
    return True


def read(recent: Recent, after: str) -> list[AnyEvent]:
    place = recent.place(after)
    return list(iter(lambda: recent.next(place, everything), None))  # type: ignore[arg-type]


@given(st.integers(1, 8), st.lists(st.integers(0, 2_000), max_size=30), st.data())
def test_whoever_comes_back_with_a_cursor_gets_what_came_after_it_or_the_count_of_what_is_gone(most, sizes, data):
    recent = Recent("e", most_events=most, most_bytes=4_000)
    told = [recent.add(LogLine(level="info", sentence="x" * size)) for size in sizes]
    after = data.draw(st.integers(0, len(told)))
    events = read(recent, recent.cursor(after))
    missed = events.pop(0).count if events and isinstance(events[0], EventsMissed) else 0
    assert events == told[after + missed :]
    assert missed is not None
    assert missed + len(events) == len(told) - after
    assert all(recent.place(event.cursor).seen == number for number, event in enumerate(told, 1))


@given(st.integers(1, 50), st.integers(200, 20_000), st.lists(st.integers(0, 5_000), max_size=60))
def test_what_is_kept_is_bounded_and_the_newest_is_always_kept(most_events, most_bytes, sizes):
    recent = Recent("e", most_events=most_events, most_bytes=most_bytes)
    for size in sizes:
        newest = recent.add(LogLine(level="info", sentence="x" * size))
        assert len(recent) <= most_events
        assert recent.size_bytes <= most_bytes or len(recent) == 1
        assert read(recent, OLDEST)[-1] == newest


@given(st.lists(st.one_of(st.just("tell"), st.integers(0, 2)), max_size=120))
@example(["tell", 0, "tell", "tell", "tell", "tell", "tell", 0, 0, 1])
def test_readers_of_any_speed_see_events_in_order_and_count_those_they_missed(script):
    recent = Recent("e", most_events=3)
    places, had, told = [recent.place("") for _ in range(3)], [0, 0, 0], 0
    for step in script:
        if step == "tell":
            told += 1
            recent.add(line(told))
            continue
        event = recent.next(places[step], everything)
        match event:
            case None:
                assert had[step] == told
            case EventsMissed(count=count):
                had[step] += count
            case LogLine(sentence=sentence):
                had[step] += 1
                assert sentence == str(had[step])


@given(st.text(max_size=20))
@example("e-")
@example("e-٣")
@example("e-" + "9" * 5_000)
@example("e--1")
@example("-1")
def test_any_text_is_a_cursor_or_is_refused(text):
    recent = Recent("e")
    recent.add(line(1))
    try:
        place = recent.place(text)
    except CallError:
        return
    assert place.seen in (0, 1)


def test_a_cursor_of_another_start_begins_with_an_unknown_number_and_goes_on_with_all_there_is():
    before, now = Recent("before"), Recent("now", most_events=2)
    cursor = before.add(line(1)).cursor
    told = [now.add(line(number)) for number in range(4)]
    missed, *events = read(now, cursor)
    assert isinstance(missed, EventsMissed)
    assert missed.count is None
    assert events == told[2:]
    assert read(now, missed.cursor) == events, "its cursor is as good as that of any event"
    assert read(Recent("empty"), cursor) == [EventsMissed(count=None, cursor="empty-0")]


def test_a_cursor_of_no_event_is_refused():
    recent = Recent("e")
    with pytest.raises(CallError, match="no event had the cursor 'e-1'"):
        recent.place("e-1")
    with pytest.raises(CallError, match="'oldst' is no cursor"):
        recent.place("oldst")


def test_every_kind_of_event_has_a_tag_of_its_own():
    assert len(set(KINDS.values())) == len(KINDS) == len(get_args(AnyEvent))


async def so_many(watch: Watch, count: int) -> list[AnyEvent]:
    return [await anext(watch) for _ in range(count)]


async def test_a_watcher_hears_what_is_told_after_it_came_with_the_time_and_place_of_each():
    hub = Hub("e")
    hub.tell(line(1))
    watch = hub.watch()
    async with trio.open_nursery() as nursery:

        async def hear() -> None:
            [event] = await so_many(watch, 1)
            assert (event.cursor, event.sentence) == ("e-2", "2")  # type: ignore[union-attr]
            assert event.at_s > 0

        nursery.start_soon(hear)
        await trio.testing.wait_all_tasks_blocked()
        hub.tell(line(2))
    assert hub.cursor == "e-2"


async def test_a_time_that_an_event_brings_stays():
    assert Hub("e").tell(LogLine(level="info", sentence="", at_s=7.0)).at_s == 7.0


async def test_kinds_choose_and_what_was_missed_is_told_in_any_case():
    hub = Hub("e")
    hub.tell(line(1))
    hub.tell(PeerChanged(peer="p", connected=True))
    [event] = await so_many(hub.watch(kinds=["peer-changed"], after=OLDEST), 1)
    assert isinstance(event, PeerChanged)
    [event] = await so_many(hub.watch(kinds=["peer-changed"], after="another-7"), 1)
    assert isinstance(event, EventsMissed)
    with pytest.raises(CallError, match="there is no kind of event 'peer'") as refused:
        hub.watch(kinds=["peer"])
    assert "peer-changed" in refused.value.hint


@pytest.mark.parametrize("kinds", [(), ("step-changed", "log-line")])
async def test_a_run_is_watched_with_what_concerns_the_node_until_it_is_finished(kinds):
    hub = Hub("e")
    watch = hub.watch(run=RUN, kinds=kinds)
    step = StepChanged(run=RUN, round=1, view=0, step="collect")
    for event in (step, StepChanged(run=OTHER, round=9, view=0, step="collect"), RunFinished(run=OTHER, round=9)):
        hub.tell(event)
    hub.tell(line(1))
    hub.tell(RunFinished(run=RUN, round=1))
    hub.tell(line(2))
    heard = [KINDS[type(event)] async for event in watch]
    assert heard == ["step-changed", "log-line", *([] if kinds else ["run-finished"])]
    assert [event async for event in watch] == [], "it stays over"
