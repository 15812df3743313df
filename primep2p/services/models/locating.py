"""Where the params lie that somebody means: of a run's checkpoint, of one's own model, or of one that was pulled."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from primep2p.core.chain import header_hash
from primep2p.core.references import ModelRef, Ref, RunRef
from primep2p.core.shelf import version_of
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.records import Header, Scalar
from primep2p.model.shelf import ModelVersion
from primep2p.model.views.models import Certified, ModelPath
from primep2p.services.models.naming import Naming
from primep2p.services.runs.entering import Runs
from primep2p.services.seams import Seams
from primep2p.store.seam import KeptRow, ShelfStore
from primep2p.wire.codec import decode

__all__ = ["Checkpointed", "Located", "Locating"]


@dataclass(frozen=True, slots=True)
class Located:
    """Params on this node, and what asking them takes."""

    model: str
    run: str
    round: int
    params: Cid
    path: Path
    trainer: str
    trainer_config: Mapping[str, Scalar | list[Scalar]]

    @property
    def view(self) -> ModelPath:
        """What its owner is told."""
        return ModelPath(
            model=self.model,
            run=self.run,
            round=self.round,
            cid=self.params,
            path=str(self.path),
            trainer=self.trainer,
        )


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A certified header of a run here."""

    hash: Hash
    header: Header


class Locating:
    """All verbs raise CallError for what cannot be meant, and Unavailable for what is not on this node."""

    def __init__(self, seams: Seams, runs: Runs, store: ShelfStore, naming: Naming) -> None:
        self._seams = seams
        self._runs = runs
        self._store = store
        self._naming = naming

    async def located(self, ref: Ref) -> Located:
        """The params that `ref` means, which are on this node."""
        match ref:
            case RunRef():
                found, spec = await self.checkpoint(ref), self._runs.named(ref.run).spec
                name, header = f"{spec.hash.hex()}@{found.header.round}", found.header
                path = await self._path(header.params, f"the params of round {header.round}", "")
                trainer, config = spec.record.trainer, spec.record.trainer_config
                return Located(name, spec.hash.hex(), header.round, header.params, path, trainer, config)
            case ModelRef():
                return await self.version(ref.owner or self._naming.me, ref.name, await self._meant(ref))

    async def version(self, owner: PeerId, name: str, version: ModelVersion) -> Located:
        """The params of a version, which are on this node."""
        model, run = f"{owner}/{name}@{version.label}", version.run.hex()
        path = await self._path(version.params, model, f"primep2p model pull {model}")
        config = version.trainer_config
        return Located(model, run, version.round, version.params, path, version.trainer, config)

    async def checkpoint(self, ref: RunRef) -> Checkpointed:
        """The certified checkpoint that `ref` means; its params may be elsewhere."""
        service, seams = self._runs.named(ref.run), self._seams
        if ref.round is None:
            if service.head is None:
                raise CallError(
                    "the run has not begun: there is no checkpoint yet", hint=f"see: primep2p run show {ref.run}"
                )
            return Checkpointed(service.head.hash, service.head.header)
        stored = await seams.offload(seams.runs.checkpoint, service.run_id, ref.round)
        if stored is None:
            raise CallError(
                f"this node has no checkpoint {ref.round} of the run", hint=f"see: primep2p run show {ref.run}"
            )
        hash_ = header_hash(stored.checkpoint.header)
        if ref.hash not in (None, hash_):
            raise CallError(f"checkpoint {ref.round} of run {ref.run[:12]} has not that hash here")
        return Checkpointed(hash_, decode(Header, stored.checkpoint.header))

    async def certified(self, version: ModelVersion) -> Certified:
        """Whether a run's chain on this node says what the version says [L3]."""
        if not version.run:
            return "no run"
        stored = await self._seams.offload(self._seams.runs.checkpoint, version.run, version.round)
        if stored is None:
            return "unknown"
        raw = stored.checkpoint.header
        is_so = header_hash(raw) == version.header and decode(Header, raw).params == version.params
        return "certified" if is_so else "contradicted"

    async def _meant(self, ref: ModelRef) -> ModelVersion:
        """The version of a model that is this node's, or that it has pulled. Nobody is asked."""
        owner = ref.owner or self._naming.me
        catalog = await self._naming.known(owner, ref.name)
        if owner != self._naming.me:
            rows = await self._seams.offload(self._store.kept)
            kept = [row for row in rows if (row.owner, row.name) == (owner, ref.name)]
            return self._pulled(ref, kept, catalog.latest if catalog else "")
        if catalog is None:
            raise CallError(
                f"you have no model {ref.name}",
                hint=f"one of somebody else is OWNER/{ref.name}; see: primep2p model list",
            )
        return version_of(catalog, ref.version)

    def _pulled(self, ref: ModelRef, kept: list[KeptRow], latest: str) -> ModelVersion:
        wanted = ref.version or latest or (kept[-1].label if kept else "")
        for row in kept:
            if row.label == wanted:
                return decode(ModelVersion, row.version)
        raise Unavailable(f"{ref} is not on this node", hint=f"have it with: primep2p model pull {ref}")

    async def _path(self, params: Cid, what: str, command: str) -> Path:
        seams = self._seams
        if not seams.blobs.has(params):
            raise Unavailable(f"not on this node: {what}", hint=_have(command))
        return await seams.offload(seams.blobs.path, params)


def _have(command: str) -> str:
    return f"have it with: {command}" if command else "wait until they are fetched, or ask for another round"
