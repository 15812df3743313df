"""What blobs something on this node needs, so that what frees the disk never takes them. All of it blocks."""

from collections.abc import Iterable, Iterator

from primep2p.model.ids import Cid, PeerId
from primep2p.model.records import Header, RunSpec
from primep2p.model.shelf import Catalog, ModelVersion
from primep2p.store.seam import RunStore, ShelfStore
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes

__all__ = ["named_by", "needed_by_heads", "needed_by_runs", "needed_by_shelf", "rounds_kept"]


def named_by(header: Header) -> set[Cid]:
    """The model of a checkpoint, and its optimiser's state."""
    return {header.params, header.optimiser} - {None}  # type: ignore[return-value]


def rounds_kept(spec: RunSpec, keep: int) -> int:
    """How many of a run's newest models stay: in a buffered run at least those that updates may start from."""
    return max(keep, 1 + spec.policy.max_staleness) if spec.policy.is_buffered else keep


def needed_by_shelf(store: ShelfStore, owner: PeerId) -> set[Cid]:
    """Params and catalogs of `owner`'s own models, and of those that were pulled."""
    needed: set[Cid] = set()
    for row in store.rows(owner):
        if row.catalog is not None:
            needed |= {version.params for version in decode(Catalog, row.catalog).versions}
    for kept in store.kept():
        needed |= {kept.catalog, decode(ModelVersion, kept.version).params}
    return needed


def needed_by_heads(keep: int, runs: RunStore, envelopes: Envelopes) -> set[Cid]:
    """What the newest `keep` checkpoints of each run here name, and the first params of those that have not begun."""
    needed: set[Cid] = set()
    for row in runs.runs():
        newest, spec = runs.head(row.run), envelopes.open(RunSpec, row.spec).record
        if newest is None:
            needed.add(spec.params)
            continue
        for header in _headers(row.run, newest[0] - rounds_kept(spec, keep), runs):
            needed |= named_by(header)
    return needed


def needed_by_runs(wanted: Iterable[Cid], runs: RunStore, envelopes: Envelopes) -> set[Cid]:
    """Those of `wanted` that a run here names: as its first params, or in any checkpoint. Reads all chains."""
    wanted, named = set(wanted), set[Cid]()
    for row in runs.runs():
        named.add(envelopes.open(RunSpec, row.spec).record.params)
        for header in _headers(row.run, -1, runs):
            named |= named_by(header)
    return wanted & named


def _headers(run: bytes, after: int, runs: RunStore) -> Iterator[Header]:
    while rows := runs.headers(run, after, 2**53):
        for _, raw in rows:
            yield decode(Header, raw)
        after = rows[-1][0]
