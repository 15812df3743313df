"""`primep2p run`: create, check, join, invite, ban, list, show, watch."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from msgspec.structs import replace

from primep2p.cli.at import HERE, At, Json, Verbose, flag
from primep2p.cli.commands import standings
from primep2p.cli.commands.config import told
from primep2p.cli.commands.plans import add_file
from primep2p.cli.derive import asks, described
from primep2p.cli.render.previews import show_preview
from primep2p.cli.render.printing import SHORT, is_terminal, print_json
from primep2p.cli.render.rounds import RoundTable
from primep2p.cli.render.runs import (
    show_banned,
    show_created,
    show_file,
    show_gathering,
    show_invite,
    show_joined,
    show_joined_late,
    show_note,
    show_run,
    show_runs,
)
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunBan, RunCreate, RunInvite, RunJoin, RunList, RunPreview, RunShow
from primep2p.control.client import BlockingClient
from primep2p.model.errors import CallError, ConfigError, Unavailable
from primep2p.model.plans import trainer_of_plan
from primep2p.model.views.events import AnyEvent, Left, RunFinished
from primep2p.model.views.runs import RunDetail, RunSummary
from primep2p.run_config import load_run

__all__ = ["app"]

app = App(name="run", help="Runs: training jobs of a group.", help_format="plaintext")
standings.add_to(app)

Named = Annotated[str, described(RunShow, "run")]

STAYING_ROUNDS = 10
"""Of a run that was drawn, these stay to be seen when it is finished."""


@app.command
def create(
    file: Annotated[Path | None, Parameter(help="What to train and how: see examples/run.toml.")] = None,
    *,
    origin: Annotated[
        str,
        Parameter(
            name="--from",
            help="ID or ID@round: start from the certified params of a run of this node, the newest without a round. "
            "Without FILE, everything else is as in that run too.",
        ),
    ] = "",
    params: Annotated[
        Path | None,
        Parameter(help="Begin with the params in this safetensors file, whatever FILE says of them."),
    ] = None,
    own_loop: Annotated[bool, described(RunCreate, "own_loop", name="--own-loop", negative="")] = False,
    dry_run: Annotated[bool, flag("--dry-run", help="Only say what it would cost.")] = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Start a run: this node makes the first params, or takes those of another run, and is the first member. What it
    will cost is said before."""
    if file is None and not origin:
        raise CallError("a run needs a file with its settings", hint="see examples/run.toml; or --from another run")
    config = load_run(file) if file else None
    if params is not None:
        if config is None or origin:
            raise CallError("--params is for a run that has a FILE, and begins with no other run's params")
        config = replace(config, params=str(params.absolute()))
    with at.connect() as client:
        if config is not None and config.plan:
            cid = add_file(Path(config.plan), client).cid
            config = replace(config, plan="", trainer=trainer_of_plan(cid))
        if dry_run or not json:
            preview = client.call(RunPreview(config=config, origin=origin))
            print_json(preview) if json else show_preview(preview, beside=not dry_run)
            if dry_run:
                return
            if config is not None and preview.params:
                config = replace(config, params=preview.params)  # made already, to see how large they are
        run = client.call(RunCreate(config=config, origin=origin, own_loop=own_loop))
        detail = client.call(RunShow(run=run.run))
    if json:
        print_json(run)
    else:
        show_note(run)
        show_created(detail, at.command("run invite"), _watch_command(at, run.run), _next_command(at, run.run))


@app.command
def check(
    file: Annotated[Path, Parameter(help="What `run create` would take.")],
    *,
    json: Json = False,
) -> int:
    """Say what is wrong in a file for `run create`, all of it: 0 where nothing is, else 2. No daemon is asked."""
    try:
        load_run(file)
    except ConfigError as error:
        return told(str(file), error.mistakes, json=json)
    return told(str(file), [], json=json)


@app.command
def join(
    run: Annotated[str, Parameter(help="ID, or ID@round:hash, which pins a header that you trust; or an invite.")],
    *,
    invite: Annotated[str, Parameter(help="What `run invite` printed for you, where RUN is the ID.")] = "",
    own_loop: Annotated[bool, described(RunJoin, "own_loop", name="--own-loop", negative="")] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", help="Only say what it would cost, and whether members let this in.")
    ] = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Become a member of a run. What it will cost is said before."""
    with at.connect() as client:
        if dry_run or not json:
            preview = client.call(RunPreview(run=run.partition("@")[0], invite=invite))
            print_json(preview) if json else show_preview(preview, beside=not dry_run)
            if dry_run:
                return
        joined = client.call(RunJoin(run=run, invite=invite, own_loop=own_loop))
        if json:
            print_json(joined)
            return
        detail = client.call(RunShow(run=joined.run))
        if detail.phase == "finished":
            me = client.call(DaemonStatus()).peer_id
            member = any(each.peer == me for each in detail.members)
            file = _model_file(client, detail.run)
            show_joined_late(detail, file, at.command(f"run show {detail.run[:SHORT]}"), member=member)
            return
    show_note(joined)
    show_joined(detail, _watch_command(at, detail.run), _next_command(at, detail.run))


@app.command
def preview(
    run: Annotated[str, Parameter(help="ID of a run to join, or an invite.")],
    *,
    invite: Annotated[str, described(RunPreview, "invite")] = "",
    json: Json = False,
    at: At = HERE,
) -> None:
    """Say what a run would cost this node, and whether its members would let it in. For a run to create, see `run
    create --dry-run`."""
    with at.connect() as client:
        answer = client.call(RunPreview(run=run.partition("@")[0], invite=invite))
    print_json(answer) if json else show_preview(answer)


@app.command
def invite(
    run: Named,
    *,
    uses: Annotated[int, described(RunInvite, "uses")] = 1,
    rounds: Annotated[int, described(RunInvite, "rounds")] = 100,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Print an invite to a run: one line, to hand over by a channel that both ends trust. Whoever has it can join."""
    with at.connect() as client:
        answer = client.call(RunInvite(run=run, uses=uses, rounds=rounds))
    print_json(answer) if json else show_invite(answer)


@app.command
def ban(
    run: Named,
    peer: Annotated[str, described(RunBan, "peer")],
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Expel a peer from a run for ever, a member or one who might become it. Only the run's creator can."""
    with at.connect() as client:
        answer = client.call(RunBan(run=run, peer=peer))
    print_json(answer) if json else show_banned(answer, peer, at.command(f"run show {answer.run[:SHORT]}"))


def _show_list(answer: list[RunSummary], at: At) -> None:
    show_runs(answer, at.command("run create run.toml"))


app.command(asks(RunList, _show_list), name="list")


@app.command
def show(run: Named, *, json: Json = False, at: At = HERE) -> None:
    """Show a run: its members and who was expelled, whom it waits for, its newest rounds, and what it survives."""
    with at.connect() as client:
        answer = client.call(RunShow(run=run))
        file = "" if json else _model_file(client, answer.run)
    print_json(answer) if json else show_run(answer, file)


@app.command
def watch(
    run: Annotated[str, Parameter(help="The run's id, or the beginning of it; not needed where there is one.")] = "",
    *,
    verbose: Verbose = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Draw a run as it goes on, until it is finished: its step, votes, transfers, curves and newest rounds. Where the
    output is no terminal, or with --verbose, print lines instead: one for each certified round; with --json every
    event."""
    with at.connect() as asking, at.connect() as watching:
        detail = asking.call(RunShow(run=run or _only_run(at, asking)))
        table = RoundTable(verbose=verbose)
        is_drawn = is_terminal() and not (json or verbose or detail.phase in ("finished", "left"))
        coming = _drawn(detail, watching, asking) if is_drawn else _past_and_coming(detail, watching)
        if detail.phase == "gathering" and not (json or is_drawn):
            show_gathering(detail)
        for event in coming:
            print_json(event) if json else table.add(event)
        if not json:
            show_file(_model_file(asking, detail.run))


def _drawn(detail: RunDetail, watching: BlockingClient, asking: BlockingClient) -> Iterator[AnyEvent]:
    """Draws until the run is finished, and gives what stays to be seen afterwards."""
    # By name: what draws is heavy, and no other command shall wait for it.
    live = import_module("primep2p.cli.live.watching")
    scene = import_module("primep2p.cli.live.scene").Scene(detail, asking.call(DaemonStatus()).peer_id)
    events = watching.stream(EventsWatch(run=detail.run, after=detail.cursor))
    live.watch_live(scene, events, lambda: asking.call(RunShow(run=detail.run)))
    yield from list(scene.rounds)[-STAYING_ROUNDS:]
    yield scene.end or RunFinished(run=detail.run, round=scene.round)


def _past_and_coming(detail: RunDetail, client: BlockingClient) -> Iterator[AnyEvent]:
    """Each certified round once, until the run is finished or this node has left it."""
    yield from detail.rounds
    if detail.phase == "finished":
        at_s = detail.rounds[-1].at_s if detail.rounds else 0.0
        yield RunFinished(at_s=at_s, run=detail.run, round=detail.head_round, ended=detail.ends.ended)
        return
    if detail.phase == "left":
        yield Left(run=detail.run, round=detail.head_round if detail.head else -1, certified=True)
        return
    yield from client.stream(EventsWatch(run=detail.run, after=detail.cursor))


def _only_run(at: At, client: BlockingClient) -> str:
    """The run that is meant where none is named. Raises CallError where that is none, or not clear."""
    match [summary.run for summary in client.call(RunList())]:
        case []:
            raise CallError("this node is in no run", hint=f"create one with: {at.command('run create run.toml')}")
        case [run]:
            return run
        case several:
            ids = ", ".join(run[:SHORT] for run in several)
            raise CallError(f"this node is in {len(several)} runs; which one: {ids}?", hint="see: primep2p run list")


def _model_file(client: BlockingClient, run: str) -> str:
    """Where the run's newest model is; empty where it is not here."""
    try:
        return client.call(ModelPathOf(model=run)).path
    except (CallError, Unavailable):
        return ""


def _next_command(at: At, run: str) -> str:
    return at.command(f"job next {run[:SHORT]} --wait-s 60")


def _watch_command(at: At, run: str) -> str:
    return at.command(f"run watch {run[:SHORT]}")
