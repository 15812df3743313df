"""Rounds as they come, for people."""

from datetime import datetime

from primep2p.cli.render.events import in_words, metrics_in_words
from primep2p.cli.render.printing import SHORT, clock, say
from primep2p.model.views.events import (
    Accused,
    AnyEvent,
    JobChanged,
    Left,
    LogLine,
    Paused,
    PluginFailed,
    Rests,
    Resumed,
    RoundCertified,
    RunFinished,
)

__all__ = ["HEADING", "RoundTable", "round_row"]

HEADING = f"{'round':>6} {'trained':>7} {'signed':>7} {'seconds':>8}  {'head':{SHORT}}  metrics"


class RoundTable:
    """Rows of certified rounds as they come, under a heading that is printed once; other events are lines between."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._begun = False

    def add(self, event: AnyEvent) -> None:
        """Prints the event if it is worth a line."""
        if not self._begun and isinstance(event, RoundCertified):
            self._begun = True
            say(HEADING)
        for line in self._lines(event):
            say(line)

    def _lines(self, event: AnyEvent) -> list[str]:
        match event:
            case RoundCertified():
                return [round_row(event)]
            case RunFinished() | Left():
                return [in_words(event)]
            case Paused() | Resumed() | Rests():
                return [f"  {in_words(event)}"]
            case PluginFailed(sentence=sentence, stderr=stderr):
                return [f"  the trainer failed: {sentence}", *(f"  | {line}" for line in stderr.splitlines())]
            case JobChanged(state="refused" | "missed" as state, round=round_, sentence=sentence):
                return [
                    f"  round {round_}: {f'an update is refused: {sentence}' if sentence else f'the job is {state}'}"
                ]
            case Accused(peer=peer, reason=reason):
                return [f"  {peer} is accused: {reason}"]
            case LogLine(level="warning" | "error", sentence=sentence):
                return [f"  {sentence}"]
        line = self._step_line(event) if self._verbose else ""
        return [line] if line else []

    def _step_line(self, event: AnyEvent) -> str:
        said = in_words(event)
        return said and f"  {clock(datetime.fromtimestamp(event.at_s))} {said}"


def round_row(event: RoundCertified) -> str:
    trained = f"{len(event.participants)}/{len(event.roster)}"
    signed = f"{len(event.signers)}/{len(event.roster)}"
    said = f"void: {event.void}" if event.void else metrics_in_words(event.metrics)
    if any(event.staleness):
        said = f"staleness {' '.join(map(str, event.staleness))}  {said}"
    return (
        f"{event.round:>6} {trained:>7} {signed:>7} {event.seconds:>8.2f}  {event.header[:SHORT]:{SHORT}}  {said}"
    ).rstrip()
