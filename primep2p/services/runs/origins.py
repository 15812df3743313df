"""Runs that start from a certified checkpoint of another one: when its quorum is gone for good, or for a new roster."""

from collections.abc import Iterable
from dataclasses import dataclass

from primep2p.core.chain import Head, header_hash, trusted_head
from primep2p.model.errors import CallError, PeerError, StoreError, Unavailable
from primep2p.model.ids import Hash
from primep2p.model.records import RunSpec, TensorSpec
from primep2p.store.seam import BlobStore, RunStore, StoredCheckpoint
from primep2p.store.tensors import map_tensors
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Start", "certified", "find"]


@dataclass(frozen=True)
class Start:
    """Where a new run starts: an id in hex, which may be shortened, a round or the newest, and perhaps its header."""

    run: str
    round: int | None = None
    hash: Hash | None = None


def certified(start: Start, spec: Opened[RunSpec], runs: RunStore, blobs: BlobStore, envelopes: Envelopes) -> Head:
    """The checkpoint that `start` means in the run of `spec`, whole and with its params. Blocks: reads all of these.

    Raises CallError where there is no such checkpoint, Unavailable where its params are not here."""
    name, round_ = spec.hash.hex()[:12], start.round
    newest = runs.head(spec.hash)
    if newest is None:
        raise CallError(f"run {name} has not begun: there is no checkpoint to start from", hint=_show(name))
    stored = newest[1] if round_ is None else runs.checkpoint(spec.hash, round_)
    if stored is None:
        raise CallError(f"this node has no checkpoint {round_} of run {name}", hint=f"its newest is {newest[0]}")
    head = _opened(spec, stored, envelopes)
    if start.hash is not None and start.hash != head.hash:
        raise CallError(f"checkpoint {head.round} of run {name} has not that hash here", hint=_show(name))
    _check_params(head, spec.record, blobs)
    return head


def _show(name: str) -> str:
    return f"see: primep2p run show {name}"


def _opened(spec: Opened[RunSpec], stored: StoredCheckpoint, envelopes: Envelopes) -> Head:
    try:
        return trusted_head(spec, stored.checkpoint, stored.state, envelopes.open_any)
    except PeerError as error:
        raise StoreError(
            f"what is stored of run {spec.hash.hex()} is damaged: {error.sentence}",
            hint="restore the home from a backup, or start with a new one",
        ) from error


def _check_params(head: Head, spec: RunSpec, blobs: BlobStore) -> None:
    params, name = head.header.params, head.run.hex()[:12]
    if not blobs.has(params) or not blobs.verify(params):
        raise Unavailable(
            f"the params of round {head.round} of run {name} are not here, or are damaged",
            hint="start from another round, or on a node whose `primep2p run show` names a file",
        )
    try:
        map_tensors(blobs.path(params), spec.tensors)
    except PeerError as error:
        raise CallError(f"the params of round {head.round} of run {name} are no model: {error.sentence}") from error


def find(origin: Hash, tensors: tuple[TensorSpec, ...], among: Iterable[Opened[RunSpec]], runs: RunStore) -> str:
    """RUN@round of the header `origin`, if it is certified in one of these runs here; else empty. Blocks: reads chains
    from their newest end, but only of runs with the same tensors."""
    for spec in among:
        newest = runs.head(spec.hash) if spec.record.tensors == tensors else None
        round_, stored = newest or (0, None)
        while stored is not None:
            if header_hash(stored.checkpoint.header) == origin:
                return f"{spec.hash.hex()}@{round_}"
            round_ -= 1
            stored = runs.checkpoint(spec.hash, round_)
    return ""
