"""primep2p: a group of people trains one model together, with no server."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from primep2p.sdk.client import Client
    from primep2p.sdk.coordinator import Coordinator, CoordinatorConfig, CoordinatorStatus, Progress, RegisteredNode
    from primep2p.sdk.federated import Part
    from primep2p.sdk.rules import aggregate
    from primep2p.sdk.tensor_buffer import (
        TensorBuffer,
        concatenate_tensors,
        create_tensor_buffer,
        split_tensor,
        tensor_from_buffer,
    )
    from primep2p.sdk.training_node import TrainingConfig, TrainingMetrics, TrainingNode, TrainingStatus

__all__ = [
    "Client",
    "Coordinator",
    "CoordinatorConfig",
    "CoordinatorStatus",
    "Part",
    "Progress",
    "RegisteredNode",
    "TensorBuffer",
    "TrainingConfig",
    "TrainingMetrics",
    "TrainingNode",
    "TrainingStatus",
    "__version__",
    "aggregate",
    "concatenate_tensors",
    "create_tensor_buffer",
    "split_tensor",
    "tensor_from_buffer",
]

__version__ = "0.1.0"

_HOMES = {
    "Client": "primep2p.sdk.client",
    "Coordinator": "primep2p.sdk.coordinator",
    "CoordinatorConfig": "primep2p.sdk.coordinator",
    "CoordinatorStatus": "primep2p.sdk.coordinator",
    "Progress": "primep2p.sdk.coordinator",
    "RegisteredNode": "primep2p.sdk.coordinator",
    "Part": "primep2p.sdk.federated",
    "TensorBuffer": "primep2p.sdk.tensor_buffer",
    "TrainingConfig": "primep2p.sdk.training_node",
    "TrainingMetrics": "primep2p.sdk.training_node",
    "TrainingNode": "primep2p.sdk.training_node",
    "TrainingStatus": "primep2p.sdk.training_node",
    "aggregate": "primep2p.sdk.rules",
    "concatenate_tensors": "primep2p.sdk.tensor_buffer",
    "create_tensor_buffer": "primep2p.sdk.tensor_buffer",
    "split_tensor": "primep2p.sdk.tensor_buffer",
    "tensor_from_buffer": "primep2p.sdk.tensor_buffer",
}


def __getattr__(name: str) -> Any:
    """A public name, when it is asked for: they bring anyio and numpy, for which no command shall wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
