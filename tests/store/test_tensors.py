import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from primep2p.model.errors import PeerError, StoreError
from primep2p.model.records import TensorSpec
from primep2p.store.tensors import canonical_header, map_tensors, write_tensors, writing

TENSORS = (
    TensorSpec("z.weight", "float32", (3, 5)),
    TensorSpec("a.bias", "float32", (5,)),
    TensorSpec("größe", "float32", ()),
    TensorSpec("empty", "float32", (0, 4)),
)


def filled(tensors: tuple[TensorSpec, ...]) -> list[npt.NDArray[np.float32]]:
    return [
        np.arange(index, index + np.prod(tensor.shape, dtype=int), dtype=np.float32).reshape(tensor.shape)
        for index, tensor in enumerate(tensors)
    ]


def write(path: Path, header: object, data: bytes, *, blanks: int = 0) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + blanks)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_what_was_written_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "tensors"
    write_tensors(path, TENSORS, filled(TENSORS))
    mapped = map_tensors(path, TENSORS)
    for array, expected in zip(mapped, filled(TENSORS), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.shape == expected.shape
        assert not array.flags.writeable
        assert array.dtype == np.float32
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_tools_read_what_we_write(tmp_path: Path) -> None:
    write_tensors(tmp_path / "tensors", TENSORS, filled(TENSORS))
    found = load_file(tmp_path / "tensors")
    assert found.keys() == {tensor.name for tensor in TENSORS}
    for tensor, expected in zip(TENSORS, filled(TENSORS), strict=True):
        np.testing.assert_array_equal(found[tensor.name], expected)


def test_we_read_what_other_tools_write(tmp_path: Path) -> None:
    tensors = (TENSORS[0], TENSORS[1], TENSORS[3])
    arrays = {tensor.name: array for tensor, array in zip(tensors, filled(tensors), strict=True)}
    save_file(arrays, tmp_path / "tensors", metadata={"made": "elsewhere"})
    for array, expected in zip(map_tensors(tmp_path / "tensors", tensors), filled(tensors), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_the_canonical_bytes_never_change(tmp_path: Path) -> None:
    write_tensors(tmp_path / "tensors", TENSORS, filled(TENSORS))
    raw = (tmp_path / "tensors").read_bytes()
    assert raw.startswith(
        b'\x00\x01\0\0\0\0\0\0{"z.weight":{"dtype":"F32","shape":[3,5],"data_offsets":[0,60]},'
        b'"a.bias":{"dtype":"F32","shape":[5],"data_offsets":[60,80]},"gr\\u00f6\\u00dfe":'
    )
    assert (len(raw) - sum(array.nbytes for array in filled(TENSORS))) % 8 == 0
    assert sha256(raw).hexdigest() == "7a6b7f359c2414c929007074b41ef6f9815462e2fb09bbbae1934d54e3edac11"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 11), max_size=10))
def test_pieces_change_no_byte(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    directory = tmp_path_factory.mktemp("pieces")
    write_tensors(directory / "whole", TENSORS, filled(TENSORS))
    flat = np.concatenate([array.reshape(-1) for array in filled(TENSORS)])
    with writing(directory / "pieces", TENSORS) as writer:
        for size in (*sizes, len(flat)):
            piece, flat = flat[:size], flat[size:]
            writer.write(piece)
    assert (directory / "pieces").read_bytes() == (directory / "whole").read_bytes()


def test_a_strided_array_is_written_in_c_order(tmp_path: Path) -> None:
    tensors = (TensorSpec("t", "float32", (3, 2)),)
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_tensors(tmp_path / "t", tensors, [array])
    np.testing.assert_array_equal(map_tensors(tmp_path / "t", tensors)[0], array)


def test_a_file_with_elements_missing_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing"), writing(tmp_path / "t", TENSORS) as writer:
        writer.write(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="remain"), writing(tmp_path / "t", TENSORS) as writer:
        writer.write(np.zeros(22, np.float32))
    with pytest.raises(ValueError):
        write_tensors(tmp_path / "t", TENSORS, filled(TENSORS)[:-1])
    assert not (tmp_path / "t").exists()


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="absent"):
        write_tensors(tmp_path / "absent" / "t", TENSORS, filled(TENSORS))
    with pytest.raises(StoreError, match="absent"):
        map_tensors(tmp_path / "absent", TENSORS)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space"):
        write_tensors(tmp_path / "full", TENSORS, filled(TENSORS))
    assert not (tmp_path / "full").is_symlink()


ONE = (TensorSpec("t", "float32", (2,)),)
TWO = (TensorSpec("t", "float32", (2,)), TensorSpec("u", "float32", (1,)))


def entry(start: int, end: int, shape: object = (2,), dtype: str = "F32", **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end], **more}


@pytest.mark.parametrize(
    ("tensors", "header", "size"),
    [
        (ONE, {"t": entry(0, 8)}, 7),  # truncated
        (ONE, {"t": entry(0, 8)}, 9),  # longer than its tensors
        (ONE, {"t": entry(0, 8, dtype="F64")}, 8),
        (ONE, {"t": entry(0, 4, dtype="BF16")}, 4),
        (ONE, {"t": entry(0, 8, shape=(1, 2))}, 8),
        (ONE, {"t": entry(0, 8, shape=(2.5,))}, 8),
        (ONE, {"t": entry(0, 8, shape=(True, 2))}, 8),
        (ONE, {"t": entry(0, 8, shape="2")}, 8),
        (ONE, {"t": entry(0, 8, stride=1)}, 8),
        (ONE, {"t": entry(0, 12)}, 12),
        (ONE, {"t": entry(-8, 0)}, 8),
        (ONE, {"t": entry(8, 16)}, 8),
        (ONE, {"t": entry(0, 2**70)}, 8),
        (ONE, {"t": entry(4, 12)}, 12),  # a gap
        (ONE, {"u": entry(0, 8)}, 8),
        (ONE, {}, 0),
        (ONE, {"t": entry(0, 8), "u": entry(8, 16)}, 16),
        (TWO, {"t": entry(0, 8), "u": entry(4, 8, shape=(1,))}, 8),  # overlap
        (TWO, {"t": entry(0, 8)}, 8),
        (ONE, [1, 2], 8),
        (ONE, b"[" * 60_000, 8),
        (ONE, b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":{}}', 8),
        (ONE, b"\xff\xfe", 8),
        (ONE, b"", 8),
        (ONE, b'{"t":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', 8),
    ],
)
def test_a_bad_file_is_its_makers_fault(
    tmp_path: Path, tensors: tuple[TensorSpec, ...], header: object, size: int
) -> None:
    with pytest.raises(PeerError):
        map_tensors(write(tmp_path / "t", header, bytes(size)), tensors)


@pytest.mark.parametrize("raw", [b"", b"\0" * 7, b"\xff" * 8 + b"{}", (2**40).to_bytes(8, "little") + b"{}" * 50])
def test_a_file_without_a_sane_length_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "t").write_bytes(raw)
    with pytest.raises(PeerError):
        map_tensors(tmp_path / "t", ONE)


def test_a_header_far_longer_than_it_need_be_is_not_parsed(tmp_path: Path) -> None:
    good = {"t": entry(0, 8)}
    assert map_tensors(write(tmp_path / "t", good, bytes(8), blanks=1024), ONE)
    with pytest.raises(PeerError, match="header"):
        map_tensors(write(tmp_path / "t", good, bytes(8), blanks=2**20), ONE)
    raw = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(raw[:-8] + b"\0")
    unaligned = json.dumps(good).encode() + b" " * (1 + -len(json.dumps(good)) % 8)
    (tmp_path / "t").write_bytes(len(unaligned).to_bytes(8, "little") + unaligned + bytes(8))
    with pytest.raises(PeerError, match="header"):
        map_tensors(tmp_path / "t", ONE)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_spoiled_file_does_worse_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("spoiled") / "t"
    write_tensors(path, TENSORS, filled(TENSORS))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, 8 + 0x100))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        mapped = map_tensors(path, TENSORS)
    except PeerError:
        return
    assert [array.shape for array in mapped] == [tensor.shape for tensor in TENSORS]


def test_names_that_no_file_has_are_refused() -> None:
    for names in (("t", "t"), ("__metadata__",)):
        with pytest.raises(PeerError):
            canonical_header([TensorSpec(name, "float32", (1,)) for name in names])
