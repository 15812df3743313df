"""`primep2p plugin`: list, logs, check, new."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.derive import asks
from primep2p.cli.render.plugins import show_log, show_made, show_plugins
from primep2p.control.calls.plugins import PluginList, PluginLogs
from primep2p.model.views.plugins import PluginLog, PluginView

__all__ = ["app"]

app = App(name="plugin", help="Trainers: your own code and others'.", help_format="plaintext")


def _show_list(answer: list[PluginView], at: At) -> None:
    show_plugins(answer, at.command("plugin check NAME"))


def _show_log(answer: PluginLog, at: At) -> None:
    show_log(answer)


app.command(asks(PluginList, _show_list), name="list")
app.command(asks(PluginLogs, _show_log), name="logs")


@app.command
def check(
    trainer: Annotated[str, Parameter(help="A trainer's name, or path.py:Class.")],
    *,
    config: Annotated[
        tuple[str, ...], Parameter(name="--set", help="A setting of trainer_config: KEY=VALUE.", negative="")
    ] = (),
    run: Annotated[Path | None, Parameter(help="A run's file, for its trainer_config.")] = None,
    data: Annotated[Path | None, Parameter(help="The data to train on, in place of trainer.data.")] = None,
    inputs: Annotated[Path | None, Parameter(help="What to ask the model: a .safetensors file of arrays.")] = None,
    deadline_s: Annotated[float, Parameter(help="For each request, before it is taken to hang.")] = 120.0,
    json: Json = False,
    at: At = HERE,
) -> int:
    """Try a trainer as a daemon would run it, and say what is wrong with it: first params, one training, evaluation,
    prediction, checkpoints. No daemon is asked. 0 where it can take part in a run, else 5."""
    # By name: it imports what a daemon does, and no other command shall wait for it.
    trial = import_module("primep2p.cli.offline.trial").check
    code: int = trial(
        at.load(), trainer, settings=config, run=run, data=data, inputs=inputs, deadline_s=deadline_s, json=json
    )
    return code


@app.command
def new(
    name: Annotated[str, Parameter(help="What runs will call the trainer.")],
    *,
    directory: Annotated[Path | None, Parameter(name="--dir", help="Where to; else ./NAME.")] = None,
) -> None:
    """Write a package with a trainer in it, which works: a class in numpy, data to try it on, and a test."""
    made = import_module("primep2p.cli.offline.skeleton").write(name, directory or Path(name))
    show_made([str(path) for path in made.paths], made.check_command)
