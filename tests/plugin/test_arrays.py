"""Files of arrays: what is written is read, and nothing else is believed."""

import json
from pathlib import Path

import numpy as np
import pytest

from primep2p.plugin import arrays
from primep2p.plugin.arrays import DTYPES, check_arrays, load_arrays, load_state, save_arrays


@pytest.mark.parametrize("dtype", [dtype for dtype, _ in DTYPES.values()])
def test_arrays_of_each_type_come_back_as_they_were(tmp_path: Path, dtype: type[np.generic]) -> None:
    file = tmp_path / "file"
    given = {"matrix": np.arange(6).reshape(2, 3).T.astype(dtype), "scalar": dtype(1), "none": np.zeros((0, 2), dtype)}
    save_arrays(file, given)
    check_arrays(file)
    found = load_arrays(file)
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], array)


def test_metadata_comes_back_too(tmp_path: Path) -> None:
    save_arrays(tmp_path / "file", {"x": np.zeros(2)}, {"step": "3"})
    check_arrays(tmp_path / "file")
    told, state = load_state(tmp_path / "file")
    assert (told, state["x"].tolist()) == ({"step": "3"}, [0, 0])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"x": np.array(["word"])}, "of <U4"),
        ({"x": [1.0]}, "a list"),
        ({"x": np.array([1j])}, "of complex128"),
        ({"__metadata__": np.zeros(1)}, "other than __metadata__"),
        ({"": np.zeros(1)}, "1 to 256 characters"),
    ],
)
def test_what_no_file_can_hold_is_refused_by_name(tmp_path: Path, given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        save_arrays(tmp_path / "file", given)  # type: ignore[arg-type]
    assert not (tmp_path / "file").exists()


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no safetensors file"),
        (b"\xff" * 100, "no safetensors file"),
        (file_of(b"{"), "makes no sense"),
        (file_of({"x": entry(), "__metadata__": {"step": 1}}, bytes(8)), "makes no sense"),
        (file_of(b'{"x":' + json.dumps(entry()).encode() + b',"x":[]}', bytes(8)), "a name stands twice"),
        (file_of(b'{"__metadata__":{"a":"\xff"}}'), "makes no sense"),
        (file_of(b'{"x":' + b"[" * 100_000), "makes no sense"),
        (file_of({}), "it has 0 arrays"),
        (file_of({"__metadata__": {}}), "it has 0 arrays"),
        (file_of({str(n): entry(offsets=(8 * n, 8 * n + 8)) for n in range(1001)}, bytes(8008)), "it has 1001 arrays"),
        (file_of({"x": entry("BF16")}, bytes(8)), "'x' is BF16, and must be one of BOOL, U8"),
        (file_of({"x": entry(shape=(3,))}, bytes(8)), "'x' lies elsewhere"),
        (file_of({"x": entry(shape=(-2,))}, bytes(8)), "makes no sense"),
        (file_of({"x": entry(shape=(2**40, 2**40))}, bytes(8)), "'x' lies elsewhere"),
        (file_of({"x": entry(), "y": entry()}, bytes(8)), "'y' lies elsewhere"),
        (file_of({"x": entry(offsets=(8, 16))}, bytes(16)), "'x' lies elsewhere"),
        (file_of({"x": entry()}, bytes(9)), "belong to no array"),
        (file_of({"x": entry()}, bytes(7)), "belong to no array"),
    ],
)
def test_a_file_that_lies_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        check_arrays(file)


def test_a_link_is_no_file(tmp_path: Path) -> None:
    save_arrays(tmp_path / "file", {"x": np.zeros(2)})
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(ValueError, match="missing"):
        check_arrays(tmp_path / "link")


def test_a_file_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    size_bytes = arrays.MAX_ARRAYS_BYTES + 4
    with (tmp_path / "file").open("wb") as file:
        header = file_of({"x": entry(shape=(size_bytes // 4,), offsets=(0, size_bytes))})
        file.write(header)
        file.truncate(len(header) + size_bytes)
    with pytest.raises(ValueError, match="more than the 1073741824 allowed"):
        check_arrays(tmp_path / "file")
