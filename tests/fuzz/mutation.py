"""Valid inputs made wrong, with chance passed in: a field, a length, a nesting, a part more or less.

Inputs are trees: msgpack in frames in streams, and byte strings inside that are msgpack again. Behind a change hashes
and signatures can be made good, as a liar would: else nothing but a signature check would ever be tested.
"""

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec

from primep2p.model import messages, records
from primep2p.wire.codec import digest
from primep2p.wire.envelope import KINDS, Envelopes
from tests.fuzz.surface import MAX_INPUT_BYTES, Shape, Surface

__all__ = ["joined", "mutated", "parts"]

LENGTH_BYTES = 4
MAX_DEPTH = 24
MAX_PARTS = 64

NUMBERS = (
    -(2**63),
    -(2**31),
    -1,
    0,
    1,
    2,
    16,
    17,
    255,
    2**31,
    2**31 + 1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
FLOATS = (0.0, -0.0, -1.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "\0", "é", "\u2028", "x" * 300, "12D3KooW" + "1" * 44, "bafkrei" + "a" * 52, "0.0", "0.999999", "nil")
BYTES = (b"", b"\0", bytes(31), bytes(32), bytes(33), bytes(64), b"\x90", b"\xc0", b"\xdd\xff\xff\xff\xff", b"x" * 5000)
NESTED = b"\x91" * 5000 + b"\xc0"


def parts(raw: bytes, shape: Shape) -> list[bytes]:
    """The parts of an input; what is left over is one too."""
    if shape.json:
        return raw.split(b"\n")
    if not shape.framed:
        return [raw]
    found: list[bytes] = []
    while len(raw) >= LENGTH_BYTES and len(found) < MAX_PARTS:
        end = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "big")
        if end > len(raw):
            break
        found.append(raw[LENGTH_BYTES:end])
        raw = raw[end:]
    return found


def joined(pieces: list[bytes], shape: Shape) -> bytes:
    """The input of these parts."""
    if shape.json:
        return b"\n".join(pieces)
    if not shape.framed:
        return pieces[0] if pieces else b""
    return b"".join(len(piece).to_bytes(LENGTH_BYTES, "big") + piece for piece in pieces)


def mutated(raw: bytes, chance: Random, surface: Surface, others: list[bytes]) -> bytes:
    """`raw` with one or a few things wrong; `others` lend their parts."""
    shape = surface.shape
    pieces = parts(raw, shape)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _change_part(pieces, chance, surface, others)
    result = joined(pieces, shape)
    if chance.random() < 0.1:
        result = _scratched(result, chance)
    return result[:MAX_INPUT_BYTES]


def _change_part(pieces: list[bytes], chance: Random, surface: Surface, others: list[bytes]) -> None:
    """In place."""
    shape = surface.shape
    many = shape.framed or shape.json
    deed = chance.randrange(10) if many else 9
    place = chance.randrange(len(pieces) + 1) if pieces else 0
    if deed == 0 and pieces:
        del pieces[chance.randrange(len(pieces))]
    elif deed == 1 and pieces:
        pieces.insert(place, chance.choice(pieces))
    elif deed in (2, 3) and others and (lent := parts(chance.choice(others), shape)):
        pieces.insert(place, chance.choice(lent))
    elif pieces:
        at = chance.randrange(len(pieces))
        pieces[at] = _changed_piece(pieces[at], chance, surface)


def _changed_piece(piece: bytes, chance: Random, surface: Surface) -> bytes:
    shape = surface.shape
    head, body = piece[: shape.prefix_bytes], piece[shape.prefix_bytes :]
    if head and chance.random() < 0.1:
        head = bytes(chance.randrange(256) for _ in head)
    tree = _tree(body, is_json=shape.json)
    if tree is None or chance.random() < 0.05:
        return head + _scratched(body, chance)
    tree = _changed(tree, chance, 0)
    if shape.json:
        return head + json.dumps(tree, default=repr).encode()
    if surface.signers:
        if chance.random() < 0.8:
            tree = _deep(tree, _linked, 0)
        if chance.random() < 0.9:
            tree = _deep(tree, lambda each: _signed(each, surface.signers), 0)
    packed = _packed(tree)
    return head + (packed if packed is not None else _scratched(body, chance))


def _tree(raw: bytes, *, is_json: bool = False) -> Any:
    """A list or a table; None for what holds none."""
    try:
        tree = json.loads(raw) if is_json else msgspec.msgpack.decode(raw)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return tree if isinstance(tree, list | dict) else None


def _packed(tree: Any) -> bytes | None:
    try:
        return msgspec.msgpack.encode(tree)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _changed(node: Any, chance: Random, depth: int) -> Any:
    """`node` with one thing changed, somewhere in it."""
    if isinstance(node, bytes) and depth < MAX_DEPTH and (inner := _tree(node)) is not None and chance.random() < 0.8:
        packed = _packed(_changed(inner, chance, depth + 1))
        return node if packed is None else packed
    if isinstance(node, list) and node and depth < MAX_DEPTH and chance.random() < 0.8:
        at = chance.randrange(len(node))
        return [*node[:at], _changed(node[at], chance, depth + 1), *node[at + 1 :]]
    if isinstance(node, dict) and node and depth < MAX_DEPTH and chance.random() < 0.8:
        key = chance.choice(list(node))
        return {**node, key: _changed(node[key], chance, depth + 1)}
    if isinstance(node, list):
        return _changed_list(node, chance)
    if isinstance(node, dict):
        return _changed_table(node, chance)
    return _odd(node, chance)


def _changed_list(node: list[Any], chance: Random) -> Any:
    at = chance.randrange(len(node) + 1)
    match chance.randrange(7):
        case 0:
            return node[:at]
        case 1:
            return [*node[:at], _odd(None, chance), *node[at:]]
        case 2 if node:
            return [*node, *[chance.choice(node)] * chance.choice((1, 2, 17, 300))]
        case 3:
            return list(reversed(node))
        case 4:
            return [node]
        case 5 if len(node) > 1:
            at = at % len(node)
            return node[at:] + node[:at]
        case _:
            return _odd(node, chance)


def _changed_table(node: dict[Any, Any], chance: Random) -> Any:
    match chance.randrange(3):
        case 0 if node:
            gone = chance.choice(list(node))
            return {key: value for key, value in node.items() if key != gone}
        case 1:
            return {**node, chance.choice(TEXTS): _odd(None, chance)}
        case _:
            return _odd(node, chance)


def _odd(node: Any, chance: Random) -> Any:
    """Something where `node` was: mostly of its own type, at the edge of what that may be."""
    kind = type(node) if chance.random() < 0.8 else chance.choice((int, float, str, bytes, bool, list, dict))
    if kind is bool:
        return not node
    if kind is int:
        near = [node - 1, node + 1] if type(node) is int else []
        return chance.choice((*NUMBERS, *near))
    if kind is float:
        return chance.choice(FLOATS)
    if kind is str:
        near = [node[:-1], node + "a", node.swapcase()] if isinstance(node, str) else []
        return chance.choice((*TEXTS, *near))
    if kind is bytes:
        near = [_scratched(node, chance), node[:-1]] if isinstance(node, bytes) and node else []
        return chance.choice((*BYTES, *near, NESTED))
    return chance.choice(([], {}, None, True, [[]], [[[[[[]]]]]]))


def _scratched(raw: bytes, chance: Random) -> bytes:
    """Bytes changed without regard to what they mean."""
    scratched = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(scratched) + 1)
        match chance.randrange(4):
            case 0:
                scratched[at:at] = chance.choice(BYTES)[:40]
            case 1:
                del scratched[at : at + chance.choice((1, 2, 4, 32))]
            case _ if at < len(scratched):
                scratched[at] = chance.randrange(256)
    return bytes(scratched)


# ---- making good what hangs on a change


def _deep(node: Any, mend: Callable[[list[Any]], list[Any]], depth: int) -> Any:
    """`mend` of every list in a tree, those inside of byte strings too, the innermost first."""
    if depth > MAX_DEPTH:
        return node
    if isinstance(node, list):
        return mend([_deep(each, mend, depth + 1) for each in node])
    if isinstance(node, bytes) and len(node) > 40 and isinstance(inner := _tree(node), list):
        packed = _packed(_deep(inner, mend, depth + 1))
        return node if packed is None else packed
    return node


def _places(type_: type[msgspec.Struct]) -> dict[str, int]:
    """Where the fields of a record stand in its array; a message has its tag before them."""
    tagged = 1 if type_.__struct_config__.tag is not None else 0
    return {name: place + tagged for place, name in enumerate(type_.__struct_fields__)}


HEADER, CERTIFICATE, CHECKPOINT = map(_places, (records.Header, records.Certificate, records.Checkpoint))
PROPOSED, ENVELOPE = _places(messages.Proposed), _places(records.Envelope)


def _signed(node: list[Any], signers: Mapping[str, object]) -> list[Any]:
    """An envelope whose signature holds again, where its signer lends its key."""
    if len(node) < len(ENVELOPE) or not all(isinstance(text, str) for text in node[:2]):
        return node
    kind, signer, payload = (node[ENVELOPE[name]] for name in ("kind", "signer", "payload"))
    sealer = signers.get(signer)
    if kind not in KINDS or not isinstance(payload, bytes) or not isinstance(sealer, Envelopes):
        return node
    signature = sealer._signer.sign(sealer._covered(kind, signer, payload))
    return [*node[: ENVELOPE["signature"]], signature, *node[ENVELOPE["signature"] + 1 :]]


def _linked(node: list[Any]) -> list[Any]:
    """What names the hash of its neighbour names it again: a header its bundle, whoever vouches for it the header."""
    if len(node) > PROPOSED["bundle"] and node[0] == messages.Proposed.__struct_config__.tag:
        header, bundle = node[PROPOSED["header"]], node[PROPOSED["bundle"]]
        if isinstance(header, bytes) and isinstance(bundle, bytes):
            header = _with(header, HEADER["bundle"], digest("bundle", bundle))
            proposal = _revoted(node[PROPOSED["proposal"]], header)
            node = [node[0], node[1], proposal, header, *node[PROPOSED["bundle"] :]]
    if len(node) == len(CHECKPOINT) and isinstance(node[0], bytes) and isinstance(node[1], list):
        node = [node[0], _certifying(node[1], node[0])]
    return node


def _certifying(certificate: list[Any], header: bytes) -> list[Any]:
    """A certificate of the header with these bytes, its votes unsigned."""
    if len(certificate) <= CERTIFICATE["votes"] or not isinstance(certificate[CERTIFICATE["votes"]], list):
        return certificate
    certificate = list(certificate)
    certificate[CERTIFICATE["header"]] = digest("header", header)
    certificate[CERTIFICATE["votes"]] = [_revoted(vote, header) for vote in certificate[CERTIFICATE["votes"]]]
    return certificate


def _revoted(envelope: Any, header: bytes) -> Any:
    """A proposal or a vote, for the header with these bytes; unsigned."""
    type_ = {"proposal": records.Proposal, "vote": records.Vote}
    tree = _tree(envelope) if isinstance(envelope, bytes) else None
    if not isinstance(tree, list) or len(tree) < len(ENVELOPE) or tree[0] not in tuple(type_):
        return envelope
    payload = tree[ENVELOPE["payload"]]
    if not isinstance(payload, bytes):
        return envelope
    tree[ENVELOPE["payload"]] = _with(payload, _places(type_[tree[0]])["header"], digest("header", header))
    packed = _packed(tree)
    return envelope if packed is None else packed


def _with(raw: bytes, place: int, value: bytes) -> bytes:
    tree = _tree(raw)
    if not isinstance(tree, list) or len(tree) <= place:
        return raw
    tree[place] = value
    packed = _packed(tree)
    return raw if packed is None else packed
