"""TensorBuffer: memory with a shape and a type, shared and not copied wherever that can be.

>>> from primep2p import TensorBuffer, concatenate_tensors, create_tensor_buffer, split_tensor, tensor_from_buffer
>>> gradient = create_tensor_buffer([1, 2, 3, 4, 5, 6], (2, 3))
>>> gradient
TensorBuffer(f32, shape (2, 3), 24 bytes)
>>> gradient.reshape((3, -1)).shape
(3, 2)
"""

from collections.abc import Sequence
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from primep2p.kernels import bfloat16
from primep2p.sdk.dlpack import as_bf16
from primep2p.sdk.dtypes import NAMES, STORED, DType, converted, may_hold, named

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "DType",
    "TensorBuffer",
    "concatenate_tensors",
    "create_tensor_buffer",
    "split_tensor",
    "tensor_from_buffer",
]


class TensorBuffer:
    """`buffer` as a tensor of `shape` and `dtype`: the same memory, nothing is copied.

    `buffer` is whatever has Python's buffer protocol and lies in one piece: bytes, bytearray, memoryview, mmap, a numpy
    array. Its bytes are elements in C order, little-endian; bf16 is the upper half of a float32. Memory that says what
    it holds must hold `dtype` (bf16: 16-bit unsigned integers); bytes are taken at your word.

    A tensor is as writable as its memory: over bytes or a file that is mapped to be read it is read-only, over a
    bytearray or an array whoever writes to one sees it in the other; `buffer.readonly` tells. Copies (`clone`,
    `to_f32`, `to_f64`, create_tensor_buffer, concatenate_tensors) are always writable and nobody else's; `reshape` and
    split_tensor share. Shape and dtype never change. As long as a tensor lives its memory does: a bytearray cannot be
    resized, nor a mmap closed.

    Out of it, without a copy, on every Python: `buffer`, `np.asarray(tensor)`, and DLPack (`np.from_dlpack(tensor)`,
    `torch.from_dlpack(tensor)`). From Python 3.12 on it has the buffer protocol itself, so that `memoryview(tensor)`
    and `file.write(tensor)` work; on 3.11, where no Python class can have it, say `tensor.buffer`.

    numpy has no bf16. `np.asarray` of a bf16 tensor is therefore a float32 copy of the values, which is exact,
    `memoryview` refuses, and DLPack says bf16, which MLX, torch and jax take and numpy refuses.
    `np.frombuffer(tensor.buffer, np.uint16)` has the bits.

    >>> memory = bytearray(8)
    >>> tensor = TensorBuffer(memory, (2, 2), "i16")
    >>> memory[0] = 7
    >>> np.asarray(tensor)
    array([[7, 0],
           [0, 0]], dtype=int16)
    >>> TensorBuffer(b"abc", (1,), "f32")
    Traceback (most recent call last):
    ValueError: the buffer has 3 bytes, and f32 of shape (1,) takes 4
    """

    __slots__ = ("__weakref__", "_dtype", "_values")

    def __init__(self, buffer: "ReadableBuffer", shape: Sequence[int], dtype: DType) -> None:
        self._dtype = named(dtype)
        stored, sizes = STORED[self._dtype], _shape(shape)
        memory = memoryview(buffer)
        if not memory.c_contiguous:
            raise ValueError("the buffer has gaps or is not in C order: copy it first, np.ascontiguousarray(buffer)")
        if not may_hold(memory, stored):
            raise ValueError(
                f"the buffer holds elements of format {memory.format!r}, not {self._dtype}: name the dtype they have, "
                "give their bytes (.view(np.uint8)), or convert them with create_tensor_buffer"
            )
        if memory.nbytes != (wanted := prod(sizes) * stored.itemsize):
            raise ValueError(f"the buffer has {memory.nbytes} bytes, and {self._dtype} of shape {sizes} takes {wanted}")
        self._values: npt.NDArray[Any] = _reshaped(np.frombuffer(memory, np.uint8).view(stored), sizes)

    @classmethod
    def _of(cls, values: npt.NDArray[Any], dtype: DType) -> Self:
        """A tensor over an array in C order that has the stored type already."""
        tensor = cls.__new__(cls)
        tensor._values, tensor._dtype = values, dtype
        return tensor

    @property
    def buffer(self) -> memoryview:
        """The bytes, one after the other; writable where the memory is.

        >>> create_tensor_buffer([1, 258], dtype="i16").buffer.tobytes()
        b'\\x01\\x00\\x02\\x01'
        """
        return self._values.reshape(-1).view(np.uint8).data

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each axis; () for a single number.

        >>> create_tensor_buffer([[1, 2, 3]]).shape
        (1, 3)
        """
        return self._values.shape

    @property
    def dtype(self) -> DType:
        """f16, bf16, f32, f64, i8, i16, i32, i64 or u8.

        >>> create_tensor_buffer([1.5]).dtype
        'f32'
        """
        return self._dtype

    def num_elements(self) -> int:
        """How many numbers it has.

        >>> create_tensor_buffer([[1, 2, 3], [4, 5, 6]]).num_elements()
        6
        """
        return self._values.size

    def byte_size(self) -> int:
        """How many bytes they take.

        >>> create_tensor_buffer([[1, 2, 3], [4, 5, 6]], dtype="bf16").byte_size()
        12
        """
        return self._values.nbytes

    def reshape(self, shape: Sequence[int]) -> "TensorBuffer":
        """The same memory in another shape. One axis may be -1: as many as are left.

        >>> create_tensor_buffer(range(6)).reshape((2, -1)).shape
        (2, 3)
        """
        sizes = _inferred(_shape(shape, may_infer=True), self.num_elements())
        if prod(sizes) != self.num_elements():
            raise ValueError(f"{self.num_elements()} elements cannot have shape {sizes}, which takes {prod(sizes)}")
        return TensorBuffer._of(_reshaped(self._values, sizes), self._dtype)

    def to_f32(self) -> npt.NDArray[np.float32]:
        """A float32 array of the same shape, always a copy: exact from f16, bf16, i8, i16 and u8, else rounded to the
        nearest; what is too large becomes inf.

        >>> create_tensor_buffer([1.5, -2], dtype="bf16").to_f32()
        array([ 1.5, -2. ], dtype=float32)
        """
        if self._dtype == "bf16":
            return bfloat16.to_float32(self._values)
        with np.errstate(all="ignore"):
            return self._values.astype(np.float32)

    def to_f64(self) -> npt.NDArray[np.float64]:
        """A float64 array of the same shape, always a copy: exact but for i64 beyond 2**53, rounded to the nearest.

        >>> create_tensor_buffer([1.5, -2], dtype="f16").to_f64()
        array([ 1.5, -2. ])
        """
        values = bfloat16.to_float32(self._values) if self._dtype == "bf16" else self._values
        with np.errstate(all="ignore"):  # a signalling NaN
            return values.astype(np.float64)

    def clone(self) -> "TensorBuffer":
        """A copy, bit by bit, in memory of its own.

        >>> frozen = tensor_from_buffer(bytes(4), (1,), "f32")
        >>> frozen.buffer.readonly, frozen.clone().buffer.readonly
        (True, False)
        """
        return TensorBuffer._of(self._values.copy(), self._dtype)

    def __repr__(self) -> str:
        frozen = ", read-only" if not self._values.flags.writeable else ""
        return f"TensorBuffer({self._dtype}, shape {self.shape}, {self.byte_size()} bytes{frozen})"

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """For np.asarray: the same memory; of bf16 a float32 copy, which `copy=False` refuses."""
        if self._dtype == "bf16":
            if copy is False:
                raise ValueError("numpy has no bf16, so its values need a copy: leave out copy=False")
            return self.to_f32() if dtype is None else self.to_f32().astype(dtype, copy=False)
        return np.array(self._values.view(), dtype=dtype, copy=copy)

    def __buffer__(self, flags: int) -> memoryview:
        """For memoryview and all that takes one, from Python 3.12 on; not of bf16, for which buffers have no format."""
        if self._dtype == "bf16":
            raise BufferError("the buffer protocol has no bf16: take the bytes, tensor.buffer")
        return self._values.data

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """For from_dlpack: a capsule of the same memory, of `copy=True` a copy.

        Only DLPack 1.0 can say that memory is read-only: whoever asks for less must be given a clone.
        """
        if not copy and not self._values.flags.aligned:
            raise BufferError(f"the memory is not aligned for {self._dtype}, as DLPack needs: give tensor.clone()")
        if not (copy or self._values.flags.writeable or (max_version and max_version >= (1, 0))):
            raise BufferError("the memory is read-only, and DLPack before 1.0 cannot say so: give tensor.clone()")
        asked: dict[str, Any] = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        capsule = self._values.__dlpack__(**{name: value for name, value in asked.items() if value is not None})
        return as_bf16(capsule) if self._dtype == "bf16" else capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU."""
        return (1, 0)


def tensor_from_buffer(buffer: "ReadableBuffer", shape: Sequence[int], dtype: DType) -> TensorBuffer:
    """`buffer` as a tensor, without a copy: another name of `TensorBuffer(buffer, shape, dtype)`.

    >>> tensor_from_buffer(bytes(8), (2,), "f32")
    TensorBuffer(f32, shape (2,), 8 bytes, read-only)
    """
    return TensorBuffer(buffer, shape, dtype)


def create_tensor_buffer(
    data: npt.ArrayLike | TensorBuffer, shape: Sequence[int] | None = None, dtype: DType | None = None
) -> TensorBuffer:
    """A new tensor with the numbers of `data`, copied: numbers in (nested) lists, an array, or a tensor.

    `shape` defaults to that of `data`; another one takes the elements in C order. `dtype` defaults to that of an array
    or tensor, and is f32 for lists. Floats are rounded to the nearest, ties to even, and inf where they are too large;
    integers must be exact: a number that an integer dtype does not have is a ValueError.

    >>> create_tensor_buffer([1, 2, 3, 4], (2, 2))
    TensorBuffer(f32, shape (2, 2), 16 bytes)
    >>> create_tensor_buffer(create_tensor_buffer([0.1]), dtype="bf16").to_f64()
    array([0.10009766])
    >>> create_tensor_buffer([1, 300], dtype="u8")
    Traceback (most recent call last):
    ValueError: 300 is no u8: those are whole numbers from 0 to 255
    """
    numbers, held = _numbers(data)
    wanted = named(dtype) if dtype is not None else held
    if wanted is None:
        raise ValueError(f"no dtype has the name of {numbers.dtype}: say which one it shall be, such as dtype='f32'")
    sizes = numbers.shape if shape is None else _shape(shape)
    if prod(sizes) != numbers.size:
        raise ValueError(f"the data has {numbers.size} elements, and shape {sizes} takes {prod(sizes)}")
    return TensorBuffer._of(_reshaped(converted(numbers, wanted), sizes), wanted)


def concatenate_tensors(tensors: Sequence[TensorBuffer], axis: int = 0) -> TensorBuffer:
    """One new tensor of several, one after the other along `axis` (-1: the last). They have one dtype and, on all other
    axes, one shape.

    >>> row = create_tensor_buffer([[1, 2]])
    >>> concatenate_tensors([row, row]).shape, concatenate_tensors([row, row], axis=1).shape
    ((2, 2), (1, 4))
    """
    if not tensors:
        raise ValueError("there is no tensor to concatenate: give at least one")
    first = tensors[0]
    axes = len(first.shape)
    if not -axes <= axis < axes:
        right = f"an axis from {-axes} to {axes - 1}" if axes else "tensor.reshape((1,)) first"
        raise ValueError(f"tensors of shape {first.shape} have no axis {axis}: take {right}")
    axis %= axes
    for number, tensor in enumerate(tensors):
        if tensor.dtype != first.dtype:
            raise ValueError(
                f"tensor {number} is {tensor.dtype}, and tensor 0 {first.dtype}: convert one of them with "
                "create_tensor_buffer(tensor, dtype=...)"
            )
        if tensor.shape[:axis] + tensor.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :] or (
            len(tensor.shape) != axes
        ):
            raise ValueError(
                f"tensor {number} has shape {tensor.shape}, and tensor 0 {first.shape}: along axis {axis} "
                "only that axis may differ"
            )
    return TensorBuffer._of(np.concatenate([tensor._values for tensor in tensors], axis), first.dtype)


def split_tensor(tensor: TensorBuffer, n: int) -> list[TensorBuffer]:
    """`n` equal parts along the first axis, which `n` must divide; they share the tensor's memory.

    >>> split_tensor(create_tensor_buffer(range(6)), 3)[2].to_f32()
    array([4., 5.], dtype=float32)
    """
    if not tensor.shape:
        raise ValueError("a single number has no axis to split: tensor.reshape((1,)) first")
    length = tensor.shape[0]
    if n < 1 or length % n:
        raise ValueError(f"a first axis of {length} has no {n} equal parts: take a number that divides {length}")
    size = length // n
    return [TensorBuffer._of(tensor._values[part * size : (part + 1) * size], tensor.dtype) for part in range(n)]


def _shape(shape: Sequence[int], *, may_infer: bool = False) -> tuple[int, ...]:
    try:
        sizes = tuple(index(size) for size in shape)
    except TypeError:
        raise TypeError(f"shape is {shape!r}, and must be a sequence of ints, such as (2, 3)") from None
    if any(size < (-1 if may_infer else 0) for size in sizes):
        raise ValueError(f"shape {sizes} has a negative axis" + ("" if may_infer else ": -1 is for reshape alone"))
    return sizes


def _inferred(sizes: tuple[int, ...], elements: int) -> tuple[int, ...]:
    """`sizes` with a number for the -1 in it."""
    if -1 not in sizes:
        return sizes
    others = prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1:
        raise ValueError(f"shape {sizes} leaves more than one axis open: only one may be -1")
    if not others or elements % others:
        raise ValueError(f"{elements} elements cannot have shape {sizes}: the other axes take {others} at a time")
    return tuple(elements // others if size == -1 else size for size in sizes)


def _reshaped(values: npt.NDArray[Any], sizes: tuple[int, ...]) -> npt.NDArray[Any]:
    """A view, because `values` are in C order and as many as `sizes` take."""
    try:
        return values.reshape(sizes)
    except (ValueError, OverflowError) as error:  # too many axes; zero elements, and other axes too long
        raise ValueError(f"no array can have shape {sizes}: {error}") from None


def _numbers(data: npt.ArrayLike | TensorBuffer) -> tuple[npt.NDArray[Any], DType | None]:
    """The data as an array, and the dtype that this is without more; None where there is none."""
    if isinstance(data, TensorBuffer):
        return np.asarray(data), data.dtype
    try:
        numbers = np.asarray(data)
    except ValueError:
        raise ValueError("the data is a ragged list: give lists of one length on each axis") from None
    if numbers.dtype.kind not in "biuf" or numbers.dtype.itemsize > 8:
        raise TypeError(
            f"the data is of type {numbers.dtype}, and must be numbers of at most 64 bits; "
            "bytes are for tensor_from_buffer"
        )
    if isinstance(data, (list, tuple, range, int, float)):
        return numbers, "f32"
    return numbers, NAMES.get(numbers.dtype.name)
