"""Answers about the directory."""

from typing import Protocol

from primep2p.control.calls.directory import DhtGet, DhtProvide, DhtProviders, DhtPut
from primep2p.control.handlers.table import answers
from primep2p.model.views.directory import DirectoryProviders, DirectoryValue, Published
from primep2p.services.peers.pointers import decoded

__all__ = ["DirectoryVerbs", "PointerVerbs"]


class PointerVerbs(Protocol):
    """What a node asks and tells the directory for its owner. Raises PrimeError."""

    async def get(self, owner: str, key: str) -> DirectoryValue: ...
    async def put(self, key: str, value: bytes) -> Published: ...
    async def provide(self, key: str) -> Published: ...
    async def providers(self, key: str) -> DirectoryProviders: ...


class DirectoryVerbs(Protocol):
    """Where that is."""

    @property
    def pointers(self) -> PointerVerbs: ...


@answers(DhtGet)
async def get(node: DirectoryVerbs, call: DhtGet) -> DirectoryValue:
    return await node.pointers.get(call.owner, call.key)


@answers(DhtPut)
async def put(node: DirectoryVerbs, call: DhtPut) -> Published:
    return await node.pointers.put(call.key, decoded(call.value, base64=call.base64))


@answers(DhtProvide)
async def provide(node: DirectoryVerbs, call: DhtProvide) -> Published:
    return await node.pointers.provide(call.key)


@answers(DhtProviders)
async def providers(node: DirectoryVerbs, call: DhtProviders) -> DirectoryProviders:
    return await node.pointers.providers(call.key)
