"""Without a pin a joiner follows a chain that holds and is confirmed, and none where another one is as good [K3]."""

from collections.abc import Sequence
from functools import partial

import msgspec
import pytest
import trio
from trio.testing import MockClock

from primep2p.core.chain import Head
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.model.messages import AskChain, AskHead, AskSpec, Chain, Nothing, Spec, SyncAnswer, SyncQuestion
from primep2p.model.messages import Head as HeadMessage
from primep2p.model.pipeline import Float32, Pipeline, TopK, Wire
from primep2p.model.records import RoundPolicy, TensorSpec
from primep2p.net.memory_host import MemoryHost, MemoryNetwork
from primep2p.services.peers.sync import ASK_S, Sync
from primep2p.services.runs.entering import JOIN_S
from primep2p.services.runs.joining import Seekers, find_spec, learn_head
from primep2p.wire.codec import encode
from tests.core.kit import Group, member

POLICY = RoundPolicy(first_members=1, min_updates=1)
JOINER = 9


def chain(rounds: int, *, without: int = -1) -> list[Head]:
    """What the same four members certify, in rounds that miss one of them or none: with other updates in each."""
    group = Group(4, policy=POLICY)
    heads = [group.head]
    for _ in range(rounds):
        present = [who for place, who in enumerate(group.members) if place != without]
        updates = [group.update(who) for who in present]
        heads.append(group.go_on(group.bundle([group.listing(who, updates) for who in present], updates)))
    return heads


class Slow(list[Head]):
    """The chain of one that takes as long for each checkpoint as it may."""


def answering(heads: Sequence[Head]):  # type: ignore[no-untyped-def]
    """What a member says that is on this chain."""
    many = 1 if isinstance(heads, Slow) else len(heads)

    async def answer(peer: PeerId, question: SyncQuestion) -> SyncAnswer:
        if isinstance(heads, Slow):
            await trio.sleep(ASK_S - 0.5)
        match question:
            case AskHead():
                return HeadMessage(heads[-1].checkpoint, encode(heads[-1].state))
            case AskChain(_, first) if first < len(heads):
                return Chain(tuple(head.checkpoint for head in heads[first : first + many]), encode(heads[first].state))
            case _:
                return Nothing("not here")

    return answer


def learnt(*chains: Sequence[Head], first: int = 0) -> tuple[Head, bytes] | None:
    """What a joiner learns from members 0, 1, … that are on these chains, when it asks member `first` first."""
    return trio.run(partial(_learnt, *chains, first=first), clock=MockClock(autojump_threshold=0))


async def _learnt(*chains: Sequence[Head], first: int) -> tuple[Head, bytes] | None:
    network, group = MemoryNetwork(), Group(4, policy=POLICY)
    here = network.host(member(JOINER).peer_id)
    at = Seekers(here, Sync(here, answering(chains[0]), lambda peer, reason: None), member(JOINER))
    holders = [member(place).peer_id for place in range(len(chains))]
    hosts: list[MemoryHost] = [network.host(peer) for peer in holders]
    for host, heads in zip(hosts, chains, strict=True):
        Sync(host, answering(heads), lambda peer, reason: None)
    found: tuple[Head, bytes] | Unavailable | None = None
    with trio.fail_after(JOIN_S):
        async with trio.open_nursery() as nursery:
            for each in (here, *hosts):
                await nursery.start(each.run)
            for peer in holders:
                await here.connect(peer)
            try:
                found = await learn_head(group.spec, holders[first:] + holders[:first], at, None)
            except Unavailable as error:
                found = error
            nursery.cancel_scope.cancel()
    if isinstance(found, Unavailable):
        raise found  # out of the nursery, which would wrap it
    return found


def unproven(heads: Sequence[Head]) -> list[Head]:
    """The same chain with one checkpoint more, that one member alone has signed."""
    last = heads[-1]
    votes = last.checkpoint.certificate.votes[:1]
    checkpoint = msgspec.structs.replace(
        last.checkpoint,
        certificate=msgspec.structs.replace(last.checkpoint.certificate, round=last.round + 1, votes=votes),
    )
    return [*heads, Head(last.run, last.spec, last.header, last.hash, last.state, checkpoint)]


RUN, SHORTER, FORGED = chain(3), chain(2), chain(6, without=3)


@pytest.mark.parametrize("first", range(4))
def test_members_on_one_chain_are_followed_though_some_are_behind(first: int) -> None:
    found = learnt(RUN, SHORTER, RUN, RUN, first=first)
    assert found is not None
    assert found[0].hash in (RUN[-1].hash, SHORTER[-1].hash)


@pytest.mark.parametrize("first", range(4))
def test_a_longer_chain_that_departed_members_certified_is_no_better_than_the_runs_own(first: int) -> None:
    with pytest.raises(Unavailable, match="two chains") as refused:
        learnt(RUN, RUN, FORGED, FORGED, first=first)
    assert "pin" in (refused.value.hint or "")


@pytest.mark.parametrize("first", range(4))
def test_one_member_that_claims_more_than_is_certified_stops_nobody(first: int) -> None:
    found = learnt(RUN, RUN, RUN, unproven(RUN), first=first)
    assert found is not None
    assert found[0].hash == RUN[-1].hash


def test_a_chain_that_too_few_confirm_is_not_followed() -> None:
    with pytest.raises(Unavailable, match="too few"):
        learnt(FORGED)


LONG = chain(20)
LATE = Slow(LONG)
LATE_RIVAL = Slow(chain(20, without=3))


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("slow", [LATE, LATE_RIVAL], ids=["the same chain", "another chain"])
def test_one_that_shows_a_chain_as_slowly_as_it_may_keeps_nobody_from_joining(first: int, slow: Slow) -> None:
    found = learnt(LONG, LONG, LONG, slow, first=first)
    assert found is not None
    assert found[0].hash == LONG[-1].hash


@pytest.mark.parametrize(
    ("tensors", "wire", "said"),
    [
        ((TensorSpec("w", "float32", (2**32 + 1,)),), TopK(), "indices for 4294967296 values"),
        ((TensorSpec("w", "float32", (2,)), TensorSpec("w", "float32", (2,))), Float32(), "two tensors are named 'w'"),
    ],
)
def test_a_run_whose_deltas_can_have_no_file_is_not_joined(
    tensors: tuple[TensorSpec, ...], wire: Wire, said: str
) -> None:
    """Else every member that trains in it would be accused, or stop."""
    creator = member(0)
    record = msgspec.structs.replace(Group(1, policy=POLICY).spec.record, tensors=tensors, pipeline=Pipeline(wire=wire))
    spec = creator.seal(msgspec.structs.replace(record, creator=creator.peer_id))

    async def answer(peer: PeerId, question: SyncQuestion) -> SyncAnswer:
        return Spec(spec.raw) if isinstance(question, AskSpec) else Nothing("not here")

    async def main() -> None:
        network = MemoryNetwork()
        here, there = network.host(member(JOINER).peer_id), network.host(creator.peer_id)
        at = Seekers(here, Sync(here, answer, lambda peer, reason: None), member(JOINER))
        Sync(there, answer, lambda peer, reason: None)
        async with trio.open_nursery() as nursery:
            for host in (here, there):
                await nursery.start(host.run)
            await here.connect(creator.peer_id)
            with pytest.raises(CallError, match=said):
                await find_spec(spec.hash, at)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
