"""The directory for this node's owner: what a person or a program may ask of it, and publish in it."""

from base64 import b64decode, b64encode

from primep2p.core.shelf import INDEX_KEY
from primep2p.keys import public_key_of
from primep2p.model.errors import CallError, PeerError
from primep2p.model.ids import Cid
from primep2p.model.views.directory import DirectoryProviders, DirectoryValue, Published
from primep2p.net.host import MAX_VALUE_BYTES, Directory, check_key
from primep2p.services.blobs.announcing import directory_key
from primep2p.store.seam import BlobStore
from primep2p.tasks import Offload
from primep2p.wire.cid import cid_digest

__all__ = ["Pointers", "decoded"]

OWN = ":"
"""In the keys that nodes use themselves: run:…, blob:…. Owners read them, and do not write them."""


class Pointers:
    """Verbs raise CallError for what the directory does not take, Unavailable where nobody is connected to ask."""

    def __init__(self, me: str, directory: Directory, blobs: BlobStore, offload: Offload) -> None:
        self._me = me
        self._directory = directory
        self._blobs = blobs
        self._offload = offload

    async def get(self, owner: str, key: str) -> DirectoryValue:
        """The newest record of `owner`, of this node where that is empty. Raises CallError where there is none."""
        owner = owner or self._me
        try:
            public_key_of(owner)
        except PeerError as error:
            raise CallError(error.sentence, hint="see: primep2p peers") from error
        value = await self._directory.get(owner, _key(key))
        if value is None:
            raise CallError(f"{owner} has published nothing under {key!r}, or it is forgotten", hint="ask its owner")
        return DirectoryValue(owner=owner, key=key, text=_text(value), base64=b64encode(value).decode())

    async def put(self, key: str, value: bytes) -> Published:
        """Publish a record of this node's own."""
        if len(value) > MAX_VALUE_BYTES:
            told = f"a record of {len(value):,} bytes is too large: the directory takes {MAX_VALUE_BYTES:,}"
            raise CallError(told, hint="publish the CID of a blob instead")
        await self._directory.put(_key(_writable(key)), value)
        return Published(owner=self._me, key=key)

    async def provide(self, key: str) -> Published:
        """Say that this node holds what `key` stands for; of a CID it must be true."""
        if _is_cid(key):
            if not await self._offload(self._blobs.has, key):
                raise CallError(f"this node does not hold {key}", hint="see: primep2p model list")
            await self._directory.provide(directory_key(key))
        else:
            await self._directory.provide(_key(_writable(key)))
        return Published(owner=self._me, key=key)

    async def providers(self, key: str) -> DirectoryProviders:
        """Who said so, this node not included."""
        asked = directory_key(key) if _is_cid(key) else _key(key)
        return DirectoryProviders(key=key, providers=list(await self._directory.providers(asked)))


def decoded(text: str, *, base64: bool) -> bytes:
    """The bytes of a value as it was given. Raises CallError."""
    if not base64:
        return text.encode()
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise CallError(f"the value is not base64: {error}", hint="leave --base64 out for text") from error


def _key(key: str) -> str:
    try:
        check_key(key)
    except ValueError as error:
        raise CallError(str(error), hint="hash what is longer") from error
    return key


def _writable(key: str) -> str:
    if OWN in key or key == INDEX_KEY:
        raise CallError(
            f"{key!r} is a key that nodes use themselves, as all with a colon are: it cannot be written",
            hint="take another key, such as one with a dot or a slash",
        )
    return key


def _is_cid(key: str) -> bool:
    cid: Cid = key
    try:
        cid_digest(cid)
    except PeerError:
        return False
    return True


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
