"""Files that another program wrote: what is taken of them, and what is said of those that cannot be."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from primep2p.model.errors import PeerError
from primep2p.model.records import TensorSpec
from primep2p.store.intake import regular, take_in, tensors_in
from primep2p.store.tensors import map_tensors, write_tensors

TENSORS = (TensorSpec("w", "float32", (2, 3)), TensorSpec("none", "float32", (0,)), TensorSpec("b", "float32", ()))
W, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(0.5)


def file_of(path: Path, header: object, values: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)
    return path


def saved(path: Path, **tensors: object) -> Path:
    """As the safetensors library writes it: in an order of its own, with metadata."""
    arrays = {"w": W, "none": np.zeros(0, np.float32), "b": B, **tensors}
    save_file({name: np.asarray(array) for name, array in arrays.items() if array is not None}, path, {"by": "others"})
    return path


def test_what_another_writer_wrote_becomes_a_canonical_file(tmp_path):
    take_in(saved(tmp_path / "theirs"), TENSORS, tmp_path / "ours")
    write_tensors(tmp_path / "expected", TENSORS, [W, np.zeros(0, np.float32), np.asarray(B)])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "expected").read_bytes()


def test_the_tensors_of_a_file_are_in_the_order_of_their_values(tmp_path):
    header = {
        "late": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
        "early": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    }
    found = tensors_in(file_of(tmp_path / "t", header, bytes(12)))
    assert found == (TensorSpec("early", "float32", (2, 1)), TensorSpec("late", "float32", (1,)))


@pytest.mark.parametrize(
    ("header", "size", "sentence"),
    [
        ({}, 0, "the file has no tensors"),
        ({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4, "has 4 bytes for shape"),
        ({"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 5, "take 4 bytes where the file has 5"),
        ({"t": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, 8, "'t' is 'I64', and must be F32"),
        ({"": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 4, "cannot be a model's"),
        ({"t": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, 4, "no safetensors file"),
        ({"t": {"dtype": "F32", "shape": [1], "data_offsets": [-9, 10**4300 - 1]}}, 4, "no safetensors file"),
        ({"\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 4, "no safetensors file"),
        ([1], 0, "no safetensors file"),
    ],
)
def test_a_file_that_can_be_no_model_is_refused(tmp_path, header, size, sentence):
    with pytest.raises(PeerError) as refused:
        tensors_in(file_of(tmp_path / "t", header, bytes(size)))
    assert sentence in refused.value.sentence


@settings(max_examples=25)
@given(blocks=st.sampled_from([1, 2**18 - 1, 2**18, 2**18 + 1]), seed=st.integers(0, 2**32))
def test_params_become_their_difference_from_the_base_to_the_bit(tmp_path_factory, blocks, seed):
    directory = tmp_path_factory.mktemp("difference")
    tensors = (TensorSpec("t", "float32", (blocks,)),)
    chance = np.random.default_rng(seed)
    after, before = (chance.standard_normal(blocks, dtype=np.float32) for _ in range(2))
    write_tensors(directory / "base", tensors, [before])
    save_file({"t": after}, directory / "after")
    take_in(directory / "after", tensors, directory / "delta", base=directory / "base")
    np.testing.assert_array_equal(map_tensors(directory / "delta", tensors)[0], after - before)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"w": None}, "the file lacks the tensor 'w'"),
        ({"w": None, "b": None}, "the file lacks the tensor 'b' and 1 more"),
        ({"x" * 300: B}, f"the file has a tensor '{'x' * 64}', which the run has not"),
        ({"w": W.T.copy()}, "tensor 'w' has shape [3, 2], not [2, 3]"),
        ({"w": W.astype(np.float64)}, "tensor 'w' is 'F64', and must be F32"),
        ({"w": np.where(W == 4, np.nan, W).astype(np.float32)}, "tensor 'w' has a value that is not finite"),
        ({"b": np.float32(np.inf)}, "tensor 'b' has a value that is not finite"),
        ({"b": np.float32(3e38)}, "tensor 'b' has a value too far from the round's params for float32"),
    ],
)
def test_what_is_wrong_is_said_with_the_tensors_name_and_nothing_is_left(tmp_path, changed, sentence):
    base = [np.full_like(W, -3e38), np.zeros(0, np.float32), np.asarray(np.float32(-3e38))]
    write_tensors(tmp_path / "base", TENSORS, base)
    with pytest.raises(PeerError) as refused:
        take_in(saved(tmp_path / "theirs", **changed), TENSORS, tmp_path / "ours", base=tmp_path / "base")
    assert refused.value.sentence == sentence
    assert not (tmp_path / "ours").exists()


def test_a_header_that_is_not_padded_will_do(tmp_path):
    header = {"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"odd": "1"}}
    assert len(json.dumps(header)) % 8
    take_in(
        file_of(tmp_path / "t", header, B.tobytes()), tensors := (TensorSpec("t", "float32", (1,)),), tmp_path / "o"
    )
    assert load_file(tmp_path / "o")["t"].tolist() == [0.5]
    assert tensors_in(tmp_path / "t") == tensors


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it to read would wait for a writer
    (tmp_path / "link").symlink_to(saved(tmp_path / "real"))
    for name, reason in (("pipe", "no regular"), ("", "no regular"), ("link", "cannot be"), ("gone", "No such file")):
        with pytest.raises(PeerError, match=reason), regular(tmp_path / name):
            pass
    with pytest.raises(PeerError, match="cannot be opened: it is no path"), regular(Path("a\0b")):
        pass


def test_a_file_that_is_cut_while_it_is_read_harms_nobody(tmp_path):
    source = saved(tmp_path / "theirs")

    class Cutting(type(source)):  # type: ignore[misc]
        """Where the copy goes: it is opened when the source's header is read, and its values are not."""

        def __fspath__(self) -> str:
            os.truncate(source, 100)
            return super().__fspath__()

    with pytest.raises(PeerError, match="was cut while it was read"):
        take_in(source, TENSORS, Cutting(tmp_path / "ours"))
    assert not (tmp_path / "ours").exists()
