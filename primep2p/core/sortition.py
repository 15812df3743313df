"""Who trains, votes and proposes: draws that anyone can repeat from a certified beacon."""

from hashlib import sha256

from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.records import RunState
from primep2p.wire.codec import digest

__all__ = ["cohort_of", "first_beacon", "next_beacon", "ranked"]


def first_beacon(run: RunId) -> Hash:
    """The beacon of checkpoint 0: nobody chose it after the RunSpec was signed."""
    return digest("beacon", run)


def next_beacon(beacon: Hash, run: RunId, round: int) -> Hash:
    """The beacon of `round`, from the one before. Params, metrics and order never enter it: nothing to grind [S2]."""
    return digest("beacon", beacon + run + round.to_bytes(8, "big"))


def ranked(beacon: Hash, role: str, peers: tuple[PeerId, ...]) -> tuple[PeerId, ...]:
    """Peers in the order of sha256(beacon, role, peer) [S1]."""
    salt = beacon + role.encode() + b"\0"
    return tuple(sorted(peers, key=lambda peer: sha256(salt + peer.encode()).digest()))


def cohort_of(state: RunState) -> frozenset[PeerId]:
    """Who trains in the round after `state`: the whole roster."""
    return frozenset(member.peer for member in state.members)
