"""What is known of a node while somebody looks at it: what it said when it was asked, and what happened since."""

from collections import deque
from dataclasses import dataclass, field

from primep2p.cli.live.scene import Scene
from primep2p.cli.live.transfers import Transfers
from primep2p.model.views.events import AnyEvent, PeerChanged, RoundCertified
from primep2p.model.views.node import NodeStatus, PeerView
from primep2p.model.views.runs import RunDetail

__all__ = ["MOST_LINES", "Picture", "Snapshot"]

MOST_LINES = 1000
"""Events that the log shows."""

NOISE = ("TransferMoved", "TrainingReported")
"""Shown as bars, and not as lines."""


@dataclass(frozen=True)
class Snapshot:
    """What a node says of itself, its peers and its runs, all after the event with the cursor of `status`."""

    status: NodeStatus
    peers: list[PeerView]
    runs: list[RunDetail]


@dataclass
class Picture:
    """Events go in by `apply`, in order; `renew` puts everything to what the node says now."""

    status: NodeStatus | None = None
    peers: dict[str, PeerView] = field(default_factory=dict)
    scenes: dict[str, Scene] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)
    log: deque[AnyEvent] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    cursor: str = ""
    """Of the last event: after it the next one follows."""
    known: str = ""
    """Of the last event that was in what the node said of itself: it is for the log only, as those before it are."""

    def renew(self, snapshot: Snapshot) -> None:
        """The first time, and whenever events were missed."""
        self.status, self.known = snapshot.status, snapshot.status.cursor
        self.peers = {peer.peer: peer for peer in snapshot.peers}
        known = self.scenes
        self.scenes = {}
        for detail in snapshot.runs:
            scene = known.get(detail.run) or Scene(detail, snapshot.status.peer_id)
            scene.renew(detail)
            self.scenes[detail.run] = scene

    def apply(self, event: AnyEvent) -> bool:
        """What happened next; whether the node must be asked, since it is in a run that is not known here."""
        self.cursor = event.cursor or self.cursor
        self.transfers.apply(event)  # which the node says nothing of when it is asked
        if type(event).__name__ not in NOISE:
            self.log.append(event)
        if _is_in(event.cursor, self.known):
            return False
        if isinstance(event, PeerChanged):
            before = self.peers.get(event.peer) or PeerView(peer=event.peer, connected=False, runs=[], faults=[])
            self.peers[event.peer] = PeerView(
                peer=event.peer, connected=event.connected, runs=before.runs, faults=before.faults
            )
        for run, scene in self.scenes.items():
            if event.run in ("", run):
                scene.apply(event)
        return bool(event.run) and event.run not in self.scenes

    @property
    def rounds(self) -> list[tuple[Scene, RoundCertified]]:
        """Certified rounds of all runs, the newest first."""
        found = [(scene, event) for scene in self.scenes.values() for event in scene.rounds]
        return sorted(found, key=lambda pair: (pair[1].at_s, pair[1].round), reverse=True)


def _is_in(cursor: str, known: str) -> bool:
    """Whether an event is one of those up to `known`, of the same start of the daemon."""
    epoch, _, number = cursor.rpartition("-")
    known_epoch, _, known_number = known.rpartition("-")
    return epoch == known_epoch and number.isdigit() and known_number.isdigit() and int(number) <= int(known_number)
