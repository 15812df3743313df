"""Frames and files between the daemon and a trainer's process."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from primep2p.model.records import TensorSpec
from primep2p.plugin.frames import FrameReader, Loaded, Reported, Train, decode_answer, decode_request, encode
from primep2p.plugin.tensors import check_file, create_mapped, is_finite, open_mapped


@given(st.lists(st.integers(0, 2**40), max_size=8), st.integers(1, 64))
def test_frames_arrive_whole_however_they_are_cut(steps: list[int], cut: int) -> None:
    sent = [Reported(number, step, 0, 0.5) for number, step in enumerate(steps)]
    stream = b"".join(map(encode, sent))
    reader = FrameReader()
    pieces = [stream[begin : begin + cut] for begin in range(0, len(stream), cut)]
    assert [decode_answer(body) for piece in pieces for body in reader.feed(piece)] == sent


def test_requests_and_answers_are_not_taken_for_each_other() -> None:
    body = encode(Loaded(2, False))[4:]
    with pytest.raises(ValueError):
        decode_request(body)
    with pytest.raises(ValueError):
        decode_answer(encode(Train(1, 1, 1, "params", "result", "saved"))[4:])


def test_a_file_that_is_written_mapped_is_what_the_library_reads(tmp_path: Path) -> None:
    tensors = (TensorSpec("z", "float32", (2, 3)), TensorSpec("a", "float32", ()), TensorSpec("none", "float32", (0,)))
    create_mapped(tmp_path / "made", tensors)["z"][1, 2] = 7
    check_file(tmp_path / "made", tensors)
    read = load_file(tmp_path / "made")
    assert read["z"][1, 2] == 7
    assert read["none"].shape == (0,)
    found, views = open_mapped(tmp_path / "made")
    assert found == tensors
    assert not views["z"].flags.writeable


def test_a_file_that_another_library_wrote_is_read(tmp_path: Path) -> None:
    save_file({"b": np.ones((2, 2), np.float32), "a": np.zeros(3, np.float32)}, tmp_path / "made", {"who": "another"})
    tensors, views = open_mapped(tmp_path / "made")
    assert {tensor.name: tensor.shape for tensor in tensors} == {"a": (3,), "b": (2, 2)}
    assert views["b"].sum() == 4


@given(st.lists(st.floats(width=32), max_size=20))
def test_finite_means_every_value(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert is_finite(array) == bool(np.isfinite(array).all())
