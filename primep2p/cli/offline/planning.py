"""`primep2p plan export|show|check`: what needs no daemon. MLX runs the owner's own functions here, and nobody else's
graphs: those run in a trainer's process only."""

import os
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import trio

from primep2p.config import NodeConfig
from primep2p.keys import Identity, load_identity
from primep2p.model.errors import CallError, ConfigError, PluginError
from primep2p.model.plans import MAX_PLAN_BYTES, Plan
from primep2p.model.views.plans import PlanView
from primep2p.plugin.arrays import save_arrays
from primep2p.plugin.discovery import PLAN_FILE
from primep2p.plugin.loading import NoPython, module_in
from primep2p.plugin.process import Worker
from primep2p.services.training.plans import INSTALL_MLX, view_of
from primep2p.store.tensors import map_tensors, write_tensors
from primep2p.wire.envelope import Envelopes
from primep2p.wire.plans import OpenedPlan, open_plan, seal_plan

__all__ = ["check_plan", "export_plan", "loaded", "look"]

CHECKED_ROWS = 8
"""Of the zeros that a plan for any number of rows is checked with."""

CHECK_S = 600.0
"""For one step on one batch."""


def export_plan(source: str, output: Path | None, name: str, config: NodeConfig) -> tuple[Path, PlanView]:
    """Writes the plan of FILE.py:CLASS. Raises ConfigError, PluginError."""
    location, _, attribute = source.partition(":")
    envelopes = Envelopes(config.node.network, load_identity(config.home / "identity.key"))
    try:
        from primep2p.trainers.tracing import trace
    except ImportError as error:
        raise PluginError(f"MLX cannot be imported: {error}", hint=INSTALL_MLX) from error
    written = loaded(Path(location), attribute)
    file = output or Path(f"{attribute.lower() or Path(location).stem}.plan")
    traced = trace(written, name=name or file.stem, owner=envelopes.peer_id)
    raw = seal_plan(traced.plan, traced.graphs, envelopes)
    try:
        file.write_bytes(raw)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    return file, view_of(open_plan(raw, envelopes), trusted=True)


def look(file: Path, config: NodeConfig) -> PlanView:
    """What is in a plan's file. Raises ConfigError, PluginError."""
    return _view(_opened(file, config)[1], config)


def check_plan(file: Path, config: NodeConfig) -> PlanView:
    """The same, once each graph has run on zeros in a process of its own. Raises ConfigError, PluginError."""
    raw, plan = _opened(file, config)
    trio.run(_dry_run, raw, plan.record, config)
    return _view(plan, config)


async def _dry_run(raw: bytes, plan: Plan, config: NodeConfig) -> None:
    rows = plan.rows or CHECKED_ROWS
    with TemporaryDirectory() as directory:
        data = Path(directory) / "zeros.npz"
        zeros: dict[str, Any] = {each.name: np.zeros((rows, *each.shape), each.dtype) for each in plan.batch}
        np.savez(data, **zeros)
        worker = Worker(
            "plan:check",
            plugins={},
            config={"held_out": 0.0},
            data=data,
            directory=Path(directory) / "trainer",
            silent_s=config.trainer.silent_s,
            limits=config.trainer.limits.get("plan", config.trainer),
            environment=config.trainer.environment,
            furnish=lambda scratch: _write(scratch / PLAN_FILE, raw),
        )
        failure: PluginError | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            try:
                await _each_graph(worker, plan, rows, Path(directory))
            except PluginError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise PluginError(failure.sentence, stderr=failure.stderr)  # its log is gone with the directory


async def _each_graph(worker: Worker, plan: Plan, rows: int, directory: Path) -> None:
    params, inputs = directory / "params.safetensors", directory / "inputs.safetensors"
    first = await worker.init(0)
    write_tensors(params, first.tensors, map_tensors(first.params, first.tensors))
    await worker.train(1, 0, params, deadline_s=CHECK_S)
    await worker.evaluate(1, 0, params)
    if any(ref.kind == "predict" for ref in plan.graphs):
        x = plan.batch[0]
        save_arrays(inputs, {x.name: np.zeros((rows, *x.shape), x.dtype)})
        await worker.predict(params, inputs)


def _write(file: Path, raw: bytes) -> None:
    file.write_bytes(raw)


def _view(plan: OpenedPlan, config: NodeConfig) -> PlanView:
    mine = _signer(config).peer_id
    return view_of(plan, trusted=plan.record.owner in {*config.plans.trust, mine})


def _opened(file: Path, config: NodeConfig) -> tuple[bytes, OpenedPlan]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the plan {file}: {error.strerror}") from error
    return raw, open_plan(raw, Envelopes(config.node.network, _signer(config)))


def _signer(config: NodeConfig) -> Identity:
    """This node's identity; where it has none yet, one that nobody is: looking at a file makes no key."""
    key = config.home / "identity.key"
    return load_identity(key) if key.is_file() else Identity(os.urandom(32))


def loaded(file: Path, attribute: str) -> Any:
    """The class in a file, or the module itself."""
    if not file.is_file():
        raise CallError(f"there is no file {file}", hint="write FILE.py:CLASS")
    try:
        module = module_in(file)
    except NoPython as error:
        raise CallError(str(error), hint="write FILE.py:CLASS") from error
    try:
        return attrgetter(attribute)(module) if attribute else module
    except AttributeError:
        raise CallError(f"no class {attribute!r} in {file}") from None
