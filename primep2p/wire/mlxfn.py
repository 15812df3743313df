"""Reads MLX's exported graphs (`.mlxfn`), to know all that is in one before any native code is given it.

MLX's own reader trusts the file: counts, ids, dtypes and names of kernels are taken as they come. This one bounds each
of them, and knows only ALLOWED primitives: the file does not say how long the settings of an unknown one are, so that
what follows could not be read, and such a graph is refused [X2]. Layout: little-endian; `u` 8 bytes, `i` 4, `f` 4,
`d` 8, `?` 1, `I` a count (u) of ints, `L` of longs of 8 bytes, `D` a dtype (i, 1 byte for its size).
"""

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from primep2p.model.errors import PluginError

__all__ = ["ALLOWED", "DTYPES", "ArrayType", "Graph", "read_graph", "renumbered"]

MAX_NODES = 100_000
"""Also of all that is counted in a graph. A step of a network of a hundred layers has a tenth of it."""

MAX_TEXT = 256
MAX_DIMENSIONS = 8
MAX_ARRAY_BYTES = 2**32
"""Of one array in the graph: more is no training step for a member's laptop."""

DTYPES = (
    ("bool", 1),
    ("uint8", 1),
    ("uint16", 2),
    ("uint32", 4),
    ("uint64", 8),
    ("int8", 1),
    ("int16", 2),
    ("int32", 4),
    ("int64", 8),
    ("float16", 2),
    ("float32", 4),
    ("float64", 8),
    ("bfloat16", 2),
    ("complex64", 8),
)
"""By MLX's number: the name, and bytes of an element."""

# fmt: off
_PLAIN = (
    "Abs", "Add", "ArcCos", "ArcCosh", "ArcSin", "ArcSinh", "ArcTan", "ArcTan2", "ArcTanh", "Ceil", "Copy",
    "Cos", "Cosh", "Divide", "DivMod", "Erf", "ErfInv", "Exp", "Expm1", "Floor", "Full", "Greater",
    "GreaterEqual", "Less", "LessEqual", "Log1p", "LogAddExp", "LogSumExp", "LogicalAnd", "LogicalNot",
    "LogicalOr", "Matmul", "Maximum", "Minimum", "Multiply", "Negative", "NotEqual", "Power", "Remainder",
    "Round", "Select", "Sigmoid", "Sign", "Sin", "Sinh", "Square", "StopGradient", "Subtract", "Tan", "Tanh",
)
# fmt: on

ALLOWED: Mapping[str, str] = dict.fromkeys(_PLAIN, "") | {
    "AddMM": "ff",
    "Arange": "ddd",
    "ArgPartition": "ii",
    "ArgReduce": "ii",
    "ArgSort": "i",
    "AsStrided": "ILu",
    "AsType": "D",
    "BitwiseBinary": "i",
    "Broadcast": "I",
    "BroadcastAxes": "I",
    "Concatenate": "i",
    "Convolution": "IIIIIi?",
    "Equal": "?",
    "ExpandDims": "I",
    "Flatten": "ii",
    "Gather": "II",
    "GatherAxis": "i",
    "Log": "i",
    "NumberOfElements": "I?D",
    "Pad": "III",
    "Partition": "ii",
    "RandomBits": "Ii",
    "Reduce": "iI",
    "Reshape": "I",
    "Scan": "ii??",
    "Scatter": "iI",
    "ScatterAxis": "ii",
    "Slice": "III",
    "SliceUpdate": "iIII",
    "Softmax": "?",
    "Sort": "i",
    "Split": "Ii",
    "Sqrt": "?",
    "Squeeze": "I",
    "Transpose": "I",
    "Unflatten": "iI",
}
"""The primitives that a plan may use, each with the layout of its settings. All are arithmetic on arrays that MLX
itself allocates, and training needs them. Left out are those that bring code of their own (CustomKernel) or read files
(Load), look at memory as another type (View), call a linear-algebra library with what they are given (SVD, Eigh, …), or
are for one kind of device (the quantised and the fused ones). AsStrided, which convolutions need, must stay within its
array."""

_SIZES = {"u": 8, "l": 8, "i": 4, "f": 4, "d": 8, "?": 1}


@dataclass(frozen=True, slots=True)
class ArrayType:
    """Dtype and shape of an array in a graph."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Graph:
    """What is in a file; nothing of it has run. `shapeless`: it takes arrays of other sizes too."""

    mlx: str
    shapeless: bool
    inputs: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    primitives: Counter[str]
    constants_bytes: int
    id_offsets: tuple[int, ...] = field(repr=False)
    """Where the file names an array: these numbers were addresses in the memory of whoever wrote it."""


def read_graph(raw: bytes) -> Graph:
    """All of the graph in `raw`, checked. Raises PluginError where it is damaged, or uses what a plan may not."""
    return _Reader(raw).graph()


def renumbered(raw: bytes) -> bytes:
    """The same graph with arrays numbered in the order of their first mention: one step gives one file, and the file
    tells no addresses."""
    numbers: dict[int, int] = {}
    changed = bytearray(raw)
    for offset in read_graph(raw).id_offsets:
        (old,) = struct.unpack_from("<Q", raw, offset)
        struct.pack_into("<Q", changed, offset, numbers.setdefault(old, len(numbers)))
    return bytes(changed)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0
        self._arrays: dict[int, ArrayType] = {}
        self._inputs: set[int] = set()
        self._offsets: list[int] = []
        self._primitives: Counter[str] = Counter()
        self._constants_bytes = 0
        self._shapeless = False

    def graph(self) -> Graph:
        mlx = self._text()
        functions = self._one("i")
        if functions != 1:
            raise _damaged(f"it holds {functions} functions, and must hold 1")
        shapeless = self._shapeless = self._flag()
        self._text()  # metadata of the exporter's own
        if self._count(0):
            raise _damaged("it takes arguments by name")
        ids = [self._id() for _ in range(self._count(MAX_NODES))]
        if self._count(MAX_NODES) != len(ids) or len(set(ids)) != len(ids):
            raise _damaged("its inputs and their types differ in number")
        inputs = tuple(self._type() for _ in ids)
        self._inputs = set(ids)
        self._arrays = dict(zip(ids, inputs, strict=True))
        output_ids = [self._id() for _ in range(self._count(MAX_NODES))]
        for _ in range(self._count(MAX_NODES)):
            self._node()
        if self._at != len(self._raw):
            raise _damaged(f"{len(self._raw) - self._at} bytes follow its end")
        return Graph(
            mlx=mlx,
            shapeless=shapeless,
            inputs=inputs,
            outputs=tuple(self._known(id_) for id_ in output_ids),
            primitives=self._primitives,
            constants_bytes=self._constants_bytes,
            id_offsets=tuple(self._offsets),
        )

    def _node(self) -> None:
        id_ = self._id()
        if self._flag():
            self._computed(id_)
        elif self._flag():
            self._constant(id_)
        elif id_ not in self._inputs:
            raise _damaged("a node that is nothing")

    def _computed(self, id_: int) -> None:
        """What a primitive makes of arrays that came before: no graph has a circle."""
        inputs = [self._known(self._id()) for _ in range(self._count(MAX_NODES))]
        index, device, device_index = (self._one("i") for _ in range(3))
        if (device, device_index) != (0, 0) or index < 0:
            raise _damaged("it asks for another device than the first CPU")
        name = self._text()
        if name not in ALLOWED:
            raise PluginError(
                f"the graph uses {name!r}, which no plan may",
                hint="docs/plans.md lists what a plan's graphs may use, and why nothing else",
            )
        settings = [self._setting(kind) for kind in ALLOWED[name]]
        if name == "AsStrided":
            self._check_view(inputs, settings)
        self._primitives[name] += 1
        siblings = self._count(MAX_NODES)
        if not siblings:
            self._define(id_, self._type())
            return
        ids = [self._id() for _ in range(self._count(MAX_NODES))]
        if self._count(MAX_NODES) != len(ids) or len(ids) != siblings + 1 or id_ not in ids:
            raise _damaged(f"{name} gives another number of arrays than it names")
        shapes = [self._shape() for _ in ids]
        if self._count(MAX_NODES) != len(ids):
            raise _damaged(f"{name} gives another number of arrays than it names")
        for each, shape in zip(ids, shapes, strict=True):
            self._define(each, self._typed(shape))

    def _check_view(self, inputs: list[ArrayType], settings: list[object]) -> None:
        """A view by shape and strides must lie within the array that it is of."""
        shape, strides, offset = settings
        assert isinstance(shape, tuple)
        assert isinstance(strides, tuple)
        assert isinstance(offset, int)
        if len(inputs) != 1 or len(shape) != len(strides) or min(shape, default=0) < 0 or self._shapeless:
            raise _damaged("a view that no array has")
        reaches = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
        first, last = (offset + sum(part for part in reaches if part * sign > 0) for sign in (-1, 1))
        if 0 not in shape and not 0 <= first <= last < prod(inputs[0].shape):
            raise _damaged("a view beyond the array that it is of")

    def _constant(self, id_: int) -> None:
        if id_ in self._arrays:
            raise _damaged("an array is there twice")
        type_ = self._type()
        size = _size_bytes(type_)
        self._take(size)
        self._constants_bytes += size
        self._define(id_, type_)

    def _define(self, id_: int, type_: ArrayType) -> None:
        if self._arrays.setdefault(id_, type_) is not type_:
            raise _damaged("an array is there twice")

    def _known(self, id_: int) -> ArrayType:
        if id_ not in self._arrays:
            raise _damaged("it names an array that is not there")
        return self._arrays[id_]

    # ---- what a file is made of

    def _setting(self, kind: str) -> object:
        match kind:
            case "I":
                return self._many("i")
            case "L":
                return self._many("l")
            case "D":
                return self._typed(())
            case "?":
                return self._flag()
            case _:
                return self._one(kind)

    def _many(self, kind: str) -> tuple[int, ...]:
        raw = self._take(_SIZES[kind] * self._count(MAX_NODES))
        return struct.unpack(f"<{len(raw) // _SIZES[kind]}{'i' if kind == 'i' else 'q'}", raw)

    def _type(self) -> ArrayType:
        return self._typed(self._shape())

    def _typed(self, shape: tuple[int, ...]) -> ArrayType:
        number, size = self._one("i"), self._take(1)[0]
        if not 0 <= number < len(DTYPES) or DTYPES[number][1] != size:
            raise _damaged(f"a dtype {number} of {size} bytes")
        type_ = ArrayType(DTYPES[number][0], shape)
        if _size_bytes(type_) > MAX_ARRAY_BYTES:
            raise PluginError(f"the graph has an array {type_}, larger than the {MAX_ARRAY_BYTES} bytes allowed")
        return type_

    def _shape(self) -> tuple[int, ...]:
        shape = tuple(self._one("i") for _ in range(self._count(MAX_DIMENSIONS)))
        if any(size < 0 for size in shape):
            raise _damaged(f"a shape {shape}")
        return shape

    def _id(self) -> int:
        self._offsets.append(self._at)
        return self._one("u")

    def _count(self, most: int) -> int:
        count = self._one("u")
        if count > most:
            raise _damaged(f"a count of {count}, more than the {most} allowed")
        return count

    def _flag(self) -> bool:
        value = self._take(1)[0]
        if value > 1:
            raise _damaged(f"a byte {value} where 0 or 1 was due")
        return value == 1

    def _text(self) -> str:
        try:
            return self._take(self._count(MAX_TEXT)).decode("ascii")
        except UnicodeDecodeError:
            raise _damaged("a name that is no text") from None

    def _one(self, kind: str) -> int:
        size = _SIZES[kind]
        raw = self._take(size)
        return int.from_bytes(raw, "little", signed=kind in "il")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._raw):
            raise _damaged("it ends early")
        taken = self._raw[self._at : end]
        self._at = end
        return taken


def _size_bytes(type_: ArrayType) -> int:
    return dict(DTYPES)[type_.dtype] * prod(type_.shape)


def _damaged(what: str) -> PluginError:
    return PluginError(f"the graph is damaged: {what}", hint="export the plan again")
