"""Real data, shared out: writes a directory in which several nodes on this computer can train one model.

    python examples/data.py digits --trainer examples/torch_digits.py:Digits --into trial

Each node has examples of its own (x, y) and all have the same ones to be judged by, which none trains on (x_test,
y_test). What x is divided by stands in the run, the same for all: no node could know the others' mean.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn import datasets

SETS = {"breast_cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}
"""They come with scikit-learn: 569 cells of 30 measurements, and 1,797 digits of 8 x 8 pixels."""

NODE = """[node]
home = "{home}"

[p2p]
listen = ["/ip4/127.0.0.1/tcp/0"]

[trainer]
data = "{data}"
plugins = {{ example = "{trainer}" }}
"""

RUN = """name = "{name}"
trainer = "example"

[trainer_config]
epochs = {epochs}
batch_size = 16
shift = {shift}
scale = {scale}

[policy]
rounds = {rounds}
first_members = {nodes}
min_updates = {least}
min_members = {least}
"""


def shares(name: str, nodes: int, seed: int = 0) -> tuple[list[dict[str, np.ndarray]], list[float], list[float]]:
    """Each node's arrays, and what the columns of x are shifted and scaled by."""
    x, y = SETS[name](return_X_y=True)
    random = np.random.default_rng(seed)
    order = random.permutation(len(y))
    x, y = x[order].astype(np.float32), y[order].astype(np.int64)
    held_out = len(y) // 5
    test = {"x_test": x[:held_out], "y_test": y[:held_out]}
    rows = np.array_split(np.arange(held_out, len(y)), nodes)
    if name == "digits":  # pixels from 0 to 16
        shift, scale = [], [16.0] * x.shape[1]
    else:  # published with the data: rounded, they tell nothing of a single cell
        shift, scale = ([float(f"{value:.2g}") for value in row] for row in (x.mean(axis=0), x.std(axis=0)))
    return [{"x": x[part], "y": y[part], **test} for part in rows], shift, scale


def write(into: Path, name: str, nodes: int, trainer: str, rounds: int = 8, epochs: int = 3) -> None:
    """`node0` and so on, each with its data and node.toml, and `run.toml`."""
    parts, shift, scale = shares(name, nodes)
    path, _, kind = trainer.rpartition(":")
    for number, arrays in enumerate(parts):
        home = into.absolute() / f"node{number}"
        home.mkdir(parents=True, exist_ok=True)
        np.savez(home / "data.npz", **arrays)
        located = f"{Path(path).absolute()}:{kind}"
        (home / "node.toml").write_text(NODE.format(home=home, data=home / "data.npz", trainer=located))
    least = max(1, nodes - 1)
    settings = {"epochs": epochs, "shift": shift, "scale": scale, "rounds": rounds, "nodes": nodes, "least": least}
    (into / "run.toml").write_text(RUN.format(name=name, **settings))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--trainer", required=True, help="path.py:Class")
    parser.add_argument("--into", type=Path, required=True)
    given = parser.parse_args()
    write(given.into, given.name, given.nodes, given.trainer)
    for number in range(given.nodes):
        print(f"primep2p daemon start -d -c {given.into}/node{number}/node.toml")
    print(f"primep2p run create {given.into}/run.toml -c {given.into}/node0/node.toml")
    print("and on each other node: primep2p run join, with what that prints")


if __name__ == "__main__":
    main()
