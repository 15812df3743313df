"""wire/plans and wire/mlxfn: plans that somebody made, and the graphs in them."""

from primep2p.model.errors import PluginError
from primep2p.wire.mlxfn import ALLOWED, read_graph, renumbered
from primep2p.wire.plans import open_plan, read_plan
from tests.fuzz.surface import Surface
from tests.wire.graphs import EVALUATE, GRAPHS, INIT, OWNER, TRAIN, sealed
from tests.wire.samples import envelopes

READER = envelopes(number=2)


def fuzz(data: bytes) -> None:
    """What is opened is its owner's, and nothing in it is unknown; a graph that is read is the same renumbered."""
    try:
        graph = read_graph(data)
    except PluginError:
        pass
    else:
        assert graph.primitives.keys() <= ALLOWED.keys()
        again = renumbered(data)
        assert renumbered(again) == again
        assert read_graph(again) == graph
    try:
        opened = open_plan(data, READER)
    except PluginError:
        return
    assert opened.record.owner == OWNER.peer_id
    assert read_plan(data) == opened


def corpus() -> list[bytes]:
    return [INIT, TRAIN, EVALUATE, sealed(), sealed({**GRAPHS, "train": b"\0" * 9})]


SURFACE = Surface(fuzz, corpus, signers={OWNER.peer_id: OWNER}, examples_per_test=150)
