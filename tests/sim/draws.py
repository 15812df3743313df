"""What liars can do about the draws: colluders decide, whenever one of them is first, whether its reveal enters [S2].

`python -m tests.sim.draws` prints what that is worth: how often one of them is first, against their fair share; and for
a drawn committee how many of them it has. They know all that they will reveal, and look ahead for as long as one of
them is first in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from primep2p.core.beacons import first_beacon, next_beacon
from primep2p.core.sortition import ranked
from primep2p.model.ids import Hash, PeerId

__all__ = ["Draws", "Measured", "measure"]

LOOKAHEAD = 10
"""Rounds: that colluders with a fifth of the members hold the first place for longer is a matter of a hundred thousand
rounds, and each round doubles what there is to try."""

CANDIDATES = 200
"""From whom a large committee is drawn: cohort and committee of two rounds."""


@dataclass(frozen=True)
class Measured:
    """Over many rounds; shares of 1."""

    fair: float
    first: float
    """Rounds in which a colluder was first, and so proposed in view 0."""
    in_committee: float
    """Of the places in the committee."""
    worst: int
    """The most places that they had in one."""


class Draws:
    """A run of which only the draws are real. The first `liars` members collude, if they want anything."""

    def __init__(self, members: int, liars: int, committee: int, *, wants: str) -> None:
        self.peers: tuple[PeerId, ...] = tuple(f"member {i:04}" for i in range(members))
        self.liars = frozenset(self.peers[:liars])
        self.run: Hash = sha256(f"{members}/{liars}/{committee}".encode()).digest()
        self._committee = committee
        self._wants = wants

    def drawn(self, beacon: Hash) -> tuple[PeerId, ...]:
        """The committee, in rank order."""
        return ranked(beacon, "committee", self.peers)[: self._committee]

    def next(self, beacon: Hash, round: int) -> Hash:
        """The beacon that comes of it: an honest member reveals, a liar as it likes best."""
        first = self.drawn(beacon)[0]
        reveals, withholds = self._options(beacon, round, first)
        if first not in self.liars or self._wants == "nothing":
            return reveals
        return max(reveals, withholds, key=lambda option: self._worth(option, round + 1, LOOKAHEAD))

    def _options(self, beacon: Hash, round: int, first: PeerId) -> tuple[Hash, Hash]:
        element = sha256(f"{first}/{round}".encode()).digest()
        return next_beacon(beacon, self.run, round, element), next_beacon(beacon, self.run, round, b"")

    def _worth(self, beacon: Hash, round: int, depth: int) -> float:
        """What colluders want, from this round on for as long as they can tell."""
        committee = self.drawn(beacon)
        places = len(self.liars.intersection(committee)) / len(committee)
        if committee[0] not in self.liars:
            return places if self._wants == "places" else 0.0
        ahead = (
            max(self._worth(o, round + 1, depth - 1) for o in self._options(beacon, round, committee[0]))
            if depth
            else 0
        )
        return max(places, ahead) if self._wants == "places" else 1 + ahead


def measure(members: int, liars: int, committee: int, *, wants: str, rounds: int) -> Measured:
    """What colluders get that want to be `first`, or many `places` in a committee, or `nothing`."""
    draws = Draws(members, liars, committee, wants=wants)
    beacon, first, places, worst = first_beacon(draws.run), 0, 0, 0
    for round in range(1, rounds + 1):
        drawn = draws.drawn(beacon)
        first += drawn[0] in draws.liars
        has = len(draws.liars.intersection(drawn))
        places, worst = places + has, max(worst, has)
        beacon = draws.next(beacon, round)
    return Measured(liars / members, first / rounds, places / rounds / committee, worst)


def main() -> None:
    print("members liars committee wants    fair  first  places  most")
    for members, liars, committee in ((4, 1, 4), (7, 2, 7), (16, 5, 16), (CANDIDATES, 20, 31), (CANDIDATES, 40, 31)):
        for wants in ("nothing", "first", *(("places",) if committee < members else ())):
            got = measure(members, liars, committee, wants=wants, rounds=4000)
            shares = f"{got.fair:.3f}  {got.first:.3f}  {got.in_committee:.3f}"
            print(f"{members:7} {liars:5} {committee:9} {wants:8} {shares}  {got.worst:4}")


if __name__ == "__main__":
    main()
