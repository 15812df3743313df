"""The first params of a new run: its trainer's `init`, or a file that its owner names, as a canonical file."""

from functools import partial
from pathlib import Path
from secrets import token_hex

import trio

from primep2p.model.errors import CallError, PeerError, PluginError
from primep2p.model.ids import Cid
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import TensorSpec
from primep2p.services.aggregating.aggregation import check_files
from primep2p.services.training.training import InitialModel, Training
from primep2p.store.intake import take_in, tensors_in
from primep2p.store.seam import BlobStore
from primep2p.store.tensors import map_tensors, write_tensors
from primep2p.tasks import Offload

__all__ = ["first_params", "given_params", "sketch"]


async def first_params(
    training: Training, blobs: BlobStore, scratch: Path, offload: Offload
) -> tuple[Cid, tuple[TensorSpec, ...]]:
    """Ask the trainer, once; its process is gone when this returns. Raises PluginError."""
    path, tensors = await sketch(training, scratch, offload, "initial")
    return await offload(partial(blobs.add, path, durable=True)), tensors


async def sketch(training: Training, scratch: Path, offload: Offload, name: str) -> tuple[Path, tuple[TensorSpec, ...]]:
    """The same as a file whose name begins with `name`, which the caller takes over. Raises PluginError."""
    failure: PluginError | None = None
    model: InitialModel | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(training.run)
        try:
            model = await training.initialise()
        except PluginError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    assert model is not None
    return await offload(_canonical, model, scratch / f"{name}-{token_hex(8)}.safetensors"), model.tensors


def given_params(
    source: Path, pipeline: Pipeline, blobs: BlobStore, scratch: Path
) -> tuple[Cid, tuple[TensorSpec, ...]]:
    """Those in a safetensors file that somebody else wrote. Blocks. Raises CallError where it cannot be a model."""
    canonical = scratch / f"initial-{token_hex(8)}.safetensors"
    try:
        tensors = tensors_in(source)
        check_files(pipeline, tensors)
        take_in(source, tensors, canonical)
    except PeerError as error:
        raise CallError(f"the params {str(source)!r} cannot begin a run: {error.sentence}") from error
    return blobs.add(canonical, durable=True), tensors


def _canonical(model: InitialModel, path: Path) -> Path:
    write_tensors(path, model.tensors, map_tensors(model.params, model.tensors))
    model.params.unlink()
    return path
