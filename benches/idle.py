"""What a daemon costs that has nothing to do: one of four that are connected, with a run that is finished.

    python benches/idle.py --seconds 20

Memory is the resident set at the end, of the daemon and of what it started; the share is of one core, over the time.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import psutil

from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.feed import Feed
from primep2p.cli.swarm.watched import create_and_join
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import RunFinished
from primep2p.run_config import RunConfig

NODES = 4
ROUNDS = 3
RUN_S = 120.0

SETTLE_S = 5.0
"""After the run: evaluations and provider records of its last round."""


def idle(seconds: float) -> dict[str, float]:
    """Of one daemon, which is not the run's creator."""
    config = RunConfig(name="idle", trainer="noop", policy=RoundPolicy(rounds=ROUNDS, first_members=NODES))
    with tempfile.TemporaryDirectory() as base, Swarm(Path(base), [Settings()] * NODES) as swarm:
        swarm.start()
        swarm.until_connected()
        others = swarm.daemons[1:]
        feed = Feed(create_and_join(config, *swarm.daemons))
        feed.follow(others[0])
        feed.until(lambda happened: isinstance(happened.event, RunFinished), RUN_S)
        time.sleep(SETTLE_S)
        daemon = psutil.Process(others[0].pid)
        trainers = daemon.children(recursive=True)
        before = {process: cpu_s(process) for process in (daemon, *trainers)}
        began_at = time.monotonic()
        time.sleep(seconds)
        took_s = time.monotonic() - began_at
        return {
            "seconds": round(took_s, 2),
            "daemon_rss_mb": round(daemon.memory_info().rss / 1e6, 1),
            "daemon_core_share": round((cpu_s(daemon) - before[daemon]) / took_s, 4),
            "trainer_rss_mb": round(sum(process.memory_info().rss for process in trainers) / 1e6, 1),
            "trainer_core_share": round(sum(cpu_s(each) - before[each] for each in trainers) / took_s, 4),
        }


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and CPU of a daemon with nothing to do.")
    parser.add_argument("--seconds", type=float, default=20.0)
    print(json.dumps(idle(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
