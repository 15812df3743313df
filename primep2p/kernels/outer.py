"""Outer optimisers: from the rule's result to the next params, and the state that is carried on [A7].

The result of a round is to params what the negative of a gradient is: a direction to go. All is float32, each operation
rounded by itself in the order that stands here; square roots and quotients are the standard's, which every machine
rounds alike. Arrays are of shape (D,).
"""

from collections.abc import Sequence

import numpy as np

from primep2p.kernels.arrays import BLOCK, Array
from primep2p.model.pipeline import Adagrad, Adam, Outer, Sgd, Yogi

__all__ = ["first_state", "state_names", "step"]


def state_names(outer: Outer | None) -> tuple[str, ...]:
    """What the state of an optimiser has of each tensor; nothing where it needs none [A8]."""
    match outer:
        case None:
            return ()
        case Sgd(_, momentum):
            return ("momentum",) if momentum else ()
        case Adagrad(_, beta1):
            return ("mean", "square") if beta1 else ("square",)
        case Adam() | Yogi():
            return ("mean", "square")


def first_state(outer: Outer | None) -> tuple[float, ...]:
    """The value that each of them has everywhere before the first step: squares begin at tau squared, as in Reddi et
    al., algorithm 2."""
    match outer:
        case Adagrad(_, _, tau) | Adam(_, _, _, tau) | Yogi(_, _, _, tau):
            return tuple(
                0.0 if name == "mean" else float(np.float32(tau) * np.float32(tau)) for name in state_names(outer)
            )
        case _:
            return (0.0,) * len(state_names(outer))


def step(
    outer: Outer | None,
    base: Array,
    result: Array,
    state: Sequence[Array],
    out: Array,
    out_state: Sequence[Array],
) -> None:
    """out and out_state = params and state after one step from `base` and `state` along `result`. The outputs may be
    the inputs that they follow from: `result` and `out`, `state` and `out_state`. Scratch: two blocks."""
    scratch = np.empty((2, min(BLOCK, len(base))), np.float32)
    with np.errstate(all="ignore"):
        for low in range(0, len(base), BLOCK):
            piece = slice(low, min(low + BLOCK, len(base)))
            first, second = (row[: piece.stop - low] for row in scratch)
            before, after = [each[piece] for each in state], [each[piece] for each in out_state]
            _step(outer, base[piece], result[piece], before, out[piece], after, first, second)


def _step(
    outer: Outer | None,
    base: Array,
    result: Array,
    state: Sequence[Array],
    out: Array,
    after: Sequence[Array],
    first: Array,
    second: Array,
) -> None:
    match outer:
        case None:
            np.add(base, result, out=out)
        case Sgd(learning_rate, momentum, nesterov):
            way = result
            if momentum:
                np.multiply(state[0], np.float32(momentum), out=first)
                np.add(first, result, out=after[0])
                way = after[0]
                if nesterov:
                    np.multiply(after[0], np.float32(momentum), out=first)
                    way = np.add(first, result, out=first)
            np.multiply(way, np.float32(learning_rate), out=first)
            np.add(base, first, out=out)
        case Adagrad(learning_rate, beta1, tau):
            np.multiply(result, result, out=first)
            np.add(state[-1], first, out=after[-1])
            way = _mean(beta1, result, state[0], after[0], first) if beta1 else result
            _adaptive(learning_rate, tau, base, way, after[-1], out, first, second)
        case Adam(learning_rate, beta1, beta2, tau):
            np.multiply(result, result, out=first)
            _mean(beta2, first, state[1], after[1], second)
            way = _mean(beta1, result, state[0], after[0], first)
            _adaptive(learning_rate, tau, base, way, after[1], out, first, second)
        case Yogi(learning_rate, beta1, beta2, tau):
            np.multiply(result, result, out=first)
            np.subtract(state[1], first, out=second)
            np.sign(second, out=second)
            np.multiply(first, np.float32(1 - beta2), out=first)
            np.multiply(first, second, out=first)
            np.subtract(state[1], first, out=after[1])
            way = _mean(beta1, result, state[0], after[0], first)
            _adaptive(learning_rate, tau, base, way, after[1], out, first, second)


def _mean(decay: float, value: Array, before: Array, after: Array, scratch: Array) -> Array:
    """after = decay * before + (1 - decay) * value."""
    np.multiply(value, np.float32(1 - decay), out=scratch)
    np.multiply(before, np.float32(decay), out=after)
    return np.add(after, scratch, out=after)


def _adaptive(
    learning_rate: float, tau: float, base: Array, way: Array, square: Array, out: Array, first: Array, second: Array
) -> None:
    """out = base + learning_rate * way / (sqrt(square) + tau)."""
    np.sqrt(square, out=second)
    np.add(second, np.float32(tau), out=second)
    np.multiply(way, np.float32(learning_rate), out=first)
    np.divide(first, second, out=first)
    np.add(base, first, out=out)
