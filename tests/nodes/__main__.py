"""`python -m tests.nodes [SEED [NODES [ROUNDS]]]`: a crowd, and what it took."""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.nodes.crowds import Churn, crowd
from tests.nodes.world import simulate

if __name__ == "__main__":
    seed, nodes, rounds = [*map(int, sys.argv[1:]), *(0, 100, 20)[len(sys.argv) - 1 :]]
    churn = Churn(rounds)
    began, began_cpu = time.perf_counter(), time.process_time()
    with TemporaryDirectory() as directory:
        world = simulate(crowd(seed, nodes), Path(directory), churn)
    print(
        f"{nodes} nodes, {rounds} rounds, {churn.stops} stops, seed {seed}: {time.perf_counter() - began:.1f} s "
        f"({time.process_time() - began_cpu:.1f} s of CPU) for {churn.ended_s:.1f} s of virtual time; "
        f"{len(world.certified)} checkpoints"
    )
