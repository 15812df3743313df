"""`primep2p model`: what a node publishes, has, and asks."""

import sys
import threading
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.derive import asks, described
from primep2p.cli.render.models import (
    show_answers,
    show_exported,
    show_model,
    show_models,
    show_path,
    show_published,
    show_removed,
)
from primep2p.cli.render.printing import print_json
from primep2p.cli.render.pulling import PULL_KINDS, show_pull
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.models import (
    ModelList,
    ModelPathOf,
    ModelPredict,
    ModelPublish,
    ModelPull,
    ModelRemove,
    ModelRollback,
    ModelShow,
)
from primep2p.control.client import BlockingClient
from primep2p.model.errors import CallError, ConfigError, PrimeError
from primep2p.model.views.models import ModelPath

__all__ = ["app"]

app = App(name="model", help="Models: published, pulled, exported, asked.", help_format="plaintext")


@app.command
def publish(
    source: Annotated[
        str, Parameter(help="A run of this node as ID or ID@ROUND; or a safetensors file of float32 tensors.")
    ],
    *,
    name: Annotated[str, Parameter(name="--as", help="The name that others find it by.")],
    version: Annotated[str, described(ModelPublish, "version")] = "",
    trainer: Annotated[str, described(ModelPublish, "trainer")] = "",
    setting: Annotated[
        list[str],
        Parameter(
            negative=(), show_default=False, help="Of a file: KEY=VALUE of its trainer's settings, such as hidden=[64]."
        ),
    ] = [],  # noqa: B006  cyclopts reads it, nobody writes to it
    metric: Annotated[
        list[str],
        Parameter(
            negative=(), show_default=False, help="Of a file: NAME=VALUE that is known of it, such as accuracy=0.97."
        ),
    ] = [],  # noqa: B006
    json: Json = False,
    at: At = HERE,
) -> None:
    """Put a model on this node's shelf: others find it by this node's peer id and the name."""
    file = Path(source)
    is_file = bool(file.suffix) or file.is_absolute() or file.exists()
    if is_file and not file.is_file():
        raise CallError(f"there is no file {source}", hint="publish a safetensors file, RUN or RUN@ROUND")
    if is_file and not trainer:
        raise CallError(
            f"{source} does not say whose model it is", hint="add --trainer NAME: that trainer's predict is asked"
        )
    call = ModelPublish(
        source=str(file.absolute()) if is_file else source,
        to=name,
        version=version,
        trainer=trainer,
        trainer_config=_values("--setting", setting),
        metrics=_values("--metric", metric),
    )
    with at.connect() as client:
        answer = client.call(call)
    print_json(answer) if json else show_published(answer)


@app.command(name="list")
def list_(
    owner: Annotated[str, described(ModelList, "owner")] = "",
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """List the models of this node's shelf and those that it pulled; or what is on somebody's shelf."""
    with at.connect() as client:
        answer = client.call(ModelList(owner=owner))
    print_json(answer) if json else show_models(answer, at.command, owner)


app.command(asks(ModelShow, lambda answer, at: show_model(answer)), name="show")
app.command(asks(ModelPathOf, lambda answer, at: show_path(answer)), name="path")
app.command(asks(ModelRemove, lambda answer, at: show_removed(answer)), name="remove")


@app.command
def pull(
    model: Annotated[str, described(ModelPull, "model")],
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Fetch a model from whoever has it, checked against its owner's signature, and keep it until it is removed. What
    an earlier try brought is not fetched again, and it goes on where this command is ended."""
    call = ModelPull(model=model)
    with at.connect() as client:
        answer = client.call(call) if json or not sys.stderr.isatty() else _seen(client, call, at)
    print_json(answer) if json else show_path(answer)


def _seen(client: BlockingClient, call: ModelPull, at: At) -> ModelPath:
    """The answer, with a bar as long as it takes. Whoever ends the command does not wait for the answer."""
    answered: list[ModelPath | PrimeError] = []

    def ask() -> None:
        try:
            answered.append(client.call(call))
        except PrimeError as error:
            answered.append(error)

    with at.connect() as watching:
        events = watching.stream(EventsWatch(kinds=PULL_KINDS))
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        show_pull(events, call.model)
        asking.join()
    if isinstance(answered[0], PrimeError):
        raise answered[0]
    return answered[0]


@app.command
def rollback(
    model: Annotated[str, described(ModelRollback, "model")],
    *,
    to: Annotated[str, described(ModelRollback, "to")],
    json: Json = False,
    at: At = HERE,
) -> None:
    """Offer another version of a model of yours, as a rule an older one. All versions stay."""
    with at.connect() as client:
        answer = client.call(ModelRollback(model=model, to=to))
    print_json(answer) if json else show_published(answer)


@app.command
def export(
    model: Annotated[str, described(ModelPathOf, "model")],
    *,
    out: Annotated[
        Path | None, Parameter(name=["--out", "-o"], help="The file to write; else the model's name, here.")
    ] = None,
    format: Annotated[Literal["safetensors", "npz"] | None, Parameter(help="Else as the file's name says.")] = None,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Write the params of a model that is on this node into a file of yours, as safetensors or as numpy's npz."""
    with at.connect() as client:
        found = client.call(ModelPathOf(model=model))
    write = import_module(
        "primep2p.cli.offline.model_files"
    ).export  # by name: numpy is heavy, and no other command shall wait
    answer = write(found, out, format)
    print_json(answer) if json else show_exported(answer)


@app.command
def predict(
    model: Annotated[str, described(ModelPredict, "model")],
    *,
    input: Annotated[
        Path,
        Parameter(
            name=["--input", "-i"], help="What to ask about: .npy or .csv (then it is called x), .npz, .safetensors."
        ),
    ],
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], help="Where the answers go: .npz or .safetensors. Else they are shown."),
    ] = None,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Ask a model that is on this node: its trainer's `predict`, in a process of its own. No run is needed."""
    files = import_module("primep2p.cli.offline.model_files")
    with at.connect() as client, files.question(input) as inputs:
        asked = client.call(ModelPredict(model=model, inputs=str(inputs)))
    answer = files.answered(asked, out)
    print_json(answer) if json else show_answers(answer)


def _values(option: str, given: list[str]) -> dict[str, Any]:
    """KEY=VALUE, the value as in TOML; what is none there is a text. Raises ConfigError."""
    values: dict[str, Any] = {}
    for each in given:
        key, equals, text = each.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {each}: must be KEY=VALUE")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text
    return values
