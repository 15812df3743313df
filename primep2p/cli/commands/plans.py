"""`primep2p plan`: export, show, check, add. Only `add` asks a daemon."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.render.plans import show_added, show_plan
from primep2p.cli.render.printing import print_json
from primep2p.control.calls.plans import PlanAdd
from primep2p.control.client import BlockingClient
from primep2p.model.errors import CallError, ConfigError
from primep2p.model.plans import MAX_PLAN_BYTES, trainer_of_plan
from primep2p.model.views.plans import PlanView

__all__ = ["add_file", "app"]

app = App(name="plan", help="Plans: training steps that travel without code.", help_format="plaintext")

File = Annotated[Path, Parameter(help="A plan's file.")]


@app.command
def export(
    source: Annotated[str, Parameter(help="FILE.py:CLASS, or FILE.py for its functions: see docs/plans.md.")],
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="The file to write; else the class's name with .plan.")
    ] = None,
    name: Annotated[str, Parameter(help="The plan's name for people; else the file's.")] = "",
    json: Json = False,
    at: At = HERE,
) -> None:
    """Trace the functions of a training step with MLX, and write them as a plan that this node's identity signs."""
    # By name: MLX is heavy, and no other command shall wait for it.
    export_plan = import_module("primep2p.cli.offline.planning").export_plan
    file, view = export_plan(source, output, name, at.load())
    print_json(view) if json else show_plan(view, file, at.command(f"plan check {file}"))


@app.command
def show(file: File, *, json: Json = False, at: At = HERE) -> None:
    """Show what a plan takes and gives, whose it is and what it is made of, once its signature holds. Nothing of it is
    run."""
    view: PlanView = import_module("primep2p.cli.offline.planning").look(file, at.load())
    print_json(view) if json else show_plan(view, file, at.command(f"plan check {file}"))


@app.command
def check(file: File, *, json: Json = False, at: At = HERE) -> None:
    """Check a plan's signature and all that is in its graphs, then run each once on zeros in a trainer's process."""
    view: PlanView = import_module("primep2p.cli.offline.planning").check_plan(file, at.load())
    print_json(view) if json else show_plan(view, file, "")


@app.command
def add(file: File, *, json: Json = False, at: At = HERE) -> None:
    """Keep a plan on this node, to start a run with it. `run create` does so for the file in its `plan`."""
    with at.connect() as client:
        view = add_file(file, client)
    print_json(view) if json else show_added(view, trainer_of_plan(view.cid))


def add_file(file: Path, client: BlockingClient) -> PlanView:
    """The plan in `file` is on the daemon's node when this returns. Raises ConfigError where it cannot be read."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the plan {file}: {error.strerror}") from error
    if len(content) > MAX_PLAN_BYTES:
        raise CallError(f"{file} has more than the {MAX_PLAN_BYTES} bytes that a plan may have")
    return client.call(PlanAdd(content=content))
