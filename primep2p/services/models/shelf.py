"""This node's shelf: models that it publishes, those of others that it pulls, and asking any of them. Needs no run."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from secrets import token_hex

import trio

from primep2p.core.references import ModelRef, RunRef, check_owner, own_name, parse
from primep2p.core.shelf import next_label, published, rolled_back, schema_of, version_of, without
from primep2p.model.errors import CallError, PeerError, PrimeError
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.records import Metric, Scalar
from primep2p.model.shelf import Catalog, ModelVersion
from primep2p.model.views.events import ModelNotPulled, ModelPulled, ModelPulling, ModelRemoved
from primep2p.model.views.models import ModelDetail, ModelGone, ModelPath, ModelSummary, Prediction
from primep2p.plugin.workers import Trainers
from primep2p.services.blobs.keeping import needed_by_runs, needed_by_shelf
from primep2p.services.models.cataloguing import detail, summary
from primep2p.services.models.locating import Locating
from primep2p.services.models.naming import INDEX, Meaning, Naming
from primep2p.services.models.predicting import Predicting
from primep2p.services.runs.entering import Runs
from primep2p.services.seams import Seams
from primep2p.store.files import disk
from primep2p.store.intake import take_in, tensors_in
from primep2p.store.seam import KeptRow, ShelfStore
from primep2p.store.tensors import canonical_header
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode, encode

__all__ = ["Shelf"]


class Shelf:
    """Verbs may be called while `run` runs; `text` is what core/references.py reads. All raise CallError for what
    cannot be meant, and Unavailable for what is not here, or whom nobody can ask now."""

    def __init__(
        self,
        seams: Seams,
        runs: Runs,
        trainers: Trainers,
        store: ShelfStore,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._seams = seams
        self._runs = runs
        self._trainers = trainers
        self._store = store
        self._now_s = now_s
        self._naming = Naming(seams, store, now_s)
        self._locating = Locating(seams, runs, store, self._naming)
        self._predicting = Predicting(seams, trainers)
        self._changing = trio.Lock()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tells the directory what is on the shelf and what was pulled, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._naming.run)
            await nursery.start(self._predicting.run)
            for cid in await self._seams.offload(needed_by_shelf, self._store, self._me):
                await self._seams.transfer.provide(cid)
            task_status.started()

    @property
    def _me(self) -> PeerId:
        return self._seams.envelopes.peer_id

    # ---- what there is

    async def models(self, owner: PeerId = "") -> list[ModelSummary]:
        """This node's models and those that it pulled; with `owner` what is on that shelf."""
        kept = await self._seams.offload(self._store.kept)
        if owner not in ("", self._me):
            names = await self._naming.names(check_owner(owner))
            return [await self._summary(owner, name, kept) for name in names]
        rows = await self._seams.offload(self._store.rows, self._me)
        models = {(row.owner, row.name): None for row in rows if row.name != INDEX and row.catalog is not None}
        if not owner:
            models |= {(row.owner, row.name): None for row in kept}
        return [await self._summary(*model, kept) for model in models]

    async def show(self, text: str) -> ModelDetail:
        """All versions of a model; the one that is named where one is."""
        ref = self._model(text)
        meaning = await self._naming.meaning(ref.owner, ref.name)
        catalog = meaning.catalog
        return await self._detail(meaning, [version_of(catalog, ref.version)] if ref.version else catalog.versions)

    async def path(self, text: str) -> ModelPath:
        """Where the params of a model, or of a run's round, lie on this node."""
        return (await self._locating.located(parse(text))).view

    async def predict(self, text: str, inputs: Path) -> Prediction:
        """What a model on this node says of the arrays in a safetensors file. Raises PluginError."""
        found, began = await self._locating.located(parse(text)), trio.current_time()
        answer = await self._predicting.ask(found.trainer, found.trainer_config, found.path, inputs)
        seconds = round(trio.current_time() - began, 3)
        return Prediction(model=found.model, trainer=found.trainer, path=str(answer), seconds=seconds)

    # ---- one's own

    async def publish_run(self, ref: RunRef, name: str, label: str = "") -> ModelDetail:
        """Certified params of a run of this node, as the version that `name` offers from now on."""
        name = own_name(name, self._me)
        async with self._seams.keeping:  # else an old checkpoint's params might go before they are on the shelf
            version = await self._version_of_run(ref, label)
            return await self._publish(name, lambda catalog: version)

    async def _version_of_run(self, ref: RunRef, label: str) -> ModelVersion:
        found, checkpoint = await self._locating.located(ref), await self._locating.checkpoint(ref)
        spec = self._runs.named(ref.run).spec.record
        version = ModelVersion(
            label=label or str(found.round),
            params=found.params,
            size_bytes=await self._seams.offload(_size, found.path),
            schema=schema_of(spec.tensors),
            trainer=spec.trainer,
            trainer_config=spec.trainer_config,
            at_s=self._now_s(),
            metrics=checkpoint.header.metrics,
            run=checkpoint.header.run,
            round=found.round,
            header=checkpoint.hash,
        )
        await self._seams.transfer.fetch(version.params, [], max_bytes=version.size_bytes, durable=True)
        return version

    async def publish_file(
        self,
        path: Path,
        name: str,
        label: str = "",
        *,
        trainer: str,
        trainer_config: Mapping[str, Scalar | list[Scalar]],
        metrics: Mapping[str, float],
    ) -> ModelDetail:
        """The tensors of a safetensors file, as the version that `name` offers from now on. Raises PluginError where
        there is no such trainer here."""
        name = own_name(name, self._me)
        self._trainers.check(trainer)
        params, size_bytes, schema = await self._seams.offload(_import, path, self._seams)

        def version(catalog: Catalog | None) -> ModelVersion:
            return ModelVersion(
                label=label or next_label(catalog),
                params=params,
                size_bytes=size_bytes,
                schema=schema,
                trainer=trainer,
                trainer_config=dict(trainer_config),
                at_s=self._now_s(),
                metrics=tuple(Metric(*metric) for metric in sorted(metrics.items())),
            )

        detail = await self._publish(name, version)
        if not self._seams.blobs.has(params):  # they were an old checkpoint's too, and went just before
            await self._seams.offload(_import, path, self._seams)
        return detail

    async def roll_back(self, text: str, label: str) -> ModelDetail:
        """Offer another version of an own model, as a rule an older one; all of them stay."""
        name = own_name(text, self._me)
        async with self._changing:
            meaning = await self._naming.meaning(self._me, name)
            return await self._announce(name, rolled_back(meaning.catalog, label))

    async def remove(self, text: str) -> ModelGone:
        """Take an own model, or one version of it, off the shelf; keep a pulled one, or one version, no longer."""
        ref = self._model(text)
        async with self._changing:
            gone = await (self._withdraw(ref) if ref.owner == self._me else self._drop(ref))
            async with self._seams.keeping:
                freed_bytes = await self._seams.offload(self._free, {version.params for version in gone})
        self._seams.tell(ModelRemoved(model=str(ref)))
        versions = [version.label for version in gone]
        return ModelGone(owner=ref.owner, name=ref.name, versions=versions, freed_bytes=freed_bytes)

    async def _publish(self, name: str, version: Callable[[Catalog | None], ModelVersion]) -> ModelDetail:
        async with self._changing:
            before = await self._naming.own(name)
            added = version(before)
            detail = await self._announce(name, published(before, self._me, name, added))
        await self._seams.transfer.provide(added.params)
        return detail

    async def _announce(self, name: str, catalog: Catalog) -> ModelDetail:
        await self._naming.announce(name, catalog)
        return await self._detail(await self._naming.meaning(self._me, name), catalog.versions)

    async def _withdraw(self, ref: ModelRef) -> Iterable[ModelVersion]:
        catalog = (await self._naming.meaning(self._me, ref.name)).catalog
        if not ref.version:
            await self._naming.announce(ref.name, None)
            return catalog.versions
        await self._naming.announce(ref.name, without(catalog, ref.version))
        return [version_of(catalog, ref.version)]

    # ---- others'

    async def pull(self, text: str) -> ModelPath:
        """Have a version of somebody's model here, checked, until it is removed. What an earlier try brought counts."""
        began, reason = trio.current_time(), "broken off"
        try:
            ref = self._model(text)
            meaning = await self._naming.meaning(ref.owner, ref.name)
            version = version_of(meaning.catalog, ref.version)
            model, size_bytes = f"{ref.owner}/{ref.name}@{version.label}", version.size_bytes
            self._seams.tell(ModelPulling(asked=text, model=model, params=version.params, bytes=size_bytes))
            await self._fetch(ref.owner, version)
            await self._keep(ref.owner, meaning, version)
            await self._fetch(ref.owner, version)  # again, where it was an old checkpoint's and went just before
            found = await self._locating.version(ref.owner, ref.name, version)
            reason = ""
        except PrimeError as error:
            reason = error.sentence
            raise
        finally:
            if reason:  # whoever watches hears of an end in every case
                self._seams.tell(ModelNotPulled(asked=text, reason=reason))
        seconds = round(trio.current_time() - began, 3)
        self._seams.tell(ModelPulled(asked=text, model=model, params=version.params, bytes=size_bytes, seconds=seconds))
        return found.view

    async def _fetch(self, owner: PeerId, version: ModelVersion) -> None:
        """Raises PeerError where the owner's record is not true of the file [L4]."""
        seams, params = self._seams, version.params
        was_here = seams.blobs.has(params)
        await seams.transfer.fetch(params, [owner], max_bytes=version.size_bytes, durable=True)
        path = await seams.offload(seams.blobs.path, params)
        try:
            await seams.offload(_check_params, path, version)
        except PeerError:
            if not was_here:  # else a liar would have this node remove what it has for another purpose
                async with seams.keeping:
                    await seams.offload(self._free, {params})
            raise

    async def _keep(self, owner: PeerId, meaning: Meaning, version: ModelVersion) -> None:
        catalog = meaning.record.record.catalog
        assert catalog is not None
        if owner != self._me:
            row = KeptRow(owner, meaning.catalog.name, version.label, catalog, encode(version), self._now_s())
            await self._seams.offload(self._store.keep, row)
        for cid in (catalog, version.params):
            await self._seams.transfer.provide(cid)

    async def _drop(self, ref: ModelRef) -> Iterable[ModelVersion]:
        rows = [
            row
            for row in await self._seams.offload(self._store.kept)
            if (row.owner, row.name) == (ref.owner, ref.name) and ref.version in ("", row.label)
        ]
        if not rows:
            raise CallError(f"{ref} is not on this node", hint="see: primep2p model list")
        for row in rows:
            await self._seams.offload(self._store.drop, row.owner, row.name, row.label)
        return [decode(ModelVersion, row.version) for row in rows]

    # ---- in

    def _model(self, text: str) -> ModelRef:
        """A model of a shelf, with its owner. Raises CallError for a run."""
        match parse(text):
            case ModelRef(owner=owner, name=name, version=version):
                return ModelRef(owner or self._me, name, version)
        raise CallError(
            f"{text} is a run, and no model of a shelf",
            hint=f"put its model there with: primep2p model publish {text} --as NAME",
        )

    async def _summary(self, owner: PeerId, name: str, kept: Iterable[KeptRow]) -> ModelSummary:
        own, catalog = owner == self._me, await self._naming.known(owner, name)
        if own:
            here = [version.label for version in catalog.versions] if catalog else []
        else:
            here = [row.label for row in kept if (row.owner, row.name) == (owner, name)]
        return summary(owner, name, catalog, here, own=own)

    async def _detail(self, meaning: Meaning, versions: Iterable[ModelVersion]) -> ModelDetail:
        checked = [(version, await self._locating.certified(version)) for version in versions]
        return detail(meaning, checked, self._seams.blobs, own=meaning.catalog.owner == self._me)

    def _free(self, params: set[Cid]) -> int:
        """Removes the blobs that nothing else needs; how many bytes they took."""
        seams = self._seams
        params = {cid for cid in params if seams.blobs.has(cid)}
        params -= needed_by_shelf(self._store, self._me)
        params -= needed_by_runs(params, seams.runs, seams.envelopes)
        freed_bytes = sum(_size(seams.blobs.path(cid)) for cid in params)
        for cid in params:
            seams.blobs.remove(cid)
        return freed_bytes


def _size(path: Path) -> int:
    with disk(path, "find"):
        return path.stat().st_size


def _import(path: Path, seams: Seams) -> tuple[Cid, int, Hash]:
    """The tensors of a file as a blob: its CID, size and schema. Blocks. Raises CallError."""
    canonical = seams.scratch / f"import-{token_hex(8)}.safetensors"
    try:
        tensors = tensors_in(path)
        take_in(path, tensors, canonical)
    except PeerError as error:
        raise CallError(
            f"{path} is no model: {error.sentence}", hint="a safetensors file of float32 tensors is one"
        ) from error
    size_bytes = _size(canonical)
    return seams.blobs.add(canonical, durable=True), size_bytes, schema_of(tensors)


def _check_params(path: Path, version: ModelVersion) -> None:
    """Whether a file is what its catalog says [L4]. Blocks. Raises PeerError."""
    if _size(path) != version.size_bytes:
        raise PeerError(f"the params have {_size(path)} bytes, not the {version.size_bytes} that their owner signed")
    tensors = tensors_in(path)
    header = canonical_header(tensors)
    with disk(path, "read"), path.open("rb") as file:
        is_canonical = file.read(len(header)) == header
    if not is_canonical or schema_of(tensors) != version.schema:
        raise PeerError("the params are other tensors than their owner signed, or are not written in the one way")
