"""What members have to know beyond the round: who asks to join or to leave, whom the creator bans, who signed twice;
and whether the run's time is over.

Kept from round to round until a checkpoint has dealt with it, and bounded whatever strangers send.
"""

from primep2p.core.admission import Request, admits, request_of
from primep2p.core.chain import Head
from primep2p.core.checks import check_ban, check_leave, is_leaving, max_accused, max_listed_notices
from primep2p.core.gossip import in_messages, short
from primep2p.core.votes import Open, convict
from primep2p.model.ids import Hash, PeerId
from primep2p.model.messages import OverlayMessage, Proven
from primep2p.model.records import Ban, Envelope, Evidence, Join, Leave
from primep2p.wire.codec import decode, digest
from primep2p.wire.envelope import Opened

__all__ = ["MAX_BANS", "MAX_REQUESTS", "Notices"]

MAX_REQUESTS = 64
"""Joins kept beside those that k lists name: strangers can make any number of them."""

MAX_BANS = 256
"""Kept at a time: as many as one checkpoint can deal with."""


class Notices:
    """Of one run. `follow` tells which checkpoint has been reached."""

    def __init__(self, head: Head) -> None:
        self.evidence: dict[PeerId, Evidence] = {}
        """Against members, one piece each."""
        self.addresses: dict[PeerId, tuple[str, ...]] = {}
        """Where those say that they are who want to become members, or have become members since."""
        self.time_is_up = False
        """By this node's clock, if the run has a time at all [F2]."""
        self._head = head
        self._requests: dict[Hash, Request] = {}
        self._bans: dict[Hash, Opened[Ban]] = {}
        self._leaves: dict[Hash, Opened[Leave]] = {}

    # ---- what comes in

    def knows(self, hash_: Hash) -> bool:
        """Whether a notice is held."""
        return hash_ in self._requests or hash_ in self._bans or hash_ in self._leaves

    def add_join(self, join: Opened[Join], open_: Open, *, promised: bool) -> bool:
        """Whether a Join is new here and worth passing on. What k members list has room in any case, or this node could
        never propose. Raises PeerError where its invite is not good for it."""
        is_second = any(request.peer == join.signer for request in self._requests.values())
        if (is_second or not self.has_room) and not promised:
            return False  # of one signer the first is as good, until it is too old
        request = request_of(self._head.run, self._head.spec, join, open_)
        if not self._admits(request):
            return False
        self._requests[join.hash] = request
        self.addresses[join.signer] = join.record.addresses
        return True

    @property
    def has_room(self) -> bool:
        """For another stranger's Join."""
        return len(self._requests) < MAX_REQUESTS

    def add_ban(self, ban: Opened[Ban], *, promised: bool = False) -> bool:
        """Whether a ban is new here. What k members list has room in any case, another ban of the same peer too: a
        creator may lie as well. Raises PeerError where it is not the creator's."""
        check_ban(ban, self._head)
        known = any(ban.record.peer == other.record.peer for other in self._bans.values())
        if ban.record.peer in self._head.state.expelled:
            return False
        if (known or len(self._bans) >= MAX_BANS) and not promised:
            return False
        self._bans[ban.hash] = ban
        return True

    def has_leave_of(self, peer: PeerId) -> bool:
        """Whether a member is known to want to leave: one word of it is as good as another."""
        return any(leave.signer == peer for leave in self._leaves.values())

    def add_leave(self, leave: Opened[Leave]) -> bool:
        """Whether a member wants to leave. Raises PeerError where it is another run."""
        check_leave(leave, self._head)
        if not is_leaving(leave, self._head):
            return False
        self._leaves[leave.hash] = leave
        return True

    def add_evidence(self, evidence: Evidence, open_: Open) -> PeerId | None:
        """The member that new evidence convicts; None where that is known already. Raises PeerError."""
        culprit = decode(Envelope, evidence.first).signer  # what it claims will do to ignore it without a check
        if culprit in self.evidence or culprit not in self._head.members:
            return None
        convict(evidence, self._head.run, open_)
        self.evidence[culprit] = evidence
        return culprit

    def follow(self, head: Head) -> None:
        """A checkpoint is certified: forget what it has dealt with, and what it has made too old."""
        self._head = head
        self._requests = {hash_: request for hash_, request in self._requests.items() if self._admits(request)}
        self._bans = {h: ban for h, ban in self._bans.items() if ban.record.peer not in head.state.expelled}
        self._leaves = {hash_: leave for hash_, leave in self._leaves.items() if is_leaving(leave, head)}
        self.evidence = {peer: evidence for peer, evidence in self.evidence.items() if peer in head.members}
        here = head.members.keys() | {request.peer for request in self._requests.values()}
        self.addresses = {peer: addresses for peer, addresses in self.addresses.items() if peer in here}

    # ---- what follows

    def listing(self) -> tuple[Hash, ...]:
        """Hashes for this node's list, bans first, then members' own wishes: strangers crowd out nobody [C1]."""
        joins = sorted(hash_ for hash_, request in self._requests.items() if self._admits(request))
        order = [*sorted(self._bans), *sorted(self._leaves), *joins]
        return tuple(sorted(order[: max_listed_notices(self._head.committee)]))

    def accused(self) -> tuple[PeerId, ...]:
        """Members to accuse in this node's list [C1]."""
        return tuple(sorted(self.evidence)[: max_accused(self._head.committee)])

    def raws(self) -> dict[Hash, bytes]:
        """The envelopes of all notices."""
        joins = {hash_: request.join.raw for hash_, request in self._requests.items()}
        return joins | {hash_: notice.raw for hash_, notice in (*self._bans.items(), *self._leaves.items())}

    # ---- comparing notes [D1]

    def hashes(self) -> list[Hash]:
        """Names of all that is held here; evidence against one member is as good as other evidence against it."""
        return [*self._requests, *self._bans, *self._leaves, *(_name(peer) for peer in self.evidence)]

    def lacking(self, there: set[bytes]) -> list[OverlayMessage]:
        """Messages for somebody who holds `there`, by short hashes."""
        items = [raw for hash_, raw in self.raws().items() if short(hash_) not in there]
        proven = [Proven(self._head.run, e) for peer, e in self.evidence.items() if short(_name(peer)) not in there]
        return [*in_messages(self._head.run, items), *proven]

    def _admits(self, request: Request) -> bool:
        return admits(self._head.spec, self._head.state, request, round=self._head.round + 1)


def _name(peer: PeerId) -> Hash:
    return digest("accused", peer.encode())
