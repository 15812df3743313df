"""What is done to a node's home while no daemon has it: its identity shown and rotated, its runs removed."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shlex import quote

from msgspec import Struct

from primep2p.config import NodeConfig
from primep2p.core.roster import peers_of
from primep2p.keys import backup_path, former_peers, public_key_of, read_identity, rotate_identity
from primep2p.model.errors import CallError, ConfigError, PrimeError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.model.records import Header, RunSpec, RunState
from primep2p.services.runs.reopening import spec_of
from primep2p.store.db import lock_home, open_store
from primep2p.store.files import disk
from primep2p.store.seam import StoredCheckpoint
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes

__all__ = ["IdentityView", "Removal", "Rotation", "identity_of", "remove", "rotate"]

STATE = ("blobs", "store.db", "store.db-wal", "store.db-shm", "trainers", "residuals", "scratch", "jobs")
"""What a daemon makes of its runs. The blobs go first: without a database they would look like a damaged home."""

KEYS = ("identity.key", "former")


class IdentityView(Struct, frozen=True, kw_only=True):
    """Who a node is. The age is that of the file."""

    peer: PeerId
    public_key: str
    path: str
    mode: str
    age_s: float
    former: list[PeerId]
    """Whom this home was before."""


class Rotation(Struct, frozen=True, kw_only=True):
    """Another identity in place of an old one."""

    peer: PeerId
    was: PeerId
    kept: str
    """Where the old key is."""


class Removal(Struct, frozen=True, kw_only=True):
    """What a reset removes from a home."""

    home: str
    runs: list[str]
    """By name; empty too where the store cannot be read."""
    size_bytes: int
    identity: PeerId
    """Empty where it stays."""


def identity_of(home: Path) -> IdentityView:
    """The identity in a home. Raises Unavailable where there is none yet, StoreError."""
    path = home / "identity.key"
    identity = read_identity(path)
    if identity is None:
        raise Unavailable(f"{home} has no identity yet", hint="the first start of a daemon makes one")
    with disk(path, "read"):
        status = path.stat()
    return IdentityView(
        peer=identity.peer_id,
        public_key=public_key_of(identity.peer_id).hex(),
        path=str(path),
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        age_s=max(0.0, round(time.time() - status.st_mtime, 3)),
        former=sorted(former_peers(home)),
    )


def rotate(config: NodeConfig, *, force: bool) -> Rotation:
    """A new identity, the old one kept. Raises CallError where a daemon runs, or where this node is a member of a run
    that goes on, unless it is forced."""
    old = identity_of(config.home)
    path = Path(old.path)
    with _unused(config.home):
        if not force and (member_of := _going_on(config, old.peer)):
            raise CallError(
                f"this node is a member of {', '.join(member_of)}, which would wait for it in vain until it is dropped",
                hint="leave it or let it end, or rotate all the same with --force",
            )
        new = rotate_identity(path)
    return Rotation(peer=new.peer_id, was=old.peer, kept=str(backup_path(path, old.peer)))


def remove(config: NodeConfig, *, identity: bool, really: bool) -> Removal:
    """Everything that a daemon made of its runs, and with `identity` who it is; unless `really`, it is only told. The
    home's configuration, its log and what else lies there stay. Raises CallError where a daemon runs, StoreError."""
    home = config.home
    with _unused(home):
        names: list[str] = []
        with suppress(PrimeError):  # a store that cannot be opened is a reason to remove it
            names = [spec.name for spec, _ in _runs(config)]
        known = read_identity(home / "identity.key") if identity else None
        size_bytes = sum(_size_bytes(home / name) for name in STATE)
        for name in (*STATE, *(KEYS if identity else ())) if really else ():
            path = home / name
            with disk(path, "remove"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return Removal(home=str(home), runs=names, size_bytes=size_bytes, identity=known.peer_id if known else "")


@contextmanager
def _unused(home: Path) -> Iterator[None]:
    try:
        with lock_home(home):
            yield
    except ConfigError as error:
        stop = f"see: primep2p daemon stop --home {quote(str(home))}"
        raise CallError(f"{error.sentence}, which has to end first", hint=stop) from error


def _going_on(config: NodeConfig, me: PeerId) -> list[str]:
    """Runs that wait for this node: it is a member, or they have not begun."""
    return [
        spec.name for spec, head in _runs(config) if head is None or (me in peers_of(head[1]) and not head[0].ended)
    ]


def _runs(config: NodeConfig) -> list[tuple[RunSpec, tuple[Header, RunState] | None]]:
    """Each with its newest header and the state after that, if it has begun."""
    home, identity = config.home, read_identity(config.home / "identity.key")
    if identity is None or not (home / "store.db").exists():
        return []
    envelopes = Envelopes(config.node.network, identity)
    with closing(open_store(home)) as store:
        rows = [(row, store.runs.head(row.run)) for row in store.runs.runs()]
    return [(spec_of(row, envelopes, home).record, _read(head[1]) if head else None) for row, head in rows]


def _read(head: StoredCheckpoint) -> tuple[Header, RunState]:
    return decode(Header, head.checkpoint.header), decode(RunState, head.state)


def _size_bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(_size_bytes(Path(entry.path)) for entry in os.scandir(path) if not entry.is_symlink())
