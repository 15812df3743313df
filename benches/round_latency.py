"""What a round costs when training costs nothing: real daemons, the trainer `noop`, time from commit to commit.

    python benches/round_latency.py --nodes 4 --model-bytes 100000 --rounds 20

Seconds are those that one node tells of: between its commit of a round and that of the round before. The first round
is left out, since in it each node starts its trainer.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.feed import Feed
from primep2p.cli.swarm.watched import create_and_join
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import RoundCertified, RunFinished
from primep2p.run_config import RunConfig

FLOAT32_BYTES = 4

ROUND_S = 60.0
"""No round takes so long unless something is wrong."""


def round_seconds(nodes: int, model_bytes: int, rounds: int) -> list[float]:
    """Of each round but the first, as node 0 tells them."""
    config = RunConfig(
        name="latency",
        trainer="noop",
        trainer_config={"elements": max(1, model_bytes // FLOAT32_BYTES)},
        policy=RoundPolicy(rounds=rounds + 1, first_members=nodes, min_updates=nodes),
    )
    with tempfile.TemporaryDirectory() as base, Swarm(Path(base), [Settings()] * nodes) as swarm:
        swarm.start()
        swarm.until_connected()
        feed = Feed(create_and_join(config, *swarm.daemons))
        feed.follow(swarm.daemons[0])
        seconds = []
        while not isinstance(event := feed.next(ROUND_S).event, RunFinished):
            if isinstance(event, RoundCertified) and event.round > 1:
                seconds.append(event.seconds)
    return seconds


def percentile(values: list[float], percent: int) -> float:
    """Interpolated; of one value, that one."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a round whose training costs nothing.")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--model-bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print the result and nothing else")
    given = parser.parse_args()
    if min(given.nodes, given.model_bytes, given.rounds) < 1:
        parser.error("--nodes, --model-bytes and --rounds must be at least 1")
    seconds = round_seconds(given.nodes, given.model_bytes, given.rounds)
    if not given.json:
        print(" ".join(f"{each:.3f}" for each in seconds), file=sys.stderr)
    result = {
        "nodes": given.nodes,
        "model_bytes": given.model_bytes,
        "rounds": len(seconds),
        "p50_s": round(percentile(seconds, 50), 4),
        "p95_s": round(percentile(seconds, 95), 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
