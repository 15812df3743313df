"""A trainer without any learning: what remains of a round when training costs nothing. For benches and tests."""

import time

import numpy as np

from primep2p.plugin.api import Context, Metrics, Misconfigured, Params, Update

__all__ = ["Noop"]

DEFAULT_ELEMENTS = 25_000
"""100 kB."""


class Noop:
    """One tensor of `elements` float32; each delta is the same small number everywhere, drawn from the seed.

    Training takes `seconds`, which cost no work.
    """

    def init(self, ctx: Context) -> Params:
        """Zeros."""
        elements = ctx.config.get("elements", DEFAULT_ELEMENTS)
        if type(elements) is not int or elements < 1:
            raise Misconfigured(f"trainer_config.elements is {elements!r}, and must be an int of at least 1")
        return {"values": np.zeros(elements, np.float32)}

    def train(self, params: Params, ctx: Context) -> Update:
        """At once, or after `seconds`."""
        seconds = ctx.config.get("seconds", 0)
        if type(seconds) not in (int, float) or not 0 <= seconds < float("inf"):  # type: ignore[operator]
            raise Misconfigured(f"trainer_config.seconds is {seconds!r}, and must be a number of at least 0")
        ctx.report(step=0, steps=1)
        time.sleep(seconds)  # type: ignore[arg-type]
        step = np.float32((ctx.seed % 2001 - 1000) * 1e-6)
        return Update(examples=1, delta={name: np.full_like(array, step) for name, array in params.items()})

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        """The mean of all values."""
        return {"mean": float(np.mean([array.mean() for array in params.values()]))}
