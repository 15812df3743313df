import ctypes
import mmap
import subprocess
import sys
from array import array
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import primep2p
from primep2p import TensorBuffer, concatenate_tensors, create_tensor_buffer, split_tensor, tensor_from_buffer
from primep2p.sdk.dtypes import STORED, DType

DTYPES: tuple[DType, ...] = get_args(DType)
SIZES = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1}
NUMPY = [name for name in DTYPES if name != "bf16"]

pytestmark = pytest.mark.filterwarnings("error")

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensors(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]] = shapes) -> TensorBuffer:
    """Any bits, of any dtype, over memory of which one byte in two cases is not aligned."""
    dtype, sizes, offset = draw(st.sampled_from(DTYPES)), draw(shape), draw(st.integers(0, 1))
    size = prod(sizes) * SIZES[dtype]
    memory = bytearray(draw(st.binary(min_size=size, max_size=size)).rjust(size + offset, b"!"))
    return tensor_from_buffer(memoryview(memory)[offset:], sizes, dtype)


def memory_of(tensor: TensorBuffer) -> np.ndarray:
    return np.frombuffer(tensor.buffer, np.uint8)


def shares(one: TensorBuffer, other: TensorBuffer) -> bool:
    return np.shares_memory(memory_of(one), memory_of(other))


# What a tensor is


@given(tensors())
def test_its_buffer_is_the_bytes_it_was_made_of(tensor: TensorBuffer) -> None:
    assert tensor.num_elements() == prod(tensor.shape)
    assert tensor.byte_size() == prod(tensor.shape) * SIZES[tensor.dtype] == tensor.buffer.nbytes
    assert (tensor.buffer.format, tensor.buffer.ndim) == ("B", 1)
    again = TensorBuffer(tensor.buffer, tensor.shape, tensor.dtype)
    assert (again.shape, again.dtype, again.buffer) == (tensor.shape, tensor.dtype, tensor.buffer)
    assert again.num_elements() == 0 or shares(again, tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_write_to_the_memory_is_in_the_tensor_and_the_other_way_round(dtype: DType) -> None:
    memory = bytearray(SIZES[dtype] * 6)
    tensor = tensor_from_buffer(memory, (2, 3), dtype)
    memory[:] = b"\x01" * len(memory)
    assert set(tensor.buffer) == {1}
    tensor.buffer[0] = 7
    assert memory[0] == 7


def test_read_only_memory_gives_a_read_only_tensor_and_its_copies_are_writable(tmp_path: Path) -> None:
    (tmp_path / "params").write_bytes(b"head" + np.arange(6, dtype="<f4").tobytes())
    with (tmp_path / "params").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tensor = tensor_from_buffer(memoryview(mapped)[4:], (2, 3), "f32")
    for frozen in (tensor, tensor.reshape((6,)), *split_tensor(tensor, 2), tensor_from_buffer(b"abcd", (4,), "u8")):
        assert frozen.buffer.readonly
        assert not np.asarray(frozen).flags.writeable
        assert "read-only" in repr(frozen)
    assert np.shares_memory(memory_of(tensor), np.frombuffer(mapped, np.uint8))
    for copy in (tensor.clone(), concatenate_tensors([tensor]), create_tensor_buffer(tensor)):
        assert not copy.buffer.readonly
        assert copy.buffer == tensor.buffer
    assert tensor.to_f32().flags.writeable
    with pytest.raises(BufferError):
        mapped.close()  # a tensor keeps its memory


@given(tensors(), st.data())
def test_reshape_shares_the_memory(tensor: TensorBuffer, data: st.DataObject) -> None:
    permuted = data.draw(st.permutations(tensor.shape)) if tensor.shape else (1, 1)
    reshaped = tensor.reshape(permuted)
    assert (reshaped.shape, reshaped.dtype, reshaped.buffer) == (tuple(permuted), tensor.dtype, tensor.buffer)
    assert tensor.num_elements() == 0 or shares(reshaped, tensor)


def test_reshape_finds_the_axis_that_is_left_open() -> None:
    tensor = create_tensor_buffer(range(12))
    assert tensor.reshape((-1,)).shape == (12,)
    assert tensor.reshape([3, -1, 2]).shape == (3, 2, 2)
    assert create_tensor_buffer([]).reshape((-1, 3)).shape == (0, 3)
    assert create_tensor_buffer(5).reshape((-1,)).shape == (1,)


@given(tensors())
def test_a_clone_has_equal_bytes_and_memory_of_its_own(tensor: TensorBuffer) -> None:
    clone = tensor.clone()
    assert (clone.shape, clone.dtype, clone.buffer) == (tensor.shape, tensor.dtype, tensor.buffer)
    assert not shares(clone, tensor)
    assert np.asarray(clone).flags.aligned


@given(tensors())
def test_to_f32_and_to_f64_are_copies_of_the_same_shape(tensor: TensorBuffer) -> None:
    copies = tensor.to_f32(), tensor.to_f64()
    for copy, type_ in zip(copies, (np.float32, np.float64), strict=True):
        assert (copy.dtype, copy.shape) == (type_, tensor.shape)
        assert copy.flags.writeable
        assert copy.flags.c_contiguous
        assert not np.shares_memory(copy.reshape(-1).view(np.uint8), memory_of(tensor))


# Conversions, against the definitions


def meaning(bits: int, exponent_bits: int, fraction_bits: int) -> float | Fraction:
    """Of a pattern of an IEEE format."""
    sign = -1 if bits >> (exponent_bits + fraction_bits) else 1
    exponent, fraction = bits >> fraction_bits & (2**exponent_bits - 1), bits & (2**fraction_bits - 1)
    if exponent == 2**exponent_bits - 1:
        return float("nan") if fraction else sign * float("inf")
    lead = Fraction(fraction, 2**fraction_bits) + (exponent > 0)
    return sign * lead * Fraction(2) ** (max(exponent, 1) - 2 ** (exponent_bits - 1) + 1)


@pytest.mark.parametrize(("dtype", "exponent_bits", "fraction_bits"), [("f16", 5, 10), ("bf16", 8, 7)])
def test_every_half_widens_exactly_and_comes_back(dtype: DType, exponent_bits: int, fraction_bits: int) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    tensor = tensor_from_buffer(bits.view(np.uint8), bits.shape, dtype)
    meanings = [meaning(int(one), exponent_bits, fraction_bits) for one in bits]
    number = np.array([one == one for one in meanings])
    for wide in (tensor.to_f32(), tensor.to_f64()):
        assert [one for one in wide.tolist() if one == one] == [one for one in meanings if one == one]
        assert np.isnan(wide[~number]).all()
        back = create_tensor_buffer(wide, dtype=dtype)
        np.testing.assert_array_equal(np.frombuffer(back.buffer, np.uint16)[number], bits[number])
        assert np.isnan(back.to_f32()[~number]).all()


@pytest.mark.parametrize(("dtype", "exponent_bits", "fraction_bits"), [("f16", 5, 10), ("bf16", 8, 7)])
@given(value=st.floats(allow_nan=False) | st.floats(-70000, 70000))
@example(value=2049.0)  # half way between two of f16, the even one below
@example(value=1 + 2**-8 + 2**-40)  # just above the middle of two of bf16: by way of float32 it would be on it
@example(value=65520.0)  # the first that f16 rounds to inf
def test_a_float_becomes_the_nearest_half(dtype: DType, exponent_bits: int, fraction_bits: int, value: float) -> None:
    (found,) = np.frombuffer(create_tensor_buffer([value], dtype=dtype).buffer, np.uint16).tolist()
    largest = (2**exponent_bits - 1) << fraction_bits
    if value == 0 or np.isinf(value):
        assert found & 0x7FFF == (largest if value else 0)
    else:
        magnitude = found & 0x7FFF
        beyond = meaning(largest - 1, exponent_bits, fraction_bits) + Fraction(2) ** (
            2 ** (exponent_bits - 1) - 1 - fraction_bits
        )  # where inf stands in for the next number
        neighbours = [bits for bits in (magnitude - 1, magnitude, magnitude + 1) if 0 <= bits <= largest]

        def distance(bits: int) -> tuple[Fraction, int]:
            at = beyond if bits == largest else meaning(bits, exponent_bits, fraction_bits)
            return abs(Fraction(abs(value)) - Fraction(at)), bits % 2

        assert min(neighbours, key=distance) == magnitude
    assert found >> 15 == int(np.signbit(value))


def test_numbers_in_lists_become_f32_and_arrays_keep_their_type() -> None:
    assert create_tensor_buffer([[1, 2], [3, 4]]).dtype == "f32"
    assert create_tensor_buffer(2.5).shape == ()
    assert create_tensor_buffer([True, False]).to_f32().tolist() == [1, 0]
    assert create_tensor_buffer(array("d", [1.5])).dtype == "f64"
    for name in NUMPY:
        tensor = create_tensor_buffer(np.array([[1, 2, 3]], STORED[name]), (3, 1))
        assert (tensor.dtype, tensor.shape) == (name, (3, 1))
    assert create_tensor_buffer(np.array([1, 2], ">f8")).to_f64().tolist() == [1, 2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_in_any_order_is_copied_in_c_order(dtype: DType) -> None:
    for source in (
        np.arange(6).reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6.0).reshape(2, 3),
    ):
        for laid in (source, np.asfortranarray(source), np.repeat(source, 2, axis=1)[:, ::2]):
            tensor = create_tensor_buffer(laid, (3, 2), dtype)
            assert tensor.to_f64().tolist() == [[0, 1], [2, 3], [4, 5]]
            assert tensor_from_buffer(tensor.buffer, (6,), dtype).to_f64().tolist() == [0, 1, 2, 3, 4, 5]
            assert not np.shares_memory(memory_of(tensor), source)
            kept = create_tensor_buffer(laid, dtype=dtype)  # in the shape that it has
            assert kept.buffer == tensor.buffer
            assert shares(kept, kept)  # its buffer is its memory, not one that was put in order for this look


def is_kept(value: Any, dtype: DType) -> bool:
    """Whether an integer dtype has the number."""
    if value != value or value in (np.inf, -np.inf) or value != int(value):
        return False
    limits = np.iinfo(STORED[dtype])
    return limits.min <= int(value) <= limits.max


@given(tensors(), st.sampled_from([name for name in DTYPES if name[0] in "iu"]))
def test_numbers_become_the_same_integers_or_are_refused(tensor: TensorBuffer, dtype: DType) -> None:
    values = np.asarray(tensor).astype(object)
    if all(is_kept(value, dtype) for value in values.flat):
        made = create_tensor_buffer(tensor, dtype=dtype)
        assert (made.shape, made.dtype) == (tensor.shape, dtype)
        assert np.asarray(made).astype(object).tolist() == values.tolist()
    else:
        with pytest.raises(ValueError, match=f" is no {dtype}: those are whole numbers"):
            create_tensor_buffer(tensor, dtype=dtype)


@given(st.integers(-(2**70), 2**70), st.sampled_from([name for name in DTYPES if name[0] in "iu"]))
@example(2**63, "i64")
@example(-(2**63), "i64")
@example(255, "u8")
@example(-1, "u8")
def test_integers_are_kept_exactly_or_refused(value: int, dtype: DType) -> None:
    info = np.iinfo(STORED[dtype])
    for data in ([value], [float(value)]):
        number = int(data[0])
        if info.min <= number <= info.max:
            assert int(np.asarray(create_tensor_buffer(data, dtype=dtype))[0]) == number
        else:
            with pytest.raises((ValueError, TypeError), match=f"is no {dtype}|at most 64 bits"):
                create_tensor_buffer(data, dtype=dtype)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -np.inf])
def test_what_is_no_whole_number_becomes_no_integer(value: float) -> None:
    with pytest.raises(ValueError, match=f"^{value} is no i64: those are whole numbers from -9223372036854775808 to"):
        create_tensor_buffer([value], dtype="i64")


# Several tensors


@given(tensors(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)), st.data())
def test_what_is_split_and_concatenated_is_as_before(tensor: TensorBuffer, data: st.DataObject) -> None:
    length = tensor.shape[0]
    n = data.draw(st.sampled_from([one for one in range(1, 5) if length % one == 0]))
    parts = split_tensor(tensor, n)
    assert [part.shape for part in parts] == [(length // n, *tensor.shape[1:])] * n
    assert tensor.num_elements() == 0 or all(shares(part, tensor) for part in parts)
    assert b"".join(part.buffer for part in parts) == tensor.buffer
    whole = concatenate_tensors(parts)
    assert (whole.shape, whole.dtype, whole.buffer) == (tensor.shape, tensor.dtype, tensor.buffer)
    assert not shares(whole, tensor)


@given(tensors(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))), st.integers(-3, 2))
def test_concatenation_along_any_axis_is_numpys(tensor: TensorBuffer, axis: int) -> None:
    bits = np.frombuffer(tensor.buffer, f"V{SIZES[tensor.dtype]}").reshape(tensor.shape)
    whole = concatenate_tensors([tensor, tensor.clone(), tensor], axis)
    expected = np.concatenate([bits, bits, bits], axis)
    assert (whole.shape, whole.dtype) == (expected.shape, tensor.dtype)
    assert whole.buffer.tobytes() == expected.tobytes()
    # Transposed so that the axis comes first, the parts are those that were put together.
    again = tensor_from_buffer(
        np.ascontiguousarray(np.moveaxis(expected, axis, 0)).tobytes(), (3, tensor.num_elements()), tensor.dtype
    )
    first = np.ascontiguousarray(np.moveaxis(bits, axis, 0)).tobytes()
    assert [part.buffer.tobytes() for part in split_tensor(again, 3)] == [first] * 3


# Errors: one sentence, with what would be right

f32 = create_tensor_buffer([1, 2, 3, 4])
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: TensorBuffer(bytes(7), (2,), "f32"), ValueError, "the buffer has 7 bytes, and f32 of shape (2,) takes 8"),
    (lambda: TensorBuffer(bytes(4), (2, 2), "f64"), ValueError, "4 bytes, and f64 of shape (2, 2) takes 32"),
    (
        lambda: TensorBuffer(bytes(4), (-1,), "f32"),
        ValueError,
        "shape (-1,) has a negative axis: -1 is for reshape alone",
    ),
    (lambda: TensorBuffer(bytes(4), 1, "f32"), TypeError, "shape is 1, and must be a sequence of ints, such as (2, 3)"),
    (lambda: TensorBuffer(bytes(4), (1.0,), "f32"), TypeError, "shape is (1.0,), and must be a sequence of ints"),
    (lambda: TensorBuffer(bytes(4), (1,), "float32"), ValueError, "there is no dtype 'float32': it is 'f32' here"),
    (lambda: TensorBuffer(bytes(4), (1,), "F32"), ValueError, "it is 'f32' here"),
    (lambda: TensorBuffer(bytes(4), (1,), np.float32), ValueError, "it is 'f32' here"),
    (lambda: TensorBuffer(bytes(4), (1,), np.dtype("f4")), ValueError, "it is 'f32' here"),
    (lambda: TensorBuffer(bytes(2), (1,), "bfloat16"), ValueError, "it is 'bf16' here"),
    (
        lambda: TensorBuffer(bytes(4), (1,), "u32"),
        ValueError,
        "there is no dtype 'u32': there are f16, bf16, f32, f64, i8",
    ),
    (lambda: TensorBuffer(bytes(4), (1,), None), ValueError, "there is no dtype None"),
    (
        lambda: TensorBuffer(np.ones(2, "f4"), (2,), "i32"),
        ValueError,
        "elements of format 'f', not i32: name the dtype",
    ),
    (lambda: TensorBuffer(np.ones(2, ">f4"), (2,), "f32"), ValueError, "elements of format '>f', not f32"),
    (lambda: TensorBuffer(np.array([None]), (1,), "i64"), ValueError, "elements of format 'O', not i64"),
    (
        lambda: TensorBuffer(np.ones(4, "f4")[::2], (2,), "f32"),
        ValueError,
        "has gaps or is not in C order: copy it first",
    ),
    (lambda: TensorBuffer(np.ones((2, 3), "f4").T, (3, 2), "f32"), ValueError, "has gaps or is not in C order"),
    (lambda: TensorBuffer([1, 2], (2,), "f32"), TypeError, "bytes-like object is required"),
    (lambda: TensorBuffer(b"", (0, 2**70), "f32"), ValueError, "no array can have shape (0, 11805"),
    (lambda: TensorBuffer(bytes(1), (1,) * 100, "u8"), ValueError, "no array can have shape (1, 1"),
    (lambda: f32.reshape((3, 2)), ValueError, "4 elements cannot have shape (3, 2), which takes 6"),
    (lambda: f32.reshape((3, -1)), ValueError, "4 elements cannot have shape (3, -1): the other axes take 3 at a time"),
    (lambda: f32.reshape((0, -1)), ValueError, "the other axes take 0 at a time"),
    (lambda: f32.reshape((-1, -1)), ValueError, "leaves more than one axis open: only one may be -1"),
    (lambda: f32.reshape((-2, 2)), ValueError, "shape (-2, 2) has a negative axis"),
    (lambda: f32.reshape("22"), TypeError, "shape is '22'"),
    (lambda: create_tensor_buffer([1, 2, 3], (2, 2)), ValueError, "the data has 3 elements, and shape (2, 2) takes 4"),
    (lambda: create_tensor_buffer([[1, 2], [3]]), ValueError, "the data is a ragged list"),
    (lambda: create_tensor_buffer(["1"]), TypeError, "the data is of type <U1, and must be numbers"),
    (lambda: create_tensor_buffer(b"abcd"), TypeError, "bytes are for tensor_from_buffer"),
    (lambda: create_tensor_buffer([1j]), TypeError, "of type complex128"),
    (lambda: create_tensor_buffer([None]), TypeError, "of type object"),
    (lambda: create_tensor_buffer(np.ones(1, np.uint32)), ValueError, "no dtype has the name of uint32: say which one"),
    (lambda: concatenate_tensors([]), ValueError, "there is no tensor to concatenate"),
    (lambda: concatenate_tensors([f32, f32], 1), ValueError, "of shape (4,) have no axis 1: take an axis from -1 to 0"),
    (
        lambda: concatenate_tensors([f32.reshape(()) for f32 in [create_tensor_buffer(1)]]),
        ValueError,
        "reshape((1,)) first",
    ),
    (
        lambda: concatenate_tensors([f32, create_tensor_buffer([1], dtype="f64")]),
        ValueError,
        "tensor 1 is f64, and tensor 0 f32",
    ),
    (
        lambda: concatenate_tensors([f32.reshape((2, 2)), f32.reshape((4, 1))]),
        ValueError,
        "tensor 1 has shape (4, 1), and tensor 0 (2, 2): along axis 0 only that axis may differ",
    ),
    (
        lambda: concatenate_tensors([f32, f32.reshape((4, 1))]),
        ValueError,
        "tensor 1 has shape (4, 1), and tensor 0 (4,)",
    ),
    (lambda: split_tensor(f32, 3), ValueError, "a first axis of 4 has no 3 equal parts: take a number that divides 4"),
    (lambda: split_tensor(f32, 0), ValueError, "a first axis of 4 has no 0 equal parts"),
    (lambda: split_tensor(create_tensor_buffer(1), 1), ValueError, "a single number has no axis to split"),
]


@pytest.mark.parametrize(("mistake", "kind", "words"), MISTAKES, ids=[words for _, _, words in MISTAKES])
def test_a_mistake_is_one_sentence(mistake: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as raised:
        mistake()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


# Memory that others made


@pytest.mark.parametrize(
    ("memory", "dtype"),
    [
        (array("h", [1, 2]), "i16"),
        (array("q", [1, 2]), "i64"),
        ((ctypes.c_float * 2)(1, 2), "f32"),
        (np.array([1, 2], np.float16), "f16"),
        (np.array([0x3F80, 0x4000], np.uint16), "bf16"),
        (np.array([1, 2], np.int8), "i8"),
        (np.array([1, 2], np.longlong), "i64"),
        (np.array([1, 2], np.float64).view(np.uint8), "f64"),
        (memoryview(bytes([1, 2])).cast("c"), "u8"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_whatever_is_a_buffer_can_be_a_tensor(memory: Any, dtype: DType) -> None:
    assert tensor_from_buffer(memory, (2,), dtype).to_f64().tolist() == [1, 2]


# Out of it


@given(tensors())
def test_numpy_sees_the_memory(tensor: TensorBuffer) -> None:
    seen = np.asarray(tensor)
    assert seen.shape == tensor.shape
    if tensor.dtype == "bf16":
        assert seen.tobytes() == tensor.to_f32().tobytes()
        return
    assert seen.dtype == STORED[tensor.dtype]
    assert seen.tobytes() == tensor.buffer
    assert tensor.num_elements() == 0 or np.shares_memory(seen, memory_of(tensor))
    own = np.array(tensor)
    assert not np.shares_memory(own, memory_of(tensor))
    assert own.flags.writeable


def test_a_view_that_is_made_read_only_leaves_the_tensor_as_it_was() -> None:
    tensor = create_tensor_buffer(range(6), (2, 3))
    for view in (np.asarray(tensor), tensor.__array__()):
        view.flags.writeable = False
    assert not tensor.buffer.readonly


def test_numpys_arguments_are_heeded() -> None:
    tensor, brief = create_tensor_buffer([1.5, 2]), create_tensor_buffer([1.5, 2], dtype="bf16")
    assert np.asarray(tensor, np.float64).tolist() == np.asarray(brief, np.float64).tolist() == [1.5, 2]
    assert tensor.__array__(copy=False).dtype == np.float32
    with pytest.raises(ValueError, match="numpy has no bf16, so its values need a copy"):
        brief.__array__(copy=False)
    with pytest.raises(ValueError):
        tensor.__array__(np.float64, copy=False)
    assert brief.__array__(np.float16, copy=True).dtype == np.float16


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python classes have the buffer protocol from 3.12 on")
def test_a_tensor_is_a_buffer() -> None:
    for dtype in NUMPY:
        tensor = create_tensor_buffer([[1, 2, 3]], dtype=dtype)
        view = memoryview(tensor)
        assert (view.tolist(), view.shape, view.readonly) == ([[1, 2, 3]], (1, 3), False)
        assert TensorBuffer(tensor, (3,), dtype).buffer == tensor.buffer
        assert shares(TensorBuffer(tensor, (3,), dtype), tensor)
    assert memoryview(tensor_from_buffer(b"ab", (2,), "u8")).readonly
    with pytest.raises(BufferError, match="the buffer protocol has no bf16: take the bytes"):
        memoryview(create_tensor_buffer([1], dtype="bf16"))


def test_from_dlpack_shares_the_memory() -> None:
    for dtype in NUMPY:
        tensor = create_tensor_buffer([[1, 2, 3]], dtype=dtype)
        taken = np.from_dlpack(tensor)
        assert (taken.dtype, taken.tolist()) == (STORED[dtype], [[1, 2, 3]])
        assert np.shares_memory(taken, memory_of(tensor))
        assert tensor.__dlpack_device__() == (1, 0)


def test_numpy_refuses_bf16_rather_than_take_its_bits_for_numbers() -> None:
    with pytest.raises((BufferError, RuntimeError), match=r"(?i)unsupported dtype"):
        np.from_dlpack(create_tensor_buffer([1], dtype="bf16"))


class Head(ctypes.Structure):
    """A DLTensor, as dlpack.h has it."""

    _fields_ = (
        ("at", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


def head_of(capsule: Any, name: bytes, at: int) -> Head:
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return Head.from_address(pointer(capsule, name) + at)


versioned = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="numpy knows DLPack 1.0 from 2.1 on"
)


@pytest.mark.parametrize(
    ("asked", "name", "at"),
    [
        pytest.param({}, b"dltensor", 0, id="before 1.0"),
        pytest.param({"max_version": (1, 0)}, b"dltensor_versioned", 32, id="1.0", marks=versioned),
    ],
)
def test_a_capsule_of_bf16_says_so_and_points_at_the_memory(asked: dict[str, Any], name: bytes, at: int) -> None:
    tensor = create_tensor_buffer([[1, 2, 3], [4, 5, 6]], dtype="bf16")
    capsule = tensor.__dlpack__(**asked)
    head = head_of(capsule, name, at)
    assert (head.code, head.bits, head.lanes, list(head.device)) == (4, 16, 1, [1, 0])  # kDLBfloat on kDLCPU
    assert head.shape[: head.ndim] == [2, 3]
    assert head.at + head.offset == memory_of(tensor).ctypes.data


@versioned
def test_dlpack_of_read_only_memory_says_so_or_is_refused() -> None:
    for dtype in DTYPES:
        tensor = tensor_from_buffer(bytes(8), (8 // SIZES[dtype],), dtype)
        with pytest.raises(BufferError, match=r"read-only, and DLPack before 1.0 cannot say so: give tensor.clone\(\)"):
            tensor.__dlpack__()
        flags = head_of(tensor.__dlpack__(max_version=(1, 0)), b"dltensor_versioned", 24)
        assert ctypes.c_uint64.from_buffer(flags).value == 1  # DLPACK_FLAG_BITMASK_READ_ONLY
        assert tensor.__dlpack__(copy=True)
    assert not np.from_dlpack(tensor_from_buffer(bytes(8), (2,), "f32")).flags.writeable


def test_dlpack_of_memory_that_is_not_aligned_is_refused() -> None:
    tensor = tensor_from_buffer(memoryview(bytearray(9))[1:], (2,), "f32")
    with pytest.raises(BufferError, match=r"not aligned for f32, as DLPack needs: give tensor.clone\(\)"):
        tensor.__dlpack__()
    assert np.from_dlpack(tensor.clone()).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_mlx_takes_every_dtype(dtype: DType) -> None:
    mx = pytest.importorskip("mlx.core")
    names = {"f": "float", "b": "bfloat", "i": "int", "u": "uint"}
    taken = mx.from_dlpack(create_tensor_buffer([[1, 2, 3]], dtype=dtype))
    if dtype != "f64":
        assert taken.dtype == getattr(mx, f"{names[dtype[0]]}{dtype.lstrip('bfiu')}")
    assert taken.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_takes_every_dtype_and_shares_the_memory(dtype: DType) -> None:
    torch = pytest.importorskip("torch")
    tensor = create_tensor_buffer([[1, 2, 3]], dtype=dtype)
    taken = torch.from_dlpack(tensor)
    assert taken.dtype == getattr(torch, {"b": "bfloat16", "u": "uint8"}.get(dtype[0], STORED[dtype].name))
    assert taken.tolist() == [[1, 2, 3]]
    taken[0, 0] = 7
    assert tensor.to_f64()[0, 0] == 7


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name not in ("f64", "i64")])  # it makes 32 bits of those
def test_jax_takes_every_dtype(dtype: DType) -> None:
    jnp = pytest.importorskip("jax.numpy")
    taken = jnp.from_dlpack(create_tensor_buffer([[1, 2, 3]], dtype=dtype))
    assert str(taken.dtype) == ("bfloat16" if dtype == "bf16" else STORED[dtype].name)
    assert taken.tolist() == [[1, 2, 3]]


# The package


def test_the_names_are_public_and_bring_numpy_only_when_asked_for() -> None:
    names = {"TensorBuffer", "concatenate_tensors", "create_tensor_buffer", "split_tensor", "tensor_from_buffer"}
    assert names < set(primep2p.__all__)
    code = (
        "import sys, primep2p; print('numpy' in sys.modules); primep2p.TensorBuffer; "
        "print('numpy' in sys.modules, 'trio' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True", "False"]


def test_every_public_name_is_there() -> None:
    for name in primep2p.__all__:
        assert getattr(primep2p, name) is not None
    with pytest.raises(AttributeError, match="module 'primep2p' has no attribute 'Tensor'"):
        primep2p.Tensor  # noqa: B018
