"""The node of a home with its real seams: the network, the disk, trainers in processes of their own."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from primep2p.config import NodeConfig
from primep2p.keys import load_identity
from primep2p.net.libp2p_host import LibP2PHost
from primep2p.node import Node
from primep2p.plugin.workers import WorkerProcesses
from primep2p.services.training.plans import PlanFiles
from primep2p.store.db import lock_home, open_store
from primep2p.wire.envelope import Envelopes

__all__ = ["build"]


@contextmanager
def build(config: NodeConfig) -> Iterator[Node]:
    """The node of `config`, which alone has its home until the context is left. Raises ConfigError, StoreError."""
    identity = load_identity(config.home / "identity.key")
    host = LibP2PHost(identity, config.p2p.listen, config.p2p.bootstrap, config.node.network)
    envelopes = Envelopes(config.node.network, identity)
    with lock_home(config.home), closing(open_store(config.home)) as store:
        yield Node(
            config,
            envelopes,
            host=host,
            blobs=store.blobs,
            runs=store.runs,
            shelf=store.shelf,
            trainers=WorkerProcesses(
                config.trainer, config.home / "trainers", PlanFiles(envelopes, store.blobs, config.plans.trust)
            ),
        )
