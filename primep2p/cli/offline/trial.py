"""`primep2p plugin check`: a trial of a trainer in its sandbox, told as it goes."""

import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from primep2p.cli.exits import EXIT_CODES
from primep2p.cli.render.plugins import show_finding
from primep2p.cli.render.printing import print_json
from primep2p.config import NodeConfig
from primep2p.model.errors import ConfigError, PluginError
from primep2p.model.records import Scalar
from primep2p.model.views.plugins import Finding
from primep2p.plugin.trial import Trial
from primep2p.run_config import load_run

__all__ = ["check"]


def check(
    config: NodeConfig,
    trainer: str,
    *,
    settings: Sequence[str],
    run: Path | None,
    data: Path | None,
    inputs: Path | None,
    deadline_s: float,
    json: bool,
) -> int:
    """Prints each finding as it is made; gives the exit code. Raises ConfigError."""
    name, plugins = trainer, config.trainer.plugins
    if ":" in trainer and trainer not in plugins:
        path, _, kind = trainer.rpartition(":")
        located = f"{_file(path)}:{kind}" if path.endswith(".py") else trainer
        name, plugins = kind, {**plugins, kind: located}
    elif trainer.endswith(".py"):
        raise ConfigError(f"which class of {_file(trainer)}?", hint=f"write: primep2p plugin check {trainer}:CLASS")
    section = msgspec.structs.replace(config.trainer, plugins=plugins)
    if data is not None or section.data:
        chosen = (data or Path(section.data)).expanduser().absolute()
        section = msgspec.structs.replace(section, data=str(chosen))
    given = {**(load_run(run).trainer_config if run else {}), **dict(map(_setting, settings))}
    is_fit = True

    def tell(finding: Finding) -> None:
        nonlocal is_fit
        is_fit = is_fit and finding.state != "fault"
        print_json(finding) if json else show_finding(finding)

    with tempfile.TemporaryDirectory(prefix="primep2p-check-") as directory:
        trial = Trial(section, name, given, Path(directory), inputs=inputs, deadline_s=deadline_s, tell=tell)
        trio.run(trial.run)
    return 0 if is_fit else EXIT_CODES[PluginError]


def _file(path: str) -> Path:
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise ConfigError(f"there is no file {path}", hint="a trainer is FILE.py:CLASS, MODULE:CLASS, or a name")
    return file


def _setting(text: str) -> tuple[str, Scalar | list[Scalar]]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set {text}: is not of the form KEY=VALUE")
    try:
        parsed: Mapping[str, Any] = tomllib.loads(f"value = {value}")
        return key, parsed["value"] if len(parsed) == 1 else value
    except tomllib.TOMLDecodeError:
        return key, value
