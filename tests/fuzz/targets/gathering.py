"""core/genesis: what one who has joined hears before checkpoint 0, of a run whose creator lies and owns all other keys.

The first part is the run's spec, which the creator made up too.
"""

from typing import get_args

from primep2p.core import effects as fx
from primep2p.core.genesis import Gathering
from primep2p.core.runs import Run
from primep2p.model.errors import PeerError
from primep2p.model.journal import Signed
from primep2p.model.messages import Certified, Chain, OverlayMessage, Records, SyncAnswer
from primep2p.model.records import MAX_FIRST_MEMBERS, Checkpoint, Join, Proposal, RoundPolicy, RunSpec, Vote
from primep2p.services.peers.members import MAX_FRAME_BYTES
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Opened
from tests.core.kit import certificate, first_proposed, join_of, member, run_spec, verified
from tests.fuzz.kit import framed, of_types
from tests.fuzz.mutation import parts
from tests.fuzz.surface import Shape, Surface

CREATOR, ME, OTHER = 0, 1, 2
SHAPE = Shape(framed=True)
EFFECTS = get_args(fx.Effect)


def fuzz(data: bytes) -> None:
    """Nothing raises; this node signs one checkpoint 0 at the most; and a round can begin from what it ends with."""
    spec, *messages = parts(data, SHAPE) or [b""]
    try:
        opened = member(ME).open(RunSpec, spec)
    except PeerError:
        return
    if opened.signer != opened.record.creator:
        return  # no run, and nobody joins it
    machine = Gathering(opened, join_of(ME, opened), member(ME))
    effects = machine.begin([]) + machine.handle(fx.ParamsHeld(opened.record.params))
    for raw in messages:
        for event in _heard(raw):
            effects += machine.handle(event)
        effects += machine.handle(fx.Expired(fx.Moment(0, "repair")))
        assert len(machine.requests) <= MAX_FIRST_MEMBERS
        assert len(machine._votes) <= MAX_FIRST_MEMBERS + MAX_FIRST_MEMBERS + 1
    assert all(isinstance(effect, EFFECTS) for effect in effects)
    _check_signed(effects)
    if machine.head is not None:
        _check_head(machine, opened)


def _heard(raw: bytes) -> list[fx.Event]:
    sender = member(CREATOR).peer_id
    try:
        message: OverlayMessage = decode(OverlayMessage, raw, limit=MAX_FRAME_BYTES)  # type: ignore[arg-type]
    except PeerError:
        pass
    else:
        return [fx.Received(sender, message)]
    try:
        answer: SyncAnswer = decode(SyncAnswer, raw)  # type: ignore[arg-type]
    except PeerError:
        return [fx.Connected(sender)]
    return [fx.Synced(sender, answer.checkpoints)] if isinstance(answer, Chain) else []


def _check_signed(effects: list[fx.Effect]) -> None:
    signed = [effect.entry for effect in effects if isinstance(effect, fx.Journal)]
    assert all(isinstance(entry, Signed) for entry in signed)
    records = [verified(entry.envelope).record for entry in signed if isinstance(entry, Signed)]
    votes = [record for record in records if isinstance(record, Vote)]
    assert not any(isinstance(record, Proposal) for record in records), "only the creator proposes"
    assert len(votes) <= 1


def _check_head(machine: Gathering, spec: Opened[RunSpec]) -> None:
    head = machine.head
    assert head is not None
    assert head.run == spec.hash
    members = [entry.peer for entry in head.state.members]
    assert 1 <= len(members) <= MAX_FIRST_MEMBERS
    assert spec.record.creator in members
    signers = {verified(raw).signer for raw in head.checkpoint.certificate.votes}
    assert signers == set(members)
    assert decode(type(head.state), encode(head.state)) == head.state
    effects = Run(head, member(ME)).begin(0.0)
    assert all(isinstance(effect, EFFECTS) for effect in effects)


def corpus() -> list[bytes]:
    plain = run_spec(policy=RoundPolicy(first_members=2, min_updates=1))
    return [_beginning(plain, (0, 1)), _beginning(plain, (0, 1, 2)), _without_me(plain), _declared(plain)]


def _beginning(spec: Opened[RunSpec], members: tuple[int, ...]) -> bytes:
    """As it goes."""
    proposed, _ = first_proposed(spec, members)
    joins = [join_of(number, spec).raw for number in members]
    begun = Checkpoint(proposed.header, certificate(map(member, members), proposed.header, run=spec.hash, round=0))
    votes = [raw for raw in begun.certificate.votes if verified(raw).signer != member(ME).peer_id]
    return framed(
        spec.raw, encode(Records(spec.hash, tuple(joins))), encode(proposed), encode(Records(spec.hash, tuple(votes)))
    )


def _without_me(spec: Opened[RunSpec]) -> bytes:
    """It began without this node, which is shown so."""
    proposed, _ = first_proposed(spec, (0, 2))
    begun = Checkpoint(proposed.header, certificate(map(member, (0, 2)), proposed.header, run=spec.hash, round=0))
    later = Checkpoint(proposed.header, certificate((member(0),), proposed.header, run=spec.hash, round=3))
    shown = [encode(Certified(spec.hash, checkpoint)) for checkpoint in (later, begun)]
    return framed(spec.raw, encode(proposed), *shown, encode(Chain((begun,), b"")))


def _declared(spec: Opened[RunSpec]) -> bytes:
    """Every message there is, and a Join that is none."""
    other = member(OTHER).seal(Join(bytes(32), 0, (), bytes(32), bytes(32)))
    return framed(spec.raw, encode(Records(spec.hash, (other.raw,))), *of_types(get_args(OverlayMessage)))


SIGNERS = {member(number).peer_id: member(number) for number in (CREATOR, OTHER, 3)}

SURFACE = Surface(fuzz, corpus, SHAPE, signers=SIGNERS, examples_per_test=60)
