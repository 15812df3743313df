"""A delta's file: one form for each wire, to the byte; everything else is its maker's fault."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from primep2p.kernels.arrays import Array, Span
from primep2p.kernels.compress import INT8_BLOCK, LARGEST_SCALE
from primep2p.model.errors import PeerError, StoreError
from primep2p.model.pipeline import Bfloat16, Float32, Int8, TopK, Wire
from primep2p.model.records import TensorSpec
from primep2p.store.deltas import check_delta, columns_of, delta_bytes, map_delta, write_delta
from primep2p.store.tensors import write_tensors

TENSORS = (
    TensorSpec("z.weight", "float32", (300, 31)),
    TensorSpec("a.bias", "float32", (5,)),
    TensorSpec("größe", "float32", ()),
    TensorSpec("empty", "float32", (0, 4)),
)
COLUMNS = 300 * 31 + 5 + 1
WIRES: tuple[Wire, ...] = (Float32(), Bfloat16(), Int8(), TopK("0.1"))

of_each = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: type(wire).__name__)


def values() -> Array:
    return np.random.default_rng(0).standard_normal(COLUMNS).astype(np.float32)


def written(path: Path, wire: Wire, row: Array | None = None) -> Path:
    write_delta(path, Span(values() if row is None else row), wire, TENSORS)
    return path


def read(path: Path, wire: Wire) -> Array:
    return map_delta(path, wire, TENSORS).read(0, COLUMNS)


@of_each
def test_what_was_written_is_read(tmp_path: Path, wire: Wire) -> None:
    path = written(tmp_path / "delta", wire)
    check_delta(path, wire, TENSORS)
    row = map_delta(path, wire, TENSORS)
    assert len(row) == COLUMNS == columns_of(TENSORS)
    assert path.stat().st_size == delta_bytes(wire, TENSORS)
    assert path.stat().st_mode & 0o777 == 0o600
    decoded = row.read(0, COLUMNS)
    match wire:
        case Float32():
            assert np.array_equal(decoded, values())
        case Bfloat16():
            np.testing.assert_allclose(decoded, values(), rtol=2**-8)
        case Int8():
            np.testing.assert_allclose(decoded, values(), atol=float(np.abs(values()).max()) / 250)
        case TopK():
            kept = decoded != 0
            assert np.count_nonzero(kept) == COLUMNS // 10
            assert np.array_equal(decoded[kept], values()[kept])
            assert np.abs(values()[~kept]).max() <= np.abs(decoded[kept]).min()


def test_a_float32_delta_is_the_canonical_file_of_the_tensors(tmp_path: Path) -> None:
    arrays, place = [], 0
    for tensor in TENSORS:
        size = columns_of((tensor,))
        arrays.append(values()[place : place + size].reshape(tensor.shape))
        place += size
    write_tensors(tmp_path / "canonical", TENSORS, arrays)
    assert written(tmp_path / "delta", Float32()).read_bytes() == (tmp_path / "canonical").read_bytes()


@pytest.mark.parametrize(
    ("wire", "digest"),
    [
        (Float32(), "b3c3bf4d629b6d5a0756d945ccd583ba2f27089e4b4f5c1f2516c5db821c552c"),
        (Bfloat16(), "251febe61ab947d5700b0f36dbeab252e3614e2257fb822fbe6f4cdd447b8359"),
        (Int8(), "8d819b178e5fa57a3e1852d5a4b29b6106a368a29520ff459ec8d5ab0aea4912"),
        (TopK("0.1"), "dc22a96a59e3efb129ab22d40d5920632d92ed4c2e189996d3ea1d792bee6258"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_bytes_of_a_delta_never_change(tmp_path: Path, wire: Wire, digest: str) -> None:
    """On any machine: what goes in is made by integer arithmetic."""
    bits = np.arange(COLUMNS, dtype=np.uint32) * np.uint32(2_654_435_761)
    row = ((bits & np.uint32(0x80FFFFFF)) | np.uint32(0x3C000000)).view(np.float32)
    assert sha256(written(tmp_path / "delta", wire, row).read_bytes()).hexdigest() == digest


def test_other_tools_read_what_we_write(tmp_path: Path) -> None:
    small = load_file(written(tmp_path / "int8", Int8()))
    assert {name: (array.dtype.name, array.shape) for name, array in small.items()} == {
        "scales": ("float32", (2,)),
        "values": ("int8", (COLUMNS,)),
    }
    few = load_file(written(tmp_path / "topk", TopK("0.1")))
    assert {name: (array.dtype.name, array.shape) for name, array in few.items()} == {
        "indices": ("uint32", (COLUMNS // 10,)),
        "values": ("float32", (COLUMNS // 10,)),
    }
    with safe_open(written(tmp_path / "bf16", Bfloat16()), "numpy") as file:
        assert file.get_slice("values").get_dtype() == "BF16"
        assert file.get_slice("values").get_shape() == [COLUMNS]


@of_each
def test_a_file_of_another_form_is_refused(tmp_path: Path, wire: Wire) -> None:
    for other in WIRES:
        path = written(tmp_path / "delta", other)
        if other == wire:
            continue
        for function in (map_delta, check_delta):
            with pytest.raises(PeerError, match="the file"):
                function(path, wire, TENSORS)


@of_each
def test_a_file_of_another_size_is_refused(tmp_path: Path, wire: Wire) -> None:
    raw = written(tmp_path / "delta", wire).read_bytes()
    for changed in (raw[:-1], raw + b"\0", b"", raw[:8], b"\xff" * 64):
        (tmp_path / "delta").write_bytes(changed)
        with pytest.raises(
            PeerError, match=f"has {len(changed)} bytes, and in the form that this run wants {len(raw)}"
        ):
            map_delta(tmp_path / "delta", wire, TENSORS)


@of_each
def test_every_byte_of_the_header_counts(tmp_path: Path, wire: Wire) -> None:
    """Other spellings of the same tensors are other bytes under another name: there is one for everybody."""
    path = written(tmp_path / "delta", wire)
    raw = path.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    for place in range(header):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(PeerError, match="header"):
            map_delta(path, wire, TENSORS)


def spoiled(path: Path, wire: Wire, part: str, place: int, value: Any) -> Path:
    """One value of a good file replaced."""
    raw = bytearray(written(path, wire).read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    if isinstance(wire, Int8):
        start, dtype = {"scales": (0, "<f4"), "values": (8, "i1")}[part]
    elif isinstance(wire, TopK):
        start, dtype = {"indices": (0, "<u4"), "values": (4 * (COLUMNS // 10), "<f4")}[part]
    else:
        start, dtype = 0, {"Float32": "<f4", "Bfloat16": "<u2"}[type(wire).__name__]
    bytes_ = np.array(value, dtype).tobytes()
    first = header + start + place * len(bytes_)
    raw[first : first + len(bytes_)] = bytes_
    path.write_bytes(raw)
    return path


FEW = TopK("0.1")
LAST = COLUMNS // 10 - 1


@pytest.mark.parametrize(
    ("wire", "part", "place", "value", "fault"),
    [
        (Float32(), "", COLUMNS - 1, np.nan, "not finite"),
        (Float32(), "", 0, -np.inf, "not finite"),
        (Bfloat16(), "", 7, 0x7F80, "not finite"),
        (Bfloat16(), "", COLUMNS - 1, 0xFFC0, "not finite"),
        (Int8(), "scales", 1, np.nan, "scale"),
        (Int8(), "scales", 0, np.inf, "scale"),
        (Int8(), "scales", 0, -0.5, "scale"),
        (Int8(), "scales", 1, np.nextafter(LARGEST_SCALE, np.float32(np.inf)), "scale"),
        (Int8(), "values", COLUMNS - 1, -128, "-128"),
        (FEW, "values", 5, np.inf, "not finite"),
        (FEW, "values", LAST, np.nan, "not finite"),
        (FEW, "indices", LAST, COLUMNS, "beyond"),
        (FEW, "indices", LAST, 2**32 - 1, "beyond"),
        (FEW, "indices", LAST, 0, "ascend"),
        (FEW, "indices", 0, COLUMNS - 1, "ascend"),
    ],
)
def test_what_no_delta_may_hold_is_found(
    tmp_path: Path, wire: Wire, part: str, place: int, value: Any, fault: str
) -> None:
    path = spoiled(tmp_path / "delta", wire, part, place, value)
    map_delta(path, wire, TENSORS)
    with pytest.raises(PeerError, match=fault):
        check_delta(path, wire, TENSORS)


def test_the_same_index_twice_is_refused(tmp_path: Path) -> None:
    first = int(np.flatnonzero(read(written(tmp_path / "delta", FEW), FEW))[0])
    with pytest.raises(PeerError, match="ascend"):
        check_delta(spoiled(tmp_path / "delta", FEW, "indices", 1, first), FEW, TENSORS)


def test_the_largest_scale_is_allowed(tmp_path: Path) -> None:
    path = spoiled(tmp_path / "delta", Int8(), "scales", 0, LARGEST_SCALE)
    check_delta(path, Int8(), TENSORS)
    assert np.isfinite(read(path, Int8())).all()


def test_topk_of_more_values_than_indices_name_is_refused(tmp_path: Path) -> None:
    vast = (TensorSpec("w", "float32", (2**32 + 1,)),)
    for function in (map_delta, check_delta):
        with pytest.raises(PeerError, match="4294967297"):
            function(tmp_path / "absent", FEW, vast)
    with pytest.raises(PeerError, match="topk"):
        delta_bytes(FEW, vast)
    assert delta_bytes(Bfloat16(), vast) > 2**33


@of_each
def test_a_run_without_values_has_deltas_too(tmp_path: Path, wire: Wire) -> None:
    nothing = (TensorSpec("none", "float32", (0, 3)),)
    write_delta(tmp_path / "delta", Span(np.empty(0, np.float32)), wire, nothing)
    check_delta(tmp_path / "delta", wire, nothing)
    assert len(map_delta(tmp_path / "delta", wire, nothing)) == 0


@of_each
def test_a_disk_that_fails_is_named_and_nothing_is_left(tmp_path: Path, wire: Wire) -> None:
    with pytest.raises(StoreError, match="absent"):
        written(tmp_path / "absent" / "delta", wire)
    with pytest.raises(StoreError, match="absent"):
        map_delta(tmp_path / "absent", wire, TENSORS)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"No space|Illegal seek"):
        written(tmp_path / "full", wire)
    assert not (tmp_path / "full").is_symlink()


@of_each
def test_a_row_of_another_length_is_a_mistake_of_ours(tmp_path: Path, wire: Wire) -> None:
    with pytest.raises(ValueError, match="a row of 3 values"):
        write_delta(tmp_path / "delta", Span(np.zeros(3, np.float32)), wire, TENSORS)
    assert not (tmp_path / "delta").exists()


def test_pieces_and_blocks_meet(tmp_path: Path) -> None:
    """More than one piece of what is written at a time, and a ragged end."""
    columns = 2**20 + INT8_BLOCK + 3
    tensors = (TensorSpec("w", "float32", (columns,)),)
    row = np.random.default_rng(1).standard_normal(columns).astype(np.float32)
    for wire in WIRES:
        write_delta(tmp_path / "delta", Span(row), wire, tensors)
        check_delta(tmp_path / "delta", wire, tensors)
        decoded = map_delta(tmp_path / "delta", wire, tensors).read(2**20 - 5, columns)
        if not isinstance(wire, TopK):
            np.testing.assert_allclose(decoded, row[2**20 - 5 :], atol=0.03)


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(FINITE, max_size=30), st.sampled_from(WIRES))
def test_every_finite_row_makes_a_delta_that_all_accept(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[float], wire: Wire
) -> None:
    path = tmp_path_factory.mktemp("round") / "delta"
    tensors = (TensorSpec("w", "float32", (len(drawn),)),)
    write_delta(path, Span(np.array(drawn, np.float32)), wire, tensors)
    check_delta(path, wire, tensors)
    decoded = map_delta(path, wire, tensors).read(0, len(drawn))
    assert np.isfinite(decoded).all()
    again = path.with_name("again")
    write_delta(again, Span(decoded), wire, tensors)
    if isinstance(wire, Float32 | Bfloat16):  # of the others zeros may be kept, and scales rounded, otherwise
        assert again.read_bytes() == path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(WIRES))
def test_a_spoiled_file_is_refused_or_is_finite(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, wire: Wire
) -> None:
    path = tmp_path_factory.mktemp("spoiled") / "delta"
    raw = bytearray(written(path, wire).read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(header, len(raw) - 1))] = data.draw(st.sampled_from([0, 0x7F, 0x80, 0xFF]))
    path.write_bytes(raw)
    try:
        check_delta(path, wire, TENSORS)
    except PeerError:
        return
    assert np.isfinite(read(path, wire)).all()
