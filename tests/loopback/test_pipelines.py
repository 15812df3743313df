"""What a run's pipeline promises, on real daemons: a liar that is borne, a state that outlives its makers."""

import pytest
from runs import found

from primep2p.cli.swarm.digits import load_shares
from primep2p.control.calls.models import ModelPathOf
from primep2p.model.pipeline import (
    Adam,
    Clip,
    FedAvg,
    Int8,
    Median,
    NearestNeighbours,
    Pipeline,
    Sgd,
    TrimmedMean,
)
from primep2p.plugin.tensors import open_mapped
from primep2p.trainers.dense import Network

LEARNT = 0.65
GUESSED = 0.3
SETTINGS = {"hidden": [32], "features": 64, "classes": 10, "epochs": 3}


def accuracy(daemon, run) -> float:
    """Of the newest model, on digits that nobody trained on."""
    held_out = load_shares(5)[1]
    _, params = open_mapped(daemon.call(ModelPathOf(model=run)).path)
    guesses = Network(params).activations(held_out.x)[-1].argmax(axis=1)
    return float((guesses == held_out.y).mean())


@pytest.mark.parametrize(
    ("pipeline", "is_robust"),
    [
        (Pipeline(FedAvg("uniform")), False),
        (Pipeline(TrimmedMean("0.25"), pre=(NearestNeighbours(1),)), True),
        (Pipeline(Median(), pre=(NearestNeighbours(1),), wire=Int8()), True),
    ],
    ids=["fedavg", "nnm, trimmed_mean", "nnm, median, int8"],
)
def test_one_of_four_who_lies_ruins_a_mean_and_no_robust_rule(four, pipeline, is_robust):
    run = found(*four, rounds=8, trainer="lies", settings=SETTINGS, min_updates=4, pipeline=pipeline)
    run.end(*four)
    assert not any(event.void for event in run.certified[four[0]].values())
    reached = accuracy(four[0], run.run)
    assert reached > LEARNT if is_robust else reached < GUESSED


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(outer=Sgd(0.7, 0.9, nesterov=True)),
        Pipeline(TrimmedMean(), pre=(Clip(50.0), NearestNeighbours(1)), outer=Adam(0.05)),
    ],
    ids=["nesterov", "adam"],
)
def test_an_optimisers_state_outlives_a_node_that_is_killed_and_comes_back(four, swarm, pipeline):
    creator, *others = four
    run = found(*four, rounds=10, trainer="mlp", settings=SETTINGS, min_updates=3, pipeline=pipeline)
    run.until_round(3, others[0])
    creator.kill()
    run.until_round(5, others[0])
    swarm.start(creator)
    run.follow(creator)
    run.end(*four)
    told = run.certified[others[0]]
    assert not any(event.void for event in told.values())
    assert accuracy(creator, run.run) == accuracy(others[0], run.run) > LEARNT
