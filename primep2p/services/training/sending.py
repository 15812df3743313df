"""From the delta of this node's trainer to the blob that others fetch, in the form that the run's pipeline says.

Where that leaves values out (topk), what is left is this node's *residual*, and goes into its next delta (error
feedback, kernels/feedback.py). Only what a certified checkpoint includes counts as sent: training starts from a newer
head then, so what a delta held that came too late is trained anew, and its residual is of no use. The other forms round
each value to the nearest: what they lose is not kept.
"""

from pathlib import Path

import trio

from primep2p.kernels.arrays import Row
from primep2p.kernels.feedback import Difference
from primep2p.model.ids import Cid, RunId
from primep2p.model.pipeline import Float32, TopK
from primep2p.model.records import Header, RunSpec
from primep2p.model.views.events import LogLine
from primep2p.services.seams import Seams
from primep2p.services.training.residuals import Residuals
from primep2p.store.deltas import map_delta, write_delta
from primep2p.store.files import disk
from primep2p.wire.codec import decode

__all__ = ["Sender"]

_FLOAT32 = Float32()


class Sender:
    """Of one run on this node."""

    def __init__(self, run: RunId, spec: RunSpec, seams: Seams) -> None:
        self._run = run
        self._wire = spec.pipeline.wire
        self._tensors = spec.tensors
        self._seams = seams
        self._lock = trio.Lock()  # a training that ends late and the next one must not take the same residual
        me, directory = seams.envelopes.peer_id, seams.residuals / run.hex()
        self._residuals = Residuals(
            directory, spec.tensors, me, self._certified, self._tell, max_staleness=spec.policy.late_rounds
        )

    async def pack(self, round: int, trained: Path) -> Cid:
        """The delta in the file `trained`, which is taken over, as a durable blob. Raises StoreError."""
        async with self._lock:
            return await self._seams.offload(self._pack, round, trained)

    async def forget(self) -> None:
        """The run is over for this node: nothing is left of what it kept back. Raises StoreError."""
        async with self._lock:
            await self._seams.offload(self._residuals.remove)

    def _pack(self, round: int, trained: Path) -> Cid:
        blobs, wire = self._seams.blobs, self._wire
        if wire == _FLOAT32:
            return blobs.add(trained, durable=True)
        row: Row = map_delta(trained, _FLOAT32, self._tensors)
        is_lossy = isinstance(wire, TopK)
        if is_lossy:
            row = self._residuals.added_to(row, round)
        packed = self._seams.scratch / f"{self._run.hex()[:16]}-delta-{round}.safetensors"
        write_delta(packed, row, wire, self._tensors)
        rest = Difference(row, map_delta(packed, wire, self._tensors))  # mapped: the file may move
        delta = blobs.add(packed, durable=True)
        if is_lossy:
            self._residuals.keep(rest, round, delta)
        with disk(trained, "remove"):
            trained.unlink()
        return delta

    def _certified(self, round: int) -> Header | None:
        """What was certified in a round; None where this node does not know."""
        stored = self._seams.runs.checkpoint(self._run, round)
        return decode(Header, stored.checkpoint.header) if stored else None

    def _tell(self, sentence: str) -> None:
        self._seams.tell(LogLine(run=self._run.hex(), level="warning", sentence=sentence))
