"""Names of models in the directory: what an owner's name means, and this node's own names put there again and again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex

import trio

from primep2p.core.shelf import (
    INDEX_KEY,
    choose,
    model_key,
    next_sequence,
    open_catalog,
    open_model,
    open_shelf,
)
from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.ids import Cid, PeerId
from primep2p.model.shelf import MAX_CATALOG_BYTES, MAX_NAMES, Catalog, ModelRecord, ShelfRecord
from primep2p.model.views.events import LogLine, ModelContradicted, ModelPublished
from primep2p.services.peers.retrying import until_worth_a_try
from primep2p.services.seams import Seams
from primep2p.store.files import disk
from primep2p.store.seam import BlobStore, ShelfRow, ShelfStore
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Opened

__all__ = ["INDEX", "Meaning", "Naming"]

INDEX = ""
"""The name under which the store has an owner's ShelfRecord."""

REPEAT_S = 12 * 3600.0
"""Half of what a value in the directory lives."""

RETRY_S = 30.0
"""Before a directory that failed among connected peers is asked again."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name means, as far as this node knows."""

    record: Opened[ModelRecord]
    catalog: Catalog
    announced: bool
    """The directory was asked just now; else this is what was known."""


class Naming:
    """Verbs may be called while `run` runs. `now_s` is Unix time."""

    def __init__(self, seams: Seams, store: ShelfStore, now_s: Callable[[], float] = time.time) -> None:
        self._seams = seams
        self._store = store
        self.now_s = now_s
        self._due: dict[str, None] = {}  # names to be put; a dict keeps their order
        self._wake = trio.Event()
        self._saving = trio.Lock()
        """Held from looking at what is known to saving what counts: a slow answer must not undo a newer one."""

    @property
    def me(self) -> PeerId:
        """Whose shelf is this node's own."""
        return self._seams.envelopes.peer_id

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Puts this node's names into the directory, after a start and before they expire there, until cancelled."""
        task_status.started()
        while True:
            for row in await self._seams.offload(self._store.rows, self.me):
                self._due[row.name] = None
            with trio.move_on_after(REPEAT_S):
                await self._keep_putting()

    async def _keep_putting(self) -> None:
        while True:
            while self._due:
                name = next(iter(self._due))
                del self._due[name]  # first: what is said of it meanwhile is due again
                if not await self._put(name):
                    self._due[name] = None
                    await until_worth_a_try(self._seams.host, RETRY_S)
            self._wake = trio.Event()
            await self._wake.wait()

    # ---- what others say

    async def meaning(self, owner: PeerId, name: str) -> Meaning:
        """What `owner` says of `name`, asking the directory; one's own names are known better here.

        Raises CallError where it means nothing, Unavailable where that cannot be known, or the catalog not be had.
        PeerError where the owner's catalog is none."""
        known, announced = await self._known(owner, name), name not in self._due
        if known is None or owner != self.me:
            known, announced = await self._asked(owner, name, known)
        if known is None:
            shown = name if owner == self.me else f"{owner}/{name}"
            if not announced:
                raise Unavailable(f"nobody could be asked what {shown} is", hint="see `primep2p peers`, and try again")
            whose = "your shelf" if owner == self.me else "that shelf, or its owner was away for more than a day"
            raise CallError(f"there is no model {shown} on {whose}", hint="see: primep2p model list")
        if known.record.catalog is None:
            raise CallError(f"{name} was removed by its owner", hint="see: primep2p model list")
        return Meaning(known, await self._catalog(owner, known), announced)

    async def known(self, owner: PeerId, name: str) -> Catalog | None:
        """The catalog that counts, as far as it is here; nobody is asked."""
        row = await self._seams.offload(self._store.row, owner, name)
        return decode(Catalog, row.catalog) if row and row.catalog is not None else None

    async def own(self, name: str) -> Catalog | None:
        """The catalog of one's own name, None where it means nothing. One that is not known here, as after the loss of
        a disk, is asked for. Raises Unavailable where the directory knows of one that cannot be had."""
        row = await self._seams.offload(self._store.row, self.me, name)
        known = self._open(self.me, name, row.record) if row else None
        if known is None:
            known, _ = await self._asked(self.me, name, None)
        return await self._catalog(self.me, known) if known and known.record.catalog else None

    async def names(self, owner: PeerId) -> tuple[str, ...]:
        """The names on a shelf. Raises Unavailable where nothing is known of it, and nobody can be asked."""
        row = await self._seams.offload(self._store.row, owner, INDEX)
        known = self._open_shelf(owner, row.record) if row else None
        try:
            raw = await self._seams.host.directory.get(owner, INDEX_KEY)
        except Unavailable:
            if known is None:
                raise
            return known.record.names
        if raw and (heard := self._open_shelf(owner, raw)) is not None:
            async with self._saving:
                row = await self._seams.offload(self._store.row, owner, INDEX)
                choice = choose(self._open_shelf(owner, row.record) if row else None, heard)
                if choice.is_news:
                    await self._seams.offload(self._store.save, ShelfRow(owner, INDEX, raw, None))
            if choice.contradicts:
                self._seams.tell(ModelContradicted(model=owner, sequence=heard.record.sequence))
            known = choice.opened
        return known.record.names if known else ()

    async def _known(self, owner: PeerId, name: str) -> Opened[ModelRecord] | None:
        row = await self._seams.offload(self._store.row, owner, name)
        return self._open(owner, name, row.record) if row else None

    async def _asked(
        self, owner: PeerId, name: str, known: Opened[ModelRecord] | None
    ) -> tuple[Opened[ModelRecord] | None, bool]:
        """The record that counts, and whether the directory answered."""
        try:
            raw = await self._seams.host.directory.get(owner, model_key(name))
        except Unavailable:
            return known, False
        heard = self._open(owner, name, raw) if raw else None
        if heard is None:
            return known, True
        async with self._saving:
            choice = choose(await self._known(owner, name), heard)
            if choice.is_news:
                await self._seams.offload(self._store.save, ShelfRow(owner, name, choice.opened.raw, None))
        if choice.contradicts:
            self._seams.tell(ModelContradicted(model=f"{owner}/{name}", sequence=heard.record.sequence))
        return choice.opened, True

    async def _catalog(self, owner: PeerId, known: Opened[ModelRecord]) -> Catalog:
        seams, name, cid = self._seams, known.record.name, known.record.catalog
        assert cid is not None
        row = await seams.offload(self._store.row, owner, name)
        if row is not None and row.catalog is not None and row.record == known.raw:
            return open_catalog(row.catalog, owner, name)
        await seams.transfer.fetch(cid, [owner], max_bytes=MAX_CATALOG_BYTES, durable=True)
        raw = await seams.offload(_read, seams.blobs, cid)
        catalog = open_catalog(raw, owner, name)
        async with self._saving:
            row = await seams.offload(self._store.row, owner, name)
            if row is not None and row.record == known.raw:
                await seams.offload(self._store.save, ShelfRow(owner, name, known.raw, raw))
        return catalog

    def _open(self, owner: PeerId, name: str, raw: bytes) -> Opened[ModelRecord] | None:
        """None for what is not the owner's: whoever stores it in the directory may be anybody, so nobody is blamed."""
        try:
            return open_model(self._seams.envelopes.open(ModelRecord, raw), owner, name)
        except PeerError as error:
            self._refuse(f"{owner}/{name}", error)
            return None

    def _open_shelf(self, owner: PeerId, raw: bytes) -> Opened[ShelfRecord] | None:
        try:
            return open_shelf(self._seams.envelopes.open(ShelfRecord, raw), owner)
        except PeerError as error:
            self._refuse(f"the shelf of {owner}", error)
            return None

    def _refuse(self, what: str, error: PeerError) -> None:
        self._seams.tell(LogLine(level="warning", sentence=f"a record of {what} is refused: {error.sentence}"))

    # ---- what this node says

    async def announce(self, name: str, catalog: Catalog | None) -> None:
        """From now on the own `name` means `catalog`, or nothing. Durable when this returns; the directory has it, or
        gets it as soon as it can. Raises CallError where the shelf is full."""
        seams = self._seams
        async with self._saving:
            known = await self._known(self.me, name)
            sequence = next_sequence(known.record.sequence if known else 0, self.now_s())
            raw = encode(catalog) if catalog else None
            names = await self._names_with(name, is_there=catalog is not None)
            cid = await seams.offload(self._keep, raw) if raw else None
            record = seams.envelopes.seal(ModelRecord(name, sequence, cid))
            rows = [ShelfRow(self.me, name, record.raw, raw)]
            if names is not None:
                rows.append(ShelfRow(self.me, INDEX, seams.envelopes.seal(ShelfRecord(sequence, names)).raw, None))
            await seams.offload(self._store.save, *rows)
        for row in rows:
            await self._say(row.name)
        if cid is not None:
            await seams.transfer.provide(cid)
        offered = catalog.latest if catalog else ""
        seams.tell(ModelPublished(model=f"{self.me}/{name}", version=offered, sequence=sequence))

    async def _names_with(self, name: str, *, is_there: bool) -> tuple[str, ...] | None:
        """The names of the shelf after a change, None where they stay as they are. Raises CallError."""
        rows = await self._seams.offload(self._store.rows, self.me)
        before = {row.name for row in rows if row.name != INDEX and row.catalog is not None}
        after = before | {name} if is_there else before - {name}
        if len(after) > MAX_NAMES:
            raise CallError(
                f"your shelf has {MAX_NAMES} models, which is all that it can have",
                hint=f"make room: primep2p model remove {min(before)}",
            )
        return tuple(sorted(after)) if after != before else None

    def _keep(self, raw: bytes) -> Cid:
        path = self._seams.scratch / f"catalog-{token_hex(8)}.safetensors"  # by its ending what a crash leaves goes
        with disk(path, "write"):
            path.write_bytes(raw)
        return self._seams.blobs.add(path, durable=True)

    async def _say(self, name: str) -> None:
        """Now if that can be, else as soon as it can."""
        self._due.pop(name, None)
        if not await self._put(name):
            self._due[name] = None
            self._wake.set()

    async def _put(self, name: str) -> bool:
        """Whether the directory took the own record of a name, or needs none."""
        row = await self._seams.offload(self._store.row, self.me, name)
        if row is None:
            return True
        try:
            await self._seams.host.directory.put(INDEX_KEY if name == INDEX else model_key(name), row.record)
        except Unavailable:
            return False
        return True


def _read(blobs: BlobStore, cid: Cid) -> bytes:
    path = blobs.path(cid)
    with disk(path, "read"):
        return path.read_bytes()
