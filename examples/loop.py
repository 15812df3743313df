# %% [markdown]
# A round's training in a loop of one's own: softmax regression in numpy, as a notebook or as a script
#
#     primep2p run join RUN --own-loop
#     python examples/loop.py HOME RUN DATA.npz
#
# DATA.npz has x (n, features) and y (n,) ints from 0. The run may be one of the trainer `softmax`, which others use.

# %%
import asyncio
import sys
from pathlib import Path

import numpy as np

from primep2p import Client

HOME, RUN, DATA = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

# %%
with np.load(DATA) as arrays:
    x, y = arrays["x"].astype(np.float32), arrays["y"].astype(int)


# %%
def probabilities(params: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """(rows, classes) for rows (rows, features)."""
    logits = rows @ params["layer0.weight"] + params["layer0.bias"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def step(params: dict[str, np.ndarray], rows: np.ndarray, classes: np.ndarray, rate: float) -> float:
    """One step of SGD, in place; the mean cross-entropy before it."""
    shares = probabilities(params, rows)
    loss = -np.log(shares[np.arange(len(classes)), classes] + 1e-9).mean()
    shares[np.arange(len(classes)), classes] -= 1
    params["layer0.weight"] -= rate / len(classes) * (rows.T @ shares)
    params["layer0.bias"] -= rate / len(classes) * shares.sum(axis=0)
    return float(loss)


# %%
async def train(home: Path, run: str) -> None:
    """Round after round, until the run is over."""
    async with Client.open(home) as client:
        async for job in client.jobs(run):
            params = {name: array.copy() for name, array in job.params().items()}  # those of the job are read-only
            before = (probabilities(params, x).argmax(axis=1) == y).mean()
            rate, epochs = float(job.config.get("learning_rate", 0.1)), int(job.config.get("epochs", 1))
            random = np.random.default_rng(job.seed)
            for epoch in range(1, epochs + 1):
                losses = [step(params, x[batch], y[batch], rate) for batch in batches(random)]
                await job.report(epoch, np.mean(losses), steps=epochs)
            numbers = {"metrics": {"loss": np.mean(losses)}, "evaluated": {"accuracy": before}}
            receipt = await job.submit(params=params, examples=len(x), **numbers)
            print(f"round {job.round}: {before:.1%} before, {'taken' if receipt.taken else receipt.sentence}")


def batches(random: np.random.Generator) -> list[np.ndarray]:
    """Indices of some 32 rows each."""
    return np.array_split(random.permutation(len(x)), max(1, len(x) // 32))


# %%
asyncio.run(train(HOME, RUN))  # in a notebook: await train(HOME, RUN)
