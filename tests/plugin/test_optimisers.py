"""The optimisers of the numpy trainers against the papers' own formulas in float64, and what settings they take."""

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.trainers import optimisers
from primep2p.trainers.optimisers import BLOCK
from primep2p.trainers.settings import OPTIMISERS, Adam, AdamW, Settings, Sgd, settings

Vector = npt.NDArray[Any]

RATES = st.floats(1e-4, 0.5)
SHARES = st.floats(0, 0.99)
DECAYS = st.sampled_from([0.0, 0.01, 0.3])

CHOSEN = st.one_of(
    st.builds(Sgd, learning_rate=RATES, momentum=SHARES, nesterov=st.booleans(), weight_decay=DECAYS),
    st.builds(Adam, learning_rate=RATES, beta1=SHARES, beta2=SHARES, epsilon=st.sampled_from([1e-8, 1e-3])),
    st.builds(AdamW, learning_rate=RATES, beta1=SHARES, beta2=SHARES, weight_decay=DECAYS),
)


def drawn(seed: int, steps: int, size: int) -> tuple[Vector, Vector]:
    """Params (size,) and the gradients (steps, size) they meet."""
    random = np.random.default_rng(seed)
    return random.normal(size=size), random.normal(size=(steps, size)) * random.choice([1e-3, 1, 30], size=(1, size))


def after(chosen: Sgd | Adam, params: Vector, gradients: Vector, dtype: npt.DTypeLike = np.float32) -> Vector:
    """The params that the optimiser leaves."""
    changed = params.astype(dtype)
    optimiser = optimisers.begin(chosen, changed)
    for gradient in gradients.astype(dtype):
        optimiser.step(changed, gradient)
    return changed


def textbook_sgd(chosen: Sgd, params: Vector, gradients: Vector) -> Vector:
    """As Sutskever et al. and the frameworks write it, with the L2 penalty in the gradient."""
    velocity = np.zeros_like(params)
    for gradient in gradients:
        with_decay = gradient + chosen.weight_decay * params
        velocity = chosen.momentum * velocity + with_decay
        direction = with_decay + chosen.momentum * velocity if chosen.nesterov else velocity
        params = params - chosen.learning_rate * direction
    return params


def textbook_adam(chosen: Adam, params: Vector, gradients: Vector) -> Vector:
    """Algorithm 1 of arXiv:1412.6980; with a decay algorithm 2 of arXiv:1711.05101, scaled by the rate."""
    decay = chosen.weight_decay if isinstance(chosen, AdamW) else 0.0
    m, v = np.zeros_like(params), np.zeros_like(params)
    for t, gradient in enumerate(gradients, start=1):
        m = chosen.beta1 * m + (1 - chosen.beta1) * gradient
        v = chosen.beta2 * v + (1 - chosen.beta2) * gradient**2
        m_hat, v_hat = m / (1 - chosen.beta1**t), v / (1 - chosen.beta2**t)
        params = params - chosen.learning_rate * (m_hat / (np.sqrt(v_hat) + chosen.epsilon) + decay * params)
    return params


@given(CHOSEN, st.integers(0, 2**32), st.integers(0, 12))
def test_each_step_is_the_textbooks(chosen: Sgd | Adam, seed: int, steps: int) -> None:
    params, gradients = drawn(seed, steps, 7)
    textbook = textbook_sgd if isinstance(chosen, Sgd) else textbook_adam
    expected = textbook(chosen, params, gradients)  # type: ignore[arg-type]
    np.testing.assert_allclose(after(chosen, params, gradients, np.float64), expected, rtol=1e-9, atol=1e-9)
    # In float32 an operation errs by 6e-8 of what it adds up: at most the largest param on the way.
    scale = np.abs(np.concatenate([params, expected, gradients.ravel()])).max() * 100
    np.testing.assert_allclose(after(chosen, params, gradients), expected, rtol=1e-4, atol=scale * 1e-6)


@pytest.mark.parametrize("chosen", [Sgd(), Sgd(nesterov=True, weight_decay=0.1), Adam(), AdamW()])
def test_blocks_do_not_show_and_a_gradient_stays_as_it_is(chosen: Sgd | Adam) -> None:
    params, gradients = drawn(1, 3, 2 * BLOCK + 3)
    gradients = gradients.astype(np.float32)
    before = gradients.copy()
    whole = after(chosen, params, gradients)
    cuts = [0, 1, BLOCK - 5, 2 * BLOCK + 3]
    parts = [after(chosen, params[a:b], gradients[:, a:b]) for a, b in pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert gradients.tobytes() == before.tobytes()


def test_adams_first_step_is_the_rate_in_the_gradients_direction_whatever_its_size() -> None:
    gradient = np.array([[1e-6, -1e-3, 5.0, -2e6]])
    moved = after(Adam(learning_rate=0.25, epsilon=1e-12), np.zeros(4), gradient)
    np.testing.assert_allclose(moved, [-0.25, 0.25, -0.25, 0.25], rtol=1e-5)


def test_adamws_decay_is_not_scaled_by_the_gradients_and_sgds_is_part_of_them() -> None:
    still = np.zeros((10, 3))
    np.testing.assert_allclose(
        after(AdamW(learning_rate=0.1, weight_decay=0.5), np.ones(3), still), np.full(3, 0.95**10), rtol=1e-5
    )
    moved = after(Sgd(learning_rate=0.1, momentum=0.0, weight_decay=0.5), np.ones(3), still)
    np.testing.assert_allclose(moved, np.full(3, 0.95**10), rtol=1e-5)


def test_a_param_without_a_gradient_stays_at_the_least_epsilon_too() -> None:
    params = np.array([1.0, -2.0])
    np.testing.assert_array_equal(after(Adam(epsilon=1e-30), params, np.zeros((3, 2))), params)


def test_what_is_left_out_is_the_optimisers_default() -> None:
    assert settings({}).optimiser == Sgd()
    for name, kind in OPTIMISERS.items():
        assert settings({"optimiser": name}).optimiser == kind()
        assert settings({"optimiser": name, **asdict(kind(learning_rate=1))}) == Settings(optimiser=kind(1))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"optimiser": "lion"}, "optimiser is 'lion', and must be one of: sgd, adam, adamw"),
        ({"optimiser": ["sgd"]}, r"optimiser is \['sgd'\], and must be one of: sgd, adam, adamw"),
        ({"beta1": 0.9}, "beta1 has no effect with the optimiser sgd, whose settings are: learning_rate, momentum, .+"),
        ({"optimiser": "adam", "momentum": 0.9}, "momentum has no effect with the optimiser adam, whose .+"),
        ({"optimiser": "adam", "weight_decay": 0.1}, "weight_decay has no effect with the optimiser adam, whose .+"),
        ({"optimiser": "adamw", "nesterov": True}, "nesterov has no effect with the optimiser adamw, whose .+"),
        ({"nesterov": True, "momentum": 0}, "nesterov has no effect with a momentum of 0"),
        ({"nesterov": 1}, "nesterov is 1, and must be true or false"),
        ({"weight_decay": -1}, "weight_decay is -1, and must be a number of at least 0"),
        ({"momentum": 1}, "momentum is 1, and must be a number of at least 0 and less than 1"),
        ({"optimiser": "adam", "beta1": 1.0}, "beta1 is 1.0, and must be a number of at least 0 and less than 1"),
        ({"optimiser": "adam", "beta2": -0.5}, "beta2 is -0.5, and must be a number of at least 0 and less than 1"),
        ({"optimiser": "adam", "epsilon": 0.0}, "epsilon is 0.0, and must be a number of at least 1e-30"),
        ({"optimiser": "adamw", "learning_rate": True}, "learning_rate is True, and must be a number of more than 0"),
    ],
)
def test_a_setting_that_is_wrong_or_has_no_effect_is_one_sentence(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=rf"^trainer_config\.{told}$"):
        settings(config)
