"""How long a run stands still when one of four members is killed in the middle of a round.

    python benches/failover.py --json

Real daemons with the default policy; training takes 0.3 s. One after the other is killed with SIGKILL, at different
moments of a round: counted is the time from the signal until the round under way is certified on the last of the three
that live. In every other case it is the round's first proposer. Then it starts again, and the next one is killed once
it takes part.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.watched import Watched, create_and_join, proposer_of
from primep2p.model.errors import Unavailable
from primep2p.model.records import RoundPolicy
from primep2p.run_config import RunConfig

NODES = 4

TRAIN_S = 0.3

MOMENTS = 5
"""Spread evenly over a round."""

LOST_S = 60.0
"""No certified round for so long after a kill: the run did not survive it."""


def failover_seconds(kills: int, note: bool) -> list[float | None]:
    """Of each kill; None where the run did not survive it, which ends the bench."""
    config = RunConfig(
        name="failover",
        trainer="noop",
        trainer_config={"seconds": TRAIN_S},
        policy=RoundPolicy(rounds=0, first_members=NODES, min_members=NODES),  # nobody is dropped for being killed
    )
    seconds: list[float | None] = []
    with tempfile.TemporaryDirectory() as base, Swarm(Path(base), [Settings()] * NODES) as swarm:
        swarm.start()
        swarm.until_connected()
        run = Watched(create_and_join(config, *swarm.daemons), swarm.daemons)
        run.until_round(3, *swarm.daemons)
        for number in range(kills):
            victim, moment = choose(run, swarm.daemons, number)
            took_s = kill(run, swarm.daemons, victim, moment)
            seconds.append(took_s)
            if note:
                what = "the proposer" if number % 2 else "another"
                print(f"{what}, {moment:.0%} into a round: {took_s} s", file=sys.stderr)
            if took_s is None:
                break
            back(run, swarm, victim)
    return seconds


def choose(run: Watched, daemons: list[Daemon], number: int) -> tuple[Daemon, float]:
    """Whom to kill in the round that has just begun, and how far into it. Each daemon has its turn."""
    moment = (number // 2 % MOMENTS + 0.5) / MOMENTS
    victim = daemons[number // 2 % NODES]
    while True:
        round = run.newest(*daemons) + 1
        run.until_round(round, daemons[0])
        proposer = proposer_of(daemons[0], run.run, round + 1)
        if proposer and (proposer == victim.peer) == bool(number % 2):
            return victim, moment


def kill(run: Watched, daemons: list[Daemon], victim: Daemon, moment: float) -> float | None:
    """Seconds from the signal to the certificate of the round under way, on all that live."""
    living = [daemon for daemon in daemons if daemon is not victim]
    usual_s = statistics.median(event.seconds for event in list(run.certified[living[0]].values())[-9:])
    time.sleep(moment * usual_s)
    run.hear()
    under_way = run.newest(*daemons) + 1
    killed_at = time.monotonic()
    victim.kill()
    try:
        run.until_round(under_way, *living, within_s=LOST_S)
    except Unavailable as error:
        print(error.sentence, *error.__notes__, sep="\n", file=sys.stderr)
        return None
    return round(time.monotonic() - killed_at, 3)


def back(run: Watched, swarm: Swarm, victim: Daemon) -> None:
    """It starts again, and takes part."""
    teller = next(daemon for daemon in swarm.daemons if daemon is not victim)
    swarm.start(victim)
    run.follow(victim)
    since = run.first_part(victim.peer, run.newest(*swarm.daemons), teller)
    run.until_round(since + 2, *swarm.daemons)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds without a certified round after a member is killed.")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print the result and nothing else")
    given = parser.parse_args()
    if given.kills < 1:
        parser.error("--kills must be at least 1")
    seconds = failover_seconds(given.kills, note=not given.json)
    survived = [each for each in seconds if each is not None]
    result = {
        "p50_s": round(statistics.median(survived), 3) if survived else None,
        "max_s": max(survived, default=None),
        "survived": len(survived),
    }
    print(json.dumps(result))
    sys.exit(len(survived) != given.kills)


if __name__ == "__main__":
    main()
