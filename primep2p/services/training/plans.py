"""Plans on this node: kept as blobs, fetched before a run is joined [X3], run only where their owner is trusted."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex

import trio

from primep2p.model.errors import PluginError, StoreError, Unavailable
from primep2p.model.ids import Cid, PeerId
from primep2p.model.plans import MAX_PLAN_BYTES, PlanArray, cid_of_plan
from primep2p.model.views.events import LogLine
from primep2p.model.views.plans import PlanView
from primep2p.services.seams import Transfers
from primep2p.store.seam import BlobStore
from primep2p.tasks import Offload
from primep2p.wire.envelope import Envelopes
from primep2p.wire.plans import OpenedPlan, open_plan

__all__ = ["PlanFiles", "Plans", "view_of"]

NO_MLX = "this node has no MLX: it votes on the models of a run with a plan, and trains nothing (abstains)"
INSTALL_MLX = "pip install '.[mlx]' where primep2p was cloned; it needs glibc 2.35 on Linux, or Apple silicon"

FETCH_S = 60.0
"""For a file of at most 700 KiB, from whoever has the run."""


class PlanFiles:
    """Plans that are blobs of this node, for those who may run them. All of it blocks."""

    def __init__(self, envelopes: Envelopes, blobs: BlobStore, trust: Collection[PeerId]) -> None:
        self._envelopes = envelopes
        self._blobs = blobs
        self._trust = {*trust, envelopes.peer_id}

    def trusts(self, owner: PeerId) -> bool:
        """Whether this node runs plans of that owner."""
        return owner in self._trust

    def read(self, cid: Cid) -> tuple[bytes, OpenedPlan]:
        """A plan that is held. Raises PluginError where it is none, Unavailable where it is not held."""
        if not self._blobs.has(cid):
            raise Unavailable(f"the plan {cid} is not on this node", hint="add its file with: primep2p plan add FILE")
        path = self._blobs.path(cid)
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise PluginError(f"the blob {cid} is larger than the {MAX_PLAN_BYTES} bytes that a plan may have")
        raw = path.read_bytes()
        return raw, open_plan(raw, self._envelopes)

    def trusted(self, cid: Cid) -> tuple[bytes, OpenedPlan]:
        """A plan that this node may run. Raises PluginError with the line that would let it."""
        raw, plan = self.read(cid)
        owner = plan.record.owner
        if not self.trusts(owner):
            trust = ", ".join(f'"{peer}"' for peer in sorted({*self._trust, owner} - {self._envelopes.peer_id}))
            raise PluginError(
                f"the run trains with the plan {plan.record.name!r} of {owner}, whom this node does not trust",
                hint=f"if you do, write trust = [{trust}] under [plans] in node.toml, and start the daemon again",
            )
        return raw, plan

    def place(self, trainer: str, file: Path) -> None:
        """Put the plan that a run names where its trainer reads it. Raises PluginError."""
        try:
            raw, _ = self.trusted(cid_of_plan(trainer))
        except (StoreError, Unavailable) as error:
            raise PluginError(f"the plan is not here: {error.sentence}", hint=error.hint) from error
        under_way = file.with_suffix(".part")
        under_way.write_bytes(raw)
        under_way.replace(file)

    def add(self, raw: bytes, scratch: Path) -> tuple[Cid, OpenedPlan]:
        """Keep a plan. Raises PluginError where it is none."""
        plan = open_plan(raw, self._envelopes)
        path = scratch / f"plan-{token_hex(8)}"
        path.write_bytes(raw)
        try:
            return self._blobs.add(path, durable=True), plan
        finally:
            path.unlink(missing_ok=True)


def _has_mlx() -> bool:
    return find_spec("mlx") is not None


class Plans:
    """The verbs of a node that has them in `files`."""

    def __init__(
        self,
        files: PlanFiles,
        transfer: Transfers,
        *,
        scratch: Path,
        offload: Offload,
        tell: Callable[[LogLine], None],
        has_mlx: Callable[[], bool] = _has_mlx,
    ) -> None:
        self._files = files
        self._transfer = transfer
        self._scratch = scratch
        self._offload = offload
        self._tell = tell
        self._has_mlx = has_mlx

    async def add(self, raw: bytes) -> PlanView:
        """Keep a plan, and serve it to others. Raises PluginError where it is none, or is damaged."""
        cid, plan = await self._offload(self._files.add, raw, self._scratch)
        await self._transfer.provide(cid)
        return view_of(plan, cid=cid, trusted=self._files.trusts(plan.record.owner))

    async def check(self, trainer: str) -> None:
        """Raises PluginError, Unavailable where this node could not begin a run with the plan that it names."""
        await self._offload(self._files.trusted, cid_of_plan(trainer))

    async def obtain(self, trainer: str, holders: Sequence[PeerId]) -> None:
        """Have the plan of a run that this node is about to join. Raises PluginError where it must not run it, or it
        is damaged; Unavailable where nobody gives it."""
        cid = cid_of_plan(trainer)
        try:
            with trio.fail_after(FETCH_S):
                await self._transfer.fetch(cid, holders, max_bytes=MAX_PLAN_BYTES, durable=True)
        except trio.TooSlowError as error:
            raise Unavailable("no member gives the plan that the run trains with", hint="try again") from error
        await self._offload(self._files.trusted, cid)
        await self._transfer.provide(cid)
        if not self._has_mlx():
            self._tell(LogLine(level="warning", sentence=f"{NO_MLX}: {INSTALL_MLX}"))


def view_of(plan: OpenedPlan, *, cid: Cid = "", trusted: bool) -> PlanView:
    """What people see of a plan."""
    record, primitives = plan.record, Counter[str]()
    for graph in plan.graphs.values():
        primitives += graph.primitives
    return PlanView(
        name=record.name,
        owner=record.owner,
        trusted=trusted,
        cid=cid,
        mlx=record.mlx,
        rows=record.rows,
        params=_told(record.params),
        state=_told(record.state),
        batch=_told(record.batch),
        settings={setting.name: setting.default for setting in record.settings},
        metrics=list(record.metrics),
        graphs={ref.kind: ref.size_bytes for ref in record.graphs},
        primitives=dict(sorted(primitives.items())),
    )


def _told(arrays: tuple[PlanArray, ...]) -> dict[str, str]:
    return {array.name: f"{array.dtype}{list(array.shape)}" for array in arrays}
