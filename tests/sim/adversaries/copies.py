"""Nodes that are not alone: two with one key, and one whose disk was restored from a backup."""

from __future__ import annotations

from functools import partial

from tests.sim.adversaries.base import Adversary, adversary
from tests.sim.disk import Disk


@adversary
class Twin(Adversary):
    """Two daemons at once with one identity, each before its own half of the others. Neither knows of the other."""

    name = "two nodes with one key"

    def begins(self) -> None:
        node = self.node
        if node.twin is None and node.head is not None:
            self.world.add_twin(node)


@adversary
class Backup(Adversary):
    """Honest, but for its disk: a copy is made, and some rounds later the node starts from that. It counts as a liar,
    since those who were told what it signed since may all be away when it asks."""

    name = "restored from a backup"

    def begins(self) -> None:
        if self.node.life > 1:
            return
        at = self.chance.uniform(0.3, 3.0)
        self.world.heap.at(at, self._copy)

    def _copy(self) -> None:
        if self.node.up:
            copy = self.node.disk.backup()
            self.world.heap.at(self.world.heap.now + self.chance.uniform(0.2, 3.0), partial(self._restore, copy))

    def _restore(self, copy: Disk) -> None:
        self.world.crash(self.node, for_s=self.chance.uniform(0.05, 1.0))
        self.node.disk = copy
