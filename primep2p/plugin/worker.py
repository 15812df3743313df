"""The process that a trainer lives in: makes it once, answers the daemon's requests, and dies with the daemon.

Started as `python -m primep2p.plugin.worker FD`, FD being a socket of its own, so that what a trainer prints cannot be
taken for an answer. Imports numpy and msgspec; the daemon checks all that is said here once more.
"""

import ctypes
import importlib
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from math import isfinite
from operator import attrgetter, index
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec
import numpy as np

from primep2p.model.records import TensorSpec
from primep2p.plugin import loading
from primep2p.plugin.api import ABI_VERSION, ABI_VERSIONS, Arrays, Context, Misconfigured, Predicts, Trainer, Update
from primep2p.plugin.arrays import MAX_ARRAYS, MAX_ARRAYS_BYTES, load_arrays, save_arrays
from primep2p.plugin.checkpoints import Checkpoints
from primep2p.plugin.frames import (
    MAX_METRICS,
    UNPICKLED,
    Answer,
    Evaluate,
    Evaluated,
    Failed,
    FrameReader,
    Initialise,
    Initialised,
    Load,
    Loaded,
    Predict,
    Predicted,
    Reported,
    Request,
    Saved,
    Train,
    Trained,
    decode_request,
    encode,
)
from primep2p.plugin.tensors import create_mapped, is_finite, open_mapped, specs_of

__all__ = ["main"]

REPORT_EVERY_S = 0.1
"""A progress bar needs no more; a trainer may report every step."""

READ_BYTES = 65_536
MAX_SENTENCE = 1000

PR_SET_NO_NEW_PRIVS = 38
"""From linux/prctl.h."""

METHODS = {Initialise: "init", Train: "train", Evaluate: "evaluate", Predict: "predict"}
"""What the trainer's author calls what a request asks for."""

NEEDED = ("init", "train", "evaluate")
"""What a trainer cannot be without."""


class Unusable(Exception):
    """What a trainer gave back cannot be used; one sentence."""


class Pipe:
    """The socket to the daemon, and the thread that reads it, which is also the one that notices its end."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        # Unbounded and never long: the daemon sends a request when it has the answer to the one before.
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._writing = threading.Lock()
        threading.Thread(target=self._read, name="primep2p-pipe", daemon=True).start()

    def next_request(self) -> Request:
        """Waits for the daemon."""
        return self._requests.get()

    def send(self, answer: Answer) -> None:
        """All of a frame; threads of the trainer may report too."""
        frame = encode(answer)
        with self._writing:
            self._pipe.sendall(frame)

    def _read(self) -> None:
        frames = FrameReader()
        try:
            while received := self._pipe.recv(READ_BYTES):
                for body in frames.feed(received):
                    self._requests.put(decode_request(body))
        finally:
            die()  # also in the middle of training: nobody is left to want the result


def die() -> NoReturn:
    """End this process at once with all that the trainer has forked."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


class Reporter:
    """A request's `ctx.report`: at most one frame in REPORT_EVERY_S, but always the first and the last step."""

    def __init__(self, pipe: Pipe, number: int) -> None:
        self._pipe = pipe
        self._number = number
        self._due_s = 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now_s = time.monotonic()
        if now_s < self._due_s and step != steps:
            return
        self._due_s = now_s + REPORT_EVERY_S
        self._pipe.send(Reported(self._number, int(step), int(steps), float(loss)))


class Serving:
    """One trainer and its requests."""

    def __init__(self, pipe: Pipe, load: Load) -> None:
        self._pipe = pipe
        self._load = load
        kind = _load_class(load.location, load.attribute)
        written_for = getattr(kind, "abi_version", ABI_VERSION)
        if written_for not in ABI_VERSIONS:
            ours = " and ".join(map(str, ABI_VERSIONS))
            raise Unusable(f"its abi_version is {written_for!r}, and this primep2p has {ours} of the plugin API")
        self._trainer: Trainer = kind()  # which may be a function that makes one
        if lacking := [method for method in NEEDED if not callable(getattr(self._trainer, method, None))]:
            raise Unusable(f"{load.attribute} has no method {', '.join(lacking)}: docs/plugins.md says what each does")
        self.loaded = Loaded(int(written_for), isinstance(self._trainer, Predicts))

    def answer(self, request: Request) -> Answer:
        """What the trainer makes of a request. Raises what the trainer raises, and Unusable."""
        match request:
            case Initialise():
                return self._initialise(request)
            case Train():
                return self._train(request)
            case Evaluate():
                _, params = open_mapped(Path(request.params))
                context = self._context(request.number, request.round, request.seed)
                return Evaluated(request.number, check_metrics(self._trainer.evaluate(params, context)))
            case Predict():
                return self._predict(request)
            case Load():
                raise Unusable("the trainer is loaded already")

    def _initialise(self, request: Initialise) -> Initialised:
        params = self._trainer.init(self._context(request.number, 0, request.seed))
        if not isinstance(params, dict) or not params:
            raise Unusable("init returned no dict of arrays")
        for name, array in params.items():
            check_array(name, array)
        tensors = specs_of(params)
        msgspec.convert(msgspec.to_builtins(tensors), tuple[TensorSpec, ...])  # its bounds: names, dimensions
        for name, mapped in create_mapped(Path(request.result), tensors).items():
            mapped[...] = params[name]
        return Initialised(request.number, tensors)

    def _train(self, request: Train) -> Trained:
        tensors, params = open_mapped(Path(request.params))
        saved = Checkpoints(
            Path(request.checkpoint),
            Path(request.params),
            request.round,
            request.seed,
            lambda step: self._pipe.send(Saved(request.number, step)),
        )
        context = self._context(request.number, request.round, request.seed, saved)
        update = self._trainer.train(dict(params), context)
        if not isinstance(update, Update):
            raise Unusable(f"train returned {_kind(update)}, not an Update")
        examples, metrics = check_examples(update.examples), check_metrics(update.metrics)
        made, what = (update.delta, "delta") if update.params is None else (update.params, "params")
        if made is None or (update.params is not None and update.delta is not None):
            raise Unusable("an Update has exactly one of params and delta")
        check_tensors(made, tensors, what)
        for name, mapped in create_mapped(Path(request.result), tensors).items():
            if what == "params":
                np.subtract(made[name], params[name], out=mapped)
            else:
                mapped[...] = made[name]
            if not is_finite(mapped):
                raise Unusable(f"{what} {name!r} minus the round's params overflows float32")
        return Trained(request.number, examples, metrics)

    def _predict(self, request: Predict) -> Predicted:
        if not isinstance(self._trainer, Predicts):
            raise Unusable("it has no predict method, so its models cannot be asked")
        _, params = open_mapped(Path(request.params))
        outputs = self._trainer.predict(dict(params), load_arrays(Path(request.inputs)), self._context(request.number))
        check_outputs(outputs)
        save_arrays(Path(request.result), outputs)
        return Predicted(request.number)

    def _context(self, number: int, round: int = 0, seed: int = 0, saved: Checkpoints | None = None) -> Context:
        return Context(
            round=round,
            seed=seed,
            config=MappingProxyType(self._load.config),
            data=Path(self._load.data) if self._load.data else None,
            scratch=Path(self._load.scratch),
            _report=Reporter(self._pipe, number),
            _checkpoint=saved.save if saved is not None else _save_nothing,
            _resume=saved.load if saved is not None else lambda: None,
        )


def _save_nothing(state: Arrays, step: int) -> None:
    raise Unusable("only train can save a checkpoint: a training goes on from it, and nothing else does")


def check_examples(examples: object) -> int:
    """An int of at least 1; numpy's are fine."""
    try:
        count = index(examples)  # type: ignore[arg-type]
    except TypeError:
        raise Unusable(f"examples is {_kind(examples)}, not an int") from None
    if isinstance(examples, bool) or count < 1:
        raise Unusable(f"examples is {examples}, and must be an int of at least 1")
    return count


def check_metrics(metrics: object) -> dict[str, float]:
    """Finite floats by name; at most MAX_METRICS."""
    if not isinstance(metrics, Mapping) or len(metrics) > MAX_METRICS:
        raise Unusable(f"metrics must be a dict of at most {MAX_METRICS} numbers")
    checked: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            checked[str(name)] = float(value)
        except (TypeError, ValueError):
            raise Unusable(f"metric {name!r} is {_kind(value)}, not a number") from None
        if not isfinite(checked[str(name)]):
            raise Unusable(f"metric {name!r} is {value}, and must be finite")
        if not 1 <= len(str(name)) <= 64:
            raise Unusable(f"metric {name!r} must have a name of 1 to 64 characters")
    return checked


def check_tensors(made: object, tensors: tuple[TensorSpec, ...], what: str) -> None:
    """Exactly the run's names, shapes and dtype; finite."""
    if not isinstance(made, Mapping):
        raise Unusable(f"{what} is {_kind(made)}, not a dict of arrays")
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    if odd := sorted(map(str, made.keys() ^ shapes.keys())):
        raise Unusable(f"{what} and the run's tensors differ in {', '.join(odd[:5])}")
    for name, shape in shapes.items():
        check_array(name, made[name])
        if made[name].shape != shape:
            raise Unusable(f"{what} {name!r} has shape {made[name].shape}, the run's has {shape}")


def check_outputs(outputs: object) -> None:
    """Some arrays by name that fit into a file, none with NaN; their types are the file's concern."""
    if not isinstance(outputs, Mapping) or not 1 <= len(outputs) <= MAX_ARRAYS:
        raise Unusable(f"predict returned {_kind(outputs)}, and must return a dict of 1 to {MAX_ARRAYS} arrays")
    for name, array in outputs.items():
        if not isinstance(array, np.ndarray | np.generic):
            raise Unusable(f"output {name!r} is {_kind(array)}, not a numpy array")
        if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
            raise Unusable(f"output {name!r} has values that are not numbers")
    size_bytes = sum(array.nbytes for array in outputs.values())
    if size_bytes > MAX_ARRAYS_BYTES:
        raise Unusable(f"the outputs take {size_bytes} bytes, more than the {MAX_ARRAYS_BYTES} allowed")


def check_array(name: str, array: object) -> None:
    """A finite numpy array of float32."""
    if not isinstance(array, np.ndarray | np.generic):  # arithmetic on a tensor of no dimensions gives a scalar
        raise Unusable(f"tensor {name!r} is {_kind(array)}, not a numpy array")
    if array.dtype != np.float32:
        raise Unusable(f"tensor {name!r} is {array.dtype}, and must be float32: use .astype(numpy.float32)")
    if not is_finite(np.asarray(array)):
        raise Unusable(f"tensor {name!r} has values that are not finite")


def confine() -> None:
    """What this process gives up before it imports a line of the plugin: files for others, core dumps with its owner's
    data in them, and on Linux more rights by running a program that has them."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main(descriptor: int) -> None:
    """Serve the daemon at the other end of socket `descriptor` until it hangs up."""
    confine()
    os.set_inheritable(descriptor, False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what was printed before a crash counts
    pipe = Pipe(socket.socket(fileno=descriptor))
    load = pipe.next_request()
    assert isinstance(load, Load)
    if load.is_watched:
        sys.addaudithook(_watch)
    try:
        serving = Serving(pipe, load)
    except Exception as error:
        pipe.send(Failed(0, _told("loading it", error, load.data)))
        return
    pipe.send(serving.loaded)
    while True:
        request = pipe.next_request()
        assert not isinstance(request, Load)
        try:
            pipe.send(serving.answer(request))
        except Exception as error:
            pipe.send(Failed(request.number, _told(METHODS[type(request)], error, load.data)))


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        sys.stderr.write(f"{UNPICKLED}{arguments[0]}.{arguments[1]}\n")


def _told(doing: str, error: Exception, data: str) -> str:
    """One sentence; the traceback goes to the log, unless the sentence says it all."""
    if isinstance(error, Unusable | Misconfigured):
        return str(error)[:MAX_SENTENCE]
    if data and isinstance(error, OSError) and str(error.filename) == data:
        return f"trainer.data: {data!r} cannot be read: {error.strerror}"[:MAX_SENTENCE]
    _print_from_the_trainer_on(error)
    return f"{doing} raised {type(error).__name__}: {error}"[:MAX_SENTENCE]


def _print_from_the_trainer_on(error: Exception) -> None:
    """The traceback without our frames and those of the import that come before the trainer's own."""
    frame = error.__traceback__
    ours = (__file__, loading.__file__, importlib.__file__, "<frozen ")
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ours):
        frame = frame.tb_next
    if frame is None and not isinstance(error, SyntaxError):  # which says itself where the trainer is wrong
        frame = error.__traceback__
    traceback.print_exception(type(error), error, frame)


def _load_class(location: str, attribute: str) -> Any:
    if not location.endswith(".py"):
        return _named(importlib.import_module(location), attribute, location)
    return _named(loading.module_in(Path(location)), attribute, location)


def _named(module: Any, attribute: str, location: str) -> Any:
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        raise Unusable(f"no class {attribute!r} in {location}") from None


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
