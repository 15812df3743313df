"""From the delta of this node's trainer to the blob that others fetch, in the form that the run's pipeline says.

Where that leaves values out (topk), what is left is this node's *residual*, and goes into its next delta (error
feedback, kernels/feedback.py). Only what a certified checkpoint includes counts as sent: training starts from the head
again, so a delta that came too late is trained anew, and its residual is of no use. The other forms round each value
to the nearest: what they lose is not kept.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import trio

from primep2p.kernels.arrays import Row
from primep2p.kernels.feedback import Difference, Sum
from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, PeerId, RunId
from primep2p.model.pipeline import Float32, TopK
from primep2p.model.records import Header, RunSpec, TensorSpec
from primep2p.model.views.events import LogLine
from primep2p.services.seams import Seams
from primep2p.store.deltas import check_delta, map_delta, write_delta
from primep2p.store.files import disk, make_directory, sync_directory, sync_file
from primep2p.wire.codec import decode

__all__ = ["Residuals", "Sender"]

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
        self._residuals = Residuals(directory, spec.tensors, me, self._fate, self._tell)

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

    def _fate(self, round: int) -> Header | None:
        """What was certified in a round; None where this node does not know."""
        stored = self._seams.runs.checkpoint(self._run, round)
        return decode(Header, stored.checkpoint.header) if stored else None

    def _tell(self, sentence: str) -> None:
        self._seams.tell(LogLine(run=self._run.hex(), level="warning", sentence=sentence))


class Residuals:
    """Two files in a directory of a run's own, written as float32 deltas are: `current`, what earlier rounds left out,
    and `ROUND-CID`, what it will be once a checkpoint of that round includes that delta. Names say all there is to
    know: a crash at any point leaves what the next training can decide on. Methods block and raise StoreError.

    `certified` tells the header of a round, None where it is unknown here.
    """

    def __init__(
        self,
        directory: Path,
        tensors: tuple[TensorSpec, ...],
        me: PeerId,
        certified: Callable[[int], Header | None],
        tell: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._tensors = tensors
        self._me = me
        self._certified = certified
        self._tell = tell

    def added_to(self, delta: Row, round: int) -> Row:
        """The delta of `round` with what earlier ones left out."""
        with disk(self._directory):
            make_directory(self._directory)
            self._settle(round)
            if not self._current.exists():
                return delta
        try:
            check_delta(self._current, _FLOAT32, self._tensors)
        except PeerError as error:
            self._tell(f"what earlier rounds left out is lost: {self._current} is damaged: {error.sentence}")
            with disk(self._current, "remove"):
                self._current.unlink()
            return delta
        return Sum(delta, map_delta(self._current, _FLOAT32, self._tensors))

    def keep(self, rest: Row, round: int, delta: Cid) -> None:
        """What `delta` leaves out, once it is certified in `round`. Durable: else a crash of the machine could bring
        back an older residual, of which others have had a part."""
        written = self._directory / "new"
        write_delta(written, rest, _FLOAT32, self._tensors)
        with disk(written, "keep"):
            sync_file(written)
            written.replace(self._directory / f"{round}-{delta}")
            sync_directory(self._directory)

    def remove(self) -> None:
        """All of it."""
        with disk(self._directory, "remove"):
            if self._directory.exists():
                shutil.rmtree(self._directory)

    @property
    def _current(self) -> Path:
        return self._directory / "current"

    def _settle(self, round: int) -> None:
        """Every earlier round has ended: what was left out of its delta is current if the delta was included, and void
        otherwise. Of this round no delta was signed, or there would be no training. Raises OSError."""
        found = {path: _parsed(path) for path in self._directory.iterdir() if path != self._current}
        for path in sorted(found, key=lambda path: found[path]):
            its_round, delta = found[path]
            header = self._certified(its_round) if its_round else None
            mine = [each.delta for each in header.inclusions if each.trainer == self._me] if header else []
            if its_round == 0 or its_round == round or (header and not mine):
                path.unlink()
            elif mine == [delta]:
                path.replace(self._current)
            else:
                self._tell(f"what earlier rounds left out is dropped: whether round {its_round} took it is not known")
                path.unlink()
                self._current.unlink(missing_ok=True)
        sync_directory(self._directory)


def _parsed(path: Path) -> tuple[int, str]:
    """Round and delta in a name; of a file that was not finished round 0."""
    round, _, delta = path.name.partition("-")
    return (int(round), delta) if round.isdecimal() else (0, "")
