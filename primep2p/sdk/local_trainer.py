"""A trainer in this process, on arrays instead of a node's own data: what a loop of one's own trains with.

It is the same class that a daemon would run in a process apart, with the same `trainer_config`; its data is a .npz with
`x` and `y`, as the trainers of this package and the adapters read it.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from primep2p.model.errors import CallError, PluginError
from primep2p.plugin.api import Context, Metrics, Params, Predicts, Setting, Trainer, Update
from primep2p.plugin.discovery import find
from primep2p.plugin.loading import module_in

__all__ = ["LocalTrainer", "params_after"]


class LocalTrainer:
    """`trainer` is the name of an installed one, "path.py:Class", or a class; it is made anew for each request, so that
    no request sees what another was given. Close it, or use it in a `with`: its scratch directory goes with it."""

    def __init__(self, trainer: str | type[Trainer], config: Mapping[str, Setting] | None = None) -> None:
        self._class = _loaded(trainer) if isinstance(trainer, str) else trainer
        self._directory = TemporaryDirectory(prefix="primep2p-")
        self.config = dict(config or {})

    def close(self) -> None:
        """Removes what was kept on the disk."""
        self._directory.cleanup()

    def __enter__(self) -> "LocalTrainer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def init(self, x: npt.ArrayLike, y: npt.ArrayLike, seed: int) -> Params:
        """The first params for data like this."""
        return self._class().init(self._context(seed, 0, x, y))

    def train(
        self, params: Params, x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int, round: int = 0, **more: Setting
    ) -> Update:
        """One local training on these examples; `more` beats the config."""
        return self._class().train(params, self._context(seed, round, x, y, more))

    def evaluate(self, params: Params, x: npt.ArrayLike, y: npt.ArrayLike, *, round: int = 0) -> Metrics:
        """Metrics of `params` on these examples."""
        return self._class().evaluate(params, self._context(0, round, x, y))

    def predict(self, params: Params, x: npt.ArrayLike, *, round: int = 0) -> dict[str, npt.NDArray[Any]]:
        """What a model of these params says of x. Raises CallError where the trainer cannot be asked."""
        trainer = self._class()
        if not isinstance(trainer, Predicts):
            raise CallError(f"the trainer {self._class.__name__} has no predict: only its training is known")
        return trainer.predict(params, {"x": np.asarray(x)}, self._context(0, round))

    def _context(
        self,
        seed: int,
        round: int,
        x: npt.ArrayLike | None = None,
        y: npt.ArrayLike | None = None,
        more: Mapping[str, Setting] | None = None,
    ) -> Context:
        scratch = Path(self._directory.name)
        data = None
        if x is not None and y is not None:
            data = scratch / "examples.npz"
            np.savez(data, x=np.asarray(x), y=np.asarray(y))
        config = {**self.config, **(more or {})}
        return Context(round=round, seed=seed, config=config, data=data, scratch=scratch)


def params_after(update: Update, params: Params) -> Params:
    """The params after a training from `params`, whichever way the trainer says what it made."""
    return update.params or {name: params[name] + change for name, change in (update.delta or {}).items()}


def _loaded(name: str) -> type[Trainer]:
    """A trainer's class. Its code runs in this process from here on: who names it trusts it. Raises PluginError."""
    local = {name: name} if ":" in name else {}
    ref = find(name, local)
    try:
        is_file = ref.location.endswith(".py")
        module = module_in(Path(ref.location)) if is_file else importlib.import_module(ref.location)
        found: type[Trainer] = getattr(module, ref.attribute)
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise PluginError(f"cannot load the trainer {ref}: {error}") from error
    return found
