"""Machines that are wrong on purpose: tests must be able to tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

import msgspec

from primep2p.core import chain, rounds, runs
from primep2p.core import effects as fx
from primep2p.core.consensus import Consensus
from primep2p.core.pen import Pen
from primep2p.core.repair import Notes
from primep2p.core.rounds import Round
from primep2p.core.runs import Run
from primep2p.core.votes import Committee
from primep2p.model.ids import Hash, PeerId
from primep2p.model.records import Header
from primep2p.wire.codec import decode

__all__ = ["MUTANTS", "WithoutLock"]


class WithoutLock(Consensus):
    """Forgets what it precommitted."""

    @property
    def locked(self) -> tuple[int, Hash] | None:  # type: ignore[override]
        return None

    @locked.setter
    def locked(self, value: object) -> None:
        pass


class Credulous(Round):
    """Takes whatever header comes with a right bundle: inclusions need not follow from it."""

    def _judge(self) -> None:
        for hash_, _, _ in self.candidates.judgeable():
            if not self.consensus.judged(hash_):
                self._act(self.consensus.on_verdict(hash_, True))


class Careless(Round):
    """Takes whatever state of the optimiser a header names."""

    def _judge(self) -> None:
        for hash_, candidate, derivation in self.candidates.judgeable():
            if self.consensus.judged(hash_) or (result := self._aggregate(derivation)) is None:
                continue
            named = dataclasses.replace(result, optimiser=decode(Header, candidate.raw).optimiser)
            self._act(self.consensus.on_verdict(hash_, self.candidates.header(derivation, named) == candidate.raw))


@contextmanager
def _quorum_less_one() -> Iterator[None]:
    right = Committee.of

    def wrong(members: tuple[PeerId, ...], threshold: str) -> Committee:
        return Committee(members, right(members, threshold).q - 1)

    with patch.object(Committee, "of", wrong):
        yield


@contextmanager
def _no_journal() -> Iterator[None]:
    right = Run.begin

    def wrong(self: Run, now: float, **what: object) -> object:
        return right(self, now, **{**what, "entries": []})  # type: ignore[arg-type]

    with patch.object(Run, "begin", wrong):
        yield


@contextmanager
def _unwritten() -> Iterator[None]:
    right = Pen.sign

    def wrong(self: Pen, record: msgspec.Struct, header: bytes = b"", bundle: bytes = b"") -> object:
        return right(self, record, header, bundle)[0], []

    with patch.object(Pen, "sign", wrong):
        yield


@contextmanager
def _hoards() -> Iterator[None]:
    right = Run.handle

    def wrong(self: Run, event: fx.Event, now: float) -> list[fx.Effect]:
        vars(self).setdefault("hoard", []).append(event)
        return right(self, event, now)

    with patch.object(Run, "handle", wrong):
        yield


MUTANTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "no lock": lambda: patch.object(rounds, "Consensus", WithoutLock),
    "q - 1": _quorum_less_one,
    "no journal": _no_journal,
    "free inclusions": lambda: patch.object(runs, "Round", Credulous),
    "any state": lambda: patch.object(runs, "Round", Careless),
    "sends what it did not write": _unwritten,
    "hoards": _hoards,
    "takes updates twice": lambda: patch.object(chain, "_counts", lambda member, round: True),
    "no repair": lambda: patch.object(Notes, "next_members", lambda self, connected: []),
}
"""By the name that a command of the simulator takes. Each is a context in which machines are wrong."""
