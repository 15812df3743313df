"""What a node answers about a run: never more than an answer may hold."""

from pathlib import Path
from typing import Any, cast

import pytest

from primep2p.model.messages import AskChain, Chain, Nothing
from primep2p.model.records import Certificate, Checkpoint
from primep2p.net.memory_host import MemoryNetwork
from primep2p.services.peers.answers import Answers
from primep2p.services.peers.members import Overlay
from primep2p.store.db import open_store
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.wire.codec import MAX_RECORD_BYTES, encode
from tests.core.kit import member, run_spec
from tests.nodes.world import inline

SPEC = run_spec()
PEER = member(1).peer_id


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = open_store(tmp_path)
    opened.runs.save_run(RunRow(SPEC.hash, SPEC.raw, b"", None, 0))
    yield opened
    opened.close()


def answers(store: Any) -> Answers:
    """Of a node that is in the run; what it does there is not asked for."""
    overlay = Overlay(MemoryNetwork().host(PEER), lambda peer, reason: None, lambda peer, addresses: None)
    return Answers(cast(Any, {SPEC.hash: object()}), store.runs, overlay, inline)


def commit(store: Any, rounds: int, header_bytes: int) -> None:
    for round in range(rounds):
        checkpoint = Checkpoint(bytes(header_bytes), Certificate(SPEC.hash, round, bytes(32), ()))
        store.runs.commit(SPEC.hash, round, StoredCheckpoint(checkpoint, b"state"))


@pytest.mark.parametrize(("header_bytes", "expected"), [(100, 10), (2**20, 3), (MAX_RECORD_BYTES - 1000, 1)])
async def test_a_chain_has_as_many_checkpoints_as_an_answer_has_room_for(
    store: Any, header_bytes: int, expected: int
) -> None:
    commit(store, 10, header_bytes)
    answer = await answers(store).answer(PEER, AskChain(SPEC.hash, 0))
    assert isinstance(answer, Chain)
    assert [checkpoint.certificate.round for checkpoint in answer.checkpoints] == list(range(expected))
    assert len(encode(answer)) <= MAX_RECORD_BYTES


async def test_who_asks_for_what_is_not_there_hears_so(store: Any) -> None:
    commit(store, 2, 100)
    assert isinstance(await answers(store).answer(PEER, AskChain(SPEC.hash, 2)), Nothing)
