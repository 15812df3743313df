"""Handwritten digits in PyTorch: a small network of convolutions.

    python examples/data.py digits --trainer examples/torch_digits.py:Digits --into trial

writes data, configurations and the run, and says what to start.
"""

from torch import nn

from primep2p.adapters.base import Settings
from primep2p.adapters.torch import TorchTrainer


class Digits(TorchTrainer):
    """8 x 8 pixels in, scores of 10 digits out."""

    settings = {**TorchTrainer.settings, "channels": 16}  # noqa: RUF012

    def model(self, settings: Settings) -> nn.Module:
        channels = settings["channels"]
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(channels * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )
