"""Optimisers of a trainer's flat vectors, in place: sgd, adam and adamw as `trainer_config.optimiser` chooses.

A step goes over its vectors in blocks that stay in cache, so that memory is passed once however many operations a
rule has. State begins at zero: an optimiser lives for one round, and the next begins with another.
"""

from collections.abc import Iterator
from math import sqrt
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from primep2p.trainers.settings import Adam, AdamW, Sgd

__all__ = ["AdamSteps", "Optimiser", "SgdSteps", "begin"]

BLOCK = 65_536
"""Elements: 1.3 MB of Adam's five vectors. Fewer, and calls cost more than the passes through memory they save."""

Vector = npt.NDArray[Any]
"""(n,) floats; all of an optimiser's vectors have the same n and dtype."""


class Optimiser(Protocol):
    """What turns gradients into steps."""

    def step(self, params: Vector, gradient: Vector) -> None:
        """Changes `params` (n,) by `gradient` (n,), which stays as it is."""
        ...


def begin(chosen: Sgd | Adam, params: Vector) -> Optimiser:
    """The chosen optimiser before its first step, for vectors like `params`."""
    if isinstance(chosen, Sgd):
        return SgdSteps(chosen, params)
    return AdamSteps(chosen, params)


class SgdSteps:
    """Gradient descent with Polyak's momentum, u = mu * u + g, p -= rate * u; with `nesterov` p -= rate * (g + mu * u)
    (Sutskever et al., ICML 2013, in the form of the usual frameworks). `weight_decay` adds its part of p to g."""

    def __init__(self, chosen: Sgd, params: Vector) -> None:
        self._chosen = chosen
        self._carried = np.zeros(params.shape, params.dtype)
        """mu * u: what the next step begins with, so that both forms of momentum take the same few passes."""
        self._scratch = np.empty(min(BLOCK, params.size), params.dtype)

    def step(self, params: Vector, gradient: Vector) -> None:
        rate, momentum, decay = self._chosen.learning_rate, self._chosen.momentum, self._chosen.weight_decay
        for p, g, u, t in _blocks(self._scratch, params, gradient, self._carried):
            if decay:
                np.multiply(p, decay, out=t)
                u += t
            u += g
            if not self._chosen.nesterov:
                np.multiply(u, rate, out=t)
                u *= momentum
            elif decay:
                t += g
                u *= momentum
                t += u
                t *= rate
            else:
                u *= momentum
                np.add(u, g, out=t)
                t *= rate
            p -= t


class AdamSteps:
    """Adam (arXiv:1412.6980, algorithm 1 in the efficient order of its section 2), and AdamW (arXiv:1711.05101), which
    also takes rate * weight_decay of p away in each step, apart from the gradient.

    m and v are kept without their factors 1 - beta, which go into the scalars of the step: two passes less.
    """

    def __init__(self, chosen: Adam, params: Vector) -> None:
        self._chosen = chosen
        self._keep = 1 - chosen.learning_rate * chosen.weight_decay if isinstance(chosen, AdamW) else 1.0
        self._steps = 0
        self._m = np.zeros(params.shape, params.dtype)
        self._v = np.zeros(params.shape, params.dtype)
        self._scratch = np.empty(min(BLOCK, params.size), params.dtype)

    def step(self, params: Vector, gradient: Vector) -> None:
        rate, beta1, beta2 = self._chosen.learning_rate, self._chosen.beta1, self._chosen.beta2
        self._steps += 1
        # rate * m_hat / (sqrt(v_hat) + epsilon), with m_hat = m * of_m and v_hat = v * of_v**2
        of_m = (1 - beta1) / (1 - beta1**self._steps)
        of_v = sqrt((1 - beta2) / (1 - beta2**self._steps))
        for p, g, m, v, t in _blocks(self._scratch, params, gradient, self._m, self._v):
            m *= beta1
            m += g
            np.multiply(g, g, out=t)
            v *= beta2
            v += t
            np.sqrt(v, out=t)
            t += self._chosen.epsilon / of_v
            np.divide(m, t, out=t)
            t *= rate * of_m / of_v
            if self._keep != 1:
                p *= self._keep
            p -= t


def _blocks(scratch: Vector, *vectors: Vector) -> Iterator[tuple[Vector, ...]]:
    """Views of the same elements of each vector, and as much of the scratch."""
    for start in range(0, vectors[0].size, BLOCK):
        parts = tuple(vector[start : start + BLOCK] for vector in vectors)
        yield (*parts, scratch[: parts[0].size])
