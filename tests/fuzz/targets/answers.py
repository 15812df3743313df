"""services/peers: a question that anybody may ask, of a run that this node is in or of another [Q1]."""

from functools import cache
from typing import Any, get_args

from primep2p.config import ComputeSection, TrainWhenSection
from primep2p.model.errors import PeerError
from primep2p.model.messages import (
    MAX_CHAIN,
    AskChain,
    AskHead,
    AskSpec,
    AskVotes,
    Chain,
    Introduce,
    SyncAnswer,
    SyncQuestion,
)
from primep2p.net.memory_host import MemoryNetwork
from primep2p.services.aggregating.compute import Compute
from primep2p.services.blobs.transfer import Transfer
from primep2p.services.peers.answers import Answers
from primep2p.services.peers.book import Book
from primep2p.services.peers.members import Overlay
from primep2p.services.peers.sync import MAX_QUESTION_BYTES, Sync
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.training.machine import LocalMachine
from primep2p.services.training.resting import Resting
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.wire.codec import decode, encode
from tests.core.kit import Group, Machine, join_of
from tests.fuzz.kit import converse, framed, home, inline, of_types, store, virtual
from tests.fuzz.mutation import parts
from tests.fuzz.surface import Shape, Surface

ROUNDS = 3
SHAPE = Shape(framed=True)


@cache
def member_of_run() -> tuple[Group, Machine]:
    """A member in the round after a few certified ones, whose chain is stored."""
    group = Group(4)
    for _ in range(ROUNDS):
        _keep(group)
        group.go_on()
    _keep(group)
    machine = Machine(group, group.ranks[3])
    machine.train()
    return group, machine


def _keep(group: Group) -> None:
    head = group.head
    store("answers").runs.commit(group.run, head.round, StoredCheckpoint(head.checkpoint, encode(head.state)))


def fuzz(data: bytes) -> None:
    """One answer to a question, which its asker can read; nonsense is blamed on whoever sent it, and not answered."""
    frames = parts(data, SHAPE)
    answered, blamed = virtual(_asked, data)
    answers = parts(answered, SHAPE)
    question = _question(frames[0]) if frames else None
    if question is None:
        assert answers == []
        assert len(blamed) <= 1
        return
    assert blamed == []
    assert len(answers) == 1
    answer: SyncAnswer = decode(SyncAnswer, answers[0])  # type: ignore[arg-type]
    if isinstance(answer, Chain):
        assert isinstance(question, AskChain)
        assert [entry.certificate.round for entry in answer.checkpoints] == [
            question.first + place for place in range(len(answer.checkpoints))
        ]
        assert len(answer.checkpoints) <= MAX_CHAIN


def _question(raw: bytes) -> SyncQuestion | None:
    try:
        question: SyncQuestion = decode(SyncQuestion, raw, limit=MAX_QUESTION_BYTES)  # type: ignore[arg-type]
    except PeerError:
        return None
    return question


async def _asked(data: bytes) -> tuple[bytes, list[str]]:
    group, machine = member_of_run()
    host = MemoryNetwork().host(machine.who.peer_id)
    blamed: list[str] = []

    def blame(peer: str, reason: str) -> None:
        blamed.append(peer)

    overlay = Overlay(host, blame, remember=lambda peer, addresses: None)
    services: dict[bytes, RunService] = {}
    answers = Answers(services, store("answers").runs, overlay, inline)
    sync = Sync(host, answers.answer, blame)
    seams = Seams(
        envelopes=machine.who,
        host=host,
        blobs=store("answers").blobs,
        runs=store("answers").runs,
        overlay=overlay,
        book=Book(store("answers").runs, inline),
        sync=sync,
        transfer=Transfer(host, store("answers").blobs, blame=blame),
        tell=lambda event: None,
        offload=inline,
        compute=Compute(ComputeSection(), inline, lambda event: None),
        gate=Resting(TrainWhenSection(), LocalMachine(), inline),
        unix_time=lambda: 0.0,
        scratch=home(),
        residuals=home(),
        keep_updates=1,
        addresses=lambda: (),
    )
    row = RunRow(group.run, group.spec.raw, b"", None, 0)
    training: Any = None  # nothing is trained by an answer
    services[group.run] = service = RunService(row, group.spec, seams, lambda report: training)
    service.machine = machine.run
    answered = await converse(sync._serve, data)
    assert not sync._at_once
    return answered, blamed


def corpus() -> list[bytes]:
    group, _ = member_of_run()
    join = join_of(9, group.spec).raw
    questions: list[Any] = [AskSpec(group.run), AskHead(group.run), AskVotes(group.run), Introduce(group.run, join)]
    questions += [AskChain(group.run, first) for first in (0, ROUNDS, ROUNDS + 1, 2**53)]
    return [framed(raw) for raw in (*map(encode, questions), *of_types(get_args(SyncQuestion)))]


SURFACE = Surface(fuzz, corpus, SHAPE, examples_per_test=40)
