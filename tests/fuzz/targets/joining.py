"""services/runs/joining: what members answer one who looks for a run and its head, all of them liars [K1, K2, K3].

The first part is the RunSpec that the owner's id names; each further one answers a question, whatever it was.
"""

import trio

from primep2p.core import effects as fx
from primep2p.core.chain import Head, header_hash
from primep2p.core.runs import Run
from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.messages import AskHead, Chain, NotBegun, Nothing, Spec, SyncAnswer
from primep2p.model.messages import Head as HeadMessage
from primep2p.model.records import RoundPolicy, RunSpec
from primep2p.net.frames import Frames
from primep2p.net.host import Stream
from primep2p.net.memory_host import MemoryNetwork
from primep2p.services.peers.sync import PROTOCOL, Sync
from primep2p.services.runs.joining import Pin, Seekers, find_spec, learn_head
from primep2p.wire.codec import MAX_RECORD_BYTES, decode, encode
from primep2p.wire.envelope import Opened
from tests.core.kit import Group, member, run_spec
from tests.fuzz.kit import framed, of_types, virtual
from tests.fuzz.mutation import parts
from tests.fuzz.surface import Shape, Surface

CREATOR, JOINER = 0, 5
SHAPE = Shape(framed=True)
POLICY = RoundPolicy(first_members=1, min_updates=1)


def fuzz(data: bytes) -> None:
    """What is found is the run that was asked for, and a head that is certified, or pinned; a round may follow it."""
    spec, *answers = parts(data, SHAPE) or [b""]
    try:
        run = member(JOINER).peek(spec).hash
    except PeerError:
        return
    for pin in (None, _pin(answers)):
        virtual(_seek, run, answers, pin)


def _pin(answers: list[bytes]) -> Pin:
    """The owner was given a pin that fits."""
    for raw in answers:
        try:
            answer: SyncAnswer = decode(SyncAnswer, raw)  # type: ignore[arg-type]
        except PeerError:
            continue
        if isinstance(answer, Chain) and answer.checkpoints:
            first = answer.checkpoints[0]
            return Pin(first.certificate.round, header_hash(first.header))
    return Pin(0, bytes(32))


async def _seek(run: bytes, answers: list[bytes], pin: Pin | None) -> None:
    network = MemoryNetwork()
    here, there = network.host(member(JOINER).peer_id), network.host(member(CREATOR).peer_id)
    waiting = list(answers)

    async def answer(stream: Stream) -> None:
        frames = Frames(stream, MAX_RECORD_BYTES)
        await frames.receive()
        await frames.send(waiting.pop(0) if waiting else encode(Nothing("no more")))

    async def answer_nothing(peer: str, question: object) -> SyncAnswer:
        return Nothing("a joiner")

    there.handle(PROTOCOL, answer)
    sync = Sync(here, answer_nothing, blame=lambda peer, reason: None)
    at = Seekers(here, sync, member(JOINER))
    async with trio.open_nursery() as nursery:
        await nursery.start(here.run)
        await nursery.start(there.run)
        await here.connect(member(CREATOR).peer_id)
        try:
            spec, holders = await find_spec(run, at)
            _check_spec(run, spec, holders)
            learnt = await learn_head(spec, holders, at, pin)
        except (Unavailable, CallError):
            learnt = None
        nursery.cancel_scope.cancel()
    if learnt is not None:
        _check_head(spec, *learnt, pin)


def _check_spec(run: bytes, spec: Opened[RunSpec], holders: list[str]) -> None:
    assert spec.hash == run
    assert spec.signer == spec.record.creator
    assert holders == [member(CREATOR).peer_id]


def _check_head(spec: Opened[RunSpec], head: Head, state: bytes, pin: Pin | None) -> None:
    assert head.run == spec.hash
    assert encode(decode(type(head.state), state)) == encode(head.state)
    if pin is not None:
        assert (head.round, head.hash) == (pin.round, pin.hash)
    effects = Run(head, member(JOINER)).begin(0.0)
    assert not any(isinstance(effect, fx.Journal) for effect in effects), "it is no member, and signs nothing"


def corpus() -> list[bytes]:
    group = Group(1, policy=POLICY)
    spec, first = group.spec, group.head.checkpoint
    states = [encode(group.head.state)]
    checkpoints = [first]
    for _ in range(3):
        group.go_on()
        checkpoints.append(group.head.checkpoint)
        states.append(encode(group.head.state))
    said = encode(Spec(spec.raw))
    head = encode(HeadMessage(checkpoints[-1], states[-1]))
    whole, end = encode(Chain(tuple(checkpoints), states[0])), encode(Chain((), states[0]))
    confirmed = encode(Chain((checkpoints[-1],), states[-1]))
    halves = [encode(Chain(tuple(checkpoints[:2]), states[0])), encode(Chain(tuple(checkpoints[2:]), states[2]))]
    strange = run_spec(policy=RoundPolicy(first_members=1, consensus_threshold="0.0"))
    return [
        framed(spec.raw, said, head, whole, end, confirmed),
        framed(
            spec.raw,
            said,
            head,
            *halves,
            end,
            confirmed,
        ),
        framed(spec.raw, said, confirmed),
        framed(spec.raw, said, encode(NotBegun())),
        framed(strange.raw, encode(Spec(strange.raw)), head, whole),
        framed(spec.raw, said, *of_types((HeadMessage, Chain, Nothing, AskHead))),
    ]


SIGNERS = {member(number).peer_id: member(number) for number in range(4)}

SURFACE = Surface(fuzz, corpus, SHAPE, signers=SIGNERS, examples_per_test=30)
