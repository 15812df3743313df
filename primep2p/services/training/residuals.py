"""What a node's deltas left out, on its disk, until the certified chain says what was sent (docs/adr/015)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from primep2p.kernels.arrays import Row
from primep2p.kernels.feedback import Sum
from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, PeerId
from primep2p.model.pipeline import Float32
from primep2p.model.records import Header, TensorSpec
from primep2p.store.deltas import check_delta, map_delta, write_delta
from primep2p.store.files import disk, make_directory, sync_directory, sync_file

__all__ = ["Certified", "Fate", "Residuals", "fate_of"]

_FLOAT32 = Float32()
_ALONE = "alone-"

Fate = bool | None
"""Whether a delta was included; None where that is not known yet."""

Certified = Callable[[int], Header | None]
"""The header of a round; None where there is none here."""


class Unknown(Exception):
    """What became of a delta is not to be found here, and never will be."""


def fate_of(delta: Cid, round: int, me: PeerId, certified: Certified, *, until: int, now: int) -> Fate:
    """What became of this node's `delta` for `round`, which could enter up to round `until`, if `now` is the round that
    it trains for: every earlier one has ended. Raises Unknown."""
    for number in range(round, until + 1):
        if (header := certified(number)) is None:
            if number >= now > round:
                return None
            raise Unknown
        for mine in (each for each in header.inclusions if each.trainer == me):
            its_round = number - mine.staleness
            if its_round == round and not header.void and mine.delta != delta:
                raise Unknown
            if its_round >= round:
                return its_round == round and not header.void
    return False


class _Pending(NamedTuple):
    """A file with what a delta left out, whose fate was not known when it was written."""

    round: int
    """0: of a file that was not finished."""
    delta: str
    is_alone: bool
    """What was left before is not in it: it is to be added to that."""

    @classmethod
    def parsed(cls, path: Path) -> "_Pending":
        round, _, rest = path.name.partition("-")
        return cls(int(round) if round.isdecimal() else 0, rest.removeprefix(_ALONE), rest.startswith(_ALONE))


class Residuals:
    """Files in a directory of a run's own, written as float32 deltas are: `current-ROUND`, what deltas up to that for
    ROUND left out, and for each delta whose fate is not known `ROUND-CID`, what will be current once a checkpoint
    includes it, or `ROUND-alone-CID`, what then has to be added. Names say all there is to know: a crash at any point
    leaves what the next training can decide on. Methods block and raise StoreError.

    A delta may enter up to `max_staleness` rounds after its own. Only one at a time takes what was left before along:
    if two did, and both were included, it would be sent twice.
    """

    def __init__(
        self,
        directory: Path,
        tensors: tuple[TensorSpec, ...],
        me: PeerId,
        certified: Certified,
        tell: Callable[[str], None],
        *,
        max_staleness: int = 0,
    ) -> None:
        self._directory = directory
        self._tensors = tensors
        self._me = me
        self._certified = certified
        self._tell = tell
        self._max_staleness = max_staleness
        self._is_alone = False

    def added_to(self, delta: Row, round: int) -> Row:
        """The delta for `round` with what earlier ones left out, if no earlier one may still enter with that."""
        with disk(self._directory):
            make_directory(self._directory)
            self._settle(round)
            self._is_alone = bool(self._pending())
            current = self._current()
            if current is None or self._is_alone:
                return delta
        return Sum(delta, left) if (left := self._read(current)) is not None else delta

    def keep(self, rest: Row, round: int, delta: Cid) -> None:
        """What `delta` leaves out, once a checkpoint includes it. Durable: else a crash of the machine could bring back
        an older residual, of which others have had a part."""
        self._write(rest, f"{round}-{_ALONE if self._is_alone else ''}{delta}")

    def remove(self) -> None:
        """All of it."""
        with disk(self._directory, "remove"):
            if self._directory.exists():
                shutil.rmtree(self._directory)

    def _settle(self, now: int) -> None:
        """What was left out of a delta is current if it was included, and void if it never will be. Of this round no
        delta was signed, or there would be no training. Raises OSError."""
        done = self._drop_replaced()
        for path, pending in self._pending().items():
            if pending.round in (0, now) or pending.round <= done:
                path.unlink()
                continue
            until = pending.round + self._max_staleness
            try:
                fate = fate_of(pending.delta, pending.round, self._me, self._certified, until=until, now=now)
            except Unknown:
                round = pending.round
                self._tell(f"what earlier rounds left out is dropped: whether round {round} took it is not known")
                self._forget_current()
                path.unlink()
                continue
            if fate:
                self._take(path, pending)
            elif fate is False:
                path.unlink()
        sync_directory(self._directory)

    def _take(self, path: Path, pending: _Pending) -> None:
        """Its delta was included. The new file is there before the old ones go."""
        before = self._current() if pending.is_alone else None
        left = self._read(before) if before is not None else None
        name = f"current-{pending.round}"
        if left is None:
            path.replace(self._directory / name)
        else:
            self._write(Sum(map_delta(path, _FLOAT32, self._tensors), left), name)
            path.unlink()
        self._drop_replaced()

    def _drop_replaced(self) -> int:
        """Of what a crash left only the newest counts; gives its round."""
        found = sorted((int(path.name.removeprefix("current-")), path) for path in self._directory.glob("current-*"))
        for _, path in found[:-1]:
            path.unlink()
        return found[-1][0] if found else 0

    def _forget_current(self) -> None:
        for path in self._directory.glob("current-*"):
            path.unlink()

    def _current(self) -> Path | None:
        return next(self._directory.glob("current-*"), None)

    def _pending(self) -> dict[Path, _Pending]:
        """By round."""
        found = {p: _Pending.parsed(p) for p in self._directory.iterdir() if not p.name.startswith("current-")}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def _read(self, path: Path) -> Row | None:
        """None, and no file any more, where it is damaged."""
        try:
            check_delta(path, _FLOAT32, self._tensors)
        except PeerError as error:
            self._tell(f"what earlier rounds left out is lost: {path} is damaged: {error.sentence}")
            with disk(path, "remove"):
                path.unlink()
            return None
        return map_delta(path, _FLOAT32, self._tensors)

    def _write(self, row: Row, name: str) -> None:
        written = self._directory / "new"
        write_delta(written, row, _FLOAT32, self._tensors)
        with disk(written, "keep"):
            sync_file(written)
            written.replace(self._directory / name)
            sync_directory(self._directory)
