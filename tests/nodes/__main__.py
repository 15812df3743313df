"""`python -m tests.nodes [SEED [NODES [ROUNDS]]]`: a crowd, and what it took."""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.nodes.crowds import Churn, crowd
from tests.nodes.world import simulate

RAMDISK = Path("/dev/shm")

if __name__ == "__main__":
    seed, nodes, rounds = [*map(int, sys.argv[1:]), *(0, 100, 20)[len(sys.argv) - 1 :]]
    churn = Churn(rounds)
    began, began_cpu = time.perf_counter(), time.process_time()
    with TemporaryDirectory(dir=RAMDISK if RAMDISK.is_dir() else None) as directory:
        world = simulate(crowd(seed, nodes), Path(directory), churn)
    certified = [checkpoint for _, checkpoint in world.certified]
    print(
        f"{nodes} nodes, {rounds} rounds with churn, {churn.stops} stops, seed {seed}\n"
        f"wall {time.perf_counter() - began:.1f} s, CPU {time.process_time() - began_cpu:.1f} s; virtual "
        f"{churn.ended_s:.1f} s, of which {churn.founded_s:.1f} s until all were members\n"
        f"checkpoints 0 to {max(certified)}; all heads equal: {'yes' if len(churn.heads) == 1 else 'NO'}"
    )
    sys.exit(len(churn.heads) != 1)
