"""A trainer tried as a daemon would run it: each request once, and once more with the same seed.

Nothing is imported here: all happens in the trainer's own process, twice made, in a directory that the caller removes.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from math import prod
from pathlib import Path

import numpy as np
import trio

from primep2p.config import TrainerSection
from primep2p.model.errors import PrimeError
from primep2p.model.records import Scalar
from primep2p.model.text import printable
from primep2p.model.views.plugins import Finding
from primep2p.plugin.api import ABI_VERSION
from primep2p.plugin.arrays import load_arrays, save_arrays
from primep2p.plugin.frames import UNPICKLED
from primep2p.plugin.limits import usage_of
from primep2p.plugin.process import InitialModel, Trained, Worker
from primep2p.plugin.tensors import open_mapped

__all__ = ["Trial"]

SEED = 1
ROWS = 8
"""Of the data, for a question."""

LOOK_EVERY_S = 0.05
SLOW_S = 5.0
"""A training that takes so long should report."""

MIB = 2**20

READ_ONLY = " is read-only"
"""How numpy says what happens to those who change what they are given."""


class Trial:
    """`run` tells each finding as soon as it is made, and ends with the first fault that leaves nothing to try.

    `inputs` is a file of arrays to ask the model; without it some rows of x of an .npz of data are asked.
    """

    def __init__(
        self,
        section: TrainerSection,
        trainer: str,
        config: Mapping[str, Scalar | list[Scalar]],
        directory: Path,
        *,
        inputs: Path | None,
        deadline_s: float,
        tell: Callable[[Finding], None],
    ) -> None:
        self._section = section
        self._trainer = trainer
        self._config = config
        self._directory = directory
        self._inputs = inputs
        self._deadline_s = deadline_s
        self._tell = tell
        self._peak_bytes = 0
        self._reports = 0

    async def run(self) -> None:
        """Until all is tried."""
        began_s = time.monotonic()
        with suppress(PrimeError):  # told
            await self._try_all()
        if self._peak_bytes:
            self._say(
                "used", f"{self._peak_bytes // MIB} MiB of memory at the most, {time.monotonic() - began_s:.1f} s"
            )

    async def _try_all(self) -> None:
        async with self._worker("once") as worker:
            predicts = await self._load(worker)
            model = await self._init(worker)
            trained = await self._train(worker, model)
            await self._evaluate(worker, model)
            await self._predict(worker, model, predicts=predicts)
            await self._resume(worker, model)
        await self._again(model, trained)
        self._look_for_pickles()

    async def _load(self, worker: Worker) -> bool:
        with self._telling("load"):
            made = await worker.prepare()
        older = "" if made.abi_version == ABI_VERSION else f" of {ABI_VERSION}"
        self._say("load", f"version {made.abi_version}{older} of the plugin API")
        return made.predicts

    async def _init(self, worker: Worker) -> InitialModel:
        with self._telling("init"):
            model = await worker.init(SEED)
        numbers = sum(prod(tensor.shape) for tensor in model.tensors)
        some = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in model.tensors[:3])
        more = f" and {len(model.tensors) - 3} more" if len(model.tensors) > 3 else ""
        self._say("init", f"{numbers} numbers ({4 * numbers} bytes a round): {some}{more}")
        return model

    async def _train(self, worker: Worker, model: InitialModel) -> Trained:
        with self._telling("train"):
            trained = await worker.train(1, SEED, model.params, deadline_s=self._deadline_s, report=self._count)
        _, delta = open_mapped(trained.delta)
        if not any(array.any() for array in delta.values()):
            self._say("train", "the delta is zero everywhere: training changed nothing", "fault")
        unmoved = [name for name, array in delta.items() if not array.any()]
        if unmoved and len(unmoved) < len(delta):
            self._say("train", f"{', '.join(unmoved[:5])}: training did not change it", "note")
        told = ", ".join(f"{name} {value:.4g}" for name, value in trained.metrics.items()) or "no metrics"
        examples = f"{trained.examples} example{'' if trained.examples == 1 else 's'}"
        self._say("train", f"{examples} in {trained.seconds:.1f} s, {told}")
        if trained.seconds > SLOW_S and not self._reports:
            self._say("train", "nothing was reported: call ctx.report, or it may be taken to hang", "note")
        return trained

    async def _evaluate(self, worker: Worker, model: InitialModel) -> None:
        with self._telling("evaluate", goes_on=True):
            metrics = await worker.evaluate(1, SEED, model.params)
            told = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self._say("evaluate", told or "no metrics", "ok" if told else "note")

    async def _predict(self, worker: Worker, model: InitialModel, *, predicts: bool) -> None:
        if not predicts:
            self._say("predict", "no such method: the model cannot be asked by `primep2p model predict`", "note")
            return
        inputs = self._inputs or await trio.to_thread.run_sync(self._some_rows)
        if inputs is None:
            self._say("predict", "not tried: give it arrays with --inputs", "note")
            return
        with self._telling("predict", goes_on=True):
            arrays = load_arrays(await worker.predict(model.params, inputs))
            self._say("predict", ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()))

    def _some_rows(self) -> Path | None:
        with suppress(OSError, ValueError, KeyError):
            with np.load(self._section.data, allow_pickle=False) as arrays:
                x = arrays["x"][:ROWS]
            save_arrays(self._directory / "inputs.safetensors", {"x": x})
            return self._directory / "inputs.safetensors"
        return None

    async def _resume(self, worker: Worker, model: InitialModel) -> None:
        """Asked for the same training as before, it goes on from what it saved last."""
        step = worker.saved_step
        if step is None:
            self._say("checkpoint", "none was saved: a training that is cut short begins anew")
            return
        with self._telling("checkpoint", goes_on=True):
            resumed = await worker.train(1, SEED, model.params, deadline_s=self._deadline_s)
            self._say("checkpoint", f"goes on from step {step} in {resumed.seconds:.1f} s")

    async def _again(self, model: InitialModel, trained: Trained) -> None:
        async with self._worker("again") as worker:
            with self._telling("again"):
                second = await worker.init(SEED)
                repeated = await worker.train(1, SEED, model.params, deadline_s=self._deadline_s)
        same = second.params.read_bytes() == model.params.read_bytes()
        alike = repeated.delta.read_bytes() == trained.delta.read_bytes()
        if not same:
            self._say("again", "the same seed gave other first params: draw them from ctx.seed", "note")
        if not alike:
            self._say("again", "the same seed gave another delta: nobody can repeat this training", "note")
        if same and alike:
            self._say("again", "the same seed gives the same params and the same delta")

    def _look_for_pickles(self) -> None:
        printed = "".join(log.read_text(errors="replace") for log in self._directory.glob("*/trainer.log*"))
        named = sorted({line.removeprefix(UNPICKLED) for line in printed.splitlines() if line.startswith(UNPICKLED)})
        if named:
            said = f"unpickled {', '.join(named[:3])}: a pickle can run anything, so read data in another format"
            self._say("pickles", said, "note")

    @asynccontextmanager
    async def _worker(self, name: str) -> AsyncIterator[Worker]:
        section = self._section
        worker = Worker(
            self._trainer,
            plugins=section.plugins,
            config=self._config,
            data=Path(section.data) if section.data else None,
            directory=self._directory / name,
            silent_s=min(section.silent_s, self._deadline_s),
            limits=section.limits.get(self._trainer, section),
            environment=section.environment,
            is_watched=True,
        )
        failure: PrimeError | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(self._measure, worker)
            try:
                yield worker
            except PrimeError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _measure(self, worker: Worker) -> None:
        while True:
            if worker.group is not None:
                used = await trio.to_thread.run_sync(usage_of, worker.group)
                self._peak_bytes = max(self._peak_bytes, used.memory_bytes)
            await trio.sleep(LOOK_EVERY_S)

    def _count(self, step: int, steps: int, loss: float) -> None:
        self._reports += 1

    def _telling(self, what: str, *, goes_on: bool = False) -> "_Telling":
        return _Telling(self._tell, what, goes_on=goes_on)

    def _say(self, what: str, said: str, state: str = "ok") -> None:
        self._tell(Finding(what=what, state=state, said=printable(said)))  # type: ignore[arg-type]


class _Telling:
    """An error within is told as a fault, with what the trainer printed; it ends the trial unless that `goes_on`."""

    def __init__(self, tell: Callable[[Finding], None], what: str, *, goes_on: bool) -> None:
        self._tell = tell
        self._what = what
        self._goes_on = goes_on

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, PrimeError):
            return False
        said = error.sentence
        if READ_ONLY in said:
            said += ": the params that it is given are read-only, so copy them first"
        for line in (said, *getattr(error, "stderr", "").splitlines()):
            self._tell(Finding(what=self._what, state="fault", said=line))
        return self._goes_on
