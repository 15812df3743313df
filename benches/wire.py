"""What each form of a delta costs in bytes, and in accuracy: the demo's run with each, real daemons on this machine.

    python benches/wire.py --rounds 20 --repeats 5 --json

Four daemons with uneven shares of the digits, as in `primep2p demo`, nobody killed. Accuracy is that of certified
params on digits that no node trains on: after a quarter of the rounds, and the mean of the last quarter, which differ
from round to round; the median of the repeats, each with other seeds, and the least. Bytes of an update are those of
the files that travel; of a round, of every update to each of the other three.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from primep2p.cli.demo.judging import Judge
from primep2p.cli.demo.play import config_of
from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.digits import load_shares, save
from primep2p.cli.swarm.feed import Feed
from primep2p.cli.swarm.watched import create_and_join
from primep2p.control.calls.models import ModelPathOf
from primep2p.model.pipeline import Bfloat16, Float32, Int8, Pipeline, TopK, Wire
from primep2p.model.records import TensorSpec
from primep2p.model.views.events import RoundCertified
from primep2p.store.deltas import columns_of, delta_bytes

NODES = 4
HIDDEN = 256
"""As the demo has it: 19,210 parameters."""

WIRES: dict[str, Wire] = {
    "float32": Float32(),
    "bf16": Bfloat16(),
    "int8": Int8(),
    "topk 0.1": TopK("0.1"),
    "topk 0.01": TopK("0.01"),
}

TENSORS = (
    TensorSpec("layer0.weight", "float32", (64, HIDDEN)),
    TensorSpec("layer0.bias", "float32", (HIDDEN,)),
    TensorSpec("layer1.weight", "float32", (HIDDEN, 10)),
    TensorSpec("layer1.bias", "float32", (10,)),
)

ROUND_S = 60.0
"""No round takes so long unless something is wrong."""


def accuracies(swarm: Swarm, wire: Wire, rounds: int, held_out: Path) -> list[float]:
    """Of the params of each round, on the held-out digits."""
    config = config_of(NODES, rounds, HIDDEN, Pipeline(wire=wire))
    judge = Judge(config, held_out, held_out.parent)
    feed = Feed(create_and_join(config, *swarm.daemons))
    feed.follow(*swarm.daemons)
    found: dict[int, float] = {}
    while len(found) < rounds:
        happened = feed.next(ROUND_S)
        event = happened.event
        if not isinstance(event, RoundCertified) or event.round in (0, *found):
            continue
        if happened.daemon.peer in event.signers:  # who signed has the params
            path = happened.daemon.call(ModelPathOf(model=f"{feed.run}@{event.round}")).path
            found[event.round] = judge.accuracy(Path(path))
    return [found[round] for round in sorted(found)]


def files_of(swarm: Swarm, size_bytes: int) -> int:
    """How many blobs of that size the nodes have."""
    blobs = (path for daemon in swarm.daemons for path in (daemon.home / "blobs").rglob("*"))
    return sum(path.is_file() and path.stat().st_size == size_bytes for path in blobs)


def measured(names: Iterable[str], rounds: int, repeats: int) -> dict[str, dict[str, float]]:
    """Of each form: its bytes, and the accuracy that comes of it."""
    result: dict[str, dict[str, float]] = {}
    shares, held_out = load_shares(NODES)
    with tempfile.TemporaryDirectory() as base:
        data = [Path(base) / f"share{number}.npz" for number in range(NODES)]
        for path, share in zip(data, shares, strict=True):
            save(path, share)
        save(Path(base) / "held-out.npz", held_out)
        with Swarm(Path(base), [Settings(data=path) for path in data]) as swarm:
            swarm.start()
            swarm.until_connected()
            for name in names:
                wire = WIRES[name]
                runs = [accuracies(swarm, wire, rounds, Path(base) / "held-out.npz") for _ in range(repeats)]
                size_bytes = delta_bytes(wire, TENSORS)
                assert files_of(swarm, size_bytes), f"no update of {size_bytes} bytes was sent"
                quarter = rounds // 4
                last = [statistics.mean(run[-quarter:]) for run in runs]
                result[name] = {
                    "update_bytes": size_bytes,
                    "round_bytes": size_bytes * NODES * (NODES - 1),
                    "share": round(size_bytes / delta_bytes(Float32(), TENSORS), 4),
                    "accuracy_early": round(statistics.median(run[quarter - 1] for run in runs), 4),
                    "accuracy": round(statistics.median(last), 4),
                    "least": round(min(last), 4),
                }
                print(f"{name:10} {result[name]}", file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes and accuracy of each form that deltas travel in.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(WIRES), help="names, with commas between them")
    parser.add_argument("--json", action="store_true", help="print the result and nothing else")
    given = parser.parse_args()
    names = given.only.split(",")
    if given.rounds < 4 or given.repeats < 1 or not set(names) <= set(WIRES):
        parser.error(f"--rounds must be at least 4, --repeats at least 1, and --only of {', '.join(WIRES)}")
    found = measured(names, given.rounds, given.repeats)
    if not given.json:
        print(f"{columns_of(TENSORS):,} values, {NODES} nodes, {given.rounds} rounds, {given.repeats} repeats")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
