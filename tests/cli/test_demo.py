from primep2p.cli.demo.play import survives_a_loss
from primep2p.core.votes import Committee
from primep2p.model.records import MAX_MEMBERS, RoundPolicy


def test_the_demo_kills_a_node_where_the_others_are_a_quorum():
    threshold = RoundPolicy().consensus_threshold
    for nodes in (*range(1, 20), MAX_MEMBERS):
        committee = Committee.of(tuple(map(str, range(nodes))), threshold)
        assert survives_a_loss(nodes) == (committee.survives_silent > 0)
