"""An event in one line, for people."""

from collections.abc import Mapping
from datetime import datetime

from primep2p.cli.render.printing import clock, many, number, say, size
from primep2p.cli.render.standings import ENDED
from primep2p.model.views.events import (
    Abstained,
    Accused,
    AnyEvent,
    Evaluated,
    EventsMissed,
    JobChanged,
    Left,
    ListArrived,
    LogLine,
    MemberGathered,
    MemberJoined,
    MemberLeft,
    Paused,
    PeerChanged,
    PluginFailed,
    Proposed,
    Rests,
    Resumed,
    RoundCertified,
    RunFinished,
    StepChanged,
    TrainerStarted,
    TrainerStopped,
    TrainingReported,
    TransferBegun,
    TransferDone,
    TransferFailed,
    TransferMoved,
    UpdateArrived,
    Voted,
)

__all__ = ["ending", "in_words", "metrics_in_words", "show_event"]

RUN_DIGITS = 8


def show_event(event: AnyEvent) -> None:
    """When, of which run, and what."""
    run = f"{event.run[:RUN_DIGITS]}  " if event.run else f"{'':{RUN_DIGITS}}  "
    say(f"{clock(datetime.fromtimestamp(event.at_s))}  {run}{in_words(event)}")


def in_words(event: AnyEvent) -> str:
    """What happened."""
    match event:
        case RoundCertified(round=round_, void=void):
            said = f"void: {void}" if void else metrics_in_words(event.metrics)
            return f"round {round_} certified in {event.seconds:.2f} s  {said}".rstrip()
        case RunFinished(round=round_, ended=ended):
            return f"finished after round {round_}{f': {ENDED[ended]}' if ended in ('time', 'metric') else ''}"
        case MemberGathered(peer=peer, here=here, first_members=first):
            return f"{ending(peer)} is here to begin: {here} of {first}"
        case MemberJoined(round=round_, peer=peer):
            return f"round {round_}: {ending(peer)} is a member"
        case MemberLeft(round=round_, peer=peer, reason=reason):
            return f"round {round_}: {ending(peer)} is no member any more: {reason}"
        case Accused(peer=peer, reason=reason):
            return f"{ending(peer)} is accused: {reason}"
        case PeerChanged(peer=peer, connected=connected):
            return f"{ending(peer)} {'connected' if connected else 'lost'}"
        case LogLine(level=level, sentence=sentence):
            return sentence if level == "info" else f"{level}: {sentence}"
        case EventsMissed(count=None):
            return "the daemon was started anew: what happened before is not known"
        case EventsMissed(count=int(count)):
            return f"{many(count, 'event')} missed"
    return _standing_in_words(event) or _step_in_words(event) or _trainer_in_words(event) or _transfer_in_words(event)


def _standing_in_words(event: AnyEvent) -> str:
    match event:
        case Left(round=round_):
            return f"left after round {round_}" if round_ >= 0 else "left"
        case Paused():
            return "paused"
        case Resumed():
            return "resumed"
        case Rests(reason=""):
            return "trains again"
        case Rests(reason=reason):
            return f"rests: {reason}"
        case Abstained(round=round_):
            return f"round {round_}: this node brings no update, and nobody waits for it"
    return ""


def _step_in_words(event: AnyEvent) -> str:
    match event:
        case StepChanged(round=round_, view=view, step=step):
            return f"round {round_} view {view}: {step}"
        case UpdateArrived(round=round_, peer=peer, examples=examples):
            return f"round {round_}: an update of {ending(peer)}, from {many(examples, 'example')}"
        case ListArrived(round=round_, peer=peer, updates=updates):
            return f"round {round_}: {ending(peer)} has {many(updates, 'update')}"
        case Proposed(round=round_, view=view, peer=peer):
            return f"round {round_} view {view}: {ending(peer)} proposes"
        case Voted(round=round_, view=view, step=step, peer=peer, header=header):
            return f"round {round_} view {view}: a {step} of {ending(peer)}{'' if header else ', for none'}"
    return ""


def _trainer_in_words(event: AnyEvent) -> str:
    match event:
        case TrainingReported(step=step, steps=steps, loss=loss):
            return f"trained {step}{f' of {steps}' if steps else ''}{'' if loss is None else f', loss {number(loss)}'}"
        case Evaluated(round=round_, metrics=metrics):
            return f"evaluated round {round_}: {metrics_in_words(metrics)}"
        case JobChanged(state=state, job=job, sentence=sentence):
            return f"job {job}: {state}{f': {sentence}' if sentence else ''}"
        case PluginFailed(sentence=sentence):
            return f"the trainer failed: {sentence}"
        case TrainerStarted(pid=pid):
            return f"the trainer runs, pid {pid}"
        case TrainerStopped(pid=pid):
            return f"the trainer has ended, pid {pid}"
    return ""


def _transfer_in_words(event: AnyEvent) -> str:
    match event:
        case TransferBegun(cid=cid, bytes=bytes_, provider=provider):
            return f"{ending(cid)}: fetching {size(bytes_)} from {ending(provider)}"
        case TransferMoved(cid=cid, bytes=bytes_, bytes_here=here):
            return f"{ending(cid)}: {size(here)} of {size(bytes_)} are here"
        case TransferDone(cid=cid, bytes=bytes_, providers=providers, seconds=seconds):
            return f"{ending(cid)}: {size(bytes_)} from {many(len(providers), 'peer')} in {seconds:.2f} s"
        case TransferFailed(cid=cid, reason=reason):
            return f"{ending(cid)}: not fetched: {reason}"
    return ""


def metrics_in_words(metrics: Mapping[str, float | None]) -> str:
    """Names and values, by name."""
    return "  ".join(f"{name} {number(value)}" for name, value in sorted(metrics.items()))


def ending(id_: str) -> str:
    """The end of a peer's id or of a CID: all of them begin alike."""
    return f"…{id_[-6:]}"
