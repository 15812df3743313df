import msgspec
import pytest

from primep2p.model.errors import PeerError
from primep2p.model.pipeline import Adam, Bfloat16, Pipeline
from primep2p.model.records import RoundPolicy, TensorSpec
from primep2p.services.runs.costs import cost_of
from primep2p.store.deltas import delta_bytes

TENSORS = (TensorSpec("w", "float32", (1000, 1000)), TensorSpec("b", "float32", (1000,)))
MODEL = 4 * 1_001_000

PLAIN = Pipeline()


def cost(*, members: int = 4, votes: bool = True, pipeline: Pipeline = PLAIN, **policy: object):
    settings = RoundPolicy(**policy)
    return cost_of(pipeline, settings, TENSORS, members=members, votes=votes, keep_updates=4, keep_checkpoints=10)


def test_where_all_train_and_vote_each_fetches_every_delta_but_its_own_and_gives_as_many():
    found = cost(members=4)
    assert (found.cohort, found.committee) == (4, 4)
    assert found.delta_bytes == found.params_bytes == delta_bytes(PLAIN.wire, TENSORS)
    assert found.down_bytes == found.up_bytes
    assert found.down_bytes == pytest.approx(3 * MODEL, rel=0.001)
    assert found.disk_bytes == 4 * 4 * found.delta_bytes + 10 * found.params_bytes
    assert found.growth_bytes < 5000  # the chain alone


def test_what_all_upload_is_what_all_download():
    """Among members that are alike; a committee and a cohort are drawn."""
    for policy in ({"sample_fraction": "0.1"}, {"max_cohort": 8}, {}):
        found = cost(members=200, committee_size=31, **policy)
        assert found.down_bytes == pytest.approx(found.up_bytes, rel=0.001)


def test_a_shorter_form_of_deltas_costs_less_on_the_way_and_the_model_stays():
    half = cost(pipeline=Pipeline(wire=Bfloat16()))
    assert half.delta_bytes == pytest.approx(MODEL / 2, rel=0.01)
    assert half.params_bytes == cost().params_bytes
    assert half.down_bytes == pytest.approx(cost().down_bytes / 2, rel=0.01)


def test_who_has_no_vote_fetches_the_model_in_place_of_the_deltas():
    found = cost(members=8, votes=False)
    assert found.down_bytes == pytest.approx(found.params_bytes, rel=0.01)
    assert found.disk_bytes == 4 * found.delta_bytes + 10 * found.params_bytes


def test_of_a_large_roster_a_member_pays_for_its_share_of_draws():
    small, large = (cost(members=members, sample_fraction="0.2", max_cohort=16) for members in (80, 800))
    assert (small.cohort, large.cohort, large.committee) == (16, 16, 31)
    assert large.down_bytes < small.down_bytes


def test_an_outer_optimiser_takes_room_for_its_state():
    found = cost(pipeline=Pipeline(outer=Adam()))
    assert found.state_bytes == pytest.approx(2 * found.params_bytes, rel=0.01)
    assert found.disk_bytes - cost().disk_bytes == 10 * found.state_bytes
    assert found.memory_bytes - cost().memory_bytes == 2 * 4 * 2**20


def test_the_least_that_a_rule_needs_trains_whatever_the_sample():
    assert cost(members=10, sample_fraction="0.1", min_updates=3).cohort == 3


def test_one_member_alone_moves_next_to_nothing():
    found = cost(members=1, first_members=1, min_updates=1)
    assert found.down_bytes < 1000


def test_files_that_cannot_be_have_no_cost():
    name = "w" * 256
    many = tuple(TensorSpec(f"{number}{name}"[:256], "float32", (1,)) for number in range(100_000))
    with pytest.raises(PeerError):
        cost_of(Pipeline(outer=Adam()), RoundPolicy(), many, members=4, votes=True, keep_updates=4, keep_checkpoints=10)


def test_a_cost_is_plain_numbers():
    assert all(isinstance(value, int) for value in msgspec.to_builtins(cost()).values())


def test_a_buffered_run_keeps_updates_as_long_as_they_may_enter():
    found = cost(mode="buffered", max_staleness=9)
    assert found.disk_bytes == 9 * 4 * found.delta_bytes + 10 * found.params_bytes
    assert cost(mode="buffered", max_staleness=2).disk_bytes == cost().disk_bytes
