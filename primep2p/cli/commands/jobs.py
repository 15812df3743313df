"""`primep2p job`: next, params, report, submit. A shell can be the loop: docs/jobs.md has one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json, flag
from primep2p.cli.derive import described
from primep2p.cli.exits import exit_code
from primep2p.cli.render.jobs import show_job, show_open, show_saved, show_taken
from primep2p.cli.render.printing import duration, print_json
from primep2p.control.calls.jobs import PIECE_BYTES, JobNext, JobParams, JobReport, JobSubmit, JobUpload
from primep2p.control.client import BlockingClient
from primep2p.model.errors import CallError, ConfigError, PrimeError, Unavailable
from primep2p.model.views.jobs import JobChunk, JobRefused, JobRejected

__all__ = ["app"]

A = TypeVar("A")

app = App(name="job", help="Jobs: rounds of training in a loop of your own.", help_format="plaintext")

Job = Annotated[str, described(JobReport, "job")]


@app.command(name="next")
def next_(
    run: Annotated[str, described(JobNext, "run")],
    *,
    wait_s: Annotated[float, described(JobNext, "wait_s")] = 0.0,
    worker: Annotated[str, described(JobNext, "worker")] = "",
    json: Json = False,
    at: At = HERE,
) -> int:
    """Take the training of the round under way, in a run where this node's owner trains in a loop of their own. Where
    there is none, the exit code says whether to ask again: 3 for later, 4 for never."""
    with at.connect() as client:
        answer = client.call(JobNext(run=run, wait_s=wait_s, worker=worker))
    if json:
        print_json(answer)
    if isinstance(answer, JobRejected):
        error = _why_none(answer)
        if json:
            return exit_code(error)
        raise error
    if not json:
        show_job(answer)
    return 0


@app.command
def params(
    job: Job,
    *,
    out: Annotated[Path | None, Parameter(help="The file to write them to.")] = None,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Copy the round's params over the socket, where the file that job next names cannot be opened."""
    if out is None and not json:
        raise CallError("where to?", hint="name a file with --out, or print the pieces with --json")
    with at.connect() as client:
        pieces = _pieces(client, job)
        if json:
            for piece in pieces:
                print_json(piece)
            return
        size_bytes = _save(pieces, out or Path())
    show_saved(str(out), size_bytes)


@app.command
def report(
    job: Job,
    step: Annotated[int, described(JobReport, "step")],
    *,
    steps: Annotated[int, described(JobReport, "steps")] = 0,
    loss: Annotated[float | None, described(JobReport, "loss")] = None,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Report how far the training is. It shows the worker alive, and its owner the progress; nothing waits for it."""
    with at.connect() as client:
        answer = client.call(JobReport(job=job, step=step, steps=steps, loss=loss))
    opened = _unless_refused(answer)
    print_json(opened) if json else show_open(opened)


@app.command
def submit(
    job: Job,
    file: Annotated[Path, Parameter(help="A safetensors file with the run's tensors: the params after training.")],
    *,
    examples: Annotated[int, described(JobSubmit, "examples")],
    delta: Annotated[bool, flag("--delta", help="FILE has the params minus those before training.")] = False,
    metric: Annotated[
        list[str] | None, Parameter(help="NAME=VALUE, told to the group; may be given again.", negative="")
    ] = None,
    evaluated: Annotated[
        list[str] | None,
        Parameter(help="NAME=VALUE of the params before training, told to this node's owner.", negative=""),
    ] = None,
    upload: Annotated[bool, flag("--upload", help="Send FILE: the daemon does not see this disk.")] = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Submit the update of a job: params after training, or what to add to those before."""
    with at.connect() as client:
        if upload:
            _upload(client, job, file)
        answer = client.call(
            JobSubmit(
                job=job,
                examples=examples,
                path="" if upload else str(file.absolute()),
                kind="delta" if delta else "params",
                metrics=_numbers(metric),
                evaluated=_numbers(evaluated),
            )
        )
    taken = _unless_refused(answer)
    print_json(taken) if json else show_taken(taken)


def _why_none(answer: JobRejected) -> PrimeError:
    if answer.retry_after_s is None:
        return CallError(answer.sentence)
    later = f"ask again in {duration(answer.retry_after_s)}, or with --wait-s"
    return Unavailable(answer.sentence, hint=later)


def _unless_refused(answer: A | JobRefused) -> A:
    if isinstance(answer, JobRefused):
        raise CallError(f"{answer.reason}: {answer.sentence}")
    return answer


def _pieces(client: BlockingClient, job: str) -> Iterator[JobChunk]:
    offset = 0
    while True:
        piece = _unless_refused(client.call(JobParams(job=job, offset=offset)))
        yield piece
        offset += len(piece.data)
        if not piece.data or offset >= piece.size_bytes:
            return


def _save(pieces: Iterator[JobChunk], out: Path) -> int:
    try:
        with out.open("wb") as file:
            return sum(file.write(piece.data) for piece in pieces)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}") from error


def _upload(client: BlockingClient, job: str, path: Path) -> None:
    offset = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                _unless_refused(client.call(JobUpload(job=job, offset=offset, data=piece)))
                offset += len(piece)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _numbers(given: list[str] | None) -> dict[str, float]:
    numbers = {}
    for each in given or ():
        name, _, value = each.partition("=")
        try:
            numbers[name] = float(value)
        except ValueError as error:
            raise CallError(f"{each!r} is not NAME=VALUE with a number") from error
    return numbers
