"""Records that a liar signs properly: forged headers with proposals that name them, and other right headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from primep2p.core.chain import header_hash
from primep2p.core.checkpoints import bundle_of, derive, header_of, named_by_k, open_bundle
from primep2p.model.errors import PeerError
from primep2p.model.messages import Proposed
from primep2p.model.records import Bundle, Collected, Header, Proposal
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened
from tests.sim.blobs import made_of

if TYPE_CHECKING:
    from tests.sim.node import SimNode

__all__ = ["Forgery", "another_right_header", "forged", "params_of", "proposed_with"]

Forgery = Callable[["SimNode", Header, Bundle], tuple[Header, Bundle]]
"""A wrong header, and the bundle that it names."""


def forged(node: SimNode, message: Proposed, forgery: Forgery) -> Proposed:
    """The node's own proposal, with another header."""
    header, bundle = decode(Header, message.header), decode(Bundle, message.bundle)
    header, bundle = forgery(node, header, bundle)
    raw = encode(bundle)
    header = msgspec.structs.replace(header, bundle=digest("bundle", raw))
    return proposed_with(node, message, encode(header), raw)


def proposed_with(node: SimNode, message: Proposed, header: bytes, bundle: bytes) -> Proposed:
    """A proposal that names this header in place of the one in `message`."""
    proposal = node.record(message.proposal)
    assert isinstance(proposal, Proposal)
    sealed = node.envelopes.seal(msgspec.structs.replace(proposal, header=header_hash(header)))
    return Proposed(message.run, sealed.raw, header, bundle, message.prevotes)


def params_of(node: SimNode, header: Header) -> Header:
    """With the params and state that its inclusions give, so that nothing else is wrong with it."""
    round = node.running.round if node.running is not None else None
    if round is None or header.void:
        return header
    made = made_of(round.head, header.inclusions)
    node.disk.blobs.update(made)
    return msgspec.structs.replace(header, params=made.params, optimiser=made.optimiser)


def another_right_header(node: SimNode, message: Proposed) -> tuple[bytes, bytes] | None:
    """What follows from another quorum of lists, or from the same ones without the votes of the round before."""
    round = node.running.round if node.running is not None else None
    if round is None:
        return None
    head, q = round.head, round.head.committee.q
    lists = [round.collection.lists[peer] for peer in sorted(round.collection.lists)]
    try:
        raw = _bundle(node, lists[len(lists) - q :]) if len(lists) > q else None
        if raw is None or raw == message.bundle:
            raw = encode(msgspec.structs.replace(decode(Bundle, message.bundle), votes=()))
        derivation = derive(open_bundle(raw, head, node.envelopes.open_any), head)
    except (PeerError, KeyError):
        return None  # it lacks what these lists name, or they name what nobody has
    made = made_of(head, derivation.inclusions)
    node.disk.blobs.update(made)
    header = encode(header_of(head, derivation, None if derivation.void else made.params, made.optimiser, ""))
    return None if header == message.header else (header, raw)


def _bundle(node: SimNode, lists: Iterable[Opened[Collected]]) -> bytes:
    assert node.running is not None
    assert node.running.round is not None
    round, chosen = node.running.round, list(lists)
    promised = named_by_k((entry.record for entry in chosen), round.head.committee.k)
    notices = node.running.notices
    return encode(bundle_of(chosen, promised, round.collection.updates, notices.raws(), (), notices.evidence))
