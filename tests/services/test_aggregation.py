import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primep2p.kernels.average import shares_of
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.outer import first_state, state_names, step
from primep2p.model.errors import PeerError, StoreError
from primep2p.model.pipeline import Adagrad, Adam, FedAvg, Krum, Outer, Pipeline, Sgd, Weighting, Yogi
from primep2p.model.records import TensorSpec
from primep2p.services.aggregating.aggregation import Job, aggregate, check_files
from primep2p.store.tensors import map_tensors, write_tensors

Array = npt.NDArray[np.float32]

TENSORS = (
    TensorSpec("hidden", "float32", (300, 7)),
    TensorSpec("nothing", "float32", (0,)),
    TensorSpec("scale", "float32", ()),
    TensorSpec("wide", "float32", (2, 2**19 + 5)),  # more than a piece
)


def model(seed: int) -> list[Array]:
    made = []
    for index, tensor in enumerate(TENSORS):
        size = int(np.prod(tensor.shape, dtype=int))
        values = (np.arange(size) * (2 * seed + 7) + index) % 1009 - 504
        made.append((values.astype(np.float32) / np.float32(13 + seed)).reshape(tensor.shape))
    return made


def write(path: Path, arrays: list[Array]) -> Path:
    write_tensors(path, TENSORS, arrays)
    return path


def run(
    base: Path, deltas: Sequence[Path], counts: Sequence[int], weighting: Weighting, tensors: object, out: Path
) -> str:
    """The reason, of FedAvg."""
    beside = out.with_name("optimiser")
    job = Job(Pipeline(FedAvg(weighting)), tensors, base, None, deltas, counts, b"", out, beside)  # type: ignore[arg-type]
    result = aggregate(job)
    assert (result.params is None) == bool(result.reason)
    assert result.optimiser is None
    return result.reason


def test_the_next_params_are_base_plus_the_weighted_mean(tmp_path: Path) -> None:
    base = write(tmp_path / "base", model(0))
    deltas = [write(tmp_path / f"delta-{seed}", model(seed)) for seed in (1, 2, 3)]
    out = tmp_path / "out"
    assert run(base, deltas, [10, 20, 70], "examples", TENSORS, out) == ""
    weights = shares_of([10, 20, 70], "examples").astype(np.float32)
    for index, found in enumerate(map_tensors(out, TENSORS)):
        mean = np.empty(found.size, np.float32)
        Plain().weighted_sum([model(seed)[index].reshape(-1) for seed in (1, 2, 3)], weights, mean)
        np.testing.assert_array_equal(found.reshape(-1), model(0)[index].reshape(-1) + mean)


def test_all_members_write_the_same_bytes(tmp_path: Path) -> None:
    base = write(tmp_path / "base", model(0))
    deltas = [write(tmp_path / f"delta-{seed}", model(seed)) for seed in (1, 2, 3)]
    outs = [tmp_path / "one", tmp_path / "two", tmp_path / "other order"]
    for out, order in zip(outs, (deltas, deltas, deltas[::-1]), strict=True):
        assert run(base, order, [1, 1, 1], "uniform", TENSORS, out) == ""
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_bytes() != outs[2].read_bytes()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=4))
def test_equal_deltas_give_themselves_back(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    tmp_path = tmp_path_factory.mktemp("equal")
    tensors = (TensorSpec("t", "float32", (3,)),)
    write_tensors(tmp_path / "base", tensors, [np.zeros(3, np.float32)])
    write_tensors(tmp_path / "delta", tensors, [np.array([1, -2, 3], np.float32)])
    deltas = [tmp_path / "delta"] * len(counts)
    assert run(tmp_path / "base", deltas, counts, "examples", tensors, tmp_path / "out") == ""
    np.testing.assert_allclose(map_tensors(tmp_path / "out", tensors)[0], [1, -2, 3], rtol=1e-6)


def test_a_result_that_is_not_finite_has_a_reason_and_no_file(tmp_path: Path) -> None:
    tensors = (TensorSpec("t", "float32", (2,)),)

    def file(name: str, value: float) -> Path:
        write_tensors(tmp_path / name, tensors, [np.array([0, value], np.float32)])
        return tmp_path / name

    huge, small, out = file("huge", 3.4e38), file("small", 1), tmp_path / "out"
    infinite = file("infinite", np.inf)
    assert run(small, [infinite], [1], "uniform", tensors, out) == "the params are not finite"
    assert not out.exists()
    assert run(huge, [huge], [1], "uniform", tensors, out) == "the params are not finite"
    assert not out.exists()
    assert run(huge, [small], [1], "uniform", tensors, out) == ""


def test_a_missing_file_is_the_disks_fault(tmp_path: Path) -> None:
    base = write(tmp_path / "base", model(0))
    with pytest.raises(StoreError, match="absent"):
        run(base, [tmp_path / "absent"], [1], "uniform", TENSORS, tmp_path / "out")


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    tensors = (TensorSpec("t", "float32", (8 * 2**20,)),)  # 32 MiB
    write_tensors(tmp_path / "t", tensors, [np.zeros(8 * 2**20, np.float32)])
    tracemalloc.start()
    run(tmp_path / "t", [tmp_path / "t"] * 3, [1, 2, 3], "examples", tensors, tmp_path / "out")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 6 * 2**20


@pytest.mark.parametrize("outer", [Sgd(0.7, 0.9, True), Sgd(0.5), Adagrad(), Adam(), Yogi()], ids=repr)
def test_an_optimiser_goes_on_from_the_state_that_the_round_before_left(tmp_path: Path, outer: Outer) -> None:
    pipeline = Pipeline(FedAvg("uniform"), outer=outer)
    names = state_names(outer)
    tensors = [TensorSpec(f"{name}/{tensor.name}", "float32", tensor.shape) for name in names for tensor in TENSORS]
    expected, state = flat(model(0)), [np.full(flat(model(0)).shape, first, np.float32) for first in first_state(outer)]
    params, optimiser = write(tmp_path / "base", model(0)), None
    for round in (1, 2):
        delta = write(tmp_path / f"delta-{round}", model(round))
        made = aggregate(
            Job(
                pipeline,
                TENSORS,
                params,
                optimiser,
                [delta, delta],
                [1, 1],
                b"",
                tmp_path / f"params-{round}",
                tmp_path / f"optimiser-{round}",
            )
        )
        step(outer, expected, flat(model(round)), state, expected, state)
        assert made.params is not None
        params, optimiser = made.params, made.optimiser
        np.testing.assert_array_equal(flat(map_tensors(params, TENSORS)), expected)
        assert (optimiser is not None) == bool(names)
        if optimiser is not None:
            np.testing.assert_array_equal(flat(map_tensors(optimiser, tensors)), np.concatenate(state))


def test_a_state_that_is_not_finite_ends_the_round_without_a_model(tmp_path: Path) -> None:
    """Squares overflow long before the params do."""
    huge = [np.full(tensor.shape, 1e30, np.float32) for tensor in TENSORS]
    base, delta = write(tmp_path / "base", model(0)), write(tmp_path / "delta", huge)
    params, optimiser = tmp_path / "params", tmp_path / "optimiser"
    pipeline = Pipeline(FedAvg("uniform"), outer=Adam())
    made = aggregate(Job(pipeline, TENSORS, base, None, [delta], [1], b"", params, optimiser))
    assert made.reason == "the params are not finite"
    assert not params.exists()
    assert not optimiser.exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_rule_that_sees_whole_updates_sees_all_their_tensors(tmp_path: Path, threads: int) -> None:
    """Krum's choice is one update, not one for each tensor or piece."""
    base = write(tmp_path / "base", [np.zeros(tensor.shape, np.float32) for tensor in TENSORS])
    models = [model(1), model(1), model(1), model(2), model(3)]
    models[1] = [array + np.float32(0.01) for array in model(1)]
    deltas = [write(tmp_path / f"delta-{place}", arrays) for place, arrays in enumerate(models)]
    job = Job(Pipeline(Krum()), TENSORS, base, None, deltas, [1] * 5, b"", tmp_path / "params", tmp_path / "optimiser")
    with ThreadPoolExecutor(threads) as pool:
        made = aggregate(job, each=lambda ranges, function: pool.map(lambda one: function(*one), ranges))
    assert made.params is not None
    np.testing.assert_array_equal(flat(map_tensors(made.params, TENSORS)), flat(model(1)))


def flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([array.reshape(-1) for array in arrays])


def test_names_that_have_room_in_a_model_may_have_none_in_an_optimisers_state() -> None:
    """Every member would stop at the end of the first round: nobody begins such a run, or joins it."""
    tensors = [TensorSpec(f"{number:0256}", "float32", (1,)) for number in range(30_000)]
    check_files(Pipeline(), tensors)
    with pytest.raises(PeerError, match="header of"):
        check_files(Pipeline(outer=Adam()), tensors)
