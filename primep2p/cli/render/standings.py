"""What this node does in a run, and what ends it, for people."""

from datetime import datetime

from primep2p.cli.render.printing import SHORT, duration, many, number, say
from primep2p.model.views.runs import EndView, RunDetail, RunLeft, RunSummary

__all__ = ["ENDED", "ends", "show_left", "show_paused", "show_resumed"]

ENDED = {"rounds": "its rounds are over", "time": "its time is over", "metric": "its target is met"}
"""Why a run is finished."""


def show_left(run: RunLeft, show_command: str, now_command: str) -> None:
    """What comes next for this node, and for those who stay."""
    name = f"{run.name} ({run.run[:SHORT]})"
    if run.phase == "leaving":
        say(f"leaving {name}: this node votes until a checkpoint has left it out")
        if run.waits_for:
            say(f"that takes members who are not connected: {', '.join(run.waits_for)}")
            say(f"to go without them: {now_command}")
        else:
            say(f"see when it has with: {show_command}")
    else:
        say(f"left {name}")
    if not run.begins:
        say("the run cannot begin without this node, which created it")
    elif 0 < run.remaining < run.least_updates:
        say(f"{many(run.remaining, 'member')} cannot go on: a round takes {many(run.least_updates, 'update')}")
    say(f"join again with: primep2p run join {run.run}")


def show_paused(run: RunSummary, resume_command: str) -> None:
    """How it goes on."""
    say(f"paused in {run.name} ({run.run[:SHORT]}): this node votes, and does not train")
    say(f"train again with: {resume_command}")


def show_resumed(run: RunSummary) -> None:
    """What may still keep it from training."""
    say(f"resumed in {run.name} ({run.run[:SHORT]}){f', but it rests: {run.rests}' if run.rests else ''}")


def ends(run: RunDetail, now_s: float) -> str:
    """What ends a run, and how far that is; or what has ended it."""
    if run.ends.ended:
        return ENDED[run.ends.ended]
    parts = [*_rounds(run), *_target(run.ends), *_time(run.ends, now_s)]
    return ", or ".join(parts) or "never by itself"


def _rounds(run: RunDetail) -> list[str]:
    return [f"after round {run.ends.rounds} ({run.head_round} done)"] if run.ends.rounds else []


def _target(end: EndView) -> list[str]:
    if not end.metric:
        return []
    limit = f"at least {number(end.at_least)}" if end.at_least is not None else f"at most {number(end.at_most)}"
    newest = f" ({number(end.newest)} on average now)" if end.newest is not None else ""
    return [f"when most updates claim {end.metric} of {limit}{newest}"]


def _time(end: EndView, now_s: float) -> list[str]:
    if not end.until:
        return []
    left_s = end.until - now_s
    when = f"in {duration(left_s)}" if left_s > 0 else "which is over"
    return [f"at {datetime.fromtimestamp(end.until):%Y-%m-%d %H:%M:%S} ({when})"]
