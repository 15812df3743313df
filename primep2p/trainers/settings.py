"""What `trainer_config` may say to the trainers of this package, checked once and clearly."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from primep2p.adapters.base import no_setting
from primep2p.plugin.api import Misconfigured

__all__ = ["OPTIMISERS", "Adam", "AdamW", "Settings", "Sgd", "settings"]


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent."""

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam:
    """The paper's own defaults (arXiv:1412.6980) but for the rate: its 0.001 is for thousands of steps, and here an
    optimiser begins anew each round, which may be a few dozen; the digits are learnt as with sgd at 0.01."""

    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with a weight decay apart from the gradient (arXiv:1711.05101)."""

    weight_decay: float = 0.01


OPTIMISERS: Mapping[str, type[Sgd | Adam]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}


@dataclass(frozen=True)
class Settings:
    """The keys with their defaults; 0 features or classes: as the data of the run's creator has."""

    hidden: tuple[int, ...] = (64,)
    optimiser: Sgd | Adam = Sgd()
    """In `trainer_config` its name, with its settings beside it."""
    epochs: int = 1
    batch_size: int = 32
    steps: int = 0
    """Minibatches a round; 0: as many as `epochs` have."""
    features: int = 0
    classes: int = 0
    init_seed: int = -1
    """-1: the seed that the node gives."""


LEAST: Mapping[str, int] = {"epochs": 0, "steps": 0, "features": 0, "classes": 0, "batch_size": 1, "init_seed": -1}

LEAST_EPSILON = 1e-30
"""Far below any that is used, and a normal float32: a smaller one may round to 0, and 0 / 0 is no step."""


def settings(config: Mapping[str, Any]) -> Settings:
    """The settings in `config`. Raises Misconfigured with one sentence that names the key."""
    tuned = {key for kind in OPTIMISERS.values() for key in _keys(kind)}
    known = tuned | _keys(Settings)
    for key in config:
        if key not in known:
            raise no_setting(key, known)
    for key, least in LEAST.items():
        value = config.get(key, least)
        if type(value) is not int or value < least:
            raise Misconfigured(f"trainer_config.{key} is {value!r}, and must be an int of at least {least}")
    hidden = config.get("hidden", Settings.hidden)
    if not isinstance(hidden, list | tuple) or any(type(width) is not int or width < 1 for width in hidden):
        raise Misconfigured(f"trainer_config.hidden is {hidden!r}, and must be a list of ints of at least 1")
    others = {key: value for key, value in config.items() if key not in tuned}
    chosen = _optimiser(config.get("optimiser", "sgd"), {key: config[key] for key in config if key in tuned})
    return Settings(**{**others, "hidden": tuple(hidden), "optimiser": chosen})


def _optimiser(name: Any, config: Mapping[str, Any]) -> Sgd | Adam:
    """The optimiser of this name with these settings of its own."""
    if not isinstance(name, str) or name not in OPTIMISERS:
        raise Misconfigured(f"trainer_config.optimiser is {name!r}, and must be one of: {', '.join(OPTIMISERS)}")
    keys = _keys(OPTIMISERS[name])
    for key, value in config.items():
        if key not in keys:
            own = ", ".join(sorted(keys))
            raise Misconfigured(
                f"trainer_config.{key} has no effect with the optimiser {name}, whose settings are: {own}"
            )
        _check(key, value)
    chosen = OPTIMISERS[name](**config)
    if isinstance(chosen, Sgd) and chosen.nesterov and chosen.momentum == 0:
        raise Misconfigured("trainer_config.nesterov has no effect with a momentum of 0")
    return chosen


def _check(key: str, value: Any) -> None:
    """Raises Misconfigured unless `value` is in the key's range."""
    if key == "nesterov":
        if type(value) is not bool:
            raise Misconfigured(f"trainer_config.nesterov is {value!r}, and must be true or false")
        return
    number = value if type(value) in (int, float) else float("nan")
    match key:
        case "learning_rate":
            fits, range_ = 0 < number < float("inf"), "more than 0"
        case "epsilon":
            fits, range_ = LEAST_EPSILON <= number < float("inf"), f"at least {LEAST_EPSILON:g}"
        case "weight_decay":
            fits, range_ = 0 <= number < float("inf"), "at least 0"
        case _:
            fits, range_ = 0 <= number < 1, "at least 0 and less than 1"
    if not fits:
        raise Misconfigured(f"trainer_config.{key} is {value!r}, and must be a number of {range_}")


def _keys(kind: type[Sgd | Adam | Settings]) -> set[str]:
    return {field.name for field in fields(kind)}
