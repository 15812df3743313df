"""Handwritten digits in numpy alone: softmax regression, its gradient written out.

    python examples/data.py digits --trainer examples/numpy_digits.py:Digits --into trial

writes data, configurations and the run, and says what to start.
"""

import numpy as np

from primep2p.adapters.base import Settings, cross_entropy
from primep2p.adapters.numpy import Array, NumpyTrainer
from primep2p.plugin.api import Params


class Digits(NumpyTrainer):
    """A weight for each pixel and digit."""

    settings = {**NumpyTrainer.settings, "learning_rate": 0.5}  # noqa: RUF012

    def start(self, settings: Settings, random: np.random.Generator) -> Params:
        return {"weight": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}

    def step(self, params: Params, x: Array, y: Array, settings: Settings) -> float:
        scores = self.outputs(params, x)  # (rows, 10)
        error = np.exp(scores - scores.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error *= np.float32(settings["learning_rate"] / len(y))
        params["weight"] -= x.T @ error
        params["bias"] -= error.sum(axis=0)
        return cross_entropy(scores, y)

    def outputs(self, params: Params, x: Array) -> Array:
        return x @ params["weight"] + params["bias"]
