"""The plans of a node for tests: whatever bytes it is given, but none at all, are a plan."""

from primep2p.model.errors import PluginError
from primep2p.model.views.plans import PlanView

__all__ = ["PLAN", "FakePlans"]

PLAN = PlanView(
    name="digits",
    owner="12D3KooW" + "A" * 44,
    trusted=False,
    cid="bafkrei" + "a" * 52,
    mlx="0.32.4",
    rows=8,
    params={f"layer{number}": "float32[3]" for number in range(9)},
    state={"velocity": "float32[3]"},
    batch={"x": "float32[3]"},
    settings={"learning_rate": 0.1},
    metrics=["loss"],
    graphs={"train": 12},
    primitives={"Add": 1},
)


class FakePlans:
    """Keeps what is added."""

    def __init__(self) -> None:
        self.added: list[bytes] = []

    async def add(self, raw: bytes) -> PlanView:
        if not raw:
            raise PluginError("this is no plan")
        self.added.append(raw)
        return PLAN
