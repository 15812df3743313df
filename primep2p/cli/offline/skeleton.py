"""`primep2p plugin new`: a package with one trainer in it, which works as it is written."""

import re
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np

from primep2p.model.errors import ConfigError, StoreError

__all__ = ["Skeleton", "write"]

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
description = "A trainer for primep2p"
requires-python = ">=3.11"
dependencies = ["numpy>=2.0"]

[project.entry-points."primep2p.trainers"]
{name} = "{package}.trainer:{kind}"

[tool.setuptools]
packages = ["{package}"]
"""

TRAINER = '''"""The trainer that runs name {name!r}. See docs/plugins.md of primep2p for all that it may do."""

import numpy as np

from primep2p.plugin.api import Arrays, Context, Metrics, Misconfigured, Params, Update


class {kind}:
    """Fits y = x @ weight + bias to its owner's examples: an .npz with x (n, features) and y (n,).

    `trainer_config`: steps, learning_rate.
    """

    abi_version = 2

    def init(self, ctx: Context) -> Params:
        x, _ = self._examples(ctx)
        random = np.random.default_rng(ctx.seed)
        return {{
            "weight": 0.01 * random.standard_normal(x.shape[1], dtype=np.float32),
            "bias": np.zeros(1, np.float32),
        }}

    def train(self, params: Params, ctx: Context) -> Update:
        x, y = self._examples(ctx)
        weight, bias = params["weight"].copy(), params["bias"].copy()  # what is given is read-only
        steps, rate = int(ctx.config.get("steps", 100)), np.float32(ctx.config.get("learning_rate", 0.1))
        loss = 0.0
        for step in range(steps):
            error = x @ weight + bias - y  # (n,)
            loss = float((error**2).mean())
            weight -= rate * (x.T @ error) / len(x)
            bias -= rate * error.mean()
            ctx.report(step=step + 1, steps=steps, loss=loss)
        return Update(examples=len(x), params={{"weight": weight, "bias": bias}}, metrics={{"loss": loss}})

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        if ctx.data is None:
            return {{}}
        x, y = self._examples(ctx)
        return {{"loss": float(((self._line(params, x) - y) ** 2).mean())}}

    def predict(self, params: Params, inputs: Arrays, ctx: Context) -> Arrays:
        return {{"y": self._line(params, inputs["x"].astype(np.float32))}}

    def _line(self, params: Params, x: np.ndarray) -> np.ndarray:
        return x @ params["weight"] + params["bias"]

    def _examples(self, ctx: Context) -> tuple[np.ndarray, np.ndarray]:
        if ctx.data is None:
            raise Misconfigured("trainer.data of node.toml is not set: it names the .npz with x and y")
        with np.load(ctx.data) as arrays:
            return arrays["x"].astype(np.float32), arrays["y"].astype(np.float32)
'''

TEST = '''"""The trainer alone: what it learns from the example, without a daemon."""

from pathlib import Path

import numpy as np

from {package}.trainer import {kind}
from primep2p.plugin.api import Context

DATA = Path(__file__).parents[1] / "example.npz"


def test_training_finds_the_line(tmp_path):
    ctx = Context(round=1, seed=1, config={{"steps": 300}}, data=DATA, scratch=tmp_path)
    trainer = {kind}()
    update = trainer.train(trainer.init(ctx), ctx)
    assert trainer.evaluate(update.params, ctx)["loss"] < 0.01
    answered = trainer.predict(update.params, {{"x": np.zeros((2, 2))}}, ctx)
    np.testing.assert_allclose(answered["y"], 1, atol=0.1)
'''

README = """# {name}

A trainer for [primep2p](https://pypi.org/project/primep2p/).

    pip install -e .
    primep2p plugin check {name} --data example.npz
    python -m pytest

A run says `trainer = "{name}"`; every member installs this package, and sets `trainer.data` in its node.toml.
"""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What was written, and the command that tries it."""

    paths: list[Path]
    check_command: str


def write(name: str, into: Path) -> Skeleton:
    """The package, in a directory that is new or empty. Raises ConfigError, StoreError."""
    if not NAME.fullmatch(name) or len(name) > 64:
        raise ConfigError(f"{name!r} is no name for a trainer: small letters and digits, joined by - or _")
    try:
        if into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise ConfigError(f"{into} is there already", hint="name another place with --dir")
        return _write(name, into)
    except OSError as error:
        raise StoreError(f"cannot write to {into}: {error.strerror}") from error


def _write(name: str, into: Path) -> Skeleton:
    package = re.sub(r"-", "_", name)
    kind = "".join(word.capitalize() for word in package.split("_"))
    texts = {
        into / "pyproject.toml": PYPROJECT,
        into / "README.md": README,
        into / package / "__init__.py": "",
        into / package / "trainer.py": TRAINER,
        into / "tests" / "test_trainer.py": TEST,
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(name=name, package=package, kind=kind), encoding="utf-8")
    random = np.random.default_rng(0)
    x = random.standard_normal((40, 2))
    np.savez(into / "example.npz", x=x, y=x @ [3.0, -2.0] + 1)
    tried = quote(f"{into / package / 'trainer.py'}:{kind}")
    command = f"primep2p plugin check {tried} --data {quote(str(into / 'example.npz'))}"
    return Skeleton([*texts, into / "example.npz"], command)
