"""net/libp2p_gossip: a message of pubsub, before it is heard or passed on, and what a run reads of it [N4]."""

from typing import get_args

from google.protobuf.message import DecodeError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from primep2p.keys import public_key_of
from primep2p.model.errors import PeerError
from primep2p.model.messages import OverlayMessage
from primep2p.net.host import MAX_PUBLISH_BYTES
from primep2p.net.libp2p_gossip import Gossip
from primep2p.wire.codec import decode
from tests.fuzz.kit import ME, of_types
from tests.fuzz.surface import Surface

ORIGIN = ID.from_base58(ME).to_bytes()


def fuzz(data: bytes) -> None:
    """True or False; what is acceptable has an origin that can be named and a size that was agreed on."""
    for message in (_parsed(data), rpc_pb2.Message(from_id=ORIGIN, data=data), rpc_pb2.Message(from_id=data)):
        if not Gossip._is_acceptable(None, None, message):  # type: ignore[arg-type]
            continue
        public_key_of(ID(message.from_id).to_base58())
        assert len(message.data) <= MAX_PUBLISH_BYTES
        try:
            decode(OverlayMessage, message.data)  # type: ignore[arg-type]
        except PeerError:
            continue


def _parsed(data: bytes) -> rpc_pb2.Message:
    message = rpc_pb2.Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return rpc_pb2.Message()
    return message


def corpus() -> list[bytes]:
    payloads = of_types(get_args(OverlayMessage))
    whole = [rpc_pb2.Message(from_id=ORIGIN, data=raw, seqno=bytes(8), topicIDs=["run"]) for raw in payloads]
    return [*payloads, ORIGIN, *(message.SerializeToString() for message in whole)]


SURFACE = Surface(fuzz, corpus, examples_per_test=80)
