"""The layouts that wire/mlxfn.py gives primitives are those of the MLX that is here; usual networks need no others."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from primep2p.wire.mlxfn import ALLOWED, read_graph
from tests.wire.samples import identity

ONE = (
    "Abs:abs ArcCos:arccos ArcCosh:arccosh ArcSin:arcsin ArcSinh:arcsinh ArcTan:arctan ArcTanh:arctanh Ceil:ceil "
    "Cos:cos Cosh:cosh Erf:erf ErfInv:erfinv Exp:exp Expm1:expm1 Floor:floor Log:log Log1p:log1p Negative:negative "
    "Round:round Sigmoid:sigmoid Sign:sign Sin:sin Sinh:sinh Square:square Tan:tan Tanh:tanh Sqrt:sqrt"
)
TWO = (
    "Add:add ArcTan2:arctan2 Divide:divide Equal:equal Greater:greater GreaterEqual:greater_equal Less:less "
    "LessEqual:less_equal LogAddExp:logaddexp LogicalAnd:logical_and LogicalOr:logical_or Maximum:maximum "
    "Minimum:minimum Multiply:multiply NotEqual:not_equal Power:power Remainder:remainder Subtract:subtract"
)
OTHERS: dict[str, Callable[..., Any]] = {
    "AddMM": lambda mx, x, y, j: mx.addmm(mx.zeros((2, 2)), x, y.T, 0.5, 2.0),
    "Arange": lambda mx, x, y, j: x + mx.arange(3, dtype=mx.float32) * y,
    "ArgPartition": lambda mx, x, y, j: mx.argpartition(x, 1, axis=1),
    "ArgReduce": lambda mx, x, y, j: mx.argmax(x, axis=1),
    "ArgSort": lambda mx, x, y, j: mx.argsort(x, axis=1),
    "AsStrided": lambda mx, x, y, j: mx.as_strided(x, (2, 2), (3, -1), 1),
    "AsType": lambda mx, x, y, j: x.astype(mx.int32),
    "BitwiseBinary": lambda mx, x, y, j: j & (j + 1),
    "Broadcast": lambda mx, x, y, j: mx.broadcast_to(x[:1], (4, 3)),
    "Concatenate": lambda mx, x, y, j: mx.concatenate([x, y], axis=1),
    "Convolution": lambda mx, x, y, j: mx.conv_general(x[None], y[None][:, :1], padding=1),
    "DivMod": lambda mx, x, y, j: sum(mx.divmod(x, y)),
    "ExpandDims": lambda mx, x, y, j: mx.expand_dims(x, 1),
    "Flatten": lambda mx, x, y, j: mx.flatten(x),
    "Full": lambda mx, x, y, j: mx.full((2, 3), x[0, 0]),
    "Gather": lambda mx, x, y, j: mx.take(x, j[0] % 2, axis=0),
    "GatherAxis": lambda mx, x, y, j: mx.take_along_axis(x, j, axis=1),
    "LogicalNot": lambda mx, x, y, j: mx.logical_not(x),
    "LogSumExp": lambda mx, x, y, j: mx.logsumexp(x, axis=1),
    "Matmul": lambda mx, x, y, j: x @ y.T,
    "Pad": lambda mx, x, y, j: mx.pad(x, 1),
    "Partition": lambda mx, x, y, j: mx.partition(x, 1, axis=1),
    "RandomBits": lambda mx, x, y, j: mx.random.uniform(shape=(2, 3), key=j[0, :2].astype(mx.uint32)),
    "Reduce": lambda mx, x, y, j: mx.prod(x, axis=[0, 1]),
    "Reshape": lambda mx, x, y, j: mx.reshape(mx.transpose(x), (2, 3)),
    "Scan": lambda mx, x, y, j: mx.cumsum(x, axis=1, reverse=True),
    "Scatter": lambda mx, x, y, j: x.at[j[0] % 2].add(mx.ones((3, 3))),
    "ScatterAxis": lambda mx, x, y, j: mx.put_along_axis(x, j, y, axis=1),
    "Select": lambda mx, x, y, j: mx.where(x > y, x, y),
    "Slice": lambda mx, x, y, j: x[:, 1:3],
    "SliceUpdate": lambda mx, x, y, j: x.at[:, 1:3].add(1.0),
    "Softmax": lambda mx, x, y, j: mx.softmax(x, axis=1),
    "Sort": lambda mx, x, y, j: mx.sort(x, axis=1),
    "Split": lambda mx, x, y, j: sum(mx.split(x, 3, axis=1)),
    "Squeeze": lambda mx, x, y, j: mx.squeeze(x[:1], 0),
    "Transpose": lambda mx, x, y, j: mx.transpose(x),
    "Unflatten": lambda mx, x, y, j: mx.unflatten(x, 1, (3, 1)),
}
FREE = {"BroadcastAxes", "NumberOfElements"}
"""In graphs for any number of rows, which the mean of a batch is."""

NEVER = {"Copy", "StopGradient"}
"""What MLX leaves out of a graph, unless it cannot."""


def named(words: str, **arguments: int) -> dict[str, Callable[..., Any]]:
    """Functions of MLX of so many arrays, by their primitive."""

    def of(function: str) -> Callable[..., Any]:
        return lambda mx, *arrays: getattr(mx, function)(*arrays[: arguments["arrays"]])

    return {primitive: of(function) for primitive, _, function in (word.partition(":") for word in words.split())}


EVERY = {**named(ONE, arrays=1), **named(TWO, arrays=2), **OTHERS}


@pytest.fixture(scope="module")
def mx() -> Any:
    if "CI" not in os.environ:
        pytest.importorskip("mlx.core", reason="MLX has no wheels for this machine", exc_type=ImportError)
    import mlx.core

    mlx.core.set_default_device(mlx.core.cpu)
    return mlx.core


def test_every_primitive_that_is_allowed_is_tried() -> None:
    assert EVERY.keys() | FREE | NEVER == ALLOWED.keys()


@pytest.mark.parametrize("primitive", EVERY)
def test_a_primitive_s_settings_are_as_long_as_is_said(mx: Any, tmp_path: Path, primitive: str) -> None:
    x, j = mx.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), mx.array([[0, 1, 2], [2, 1, 0]])
    path = str(tmp_path / "graph.mlxfn")
    mx.export_function(path, lambda *arrays: [EVERY[primitive](mx, *arrays)], x, x + 1, j)
    assert primitive in read_graph(Path(path).read_bytes()).primitives


def test_those_of_any_number_of_rows_are_read_too(mx: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "graph.mlxfn")
    mx.export_function(
        path,
        lambda x, j: [mx.mean(mx.take_along_axis(x, j[:, None], axis=1))],
        mx.ones((2, 3)),
        mx.array([0, 1]),
        shapeless=True,
    )
    assert read_graph(Path(path).read_bytes()).primitives.keys() >= FREE


def network(mx: Any, kind: str) -> tuple[Any, dict[str, Any]]:
    """A module of a usual kind, and its batch."""
    from mlx import nn

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            if kind == "convolutions":
                self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2)
                self.out = nn.Linear(72, 10)
            else:
                self.embed, self.out = nn.Embedding(16, 8), nn.Linear(8, 2)
                self.body = nn.GRU(8, 8) if kind == "recurrent" else nn.TransformerEncoder(1, 8, 2)
                self.norm = nn.LayerNorm(8)

        def __call__(self, x: Any) -> Any:
            if kind == "convolutions":
                return self.out(mx.flatten(nn.gelu(self.second(nn.MaxPool2d(2, 1, 1)(self.first(x))[:, :8, :8])), 1))
            embedded = self.embed(x)
            body = self.body(embedded) if kind == "recurrent" else self.body(embedded, None)
            return self.out(mx.mean(self.norm(body), axis=1))

    row = ("float32", 8, 8, 1) if kind == "convolutions" else ("int32", 6)
    return Network, {"x": row, "y": "int32"}


@pytest.mark.parametrize("kind", ["convolutions", "recurrent", "attention"])
def test_usual_networks_can_be_plans(mx: Any, kind: str) -> None:
    """That a graph gives the bytes that its function gives is looked at when it is traced."""
    from mlx import nn
    from mlx.utils import tree_map

    from primep2p.trainers.tracing import trace

    make, batch = network(mx, kind)
    module = make()

    def loss(params: Any, x: Any, y: Any) -> Any:
        module.update(params)
        return nn.losses.cross_entropy(module(x), y, reduction="mean")

    def train_step(params: Any, x: Any, y: Any) -> Any:
        value, gradient = mx.value_and_grad(loss)(params, x, y)
        return tree_map(lambda param, slope: param - 0.1 * slope, params, gradient), value

    made = trace(
        SimpleNamespace(
            batch=batch,
            init=lambda key: make().trainable_parameters(),
            train_step=train_step,
            evaluate=lambda params, x, y: {"loss": loss(params, x, y)},
        ),
        name=kind,
        owner=identity(1).peer_id,
    )
    assert [ref.kind for ref in made.plan.graphs] == ["init", "train", "evaluate"]
