"""Handwritten digits in MLX: a small network of convolutions.

    python examples/data.py digits --trainer examples/mlx_digits.py:Digits --into trial

writes data, configurations and the run, and says what to start.
"""

import mlx.core as mx
from mlx import nn

from primep2p.adapters.base import Settings
from primep2p.adapters.mlx import MlxTrainer


class Network(nn.Module):
    """8 x 8 pixels in, scores of 10 digits out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, channels, 3, padding=1)
        self.combine = nn.Linear(channels * 16, 64)
        self.decide = nn.Linear(64, 10)

    def __call__(self, x: mx.array) -> mx.array:
        x = nn.relu(self.look(x.reshape(-1, 8, 8, 1)))
        x = nn.MaxPool2d(2)(x).reshape(len(x), -1)
        return self.decide(nn.relu(self.combine(x)))


class Digits(MlxTrainer):
    """The network, stepped by SGD."""

    settings = {**MlxTrainer.settings, "channels": 16}  # noqa: RUF012

    def model(self, settings: Settings) -> nn.Module:
        return Network(settings["channels"])
