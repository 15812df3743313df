"""How long one who is new takes to take part in a run that is 200 rounds old, and whose creator is gone.

    python benches/joiner.py --json

Four real daemons come to round 200, and the creator is killed; training takes 0.3 s. Then daemons with an empty home
join, one after the other, in turn without a pin (the whole chain is checked) and with the newest one. Counted is the
time from `run join` until a member tells of the first round that has the newcomer's update, and which one that is of
the rounds that began after the call. The first is the least: the round under way must let it in.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.watched import LONG_S, Watched, create_and_join
from primep2p.control.calls.runs import RunJoin, RunShow
from primep2p.model.records import RoundPolicy
from primep2p.run_config import RunConfig

NODES = 4

TRAIN_S = 0.3

ROUND_S = 5.0
"""No round takes so long unless something is wrong."""


def joins(rounds: int, each: int, note: bool) -> dict[bool, list[tuple[float, int]]]:
    """Seconds and rounds of each join, without and with a pin."""
    config = RunConfig(
        name="joiner",
        trainer="noop",
        trainer_config={"seconds": TRAIN_S},
        policy=RoundPolicy(rounds=0, first_members=NODES, min_members=NODES - 1),
    )
    took: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as base, Swarm(Path(base), [Settings()] * (NODES + 2 * each)) as swarm:
        members, newcomers = swarm.daemons[:NODES], swarm.daemons[NODES:]
        swarm.start(*members)
        swarm.until_connected()
        run = Watched(create_and_join(config, *members), members)
        run.until_round(rounds, *members, within_s=rounds * ROUND_S)
        creator, teller, *_ = members
        creator.kill()
        dropped(run, creator, teller)
        for number, newcomer in enumerate(newcomers):
            swarm.start(newcomer)
            swarm.until_connected()
            with_pin = bool(number % 2)
            took[with_pin].append(join(run, newcomer, teller, with_pin=with_pin))
            if note:
                seconds, passed = took[with_pin][-1]
                print(f"{'with' if with_pin else 'without'} a pin: {seconds} s, {passed} rounds", file=sys.stderr)
            swarm.stop(newcomer)
            dropped(run, newcomer, teller)
    return took


def join(run: Watched, newcomer: Daemon, teller: Daemon, *, with_pin: bool) -> tuple[float, int]:
    """Seconds and rounds until a newcomer's update is in."""
    name = teller.call(RunShow(run=run.run)).pin if with_pin else run.run
    run.hear()
    under_way, asked_at = run.newest(teller) + 1, time.monotonic()
    newcomer.call(RunJoin(run=name))
    part = run.first_part(newcomer.peer, under_way, teller)
    return round(time.monotonic() - asked_at, 3), part - under_way


def dropped(run: Watched, gone: Daemon, teller: Daemon) -> None:
    """Who is gone is no member any more."""
    run.until(lambda: gone.peer not in run.certified[teller][run.newest(teller)].roster, LONG_S)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds until a newcomer takes part in a long run.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--joins", type=int, default=3, help="so many without a pin and as many with one")
    parser.add_argument("--json", action="store_true", help="print the result and nothing else")
    given = parser.parse_args()
    if min(given.rounds, given.joins) < 1:
        parser.error("--rounds and --joins must be at least 1")
    took = joins(given.rounds, given.joins, note=not given.json)
    result: dict[str, float | int] = {"rounds": given.rounds}
    for with_pin, name in [(False, "no_pin"), (True, "pin")]:
        seconds, passed = zip(*took[with_pin], strict=True)
        result[f"{name}_p50_s"] = round(statistics.median(seconds), 3)
        result[f"{name}_max_s"] = max(seconds)
        result[f"{name}_max_rounds"] = max(passed)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
