"""What a peer may make this node hold and do: all that an honest one needs, and an end to what another one asks."""

from collections import defaultdict

from primep2p.model.ids import PeerId
from primep2p.model.messages import OverlayMessage, Proposed, Records

__all__ = ["CATCH_UP_EVERY_S", "HELD_BYTES_PER_MEMBER", "HELD_PER_MEMBER", "HELP_EVERY_S", "MAX_HELPED", "Allowances"]

HELD_PER_MEMBER = 8
"""An update, a list, a proposal and the votes of two views: all that an honest member can be ahead with."""

HELD_BYTES_PER_MEMBER = 2**20
"""Of all held messages of one member: far more than a bundle of 16 lists needs."""

HELP_EVERY_S = 0.2
"""Digests answered for one peer: enough to repair, too few to make this node work for nothing."""

MAX_HELPED = 256
"""Peers remembered for that, but for those helped just now: ids cost nothing."""

CATCH_UP_EVERY_S = 1.0
"""For each member, and for all others together: who claims to be ahead and gives no chain takes nobody else's turn."""


class Allowances:
    """Of one run, from round to round."""

    def __init__(self) -> None:
        self.held: dict[PeerId, list[OverlayMessage]] = defaultdict(list)
        """Messages for the next round, by the member that sent them."""
        self._helped: dict[PeerId, float] = {}
        self._asked_at: dict[PeerId, float] = {}

    def hold(self, member: PeerId, message: OverlayMessage) -> None:
        """Keep a message for the next round, if its sender has room."""
        held = self.held[member]
        held_bytes = sum(_size(other) for other in held) + _size(message)
        if len(held) < HELD_PER_MEMBER and held_bytes <= HELD_BYTES_PER_MEMBER:
            held.append(message)

    def take_held(self) -> list[tuple[PeerId, OverlayMessage]]:
        """All that was held, which is so no longer."""
        held, self.held = self.held, defaultdict(list)
        return [(sender, message) for sender, messages in held.items() for message in messages]

    def may_help(self, peer: PeerId, now: float) -> bool:
        """Whether it is time to help a peer that is behind or lacks something; then that is its turn."""
        if now - self._helped.get(peer, float("-inf")) < HELP_EVERY_S:
            return False
        if len(self._helped) >= MAX_HELPED:
            self._helped = {other: at for other, at in self._helped.items() if now - at < HELP_EVERY_S}
        self._helped[peer] = now
        return True

    def may_catch_up(self, member: PeerId | None, now: float) -> bool:
        """Whether it is time to ask a member, or with None anybody else, for the chain; then that is its turn."""
        turn = member or ""
        if now - self._asked_at.get(turn, float("-inf")) < CATCH_UP_EVERY_S:
            return False
        self._asked_at[turn] = now
        return True

    def caught_up(self, member: PeerId | None) -> None:
        """It gave a chain: it may be asked again at once."""
        self._asked_at.pop(member or "", None)


def _size(message: OverlayMessage) -> int:
    match message:
        case Records(items=items):
            return sum(len(item) for item in items)
        case Proposed(proposal=proposal, header=header, bundle=bundle, prevotes=prevotes):
            return len(proposal) + len(header) + len(bundle) + sum(len(vote) for vote in prevotes)
        case _:
            return 0
