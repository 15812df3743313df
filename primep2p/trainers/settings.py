"""What `trainer_config` may say to the trainers of this package, checked once and clearly."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Settings", "settings"]


@dataclass(frozen=True)
class Settings:
    """The keys with their defaults; 0 features or classes: as the data of the run's creator has."""

    hidden: tuple[int, ...] = (64,)
    learning_rate: float = 0.1
    momentum: float = 0.9
    epochs: int = 1
    batch_size: int = 32
    steps: int = 0
    """Minibatches a round; 0: as many as `epochs` have."""
    features: int = 0
    classes: int = 0
    init_seed: int = -1
    """-1: the seed that the node gives."""


LEAST: Mapping[str, int] = {"epochs": 0, "steps": 0, "features": 0, "classes": 0, "batch_size": 1, "init_seed": -1}


def settings(config: Mapping[str, Any]) -> Settings:
    """The settings in `config`. Raises ValueError with one sentence that names the key."""
    known = {field.name for field in fields(Settings)}
    for key in config:
        if key not in known:
            raise ValueError(f"trainer_config.{key} is not a setting; there are: {', '.join(sorted(known))}")
    for key, least in LEAST.items():
        value = config.get(key, least)
        if type(value) is not int or value < least:
            raise ValueError(f"trainer_config.{key} is {value!r}, and must be an int of at least {least}")
    hidden = config.get("hidden", Settings.hidden)
    if not isinstance(hidden, list | tuple) or any(type(width) is not int or width < 1 for width in hidden):
        raise ValueError(f"trainer_config.hidden is {hidden!r}, and must be a list of ints of at least 1")
    _check_rate("learning_rate", config, above=0.0, below=float("inf"))
    _check_rate("momentum", config, above=-1e-9, below=1.0)
    return Settings(**{**config, "hidden": tuple(hidden)})


def _check_rate(key: str, config: Mapping[str, Any], *, above: float, below: float) -> None:
    value = config.get(key, getattr(Settings, key))
    if type(value) not in (int, float) or not above < value < below:
        least = "more than 0" if above == 0 else "at least 0"
        most = "" if below == float("inf") else f" and less than {below:g}"
        raise ValueError(f"trainer_config.{key} is {value!r}, and must be a number of {least}{most}")
