from pathlib import Path

import msgspec
import pytest

from primep2p.keys import Identity
from primep2p.model.errors import ConfigError
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import PROTOCOL_VERSION, Admission, Envelope, RoundPolicy, RunSpec, TensorSpec
from primep2p.services.runs.reopening import spec_of
from primep2p.store.seam import RunRow
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes

HOME = Path("/home")
OURS = Envelopes("main", Identity(bytes(32)))


def row(**more: object) -> RunRow:
    spec = RunSpec(
        creator=OURS.peer_id,
        name="digits",
        nonce=bytes(16),
        tensors=(TensorSpec("w", "float32", (2,)),),
        trainer="noop",
        trainer_config={},
        params="bafkrei" + "a" * 52,
        pipeline=Pipeline(),
        policy=RoundPolicy(),
        admission=Admission(),
    )
    return RunRow(bytes(32), OURS.seal(msgspec.structs.replace(spec, **more)).raw, b"", None, 0)


def unreadable(version: int) -> RunRow:
    """A spec as another version wrote it: what stands in place of the pipeline means nothing here."""
    envelope = decode(Envelope, row(protocol=version).spec)
    fields = msgspec.msgpack.decode(envelope.payload)
    fields[7] = "a word"
    other = msgspec.structs.replace(envelope, payload=msgspec.msgpack.encode(fields))
    return RunRow(bytes(32), encode(other), b"", None, 0)


def test_a_run_of_this_version_opens():
    assert spec_of(row(), OURS, HOME).record.name == "digits"


@pytest.mark.parametrize("make", [unreadable, lambda version: row(protocol=version)], ids=["unreadable", "readable"])
@pytest.mark.parametrize(("by", "words"), [(-1, "an older one"), (1, "a newer one")])
def test_a_run_of_another_version_is_said_to_be_that(make, by, words):
    version = PROTOCOL_VERSION + by
    with pytest.raises(ConfigError) as refused:
        spec_of(make(version), OURS, HOME)
    assert f"which is of version {version} of the protocol, and this primep2p speaks" in refused.value.sentence
    assert refused.value.hint.startswith(f"finish it with {words}, or ")


def test_a_run_of_another_network_is_said_to_be_that():
    with pytest.raises(ConfigError, match="is not of the network 'lab'"):
        spec_of(row(), Envelopes("lab", Identity(bytes(32))), HOME)
