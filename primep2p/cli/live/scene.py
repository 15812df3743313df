"""What is known of a run while it is watched: an answer of run.show, and what happened since."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from primep2p.cli.live.transfers import Transfers
from primep2p.cli.render.events import in_words
from primep2p.model.views.events import (
    Accused,
    AnyEvent,
    Evaluated,
    Left,
    ListArrived,
    LogLine,
    MemberGathered,
    MemberJoined,
    MemberLeft,
    Paused,
    PeerChanged,
    PluginFailed,
    Rests,
    Resumed,
    RoundCertified,
    RunFinished,
    StepChanged,
    TrainingReported,
    UpdateArrived,
    Voted,
)
from primep2p.model.views.runs import RunDetail

__all__ = ["MOST_ROUNDS", "OVER", "Part", "Scene"]

OVER = ("finished", "left")
"""Phases in which nothing more comes."""

MOST_ROUNDS = 1000
"""Rounds that curves go back to."""

MOST_NOTES = 50


@dataclass
class Part:
    """What a member did in the round under way. A vote is its header, empty for none, or null while there is none."""

    update: bool = False
    listed: bool = False
    prevote: str | None = None
    precommit: str | None = None


@dataclass
class Scene:
    """Events go in by `apply`, in order. `me` is this node."""

    detail: RunDetail
    me: str
    transfers: Transfers = field(default_factory=Transfers)
    parts: dict[str, Part] = field(default_factory=dict)
    evaluations: dict[int, Mapping[str, float | None]] = field(default_factory=dict)
    training: TrainingReported | None = None
    notes: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MOST_NOTES))
    finished: bool = False
    end: RunFinished | Left | None = None
    """What ended it, here."""

    def __post_init__(self) -> None:
        self.renew(self.detail)

    def renew(self, detail: RunDetail) -> None:
        """All that the node says now: at first, and after events were missed."""
        self.detail = detail
        self.round, self.view, self.step, self.since_s = detail.round, detail.view, detail.step, detail.waiting_since
        self.rounds: deque[RoundCertified] = deque(detail.rounds, maxlen=MOST_ROUNDS)
        self.members = {member.peer: member.connected for member in detail.members}
        """Whether each is connected."""
        self.finished = detail.phase in OVER
        self.parts.clear()

    def apply(self, event: AnyEvent) -> None:
        """What happened next."""
        self.transfers.apply(event)
        match event:
            case RoundCertified():
                self._certified(event)
            case StepChanged(round=round, view=view, step=step):
                if (round, view) != (self.round, self.view):
                    self._begin(round, view)
                self.step, self.since_s = step, event.at_s
            case UpdateArrived() | ListArrived() | Voted():
                self._count(event)
            case TrainingReported():
                self.training = event
            case Evaluated(round=round, metrics=metrics):
                self.evaluations[round] = metrics
                for old in [each for each in self.evaluations if each <= round - MOST_ROUNDS]:
                    del self.evaluations[old]
            case PeerChanged(peer=peer, connected=connected) if peer in self.members:
                self.members[peer] = connected
            case MemberGathered(peer=peer) | MemberJoined(peer=peer):
                self.members.setdefault(peer, True)
            case MemberLeft(peer=peer):
                self.members.pop(peer, None)
                self._note(event)
            case Accused() | PluginFailed() | LogLine(level="warning" | "error") | Paused() | Resumed() | Rests():
                self._note(event)
            case RunFinished() | Left():
                self.finished, self.end = True, event

    def metric(self, name: str) -> list[float | None]:
        """A metric of each round, as the group certified it; where it did not, as this node evaluated it."""
        values = []
        for certified in self.rounds:
            if certified.round == 0 and name not in certified.metrics:
                continue
            evaluated = self.evaluations.get(certified.round, {})
            values.append(certified.metrics[name] if name in certified.metrics else evaluated.get(name))
        return values

    @property
    def metrics(self) -> list[str]:
        """Names of metrics, loss and accuracy first."""
        sources = [*(event.metrics for event in self.rounds), *self.evaluations.values()]
        names = dict.fromkeys(name for metrics in sources for name in metrics)
        usual = [name for name in ("loss", "accuracy") if name in names]
        return [*usual, *sorted(names.keys() - set(usual))]

    def _begin(self, round: int, view: int) -> None:
        if round != self.round:
            self.parts.clear()
            self.training = None
        for part in self.parts.values():  # votes are of a view
            part.prevote = part.precommit = None
        self.round, self.view = round, view

    def _certified(self, event: RoundCertified) -> None:
        if not self.rounds or event.round > self.rounds[-1].round:
            self.rounds.append(event)
        self.members = {peer: self.members.get(peer, True) for peer in event.roster}
        if event.round >= self.round:
            self._begin(event.round + 1, 0)
            self.step, self.since_s = "", event.at_s

    def _count(self, event: UpdateArrived | ListArrived | Voted) -> None:
        if event.round > self.round:
            self._begin(event.round, 0)
        if event.round < self.round or (isinstance(event, Voted) and event.view != self.view):
            return
        part = self.parts.setdefault(event.peer, Part())
        match event:
            case UpdateArrived():
                part.update = True
            case ListArrived():
                part.listed = True
            case Voted(step="prevote", header=header):
                part.prevote = header
            case Voted(header=header):
                part.precommit = header

    def _note(self, event: AnyEvent) -> None:
        self.notes.append((event.at_s, in_words(event)))
