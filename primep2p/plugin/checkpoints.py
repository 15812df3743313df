"""What a training saved on its way, in the trainer's own process: kept for that one training, given to no other."""

from collections.abc import Callable
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path

from primep2p.plugin.api import Arrays
from primep2p.plugin.arrays import load_state, save_arrays

__all__ = ["Checkpoints"]


class Checkpoints:
    """`ctx.checkpoint` and `ctx.resume` of one training. What another one saved at `path` is removed.

    A state belongs to a round and its seed, which differ from run to run and from node to node, and to the bytes of the
    params that training began from; these are hashed only for a trainer that saves.
    """

    def __init__(self, path: Path, params: Path, round: int, seed: int, saved: Callable[[int], None]) -> None:
        self._path = path
        self._params = params
        self._round = round
        self._seed = seed
        self._saved = saved
        self._base = ""

    def save(self, state: Arrays, step: int) -> None:
        """Replaces what was saved before, at once or not at all."""
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**63:
            raise ValueError(f"the step of a checkpoint is {step!r}, and must be an int of at least 0")
        if not isinstance(state, dict) or not state:
            raise ValueError("the state of a checkpoint must be a dict of arrays, and not empty")
        under_way = self._path.with_suffix(".part")
        under_way.unlink(missing_ok=True)
        save_arrays(under_way, state, {**self._training(), "step": str(step)})
        under_way.replace(self._path)
        self._saved(step)

    def load(self) -> tuple[int, Arrays] | None:
        """(step, state), or None where this training has saved nothing."""
        if not self._path.is_file():
            return None
        with suppress(ValueError):
            told, state = load_state(self._path)
            step = told.get("step", "")
            if dict(told) == {**self._training(), "step": step} and step.isdecimal():
                return int(step), state
        self._path.unlink(missing_ok=True)  # of another training, or damaged
        return None

    def _training(self) -> dict[str, str]:
        if not self._base:
            with self._params.open("rb") as file:
                self._base = file_digest(file, "sha256").hexdigest()
        return {"round": str(self._round), "seed": str(self._seed), "base": self._base}
