"""Runs for tests of real daemons."""

from primep2p.cli.swarm.daemons import Daemon
from primep2p.cli.swarm.watched import Watched, create_and_join
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import RoundPolicy, Scalar
from primep2p.run_config import RunConfig

PLAIN = Pipeline()


def found(
    creator: Daemon,
    *others: Daemon,
    rounds: int,
    trainer: str = "steady",
    settings: dict[str, Scalar | list[Scalar]] | None = None,
    seconds: float = 0.0,
    pipeline: Pipeline = PLAIN,
    **policy: object,
) -> Watched:
    """A run that `creator` creates and the others join; all are followed."""
    config = RunConfig(
        name="loopback",
        trainer=trainer,
        pipeline=pipeline,
        trainer_config=settings if settings is not None else {"seconds": seconds},
        policy=RoundPolicy(**{"rounds": rounds, "first_members": 1 + len(others), "min_updates": 2, **policy}),
    )
    return Watched(create_and_join(config, creator, *others), (creator, *others))
