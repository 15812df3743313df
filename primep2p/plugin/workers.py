"""Where a node's trainers come from: by name, each in a process and a directory of its own."""

import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from primep2p.config import TrainerSection
from primep2p.model.errors import PluginError
from primep2p.model.plans import cid_of_plan
from primep2p.model.records import Scalar, TensorSpec
from primep2p.model.views.plugins import PluginView
from primep2p.plugin.discovery import PLAN_FILE, find, sources
from primep2p.plugin.process import TrainerWorker, Worker

__all__ = ["NEW", "PlanSource", "Trainers", "WorkerProcesses"]

NEW = "new-"
"""Begins the place of a trainer that is to make the first params of a run."""


class PlanSource(Protocol):
    """Where plans come from."""

    def place(self, trainer: str, file: Path) -> None:
        """Put the plan that a run names as its trainer into `file`. Blocks. Raises PluginError where it is not here, or
        this node must not run it."""
        ...


class Trainers(Protocol):
    """The seam to all trainers of a node. `place` names one worker among them, and where it leaves its files."""

    def check(self, trainer: str) -> None:
        """Raises PluginError where there is no such trainer."""
        ...

    def note(self, trainer: str) -> str:
        """What the owner may have forgotten, in a sentence; empty where there is nothing."""
        ...

    def known(self) -> list[PluginView]:
        """All there are, none of them tried. Blocks."""
        ...

    def log(self, of: str) -> Path:
        """Where that is which the trainer of a run printed, or a trainer of that name when it was to make params."""
        ...

    def worker(
        self,
        trainer: str,
        settings: Mapping[str, Scalar | list[Scalar]],
        place: str,
        tensors: tuple[TensorSpec, ...],
    ) -> TrainerWorker:
        """A worker that has not started. `tensors` may be empty for a run that its `init` is to define."""
        ...

    def discard(self, place: str) -> None:
        """Remove what a worker that has ended left. Blocks."""
        ...


class WorkerProcesses:
    """See `Trainers`: of node.toml's section, below the directory `root`."""

    def __init__(self, section: TrainerSection, root: Path, plans: PlanSource | None = None) -> None:
        self._section = section
        self._root = root
        self._plans = plans

    def check(self, trainer: str) -> None:
        find(trainer, self._section.plugins)

    def note(self, trainer: str) -> str:
        if self._section.data:
            return ""
        return f"trainer.data of node.toml is not set: the trainer {trainer!r} has no data of this node's own"

    def known(self) -> list[PluginView]:
        views = []
        for name, source in sources(self._section.plugins).items():
            where, problem = "", ""
            try:
                where = str(find(name, self._section.plugins))
            except PluginError as error:
                problem = error.sentence
            views.append(
                PluginView(
                    name=name, location=where, source=source, loads=None, abi_version=0, predicts=False, problem=problem
                )
            )
        return views

    def worker(
        self,
        trainer: str,
        settings: Mapping[str, Scalar | list[Scalar]],
        place: str,
        tensors: tuple[TensorSpec, ...],
    ) -> TrainerWorker:
        return Worker(
            trainer,
            plugins=self._section.plugins,
            config=settings,
            data=Path(self._section.data) if self._section.data else None,
            directory=self._root / place,
            tensors=tensors,
            silent_s=self._section.silent_s,
            limits=self._section.limits.get("plan" if cid_of_plan(trainer) else trainer, self._section),
            environment=self._section.environment,
            log=self.log(trainer if place.startswith(NEW) else place),
            furnish=partial(self._furnish, trainer),
        )

    def _furnish(self, trainer: str, scratch: Path) -> None:
        if not cid_of_plan(trainer):
            return
        if self._plans is None:
            raise PluginError("this node runs no plans")
        self._plans.place(trainer, scratch / PLAN_FILE)

    def log(self, of: str) -> Path:
        return self._root / "logs" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', of)}.log"

    def discard(self, place: str) -> None:
        shutil.rmtree(self._root / place, ignore_errors=True)
