"""Where a trainer's code lies, by its name. Nothing of the plugin is imported here: that happens in its own process.

A run names its trainer and never says where to find it, so that no remote party chooses what this node executes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from primep2p.model.errors import PluginError
from primep2p.model.plans import cid_of_plan

__all__ = ["ENTRY_POINTS", "PLAN_FILE", "TrainerRef", "find", "known", "sources"]

ENTRY_POINTS = "primep2p.trainers"


@dataclass(frozen=True, slots=True)
class TrainerRef:
    """A trainer's name, and where its class is: `location` is a path that ends in .py, or a dotted module."""

    name: str
    location: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.location}:{self.attribute}"


PLAN = TrainerRef("plan", "primep2p.trainers.plan", "PlanTrainer")
"""Runs the plan that lies in its scratch directory as PLAN_FILE."""

PLAN_FILE = "plan"


def find(name: str, local: Mapping[str, str]) -> TrainerRef:
    """The trainer `name`: of `[trainer.plugins]` in node.toml (`local`), else of an installed package.

    Raises PluginError where there is none, or where node.toml's words for it make no sense. For a plan it is the one
    that runs plans.
    """
    if cid_of_plan(name):
        return PLAN
    if name in local:
        return _local(name, local[name])
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return TrainerRef(name, entry.module, entry.attr)
    names = ", ".join(known(local)) or "none"
    raise PluginError(
        f"there is no trainer {name!r} on this node; there are: {names}",
        hint=f'install its package, or add {name} = "path/to/file.py:Class" to [trainer.plugins] in node.toml',
    )


def sources(local: Mapping[str, str]) -> dict[str, str]:
    """Of each name that `find` knows, who brings it: node.toml, or a package with its version. Sorted."""
    found = dict.fromkeys(local, "node.toml")
    for entry in entry_points(group=ENTRY_POINTS):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an installed package"
        found.setdefault(entry.name, package)
    return dict(sorted(found.items()))


def known(local: Mapping[str, str]) -> list[str]:
    """The names that `find` knows, sorted."""
    return sorted({*local, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def _local(name: str, target: str) -> TrainerRef:
    location, colon, attribute = target.rpartition(":")
    if not colon or not location or not attribute.isidentifier():
        raise PluginError(
            f"trainer.plugins.{name} is {target!r}, which names no class",
            hint='write "path/to/file.py:Class" or "package.module:Class"',
        )
    if not location.endswith(".py"):
        return TrainerRef(name, location, attribute)
    path = Path(location).expanduser().absolute()
    if not path.is_file():
        raise PluginError(f"trainer.plugins.{name} names {path}, and there is no such file")
    return TrainerRef(name, str(path), attribute)
