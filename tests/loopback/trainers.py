"""Trainers for real daemons: one that is steady, and some that fail in round 2 on the node that has them."""

import sys
import time

import numpy as np

from primep2p.plugin.api import Context, Metrics, Params, Update
from primep2p.trainers.dense import MultilayerPerceptron

ELEMENTS = 1000
FAILING_ROUND = 2


class Steady:
    """Adds a little to each value, after `seconds`."""

    def init(self, ctx: Context) -> Params:
        return {"values": np.zeros(ELEMENTS, np.float32)}

    def train(self, params: Params, ctx: Context) -> Update:
        ctx.report(step=0, steps=1)
        time.sleep(float(ctx.config.get("seconds", 0.0)))
        step = np.float32((ctx.seed % 1000) * 1e-6)
        return Update(examples=10, delta={"values": np.full(ELEMENTS, step, np.float32)}, metrics={"loss": 1.0})

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        return {}


class Slow(Steady):
    """Six times as long as others take."""

    def train(self, params: Params, ctx: Context) -> Update:
        time.sleep(5 * float(ctx.config["seconds"]))
        return super().train(params, ctx)


class Saves(Steady):
    """Takes `steps` steps of 0.1 s, saves each, and says where it began."""

    def train(self, params: Params, ctx: Context) -> Update:
        begun, state = ctx.resume() or (0, {"sum": np.zeros(1)})
        steps = int(ctx.config["steps"])
        for step in range(begun + 1, steps + 1):
            time.sleep(0.1)
            state["sum"] += step
            ctx.checkpoint(state, step)
            ctx.report(step=step, steps=steps)
        assert state["sum"] == steps * (steps + 1) / 2
        update = super().train(params, ctx)
        return Update(update.examples, delta=update.delta, metrics={"begun_at": float(begun)})


class Raises(Steady):
    def train(self, params: Params, ctx: Context) -> Update:
        if ctx.round == FAILING_ROUND:
            print("the microscope is not plugged in", file=sys.stderr)
            raise RuntimeError("no pictures today")
        return super().train(params, ctx)


class Hangs(Steady):
    def train(self, params: Params, ctx: Context) -> Update:
        if ctx.round == FAILING_ROUND:
            time.sleep(3600)
        return super().train(params, ctx)


class NotNumbers(Steady):
    def train(self, params: Params, ctx: Context) -> Update:
        update = super().train(params, ctx)
        if ctx.round == FAILING_ROUND:
            return Update(examples=10, delta={"values": np.full(ELEMENTS, np.nan, np.float32)})
        return update


class Uninitialised(Steady):
    """For runs whose first params come from somewhere else."""

    def init(self, ctx: Context) -> Params:
        raise RuntimeError("nobody was to ask for first params")


class Lies(MultilayerPerceptron):
    """Trains as others do, and sends the opposite, many times as long."""

    def train(self, params: Params, ctx: Context) -> Update:
        update = super().train(params, ctx)
        assert update.params is not None
        delta = {name: np.float32(-20) * (array - params[name]) for name, array in update.params.items()}
        return Update(update.examples, delta=delta, metrics=update.metrics)
