"""The first params of a new run: its trainer's `init`, in a canonical file."""

from pathlib import Path
from secrets import token_hex

import trio

from primep2p.model.errors import PluginError
from primep2p.model.ids import Cid
from primep2p.model.records import TensorSpec
from primep2p.services.training import InitialModel, Training
from primep2p.store.seam import BlobStore
from primep2p.store.tensors import map_tensors, write_tensors
from primep2p.tasks import Offload

__all__ = ["first_params"]


async def first_params(
    training: Training, blobs: BlobStore, scratch: Path, offload: Offload
) -> tuple[Cid, tuple[TensorSpec, ...]]:
    """Ask the trainer, once; its process is gone when this returns. Raises PluginError."""
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
    return await offload(_keep, model, blobs, scratch), model.tensors


def _keep(model: InitialModel, blobs: BlobStore, scratch: Path) -> Cid:
    canonical = scratch / f"initial-{token_hex(8)}.safetensors"
    write_tensors(canonical, model.tensors, map_tensors(model.params, model.tensors))
    model.params.unlink()
    return blobs.add(canonical, durable=True)
