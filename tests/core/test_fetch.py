"""The machine of core/fetch.py, in a small world where each provider has its own habits and time is a number."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primep2p.core.fetch import (
    FIRST_CHUNKS,
    MAX_ASKED,
    MAX_PROVIDERS,
    Answered,
    Ask,
    Asked,
    Begin,
    Begun,
    Blame,
    Cancel,
    Done,
    Expired,
    Failed,
    Fetch,
    FetchEffect,
    FetchEvent,
    GaveUp,
    GotChunk,
    GotManifest,
    Misbehaved,
    ProviderAdded,
    Search,
    Searched,
    Started,
    Write,
)
from primep2p.model.ids import Cid, PeerId
from primep2p.model.transfer import MAX_WANTED
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import encode
from primep2p.wire.manifest import CHUNK_BYTES, manifest_of

STALL_S = 10.0


@dataclass
class Blob:
    chunks: list[bytes]
    manifest: bytes = field(init=False)
    cid: Cid = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = encode(manifest_of(self.chunks))
        self.cid = cid_of(self.manifest)

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


_chunks = [bytes([number]) * CHUNK_BYTES for number in range(48)]
BLOBS = {size: Blob([*_chunks[: size - 1], b"the last one"] if size else []) for size in (0, 1, 2, 5, 12, 48)}


def machine(blob: Blob, *, max_bytes: int = 2**40) -> Fetch:
    return Fetch(blob.cid, max_bytes=max_bytes, stall_s=STALL_S)


def start(fetch: Fetch, *providers: PeerId) -> list[FetchEffect]:
    effects = [effect for peer in providers for effect in fetch.handle(ProviderAdded(peer), 0.0)]
    return effects + fetch.handle(Started(), 0.0)


def begin(fetch: Fetch, blob: Blob, provider: PeerId, *, missing: set[int] | None = None) -> list[FetchEffect]:
    """The first provider's manifest arrives."""
    fetch.handle(Asked(provider), 0.0)
    assert fetch.handle(GotManifest(provider, blob.manifest), 0.0) == [Begin(blob.manifest)]
    return fetch.handle(Begun(set(range(len(blob.chunks))) if missing is None else missing), 0.0)


def test_only_one_provider_is_asked_until_the_manifest_is_known() -> None:
    blob = BLOBS[12]
    fetch = machine(blob)
    assert start(fetch, "a", "b", "c") == [Ask("a", blob.cid, 0, FIRST_CHUNKS, manifest=True)]
    assert begin(fetch, blob, "a") == [
        Ask("b", blob.cid, 4, 3, manifest=False),
        Ask("c", blob.cid, 7, 2, manifest=False),
    ]


def test_a_small_blob_is_done_with_the_first_answer() -> None:
    blob = BLOBS[2]
    fetch = machine(blob)
    start(fetch, "a", "b")
    assert begin(fetch, blob, "a") == []
    assert fetch.handle(GotChunk("a", 0, blob.chunks[0]), 0.0) == [Write(0, blob.chunks[0])]
    assert fetch.handle(GotChunk("a", 1, blob.chunks[1]), 0.0) == [Write(1, blob.chunks[1]), Done()]


def test_the_empty_blob_is_done_with_its_manifest() -> None:
    fetch = machine(BLOBS[0])
    start(fetch, "a")
    assert begin(fetch, BLOBS[0], "a") == [Done()]


def test_chunks_of_an_earlier_attempt_are_not_asked_for_again() -> None:
    blob = BLOBS[12]
    fetch = machine(blob)
    start(fetch, "a", "b")
    assert begin(fetch, blob, "a", missing={2, 9}) == [Ask("b", blob.cid, 9, 1, manifest=False)]


def test_without_providers_others_are_searched_for_once() -> None:
    fetch = machine(BLOBS[1])
    assert start(fetch) == [Search()]
    assert fetch.handle(ProviderAdded("a"), 0.0) == [Ask("a", BLOBS[1].cid, 0, FIRST_CHUNKS, manifest=True)]
    assert fetch.handle(Searched(), 0.0) == []
    assert fetch.handle(Failed("a", "a is gone"), 0.0) == [Cancel("a"), GaveUp("a is gone")]


def test_a_search_is_waited_for() -> None:
    fetch = machine(BLOBS[1])
    start(fetch, "a")
    assert fetch.handle(Failed("a", "a is gone"), 0.0) == [Cancel("a"), Search()]
    assert fetch.handle(ProviderAdded("a"), 0.0) == []  # it had its chance
    assert fetch.handle(Searched(), 0.0) == [GaveUp("a is gone")]


def test_a_bad_chunk_is_blamed_on_who_served_it_and_asked_of_another() -> None:
    blob = BLOBS[1]
    fetch = machine(blob)
    start(fetch, "a", "b")
    begin(fetch, blob, "a")
    effects = fetch.handle(GotChunk("a", 0, b"not this one"), 0.0)
    assert effects[0] == Cancel("a")
    assert isinstance(effects[1], Blame)
    assert effects[1].provider == "a"
    assert effects[2:] == [Ask("b", blob.cid, 0, 1, manifest=False)]
    assert fetch.handle(GotChunk("a", 0, b"not this one"), 0.0) == []  # what comes after counts for nothing
    assert fetch.handle(GotChunk("b", 0, blob.chunks[0]), 0.0)[-1] == Done()


@pytest.mark.parametrize(
    "event",
    [
        GotManifest("a", b"another one"),
        GotChunk("a", 0, BLOBS[2].chunks[0]),
        Answered("a"),
        Misbehaved("a", "garbage"),
    ],
)
def test_what_must_not_come_before_the_manifest_is_blamed(event: FetchEvent) -> None:
    fetch = machine(BLOBS[2])
    start(fetch, "a", "b")
    effects = fetch.handle(event, 0.0)
    assert [type(effect) for effect in effects] == [Cancel, Blame, Ask]


def test_a_second_manifest_is_blamed() -> None:
    fetch = machine(BLOBS[2])
    start(fetch, "a")
    begin(fetch, BLOBS[2], "a")
    assert any(isinstance(effect, Blame) for effect in fetch.handle(GotManifest("a", BLOBS[2].manifest), 0.0))


def test_a_blob_larger_than_allowed_is_given_up_without_blame() -> None:
    blob = BLOBS[2]
    fetch = machine(blob, max_bytes=blob.size - 1)
    start(fetch, "a", "b")
    (effect,) = fetch.handle(GotManifest("a", blob.manifest), 0.0)
    assert isinstance(effect, GaveUp)
    assert effect.is_too_large


def test_a_slow_provider_shares_its_chunks_and_a_dead_one_is_given_up() -> None:
    blob = BLOBS[2]
    fetch = machine(blob)
    start(fetch, "a", "b")
    assert fetch.deadline_s is None  # the question has not left yet
    begin(fetch, blob, "a")
    assert fetch.deadline_s == STALL_S / 2
    assert fetch.handle(Expired(), 5.0) == [Ask("b", blob.cid, 0, 2, manifest=False)]
    fetch.handle(Asked("b"), 6.0)
    assert fetch.deadline_s == STALL_S
    assert fetch.handle(Expired(), 10.0) == [Cancel("a")]
    assert fetch.handle(GotChunk("b", 0, blob.chunks[0]), 10.5) == [Write(0, blob.chunks[0])]
    assert fetch.deadline_s == 15.5


def test_a_slow_provider_that_delivers_after_all_is_not_given_up() -> None:
    blob = BLOBS[5]
    fetch = machine(blob)
    start(fetch, "a")
    begin(fetch, blob, "a")
    assert fetch.handle(Expired(), 5.0) == [Search()]
    fetch.handle(Searched(), 5.1)
    assert fetch.handle(GotChunk("a", 0, blob.chunks[0]), 9.0) == [Write(0, blob.chunks[0])]
    assert fetch.deadline_s == 14.0


def test_a_slow_manifest_is_asked_of_another_one_too() -> None:
    blob = BLOBS[1]
    fetch = machine(blob)
    start(fetch, "a", "b")
    fetch.handle(Asked("a"), 0.0)
    assert fetch.handle(Expired(), 5.0) == [Ask("b", blob.cid, 0, FIRST_CHUNKS, manifest=True)]
    begin(fetch, blob, "b")
    assert fetch.handle(GotManifest("a", blob.manifest), 6.0) == []  # the same, later: no fault
    assert fetch.handle(GotChunk("a", 0, blob.chunks[0]), 6.0)[-1] == Done()


def test_the_end_of_a_long_answer_is_taken_over_by_who_is_idle() -> None:
    blob = BLOBS[48]
    fetch = machine(blob)
    start(fetch, "a")
    begin(fetch, blob, "a")
    for index in range(4):
        fetch.handle(GotChunk("a", index, blob.chunks[index]), 0.0)
    assert fetch.handle(Answered("a"), 0.0) == [Ask("a", blob.cid, 4, MAX_WANTED, manifest=False)]
    assert fetch.handle(ProviderAdded("b"), 0.0) == [Ask("b", blob.cid, 20, 14, manifest=False)]
    assert fetch.handle(ProviderAdded("c"), 0.0) == [Ask("c", blob.cid, 34, 5, manifest=False)]
    assert fetch.handle(ProviderAdded("d"), 0.0) == [Ask("d", blob.cid, 39, 3, manifest=False)]


def test_only_so_many_providers_are_asked_at_once_and_known_at_all() -> None:
    blob = BLOBS[48]
    fetch = machine(blob)
    start(fetch, *(f"p{number}" for number in range(MAX_PROVIDERS + 20)))
    effects = begin(fetch, blob, "p0")
    assert len(effects) == MAX_ASKED - 1
    asked = set()
    while effects:
        new = {effect.provider for effect in effects if isinstance(effect, Ask)}
        asked |= new
        effects = [more for peer in sorted(new) for more in fetch.handle(Failed(peer, "gone"), 0.0)]
    assert len(asked | {"p0"}) == MAX_PROVIDERS


# ---- a world

Habit = Callable[["Ask", Blob], list[tuple[float, FetchEvent]]]
"""What a provider does after a question: events, each so many seconds after the one before."""


def honest(pause_s: float) -> Habit:
    def answer(ask: Ask, blob: Blob) -> list[tuple[float, FetchEvent]]:
        me, events = ask.provider, [(0.01, Asked(ask.provider))]
        script: list[tuple[float, FetchEvent]] = [*events]
        if ask.manifest:
            script.append((pause_s, GotManifest(me, blob.manifest)))
        for index in range(ask.first, min(ask.first + ask.count, len(blob.chunks))):
            script.append((pause_s, GotChunk(me, index, blob.chunks[index])))
        return [*script, (0.0, Answered(me))]

    return answer


def silent(ask: Ask, _: Blob) -> list[tuple[float, FetchEvent]]:
    return [(0.01, Asked(ask.provider))]


def absent(ask: Ask, _: Blob) -> list[tuple[float, FetchEvent]]:
    return [(0.01, Asked(ask.provider)), (0.1, Failed(ask.provider, "refused: absent"))]


def dying(after: int) -> Habit:
    def answer(ask: Ask, blob: Blob) -> list[tuple[float, FetchEvent]]:
        return [*honest(0.1)(ask, blob)[: 1 + after], (0.1, Failed(ask.provider, "lost"))]

    return answer


def lying(at: int) -> Habit:
    def answer(ask: Ask, blob: Blob) -> list[tuple[float, FetchEvent]]:
        script = honest(0.1)(ask, blob)
        lie: FetchEvent = GotChunk(ask.provider, ask.first + at, b"a lie")
        return [*script[: 1 + ask.manifest + at], (0.1, lie), *script[2 + ask.manifest + at :]]

    return answer


def false_manifest(ask: Ask, blob: Blob) -> list[tuple[float, FetchEvent]]:
    if not ask.manifest:
        return honest(0.1)(ask, blob)
    return [(0.01, Asked(ask.provider)), (0.1, GotManifest(ask.provider, b"false"))]


@dataclass
class World:
    blob: Blob
    habits: dict[PeerId, Habit]
    found: dict[PeerId, Habit]
    stored: dict[int, bytes] = field(default_factory=dict)
    blamed: set[PeerId] = field(default_factory=set)
    asked: set[PeerId] = field(default_factory=set)
    searches: int = 0
    outcome: FetchEffect | None = None
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self._fetch = machine(self.blob)
        self._heap: list[tuple[float, int, PeerId, FetchEvent]] = []
        self._serial = count()
        self._cancelled: set[PeerId] = set()

    def run(self) -> None:
        for peer in self.habits:
            self._handle(ProviderAdded(peer))
        self._handle(Started())
        for _ in range(5000):
            if self.outcome is not None:
                return
            deadline_s = self._fetch.deadline_s
            if self._heap and (deadline_s is None or self._heap[0][0] <= deadline_s):
                self.now_s, _, peer, event = heapq.heappop(self._heap)
                if peer not in self._cancelled:
                    self._handle(event)
            else:
                assert deadline_s is not None, "it waits for nothing"
                self.now_s = max(self.now_s, deadline_s)
                self._handle(Expired())
        raise AssertionError("it never ends")

    def _handle(self, event: FetchEvent) -> None:
        for effect in self._fetch.handle(event, self.now_s):
            assert self.outcome is None, "nothing comes after the end"
            self._perform(effect)

    def _perform(self, effect: FetchEffect) -> None:
        match effect:
            case Ask(provider):
                assert 0 < effect.count <= MAX_WANTED
                assert provider not in self._cancelled
                self.asked.add(provider)
                self._play(provider, (self.habits | self.found)[provider](effect, self.blob))
            case Cancel(provider):
                self._cancelled.add(provider)
            case Begin(manifest):
                assert manifest == self.blob.manifest
                self._handle(Begun(set(range(len(self.blob.chunks))) - self.stored.keys()))
            case Write(index, content):
                assert index not in self.stored, "written twice"
                self.stored[index] = content
            case Blame(provider, _):
                self.blamed.add(provider)
            case Search():
                self.searches += 1
                self._play("", [(0.3, ProviderAdded(peer)) for peer in self.found] + [(0.0, Searched())])
            case Done() | GaveUp():
                self.outcome = effect

    def _play(self, peer: PeerId, script: list[tuple[float, FetchEvent]]) -> None:
        at_s = self.now_s
        for pause_s, event in script:
            at_s += pause_s
            heapq.heappush(self._heap, (at_s, next(self._serial), peer, event))


good = st.sampled_from([0.01, 0.5, 4.0, 7.0, 9.0]).map(honest)
bad = st.one_of(
    st.just(silent),
    st.just(absent),
    st.integers(0, 6).map(dying),
    st.just(false_manifest),
    st.integers(0, 3).map(lying),
)


def named(habits: list[Habit], letter: str) -> dict[PeerId, Habit]:
    return {f"{letter}{number}": habit for number, habit in enumerate(habits)}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(BLOBS)),
    st.lists(good, min_size=1, max_size=3),
    st.lists(bad, max_size=6),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_with_one_honest_provider_the_blob_arrives_and_no_honest_one_is_blamed(
    size, goods, bads, hidden, random
) -> None:  # type: ignore[no-untyped-def]
    honest_ones, others = named(goods, "good"), named(bads, "bad")
    shuffled = [*(others | ({} if hidden else honest_ones)).items()]
    random.shuffle(shuffled)
    world = World(BLOBS[size], dict(shuffled), honest_ones if hidden else {})
    world.run()
    assert world.outcome == Done()
    assert [world.stored[index] for index in range(size)] == world.blob.chunks
    assert not world.blamed & honest_ones.keys()
    assert world.searches <= 1


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([1, 5, 12]), st.lists(st.sampled_from([silent, absent, false_manifest, dying(1), lying(0)])))
def test_without_an_honest_provider_it_gives_up(size, habits) -> None:  # type: ignore[no-untyped-def]
    world = World(BLOBS[size], named(habits[:5], "bad"), named(habits[5:], "found"))
    world.run()
    assert isinstance(world.outcome, GaveUp | Done)  # many that die late can together be an honest one
    assert world.searches <= 1
    if isinstance(world.outcome, GaveUp):
        assert world.asked == (world.habits | world.found).keys()


def test_providers_share_the_work() -> None:
    world = World(BLOBS[48], named([honest(0.1)] * 4, "good"), {})
    world.run()
    assert world.now_s < 48 * 0.1 / 4 * 1.8
