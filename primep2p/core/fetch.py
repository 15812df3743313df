"""Fetching a blob: which chunk of whom next; is it right; who is to blame.

The first provider is asked for the manifest and the first chunks at once, so a small blob costs one round trip. Once
the manifest is known every provider gets a run of chunks of its own. A provider that makes no progress for half of
`stall_s` loses its claim to its chunks, so that others take them; after all of `stall_s` it is given up. One that
serves a wrong byte is blamed. Either is not asked again. When nobody is left, others are searched for, once.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, PeerId
from primep2p.model.records import Manifest
from primep2p.model.transfer import MAX_WANTED
from primep2p.wire.manifest import check_chunk, open_manifest

__all__ = [
    "Answered",
    "Ask",
    "Asked",
    "Begin",
    "Begun",
    "Blame",
    "Cancel",
    "Done",
    "Expired",
    "Failed",
    "Fetch",
    "FetchEffect",
    "FetchEvent",
    "GaveUp",
    "GotChunk",
    "GotManifest",
    "Misbehaved",
    "ProviderAdded",
    "Search",
    "Searched",
    "Started",
    "Write",
]

FIRST_CHUNKS = 4
"""Asked for along with the manifest: most models' deltas, and little lost where the blob turns out too large."""

MAX_ASKED = 8
"""Providers asked at a time: more do not make a stream's reader faster."""

MAX_PROVIDERS = 64
"""Providers considered for one blob."""

_WORTH_SHARING = 4
"""Chunks outstanding at one provider from which on an idle one fetches half of them too."""

# ---- events


@dataclass(frozen=True, slots=True)
class ProviderAdded:
    """Somebody is said to hold the blob."""

    provider: PeerId


@dataclass(frozen=True, slots=True)
class Started:
    """All providers known at first have been added."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The request is on its way: from now on the provider is expected to make progress."""

    provider: PeerId


@dataclass(frozen=True, slots=True)
class GotManifest:
    """A provider sent these bytes as the manifest."""

    provider: PeerId
    raw: bytes


@dataclass(frozen=True, slots=True)
class Begun:
    """The manifest is stored; these chunks are not there from an earlier attempt."""

    missing: Collection[int]


@dataclass(frozen=True, slots=True)
class GotChunk:
    """A provider sent these bytes as a chunk."""

    provider: PeerId
    index: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A provider has sent all that it was asked for."""

    provider: PeerId


@dataclass(frozen=True, slots=True)
class Failed:
    """A provider does not hold the blob, cannot be reached or was lost: nobody's fault."""

    provider: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """A provider broke the protocol of the conversation."""

    provider: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Searched:
    """The search is over; whom it found was added before."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline has passed."""


FetchEvent = (
    ProviderAdded
    | Started
    | Asked
    | GotManifest
    | Begun
    | GotChunk
    | Answered
    | Failed
    | Misbehaved
    | Searched
    | Expired
)

# ---- effects


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a provider for `count` chunks from `first` on, and for the manifest if `manifest`."""

    provider: PeerId
    cid: Cid
    first: int
    count: int
    manifest: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop listening to a provider."""

    provider: PeerId


@dataclass(frozen=True, slots=True)
class Begin:
    """Make room for the blob with this manifest, which is right: Begun."""

    manifest: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """Store a chunk, which is right."""

    index: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Blame:
    """A provider served what it must not."""

    provider: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Search:
    """Find other providers: ProviderAdded for each, then Searched."""


@dataclass(frozen=True, slots=True)
class Done:
    """Every chunk was written."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The blob cannot be had; `is_too_large` where nobody could give it within the limit."""

    reason: str
    is_too_large: bool = False


FetchEffect = Ask | Cancel | Begin | Write | Blame | Search | Done | GaveUp


@dataclass(slots=True)
class _Request:
    """What one provider was asked for and has not sent yet."""

    outstanding: set[int]
    manifest: bool
    progress_s: float | None = None
    """When it last made some; None before the request is on its way."""
    is_slow: bool = False
    shared: set[int] = field(default_factory=set)
    """Chunks that another provider was asked for too."""


class Fetch:
    """The machine of one blob: `handle` each event, perform what it returns in order. Over at Done or GaveUp."""

    def __init__(self, cid: Cid, *, max_bytes: int, stall_s: float) -> None:
        self.cid = cid
        self.manifest: Manifest | None = None
        self._max_bytes = max_bytes
        self._stall_s = stall_s
        self._known: set[PeerId] = set()
        self._idle: list[PeerId] = []
        self._requests: dict[PeerId, _Request] = {}
        self._missing: set[int] | None = None  # None until Begun
        self._free: dict[int, None] = {}  # missing chunks that nobody is counted on for; a dict keeps their order
        self._search: Literal["due", "under way", "done"] = "due"
        self._last_failure = "nobody is known to hold it"

    @property
    def deadline_s(self) -> float | None:
        """When Expired is due, if no event comes before."""
        return min(
            (
                request.progress_s + (self._stall_s if request.is_slow else self._stall_s / 2)
                for request in self._requests.values()
                if request.progress_s is not None
            ),
            default=None,
        )

    def handle(self, event: FetchEvent, now_s: float) -> list[FetchEffect]:
        """What follows from an event."""
        match event:
            case ProviderAdded(provider):
                return self._on_added(provider)
            case Started():
                return self._next()
            case Asked(provider):
                self._note_progress(provider, now_s)
                return []
            case GotManifest(provider, raw):
                self._note_progress(provider, now_s)
                return self._on_manifest(provider, raw)
            case Begun(missing):
                return self._on_begun(missing)
            case GotChunk(provider, index, content):
                self._note_progress(provider, now_s)
                return self._on_chunk(provider, index, content)
            case Answered(provider):
                return self._on_answered(provider)
            case Failed(provider, reason):
                self._last_failure = reason
                return [*self._drop(provider), *self._next()]
            case Misbehaved(provider, reason):
                return self._blame(provider, reason)
            case Searched():
                self._search = "done"
                return self._next()
            case Expired():
                return self._on_expired(now_s)

    def _on_added(self, provider: PeerId) -> list[FetchEffect]:
        if provider in self._known or len(self._known) >= MAX_PROVIDERS:
            return []
        self._known.add(provider)
        self._idle.append(provider)
        return self._next()

    def _on_manifest(self, provider: PeerId, raw: bytes) -> list[FetchEffect]:
        request = self._requests.get(provider)
        if request is None:
            return []  # given up meanwhile
        if not request.manifest:
            return self._blame(provider, "a manifest that it was not asked for")
        request.manifest = False
        try:
            manifest = open_manifest(self.cid, raw)
        except PeerError as error:
            return self._blame(provider, error.sentence)
        if manifest.size_bytes > self._max_bytes:
            return [GaveUp(f"it has {manifest.size_bytes} bytes, more than the {self._max_bytes} allowed", True)]
        request.outstanding = {index for index in request.outstanding if index < len(manifest.chunks)}
        if self.manifest is not None:
            return []
        self.manifest = manifest
        return [Begin(raw)]

    def _on_begun(self, missing: Collection[int]) -> list[FetchEffect]:
        self._missing = set(missing)
        if not missing:
            return [Done()]
        claimed = {index for request in self._requests.values() if not request.is_slow for index in request.outstanding}
        self._free = dict.fromkeys(sorted(self._missing - claimed))
        return self._next()

    def _on_chunk(self, provider: PeerId, index: int, content: bytes) -> list[FetchEffect]:
        request = self._requests.get(provider)
        if request is None:
            return []  # given up meanwhile
        if self.manifest is None or self._missing is None or index not in request.outstanding:
            return self._blame(provider, "a chunk that it was not asked for")
        try:
            check_chunk(self.manifest, index, content)
        except PeerError as error:
            return self._blame(provider, error.sentence)
        request.outstanding.discard(index)
        if index not in self._missing:
            return []  # another one was faster
        self._missing.discard(index)
        self._free.pop(index, None)
        return [Write(index, content)] if self._missing else [Write(index, content), Done()]

    def _on_answered(self, provider: PeerId) -> list[FetchEffect]:
        request = self._requests.get(provider)
        if request is None:
            return []
        if request.outstanding or request.manifest:
            return self._blame(provider, "an answer that leaves something out")
        del self._requests[provider]
        self._idle.append(provider)
        return self._next()

    def _on_expired(self, now_s: float) -> list[FetchEffect]:
        effects: list[FetchEffect] = []
        for provider, request in list(self._requests.items()):
            if request.progress_s is None:
                continue
            if now_s >= request.progress_s + self._stall_s:
                self._last_failure = f"{provider} made no progress for {self._stall_s:g} s"
                effects += self._drop(provider)
            elif now_s >= request.progress_s + self._stall_s / 2 and not request.is_slow:
                request.is_slow = True
                self._release(request)
        return effects + self._next()

    def _note_progress(self, provider: PeerId, now_s: float) -> None:
        if (request := self._requests.get(provider)) is not None:
            request.progress_s = now_s
            request.is_slow = False

    def _blame(self, provider: PeerId, reason: str) -> list[FetchEffect]:
        if provider not in self._requests:
            return []  # nobody listens to it any more
        self._last_failure = f"{provider} sent what it must not: {reason}"
        return [*self._drop(provider), Blame(provider, reason), *self._next()]

    def _drop(self, provider: PeerId) -> list[FetchEffect]:
        """A provider that is not asked again: it stays known, so that nobody adds it anew."""
        if provider in self._idle:
            self._idle.remove(provider)
        request = self._requests.pop(provider, None)
        if request is None:
            return []
        self._release(request)
        return [Cancel(provider)]

    def _release(self, request: _Request) -> None:
        if self._missing is not None:
            self._free.update(dict.fromkeys(sorted(request.outstanding & self._missing)))

    def _next(self) -> list[FetchEffect]:
        """Give everybody something to do; find others, or give up, where nobody is left to count on."""
        effects: list[FetchEffect] = []
        while self._idle and len(self._requests) < MAX_ASKED and (ask := self._ask_for(self._idle[0])) is not None:
            self._idle.pop(0)
            effects.append(ask)
        if self._idle or any(not request.is_slow for request in self._requests.values()):
            return effects
        if self._search == "due":
            self._search = "under way"
            return [*effects, Search()]
        if self._search == "done" and not self._requests:
            return [*effects, GaveUp(self._last_failure)]
        return effects

    def _ask_for(self, provider: PeerId) -> Ask | None:
        if self.manifest is None:
            if any(not request.is_slow for request in self._requests.values()):
                return None  # the manifest is on its way
            self._requests[provider] = _Request(set(range(FIRST_CHUNKS)), manifest=True)
            return Ask(provider, self.cid, 0, FIRST_CHUNKS, manifest=True)
        chunks = self._take_free() or self._take_shared()
        if not chunks:
            return None
        self._requests[provider] = _Request(set(chunks), manifest=False)
        return Ask(provider, self.cid, chunks[0], len(chunks), manifest=False)

    def _take_free(self) -> list[int]:
        """The next chunks in a row: a fair share of what is free, so that all are busy to the end."""
        providers = len(self._idle) + sum(not request.is_slow for request in self._requests.values())
        share = min(MAX_WANTED, -(-len(self._free) // providers))
        run: list[int] = []
        index = next(iter(self._free), None)
        while index is not None and index in self._free and len(run) < share:
            del self._free[index]
            run.append(index)
            index += 1
        return run

    def _take_shared(self) -> list[int]:
        """The second half of what the one with most to do has still to send."""
        if self._missing is None:
            return []
        most: list[int] = []
        for request in self._requests.values():
            waiting = sorted((request.outstanding & self._missing) - request.shared)
            if len(waiting) >= max(_WORTH_SHARING, len(most) + 1):
                most, busiest = waiting, request
        half = most[(len(most) + 1) // 2 :]
        run = half[: next((at for at in range(1, len(half)) if half[at] != half[at - 1] + 1), len(half))]
        if run:
            busiest.shared.update(run)
        return run
