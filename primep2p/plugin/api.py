"""What a plugin sees: the Trainer's methods, its context, and what it returns. Needs numpy and nothing else.

A trainer runs in its own process. It is made once for each run with no arguments and lives for many rounds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "ABI_VERSION",
    "ABI_VERSIONS",
    "Arrays",
    "Context",
    "Metrics",
    "Misconfigured",
    "Params",
    "Predicts",
    "Trainer",
    "Update",
]

ABI_VERSION = 2
"""Of what this module says. A trainer class may name the one that it is written for as its `abi_version`.

1: init, train, evaluate. 2: also `predict`, `ctx.checkpoint` and `ctx.resume`; a trainer of 1 is one of 2 without them.
"""

ABI_VERSIONS = (1, 2)
"""Those that a trainer may be written for."""


class Misconfigured(ValueError):
    """For a trainer to raise whose settings or data are wrong: its owner is told the sentence, and no traceback."""


Params = dict[str, npt.NDArray[np.float32]]
"""Tensors by name. Those that a trainer is given are mapped from a file and read-only: copy before changing them."""

Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by name: bools, ints of 8 to 64 bits, floats of 16 to 64."""

Metrics = dict[str, float]

Setting = bool | int | float | str | list[bool | int | float | str]


@dataclass(frozen=True)
class Context:
    """What a trainer may know: the round, the run's settings, and its owner's own data."""

    round: int
    seed: int
    """Differs from round to round and from node to node; the same again for the same round and node."""
    config: Mapping[str, Setting]
    """`trainer_config` of the run: the same for every member."""
    data: Path | None
    """`trainer.data` of this node's configuration: where its own data lies; None where none is set."""
    scratch: Path
    """A directory of the trainer's own; it lives as long as the run."""
    _report: Callable[[int, int, float], None] = field(default=lambda step, steps, loss: None, repr=False)
    _checkpoint: Callable[[Arrays, int], None] = field(default=lambda state, step: None, repr=False)
    _resume: Callable[[], tuple[int, Arrays] | None] = field(default=lambda: None, repr=False)

    def report(self, *, step: int, steps: int = 0, loss: float = float("nan")) -> None:
        """Tell the owner how far training is; also shows that the trainer lives, which moves its deadline."""
        self._report(step, steps, loss)

    def checkpoint(self, state: Arrays, step: int) -> None:
        """Save how far this training is, so that it can go on from there; replaces what was saved before. `train` only.

        `state` is all that `train` needs beside the round's params: params so far, the optimiser's state, counters."""
        self._checkpoint(state, step)

    def resume(self) -> tuple[int, Arrays] | None:
        """(step, state) as last saved in this very training: of this run and round, from these params. None where
        nothing was, which is nearly always. `train` only."""
        return self._resume()


@dataclass(frozen=True)
class Update:
    """What training made: exactly one of `params` (after training) and `delta` (after minus before).

    `examples` is how many examples it saw, at least 1; `metrics` go to the group with the update.
    """

    examples: int
    params: Params | None = None
    delta: Params | None = None
    metrics: Metrics = field(default_factory=dict)


class Trainer(Protocol):
    """A user's training loop, as the daemon drives it. It may have `predict` too, see `Predicts`."""

    def init(self, ctx: Context) -> Params:
        """The first params of a run; asked once, of the run's creator."""
        ...

    def train(self, params: Params, ctx: Context) -> Update:
        """One local training from `params` on this node's data."""
        ...

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        """Metrics of `params` on data of this node's own; an empty dict where there is none."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """What a trainer has whose models can be asked."""

    def predict(self, params: Params, inputs: Arrays, ctx: Context) -> Arrays:
        """What a model of these params says of `inputs`. `ctx.data` may be None."""
        ...
