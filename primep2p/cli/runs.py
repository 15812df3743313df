"""`primep2p run`: create, join, list, show, watch."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json, Verbose
from primep2p.cli.render import RoundTable, print_json, show_created, show_joined, show_run, show_runs
from primep2p.control.calls import RunCreate, RunJoin, RunList, RunShow, RunWatch
from primep2p.model.views import RoundCertified, RunFinished
from primep2p.run_config import load_run

__all__ = ["app"]

app = App(name="run", help="Runs: training jobs of a group.", help_format="plaintext")

RunName = Annotated[str, Parameter(help="The run's id, or the beginning of it.")]


@app.command
def create(
    file: Annotated[Path, Parameter(help="What to train and how: see examples/run.toml.")],
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Start a run: this node makes the first params and is the first member."""
    config = load_run(file)
    with at.connect() as client:
        run = client.call(RunCreate(config=config))
    print_json(run) if json else show_created(run, config.policy.first_members)


@app.command
def join(
    run: Annotated[str, Parameter(help="ID, or ID@round:hash, which pins a header that you trust.")],
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Become a member of a run."""
    with at.connect() as client:
        joined = client.call(RunJoin(run=run))
    print_json(joined) if json else show_joined(joined)


@app.command(name="list")
def list_(*, json: Json = False, at: At = HERE) -> None:
    """List the runs that this node takes part in."""
    with at.connect() as client:
        answer = client.call(RunList())
    print_json(answer) if json else show_runs(answer)


@app.command
def show(run: RunName, *, json: Json = False, at: At = HERE) -> None:
    """Show a run: its members, whom it waits for, its newest rounds, and what it survives."""
    with at.connect() as client:
        answer = client.call(RunShow(run=run))
    print_json(answer) if json else show_run(answer)


@app.command
def watch(
    run: Annotated[str, Parameter(help="The run's id, or the beginning of it; not needed where there is one.")] = "",
    *,
    verbose: Verbose = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Print a line for each certified round as it happens, until the run is finished."""
    with at.connect() as asking, at.connect() as watching:
        if not run and len(known := asking.call(RunList())) == 1:
            run = known[0].run
        events = watching.stream(RunWatch(run=run))
        table = RoundTable(verbose=verbose)
        newest = -1
        # Subscribed first: a round certified meanwhile is in the answer, among the events, or in both.
        if run:
            detail = asking.call(RunShow(run=run))
            for certified in detail.rounds:
                newest = certified.round
                print_json(certified) if json else table.add(certified)
            if detail.phase == "finished":
                return
        for event in events:
            if isinstance(event, RoundCertified) and run and event.round <= newest:
                continue
            print_json(event) if json else table.add(event)
            if isinstance(event, RunFinished) and run:
                return
