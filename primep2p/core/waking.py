"""After a start, before signing anything: members are asked for this node's own newest records.

A home that was copied or restored from a backup has an old journal: what it signed since is known only to others. Once
min(k, q - 1) members have answered, some honest one among them has told what could matter, and no run waits for more
members than its rounds need [J2].
"""

from primep2p.core import effects as fx
from primep2p.core.chain import Head, follow
from primep2p.core.votes import Open
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.model.journal import JournalEntry
from primep2p.model.records import Checkpoint

__all__ = ["ASK_AGAIN_S", "Waking"]

SHOWN = -1
"""The view of a certificate that this node was shown."""

ASK_AGAIN_S = 1.0
"""Before a member that did not answer is asked again."""


class Waking:
    """The machine of a run between a node's start and its first step. Ends when it is `ready`."""

    def __init__(self, head: Head, entries: list[JournalEntry], me: PeerId, open_: Open) -> None:
        self.head = head
        self.entries = entries
        self.foreign: list[bytes] = []
        self._me = me
        self._open = open_
        self._connected: set[PeerId] = set()
        self._rounds: dict[PeerId, int] = {}
        """Of those who have answered: the rounds that they are in."""
        self._asked: set[PeerId] = set()
        self._take(head)

    def _take(self, head: Head) -> None:
        """Whom to ask, and how many of them, follows from the head."""
        self.head = head
        committee = head.committee
        self._members = frozenset(committee.members) - {self._me}
        signs_again = self._me in head.due and not head.is_last
        self._needed = min(committee.k, committee.q - 1) if signs_again else 0

    @property
    def ready(self) -> bool:
        """Enough have answered."""
        return len(self._rounds) >= self._needed

    @property
    def first_round(self) -> int:
        """In no earlier round is anything signed: k members have answered, and all of them are further, so that it is
        certified, and what this node may have signed there is not asked for any more. Fewer could all be liars [J2]."""
        return min(self._rounds.values(), default=0) if len(self._rounds) >= self.head.committee.k else 0

    @property
    def awaited(self) -> frozenset[PeerId]:
        """Members that have not answered."""
        return self._members - self._rounds.keys()

    def handle(self, event: fx.Event) -> list[fx.Effect]:
        """What `event` calls for."""
        match event:
            case fx.Connected(peer):
                self._connected.add(peer)
                return self._ask(peer)
            case fx.Lost(peer):
                self._connected.discard(peer)
                self._asked.discard(peer)
            case fx.RecordsUnheard(member) if member in self._asked:
                self._asked.discard(member)
                return [fx.StartTimer(fx.AskAgain(member), ASK_AGAIN_S)]
            case fx.Expired(fx.AskAgain(member)) if member in self._connected - self._rounds.keys():
                return self._ask(member)
            case fx.RecordsHeard(member, items, round) if member in self._members - self._rounds.keys():
                self._rounds[member] = round
                self.foreign += items
                if round > self.head.round + 1 and not self.ready:
                    return [fx.CatchUp(member, self.head.round + 1)]
            case fx.Synced(sender, checkpoints):
                return self._follow(sender, checkpoints)
            case _:
                pass
        return []

    def _follow(self, sender: PeerId, checkpoints: tuple[Checkpoint, ...]) -> list[fx.Effect]:
        """The committee that this node slept through may be gone for good: that of a newer checkpoint is asked."""
        before, out = self.head.round, list[fx.Effect]()
        try:
            for checkpoint in checkpoints:
                if checkpoint.certificate.round == self.head.round + 1:
                    self._take(follow(self.head, checkpoint, self._open))
                    out.append(fx.Commit(self.head, SHOWN))
        except PeerError as error:
            out.append(fx.Accuse(sender, error.sentence))
        if self.head.round == before:
            return out
        if self.head.round > before + 1 and not self.head.is_last:
            out.append(fx.CatchUp(sender, self.head.round + 1))  # there may be more
        self.entries = []
        self._rounds.clear()
        self._asked.clear()
        return out + [effect for peer in sorted(self._connected) for effect in self._ask(peer)]

    def _ask(self, peer: PeerId) -> list[fx.Effect]:
        """Once for each connection, and again after a question that was not answered."""
        if peer not in self._members - self._asked:
            return []
        self._asked.add(peer)
        return [fx.AskRecords(peer)]
