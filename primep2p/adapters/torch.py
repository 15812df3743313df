"""A trainer whose model is a `torch.nn.Module`. Needs the extra: pip install 'primep2p[torch]'."""

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from primep2p.adapters.base import Adapter, Examples, Learner, Settings
from primep2p.plugin.api import Params

__all__ = ["TorchTrainer"]

Array = npt.NDArray[Any]


class TorchTrainer(Adapter):
    """A subclass says `model`, and `loss` or `optimiser` where these are others.

    Params are the module's parameters and its buffers of floats (a batch norm's means are averaged like weights);
    buffers of ints stay with the node. The optimiser begins anew each round.
    """

    @abstractmethod
    def model(self, settings: Settings) -> torch.nn.Module:
        """The module; torch's generator is seeded."""

    def loss(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean loss of a minibatch; here of classes."""
        return torch.nn.functional.cross_entropy(outputs, y)

    def optimiser(self, model: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
        """Of a round."""
        return torch.optim.SGD(model.parameters(), settings["learning_rate"], momentum=0.9)

    def first(self, settings: Settings, seed: int, examples: Examples | None) -> Params:
        """See `Adapter`."""
        torch.manual_seed(seed)
        return _params_of(self.model(settings))

    def learner(self, params: Params, settings: Settings) -> Learner:
        """See `Adapter`."""
        return _Learner(self, params, settings)


class _Learner:
    def __init__(self, trainer: TorchTrainer, params: Params, settings: Settings) -> None:
        self._trainer = trainer
        self._model = trainer.model(settings)
        self._model.load_state_dict({name: torch.tensor(array) for name, array in params.items()}, strict=False)
        self._optimiser = trainer.optimiser(self._model, settings)

    def step(self, x: Array, y: Array) -> float:
        self._model.train()
        self._optimiser.zero_grad()
        loss = self._trainer.loss(self._model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self._optimiser.step()
        return float(loss.item())

    def outputs(self, x: Array) -> Array:
        self._model.eval()
        with torch.no_grad():
            outputs: Array = self._model(torch.from_numpy(x)).numpy()
        return outputs

    def params(self) -> Params:
        return _params_of(self._model)


def _params_of(model: torch.nn.Module) -> Params:
    return {
        name: tensor.detach().cpu().numpy().astype(np.float32)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }
