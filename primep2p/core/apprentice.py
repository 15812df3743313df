"""What this node's trainer is at, from round to round.

In sync mode each round's training takes the place of the one before. In a buffered run a training outlasts rounds: it
goes on from its own base until what it gives could not enter any more [C4].
"""

from primep2p.core.chain import Head

__all__ = ["Apprentice"]


class Apprentice:
    """Of one run. It is never at more than one training."""

    def __init__(self) -> None:
        self.round = 0
        """That it trains for; 0: for none."""

    def begin(self, round: int) -> None:
        """It trains for `round` now, and for no other one any more."""
        self.round = round

    def end(self, round: int) -> bool:
        """It is done with `round`, or has failed; False where it is at another one since."""
        if self.round != round:
            return False
        self.round = 0
        return True

    def is_busy(self, head: Head) -> bool:
        """Whether what it is at may still enter a round, the one after `head` or a later one."""
        return self.round in head.bases
