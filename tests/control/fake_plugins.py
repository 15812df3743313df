"""Trainers for tests: one that loads and one that does not."""

from primep2p.model.views.plugins import PluginLog, PluginView

GOOD = PluginView(
    name="mlp",
    location="primep2p.trainers.dense:MultilayerPerceptron",
    source="primep2p 0.1.0",
    loads=True,
    abi_version=2,
    predicts=True,
    problem="",
)
BAD = PluginView(
    name="mine",
    location="/mine.py:Mine",
    source="node.toml",
    loads=False,
    abi_version=0,
    predicts=False,
    problem="trainer mine: no class 'Mine' in /mine.py",
)


class FakePlugins:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def list(self, *, names_only: bool) -> list[PluginView]:
        self.asked.append((names_only,))
        return [BAD, GOOD]

    async def logs(self, of: str, lines: int) -> PluginLog:
        self.asked.append((of, lines))
        return PluginLog(path="/logs/mine.log", lines=["one", "two"][-lines:])
