"""Run seeds of the mixed scenario: `python -m tests.sim FIRST [LAST]`."""

import sys
import time

from tests.sim.scenarios import mixed, run


def main() -> None:
    first = int(sys.argv[1])
    last = int(sys.argv[2]) if len(sys.argv) > 2 else first
    started = time.perf_counter()
    for seed in range(first, last + 1):
        world = mixed(seed)
        run(world)
        if first == last:
            print(world.scenario)
            for round, certified in world.certified.items():
                header = certified.header
                print(
                    f"round {round}: {len(header.inclusions)} updates {header.void or ''} {certified.hash.hex()[:12]}"
                )
            for accuser, peer, reason, proof in world.accusations:
                print(f"{accuser[-6:]} accuses {peer[-6:]}: {reason}{' (evidence)' if proof else ''}")
    print(f"{last - first + 1} seeds agree, in {time.perf_counter() - started:.1f} s")


main()
