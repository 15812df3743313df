"""services/blobs/serving: what a peer asks of the blobs that this node holds [T1, T2]."""

from functools import cache

from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, PeerId
from primep2p.model.records import Manifest
from primep2p.model.transfer import MAX_WANTED, BlobAnswer, Chunk, Has, Want
from primep2p.services.blobs.serving import MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, Serving
from primep2p.wire.codec import decode, encode
from primep2p.wire.manifest import CHUNK_BYTES, check_chunk, open_manifest
from tests.fuzz.kit import STRANGER, converse, framed, home, inline, of_types, store, virtual
from tests.fuzz.mutation import parts
from tests.fuzz.surface import Shape, Surface

CONTENTS = (b"", b"small", bytes(CHUNK_BYTES) + b"and more")
SHAPE = Shape(framed=True)


def fuzz(data: bytes) -> None:
    """Answers are the blobs' own bytes, as many as were asked for, and only whoever asked nonsense is blamed."""
    held()
    blamed: list[PeerId] = []
    serving = Serving(store("serving").blobs, blame=lambda peer, reason: blamed.append(peer), offload=inline)
    answered = virtual(converse, serving.serve, data)
    assert set(blamed) <= {STRANGER}
    assert len(blamed) <= 1, "after nonsense nothing is read"
    assert not serving._open_streams
    questions = parts(data, SHAPE)
    answers = parts(answered, SHAPE)
    assert len(answers) <= len(questions) * (MAX_WANTED + 2)
    manifests = [open_manifest(cid, store("serving").blobs.manifest(cid) or b"") for cid in held()]
    for raw in answers:
        _check(decode(BlobAnswer, raw, limit=MAX_ANSWER_BYTES), manifests)  # type: ignore[arg-type]
    for raw in questions:
        try:
            decode(Want, raw, limit=MAX_QUESTION_BYTES)
        except PeerError:
            assert blamed
            return


def _check(answer: BlobAnswer, manifests: list[Manifest]) -> None:
    if isinstance(answer, Has):
        assert answer.manifest in [encode(manifest) for manifest in manifests]
    if isinstance(answer, Chunk):
        assert any(_is_right(manifest, answer) for manifest in manifests)


def _is_right(manifest: Manifest, chunk: Chunk) -> bool:
    try:
        check_chunk(manifest, chunk.index, chunk.content)
    except PeerError:
        return False
    return True


@cache
def held() -> tuple[Cid, ...]:
    """What this node serves."""
    cids = []
    for content in CONTENTS:
        path = home() / "given"
        path.write_bytes(content)
        cids.append(store("serving").blobs.add(path, durable=False))
    return tuple(cids)


def corpus() -> list[bytes]:
    wants = [encode(Want(cid, 0, MAX_WANTED, True)) for cid in held()]
    wants += [encode(Want(held()[2], 1, 1, False)), encode(Want(held()[1], 0, 0, False))]
    return [framed(*wants), *(framed(want) for want in wants), framed(*of_types((Want,)))]


SURFACE = Surface(fuzz, corpus, SHAPE, examples_per_test=30)
