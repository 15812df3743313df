"""Immutable bytes under their CID: a file each, and a row that says the file is whole.

A file gets its name before it gets its row, and loses its row before its name: so after a crash there are at worst
files without a row, which the next start removes. Bytes count only while they hash to what the manifest says: a
damaged blob is set aside, which makes it one to be fetched again.
"""

import os
import shutil
import time
import weakref
from collections.abc import Iterator
from errno import ENOSPC, EXDEV
from itertools import count
from pathlib import Path
from threading import Lock

from primep2p.model.errors import BlobLost, PeerError, StoreError, Unavailable
from primep2p.model.ids import Cid
from primep2p.model.records import Manifest
from primep2p.store.files import disk, make_directory, sync_directory, sync_file
from primep2p.store.seam import Partial
from primep2p.store.sqlite import Database
from primep2p.wire.cid import cid_digest, cid_of
from primep2p.wire.codec import encode
from primep2p.wire.manifest import CHUNK_BYTES, MAX_BLOB_BYTES, check_chunk, chunk_size, manifest_of, open_manifest

__all__ = ["FileBlobs"]

_KEEP_DAYS = 7
"""Partial and damaged blobs that nobody touched for so long go at the next start."""

READ_ONLY = 0o400
"""Of a blob. Its path is given to loops and trainers of this user's own, and this node maps it: one that saves its
params where it read them would change a certified model, and kill whoever has it mapped."""

_OPEN_MANIFESTS = 16
"""Decoded manifests kept at hand: those of blobs being served. The largest takes 6 MiB."""


class FileBlobs:
    """The BlobStore in a directory. See the seam for what each method promises."""

    def __init__(self, root: Path, database: Database, *, fsync: bool = True) -> None:
        self._root = root
        self._database = database
        self._fsync = fsync
        self._changing = Lock()  # held while names and rows change together, never while bytes are hashed
        self._finishing = Lock()  # taken before the other, held while a partial blob turns into a blob or goes
        self._manifests: dict[Cid, Manifest] = {}
        self._temporary = root / "temporary"
        self._partial = root / "partial"
        self._damaged = root / "damaged"
        self._serial = count()
        self._suspects: set[Cid] = set()  # never fsynced, and from before this start: a power cut may lie between
        with disk(root, "put in order"):
            for directory in (root, self._temporary, self._partial, self._damaged):
                make_directory(directory)
            self._recover()

    def add(self, path: Path, *, durable: bool) -> Cid:
        """Take over the file at `path`: moved where the file system allows, else copied. What is there already only
        loses `path`."""
        raw = _manifest_of_file(path)
        cid = cid_of(raw)
        if self._is_sound(cid) and path.samefile(self._path(cid)):
            if durable:
                self._make_durable(cid)
            return cid
        temporary = self._temporary / f"{cid}.{next(self._serial)}"
        try:
            self._take(path, temporary)
            self._keep(cid, raw, temporary, durable=durable)
        except BaseException:
            if temporary.exists() and not path.exists():
                temporary.replace(path)  # its owner may try again
            raise
        finally:
            temporary.unlink(missing_ok=True)
        with disk(path, "remove"):
            path.unlink(missing_ok=True)
        return cid

    def has(self, cid: Cid) -> bool:
        """Whether the blob is held whole, as far as is known."""
        return bool(self._database.read("SELECT 1 FROM blobs WHERE cid = ?", cid))

    def path(self, cid: Cid) -> Path:
        """The file with the blob's bytes, to be mapped read-only."""
        path, rows = self._path(cid), self._database.read("SELECT size_bytes FROM blobs WHERE cid = ?", cid)
        if not rows:
            raise BlobLost(f"{path}: this blob is not held")
        with disk(path, "find"):
            size_bytes = path.stat().st_size if path.exists() else None
        if size_bytes != rows[0][0]:
            found = "missing" if size_bytes is None else f"{size_bytes} bytes long, not {rows[0][0]}"
            raise self._set_aside(cid, f"it is {found}")
        if cid in self._suspects:
            self._verify_chunks(cid)
            self._suspects.discard(cid)
        return path

    def manifest(self, cid: Cid) -> bytes | None:
        """The manifest's exact bytes, or None where the blob is not held whole."""
        rows = self._database.read("SELECT manifest FROM blobs WHERE cid = ?", cid)
        return bytes(rows[0][0]) if rows else None

    def chunk(self, cid: Cid, index: int) -> bytes:
        """One chunk, verified. Raises StoreError where the blob is not held or is damaged; IndexError past its end."""
        manifest, path = self._opened(cid), self._path(cid)
        if not 0 <= index < len(manifest.chunks):
            raise IndexError(f"{cid} has {len(manifest.chunks)} chunks, none of index {index}")
        chunk = b""
        if path.exists():
            with disk(path, "read"), path.open("rb", buffering=0) as file:
                chunk = os.pread(file.fileno(), chunk_size(manifest, index), index * manifest.chunk_bytes)
        try:
            check_chunk(manifest, index, chunk)
        except PeerError as error:
            raise self._set_aside(cid, error.sentence) from error
        return chunk

    def verify(self, cid: Cid) -> bool:
        """Whether every byte is right; a damaged blob is set aside."""
        try:
            self.path(cid)
            self._verify_chunks(cid)
        except StoreError:
            if self.has(cid):
                raise  # the disk refuses to be read, which says nothing about the bytes
            return False
        return True

    def begin(self, cid: Cid, manifest: bytes) -> Partial:
        """Start or resume a blob. A resumed one is hashed again: what counts is what the disk holds now."""
        opened = open_manifest(cid, manifest)
        path = self._partial / cid
        with disk(path, "create"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            partial = _FilePartial(self, cid, manifest, opened, path, descriptor)
            partial.resume()
        return partial

    def remove(self, cid: Cid, *, unless_durable: bool = False) -> None:
        """Forget a blob, whole or partial, or with `unless_durable` one that nobody has wanted to stay; what is not
        there is fine."""
        cid_digest(cid)  # it becomes a file's name
        path = self._path(cid)
        with self._finishing, self._changing, disk(path, "remove"):
            if unless_durable and self._database.read("SELECT 1 FROM blobs WHERE cid = ? AND durable", cid):
                return
            self._forget(cid)
            path.unlink(missing_ok=True)
            (self._partial / cid).unlink(missing_ok=True)

    def _keep(self, cid: Cid, manifest: bytes, source: Path, *, durable: bool) -> None:
        """The checked bytes at `source` become the blob, unless it is there; then what is there becomes durable."""
        path = self._path(cid)
        with disk(path, "write"):
            size_bytes = source.stat().st_size
            if durable and self._fsync:
                sync_file(source)
        with self._changing, disk(path, "write"):
            known = self._is_sound(cid)
            if known:
                source.unlink()
            else:
                make_directory(path.parent)
                source.chmod(READ_ONLY)
                source.replace(path)
                if durable:
                    self._sync_names(path)
                with self._database.write(durable=durable) as connection:
                    connection.execute(
                        "INSERT OR REPLACE INTO blobs (cid, manifest, size_bytes, durable) VALUES (?, ?, ?, ?)",
                        (cid, manifest, size_bytes, durable),
                    )
                self._suspects.discard(cid)
        if known and durable:
            self._make_durable(cid)

    def _make_durable(self, cid: Cid) -> None:
        """What was fetched in passing is to stay."""
        path = self._path(cid)
        if self._database.read("SELECT 1 FROM blobs WHERE cid = ? AND durable", cid):
            return
        with self._changing, disk(path, "write"):
            if self._fsync:
                sync_file(path)
            self._sync_names(path)
            with self._database.write(durable=True) as connection:
                connection.execute("UPDATE blobs SET durable = 1 WHERE cid = ?", (cid,))

    def _sync_names(self, path: Path) -> None:
        if self._fsync:
            sync_directory(path.parent)
            sync_directory(self._root)

    def _finish(self, cid: Cid, manifest: bytes, path: Path, descriptor: int, *, durable: bool) -> None:
        """The partial blob at `path`, open as `descriptor`, is whole: keep it."""
        with self._finishing, disk(path, "finish"):
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                self._keep(cid, manifest, path, durable=durable)
            elif not self._is_sound(cid):
                raise Unavailable(f"{cid} was removed while it was fetched")
            elif durable:
                self._make_durable(cid)

    def _take(self, path: Path, temporary: Path) -> None:
        """`path`, whose bytes were just hashed, is moved to `temporary`; across file systems it is copied."""
        with disk(path, "move"):
            try:
                path.rename(temporary)
            except OSError as error:
                if error.errno != EXDEV:
                    raise
        with disk(temporary, "write"):
            if not temporary.exists():
                temporary.touch(mode=0o600)
                shutil.copyfile(path, temporary)
            temporary.chmod(0o600)

    def _is_sound(self, cid: Cid) -> bool:
        """Held, with a file of the right size: what a look can tell."""
        rows = self._database.read("SELECT size_bytes FROM blobs WHERE cid = ?", cid)
        try:
            return bool(rows) and self._path(cid).stat().st_size == rows[0][0]
        except FileNotFoundError:
            return False

    def _verify_chunks(self, cid: Cid) -> None:
        for index in range(len(self._opened(cid).chunks)):
            self.chunk(cid, index)

    def _opened(self, cid: Cid) -> Manifest:
        """The decoded manifest of a blob that is held."""
        manifest = self._manifests.get(cid)
        if manifest is not None:
            return manifest
        raw = self.manifest(cid)
        if raw is None:
            raise BlobLost(f"{self._path(cid)}: this blob is not held")
        try:
            manifest = open_manifest(cid, raw)
        except PeerError as error:
            raise self._set_aside(cid, error.sentence) from error
        with self._changing:
            if self.has(cid):
                while len(self._manifests) >= _OPEN_MANIFESTS:
                    del self._manifests[next(iter(self._manifests))]
                self._manifests[cid] = manifest
        return manifest

    def _set_aside(self, cid: Cid, reason: str) -> BlobLost:
        """The blob is not held any more; its bytes stay for a person to look at. Returns what to raise."""
        path, aside = self._path(cid), self._damaged / cid
        with self._changing, disk(path, "set aside"):
            self._forget(cid)
            if path.exists():
                path.replace(aside)
                os.utime(aside)
        return BlobLost(f"{path} is damaged: {reason}", hint="it is set aside, and fetched again when needed")

    def _forget(self, cid: Cid) -> None:
        self._manifests.pop(cid, None)
        with self._database.write(durable=False) as connection:
            connection.execute("DELETE FROM blobs WHERE cid = ?", (cid,))

    def _path(self, cid: Cid) -> Path:
        # Every CID begins alike: the directory is named by the first two characters that are all hash.
        return self._root / cid[8:10] / cid

    def _recover(self) -> None:
        """After a crash: no half files, no file without a row, no row without a file. Partial blobs stay."""
        for path in self._temporary.iterdir():
            path.unlink()
        oldest = time.time() - _KEEP_DAYS * 86_400
        for path in (*self._partial.iterdir(), *self._damaged.iterdir()):
            if path.stat().st_mtime < oldest:
                path.unlink()
        rows: dict[Cid, int] = dict(self._database.read("SELECT cid, size_bytes FROM blobs"))
        for path in self._root.glob("??/*"):
            if rows.get(path.name) == path.stat().st_size and path == self._path(path.name):
                del rows[path.name]
            elif path.name in rows:
                path.replace(self._damaged / path.name)
            else:
                path.unlink()
        for cid in rows:
            self._forget(cid)
        self._suspects = {row[0] for row in self._database.read("SELECT cid FROM blobs WHERE NOT durable")}


class _FilePartial:
    """A sparse file that fills up. Two may fill the same file: both write the same bytes to the same places."""

    def __init__(self, blobs: FileBlobs, cid: Cid, raw: bytes, manifest: Manifest, path: Path, descriptor: int) -> None:
        self.manifest = manifest
        self._blobs, self._cid, self._raw, self._path, self._descriptor = blobs, cid, raw, path, descriptor
        self._missing = set(range(len(manifest.chunks)))
        weakref.finalize(self, os.close, descriptor)  # not before: a late write must not hit another file's number

    @property
    def missing(self) -> frozenset[int]:
        """Indices of chunks not yet written."""
        return frozenset(self._missing)

    def resume(self) -> None:
        """Find the chunks that the file holds already. Raises OSError."""
        empty = os.fstat(self._descriptor).st_size == 0
        os.ftruncate(self._descriptor, self.manifest.size_bytes)
        os.utime(self._descriptor)
        if not empty:
            self._missing = {index for index in self._missing if not self._holds(index)}

    def write(self, index: int, chunk: bytes) -> None:
        """Store a chunk. Raises PeerError if it is not the one that the manifest names; StoreError where the disk
        is full, and then the partial blob is gone, so as not to keep it full."""
        check_chunk(self.manifest, index, chunk)
        try:
            with disk(self._path, "write"):
                if os.pwrite(self._descriptor, chunk, index * self.manifest.chunk_bytes) != len(chunk):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
        except StoreError:
            self._path.unlink(missing_ok=True)
            raise
        self._missing.discard(index)

    def finish(self, *, durable: bool) -> None:
        """It becomes a blob. Raises Unavailable where it was removed meanwhile, StoreError while chunks are missing."""
        if self._missing:
            raise StoreError(f"{self._path}: {len(self._missing)} chunks are missing")
        self._blobs._finish(self._cid, self._raw, self._path, self._descriptor, durable=durable)

    def _holds(self, index: int) -> bool:
        size = chunk_size(self.manifest, index)
        try:
            check_chunk(self.manifest, index, os.pread(self._descriptor, size, index * self.manifest.chunk_bytes))
        except PeerError:
            return False
        return True


def _manifest_of_file(path: Path) -> bytes:
    with disk(path, "add"):
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"cannot add {path}: it is not a plain file")
        if path.stat().st_size > MAX_BLOB_BYTES:
            raise StoreError(f"cannot add {path}: a blob has at most 64 GiB")
        try:
            return encode(manifest_of(_chunks_of(path)))
        except ValueError as error:
            raise StoreError(f"cannot add {path}: it changes while it is read") from error


def _chunks_of(path: Path) -> Iterator[memoryview]:
    """The file's bytes, a chunk at a time, through one buffer."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb") as file:
        while size := file.readinto(buffer):
            yield buffer[:size]
