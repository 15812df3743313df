"""Answers about models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from primep2p.control.calls.models import (
    ModelList,
    ModelPathOf,
    ModelPredict,
    ModelPublish,
    ModelPull,
    ModelRemove,
    ModelRollback,
    ModelShow,
)
from primep2p.control.handlers.table import answers
from primep2p.core.references import RunRef, parse_run
from primep2p.model.records import Scalar
from primep2p.model.views.models import ModelDetail, ModelGone, ModelPath, ModelSummary, Prediction

__all__ = ["ModelVerbs", "ShelfVerbs"]


class ShelfVerbs(Protocol):
    """What a node does with models. Raises PrimeError."""

    async def publish_run(self, ref: RunRef, name: str, label: str) -> ModelDetail: ...
    async def publish_file(
        self,
        path: Path,
        name: str,
        label: str,
        *,
        trainer: str,
        trainer_config: Mapping[str, Scalar | list[Scalar]],
        metrics: Mapping[str, float],
    ) -> ModelDetail: ...
    async def models(self, owner: str) -> list[ModelSummary]: ...
    async def show(self, text: str) -> ModelDetail: ...
    async def pull(self, text: str) -> ModelPath: ...
    async def path(self, text: str) -> ModelPath: ...
    async def roll_back(self, text: str, label: str) -> ModelDetail: ...
    async def predict(self, text: str, inputs: Path) -> Prediction: ...
    async def remove(self, text: str) -> ModelGone: ...


class ModelVerbs(Protocol):
    """A node with a shelf."""

    @property
    def shelf(self) -> ShelfVerbs: ...


@answers(ModelPublish)
async def publish(node: ModelVerbs, call: ModelPublish) -> ModelDetail:
    if not call.is_file:
        return await node.shelf.publish_run(parse_run(call.source), call.to, call.version)
    return await node.shelf.publish_file(
        Path(call.source),
        call.to,
        call.version,
        trainer=call.trainer,
        trainer_config=call.trainer_config,
        metrics=call.metrics,
    )


@answers(ModelList)
async def list_(node: ModelVerbs, call: ModelList) -> list[ModelSummary]:
    return await node.shelf.models(call.owner)


@answers(ModelShow)
async def show(node: ModelVerbs, call: ModelShow) -> ModelDetail:
    return await node.shelf.show(call.model)


@answers(ModelPull)
async def pull(node: ModelVerbs, call: ModelPull) -> ModelPath:
    return await node.shelf.pull(call.model)


@answers(ModelPathOf)
async def path(node: ModelVerbs, call: ModelPathOf) -> ModelPath:
    return await node.shelf.path(call.model)


@answers(ModelRollback)
async def rollback(node: ModelVerbs, call: ModelRollback) -> ModelDetail:
    return await node.shelf.roll_back(call.model, call.to)


@answers(ModelPredict)
async def predict(node: ModelVerbs, call: ModelPredict) -> Prediction:
    return await node.shelf.predict(call.model, Path(call.inputs))


@answers(ModelRemove)
async def remove(node: ModelVerbs, call: ModelRemove) -> ModelGone:
    return await node.shelf.remove(call.model)
