"""The beacon that every draw comes from: members add to it what they committed to when they joined.

Each member has a hash chain: element r - 1 is the hash of element r. Its Join names one element; whoever is first in
the committee of round r reveals element r in its list, which nobody else can know before and which it cannot choose any
more. One member reveals, not all: a proposer takes any q of n lists, and so would have one beacon to choose from for
each way to take them. Of one reveal it can only decide whether it enters [S2].
"""

from functools import lru_cache
from hashlib import sha256

from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, RunId
from primep2p.model.records import Member, RoundPolicy
from primep2p.wire.codec import digest
from primep2p.wire.envelope import Envelopes

__all__ = [
    "HASH_BYTES",
    "MAX_CHAIN_ROUNDS",
    "HashChain",
    "chain_of",
    "check_reveal",
    "first_beacon",
    "is_of_chain",
    "next_beacon",
]

MAX_CHAIN_ROUNDS = 16_384
"""In a run that lasts longer nobody reveals anything any more, and later beacons follow from the last. Building a chain
of this length takes some 10 ms, and so does checking a reveal after so many silent rounds."""

_DOMAIN = b"primep2p/reveal\0"

HASH_BYTES = 32

STRIDE = 256
"""Every so many elements one is kept; those between are computed again."""


def first_beacon(run: RunId) -> Hash:
    """The beacon of checkpoint 0: nobody chose it after the RunSpec was signed."""
    return digest("beacon", run)


def next_beacon(beacon: Hash, run: RunId, round: int, reveal: bytes) -> Hash:
    """The beacon of `round`, from the one before and what was revealed, if anything. Params, metrics, weights and order
    never enter it: nothing to grind [S2]."""
    return digest("beacon", beacon + run + round.to_bytes(8, "big") + reveal)


class HashChain:
    """The elements 0 to `rounds` of one member's chain, from a secret."""

    def __init__(self, secret: bytes, rounds: int) -> None:
        self._rounds = rounds
        self._kept: dict[int, Hash] = {}
        element, round = digest("reveal", secret), rounds
        while round >= 0:
            self._kept[round] = element
            steps = round % STRIDE or STRIDE
            element, round = _hashed(element, steps), round - steps

    def element(self, round: int) -> Hash | None:
        """The element for `round`; None after the chain's end."""
        if not 0 <= round <= self._rounds:
            return None
        start = min(self._rounds, -(-round // STRIDE) * STRIDE)
        return _hashed(self._kept[start], start - round)


def chain_of(envelopes: Envelopes, run: RunId, policy: RoundPolicy) -> HashChain:
    """This node's chain in a run: the same after every start, with nothing to store."""
    rounds = min(policy.rounds or MAX_CHAIN_ROUNDS, MAX_CHAIN_ROUNDS)
    return _chain(envelopes.secret(f"reveals/{run.hex()}"), rounds)


def is_of_chain(member: Member, value: Hash, round: int) -> bool:
    """Whether `value` is the element of `member`'s chain for `round`: of 32 bytes, or no header could hold it."""
    steps = round - member.anchored
    return len(value) == HASH_BYTES and 0 < steps <= MAX_CHAIN_ROUNDS and _hashed(value, steps) == member.anchor


def check_reveal(member: Member, value: Hash, round: int) -> None:
    """Raises PeerError unless `value` is the element of `member`'s chain for `round`."""
    if not is_of_chain(member, value, round):
        raise PeerError("a reveal that is not of its hash chain")


@lru_cache(maxsize=64)
def _chain(secret: bytes, rounds: int) -> HashChain:
    return HashChain(secret, rounds)


def _hashed(element: Hash, times: int) -> Hash:
    for _ in range(times):
        element = sha256(_DOMAIN + element).digest()  # digest("reveal", element), inlined: it is done by the thousand
    return element
