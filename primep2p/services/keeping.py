"""What blobs something on this node needs, so that what frees the disk never takes them."""

from collections.abc import Iterable

from primep2p.model.ids import Cid, PeerId
from primep2p.model.records import Header, RunSpec
from primep2p.model.shelf import Catalog, ModelVersion
from primep2p.store.seam import RunStore, ShelfStore
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes

__all__ = ["needed_by_runs", "needed_by_shelf"]


def needed_by_shelf(store: ShelfStore, owner: PeerId) -> set[Cid]:
    """Params and catalogs of `owner`'s own models, and of those that were pulled. Blocks."""
    needed: set[Cid] = set()
    for row in store.rows(owner):
        if row.catalog is not None:
            needed |= {version.params for version in decode(Catalog, row.catalog).versions}
    for kept in store.kept():
        needed |= {kept.catalog, decode(ModelVersion, kept.version).params}
    return needed


def needed_by_runs(wanted: Iterable[Cid], runs: RunStore, envelopes: Envelopes) -> set[Cid]:
    """Those of `wanted` that a run here names: as its first params, or in a checkpoint. Blocks: reads all chains."""
    wanted, named = set(wanted), set[Cid]()
    for row in runs.runs():
        named.add(envelopes.open(RunSpec, row.spec).record.params)
        round_, stored = runs.head(row.run) or (0, None)
        while stored is not None:
            header = decode(Header, stored.checkpoint.header)
            named |= {header.params, *([header.optimiser] if header.optimiser else [])}
            round_ -= 1
            stored = runs.checkpoint(row.run, round_)
    return wanted & named
