"""Trainers that behave and trainers that do not; imported in their own processes only."""

import os
import pickle
import resource
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

from primep2p.plugin.api import Arrays, Context, Metrics, Misconfigured, Params, Update
from primep2p.plugin.frames import Predicted, Trained, encode
from primep2p.plugin.tensors import create_mapped, specs_of

SHAPES = {"weight": (3, 4), "bias": (4,), "scale": ()}


def zeros() -> Params:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


def plus(params: Params, step: float) -> Params:
    return {name: array + np.float32(step) for name, array in params.items()}


class Good:
    """Adds 1; says in its metrics what it was given."""

    def __init__(self) -> None:
        self.trained = 0

    def init(self, ctx: Context) -> Params:
        return zeros()

    def train(self, params: Params, ctx: Context) -> Update:
        self.trained += 1
        ctx.report(step=1, steps=2)
        ctx.report(step=2, steps=2, loss=0.5)
        return Update(examples=7, params=plus(params, 1), metrics={"seed": ctx.seed, "round": ctx.round})

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        return {"trained": self.trained, "writeable": any(array.flags.writeable for array in params.values())}


class Delta(Good):
    """Says its delta itself, in another order and memory layout."""

    def train(self, params: Params, ctx: Context) -> Update:
        made = {name: np.array(plus(params, 2)[name], order="F") for name in reversed(params)}
        return Update(examples=np.int64(3), delta=made, metrics={"loss": np.float32(0.25)})


class Surroundings(Good):
    """What its process is like."""

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        assert Path.cwd() == ctx.scratch.resolve()
        heavy = {"trio", "libp2p", "sqlite3", "nacl"} & set(sys.modules)
        assert not heavy, heavy
        secrets = sum(name.startswith("PRIMEP2P__") or name in ("HUB_TOKEN", "SSH_AUTH_SOCK") for name in os.environ)
        (ctx.scratch / "written").touch()
        assert (ctx.scratch / "written").stat().st_mode & 0o777 == 0o600
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert os.getpgrp() == os.getpid()
        if sys.platform == "linux":
            assert "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()
            usual = {"0", "1", "2", sys.argv[1]}
            others = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd") if name not in usual]
            leaked = {os.readlink(each) for each in others if each.exists()}  # the listing's own is gone
            assert {Path(each).name for each in leaked} == {"params.safetensors"}, leaked
        return {"threads": int(os.environ["OPENBLAS_NUM_THREADS"]), "secrets": secrets}


class Predicts(Good):
    """Says what it was given, or nonsense of the kind that the config asks for."""

    abi_version = 2

    def predict(self, params: Params, inputs: Arrays, ctx: Context) -> Arrays:
        match ctx.config.get("wrong"):
            case None:
                return {"sum": inputs["x"].sum(axis=1), "label": np.int64(7), "x": inputs["x"].T}
            case "NaN":
                return {"y": np.array([np.nan])}
            case "a list":
                return {"y": [1.0]}
            case "words":
                return {"y": np.array(["yes"])}
            case "no file":
                os.write(int(sys.argv[1]), encode(Predicted(1)))
            case "a file of something else":
                (ctx.scratch.parent / "result-1.safetensors").write_bytes(b"\xff" * 100)
                os.write(int(sys.argv[1]), encode(Predicted(1)))
        time.sleep(3600)
        raise AssertionError("unreachable")


class Saves(Good):
    """Saves its state at steps 1 to 4, crashes after each of them that `crashes` names, and says where it began."""

    def train(self, params: Params, ctx: Context) -> Update:
        step, state = ctx.resume() or (0, {"sum": np.zeros(2, np.float64)})
        begun_at = step
        while step < 4:
            step += 1
            state["sum"] += step
            ctx.checkpoint(state, step)
            if step in ctx.config["crashes"]:
                os._exit(5)
        if ctx.config.get("always"):
            raise ArithmeticError("whatever I do")
        return Update(examples=7, delta=params, metrics={"begun_at": begun_at, "sum": state["sum"][0]})

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        ctx.checkpoint(dict(params), 1)
        return {}


class SavesAndMoves(Saves):
    def train(self, params: Params, ctx: Context) -> Update:
        return Update(examples=1, params=plus(params, 1), metrics=super().train(params, ctx).metrics)

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        return {"loss": 1.0}


class Counts(Good):
    """Reports, beside a child, until the file `enough` is in its scratch directory."""

    def train(self, params: Params, ctx: Context) -> Update:
        child = subprocess.Popen(["sleep", "3600"])
        step = 0
        while not (ctx.scratch / "enough").exists():
            step += 1
            ctx.report(step=step)
            time.sleep(0.01)
        child.kill()
        return super().train(params, ctx)


class Greedy(Good):
    """Takes what its config says: memory or time of the processor, alone or in a child; or time on the clock."""

    def train(self, params: Params, ctx: Context) -> Update:
        code = {
            "memory": "import time; taken = b'x' * 200_000_000; time.sleep(3600)",
            "cpu": "while True: pass",
            "wall": "import time; time.sleep(3600)",
        }[str(ctx.config["takes"])]
        if ctx.config.get("child"):
            subprocess.Popen([sys.executable, "-c", code]).wait()
        else:
            exec(code)
        raise AssertionError("unreachable")


class Mutates(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        params["bias"] += 1
        return Update(examples=1, params=params)


class Stands(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        return Update(examples=1, params=params)


class Halves(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        return Update(examples=1, params={**params, "weight": params["weight"] + np.float32(1)})


class Chance(Good):
    def init(self, ctx: Context) -> Params:
        return {name: np.random.default_rng().random(shape, np.float32) for name, shape in SHAPES.items()}

    def train(self, params: Params, ctx: Context) -> Update:
        return Update(examples=1, params=plus(params, np.random.default_rng().random()))


class Pickles(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        pickle.loads(pickle.dumps(OrderedDict()))  # noqa: S301
        return super().train(params, ctx)


class Misled(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        raise Misconfigured("trainer_config.colour is 'red', and must be 'blue'")


class Raises(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        print("the last words")
        raise ArithmeticError("two and two are five")


class RaisesOnce(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        if not (ctx.scratch / "raised").exists():
            (ctx.scratch / "raised").touch()
            raise ArithmeticError("this time")
        return super().train(params, ctx)


class Exits(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        print("leaving")
        match ctx.config["how"]:
            case "exit":
                sys.exit(3)
            case "at once":
                sys.stdout.flush()
                os._exit(4)
            case _:
                os.kill(os.getpid(), 9)
        raise AssertionError("unreachable")


class Hangs(Good):
    """Tells the test that it lives through a connection, which its child shares: its end is the end of both."""

    def train(self, params: Params, ctx: Context) -> Update:
        alive = socket.create_connection(("127.0.0.1", int(str(ctx.config["port"]))))
        subprocess.Popen(["sleep", "3600"], pass_fds=[alive.fileno()])
        alive.sendall(b"alive")
        while True:
            time.sleep(0.01)
            if ctx.config.get("reports"):
                ctx.report(step=1)


class Chatters(Good):
    def train(self, params: Params, ctx: Context) -> Update:
        for number in range(60_000):
            print(f"line {number} " + "x" * 100)
        if ctx.config.get("raises"):
            raise ArithmeticError("\x1b[31mred")
        return super().train(params, ctx)


class Wrong(Good):
    """Returns nonsense of the kind that the config asks for."""

    def init(self, ctx: Context) -> Params:
        return self.wrong(zeros(), str(ctx.config["wrong"]))

    def train(self, params: Params, ctx: Context) -> Update:
        wrong = str(ctx.config["wrong"])
        update = {
            "not an Update": lambda: params,
            "None": lambda: None,
            "no examples": lambda: Update(examples=0, delta=params),
            "examples of another type": lambda: Update(examples=1.5, delta=params),
            "both": lambda: Update(examples=1, params=params, delta=params),
            "neither": lambda: Update(examples=1),
            "a metric that is NaN": lambda: Update(examples=1, delta=params, metrics={"loss": float("nan")}),
            "a metric that is a word": lambda: Update(examples=1, delta=params, metrics={"loss": "small"}),
            "metrics without end": lambda: Update(
                examples=1, delta=params, metrics=dict.fromkeys(map(str, range(99)), 1)
            ),
            "overflow": lambda: Update(examples=1, params=plus(zeros(), 3e38)),
        }.get(wrong, lambda: Update(examples=1, delta=self.wrong(dict(params), wrong)))
        return update()

    def wrong(self, params: Params, wrong: str) -> Params:
        match wrong:
            case "exits":
                sys.exit("last words")
            case "NaN":
                params["scale"] = np.array(np.nan, np.float32)
            case "infinite":
                params["scale"] = np.array(np.inf, np.float32)
            case "dtype":
                params["bias"] = params["bias"].astype(np.float64)
            case "shape":
                params["bias"] = np.zeros(5, np.float32)
            case "missing":
                del params["bias"]
            case "extra":
                params["more"] = np.zeros(1, np.float32)
            case "a list":
                params["bias"] = [0.0] * 4
        return params


class Lies(Good):
    """Goes round the worker and writes to the daemon itself."""

    def train(self, params: Params, ctx: Context) -> Update:
        result = ctx.scratch.parent / "result-1.safetensors"
        lie = {
            "garbage": b"\0\0\0\4abcd",
            "a huge frame": b"\xff\xff\xff\xff",
            "no file": encode(Trained(1, 1, {})),
            "another number": encode(Trained(99, 1, {})),
            "no examples": encode(Trained(1, 0, {})),
            "a metric that is NaN": encode(Trained(1, 1, {"loss": float("nan")})),
        }.get(str(ctx.config["lie"]), encode(Trained(1, 1, {})))
        match ctx.config["lie"]:
            case "a metric that is NaN":
                create_mapped(result, specs_of(params))
            case "NaN in the file":
                create_mapped(result, specs_of(params))["weight"][0, 0] = np.nan
            case "other tensors in the file":
                create_mapped(
                    result, specs_of({name.replace("scale", "other"): array for name, array in params.items()})
                )
            case "a short file":
                result.write_bytes(b"short")
            case "a link":
                create_mapped(ctx.scratch / "elsewhere", specs_of(params))
                result.symlink_to(ctx.scratch / "elsewhere")
        os.write(int(sys.argv[1]), lie)
        time.sleep(3600)
        raise AssertionError("unreachable")


class OfYesterday(Good):
    abi_version = 1


class OfTomorrow(Good):
    abi_version = 3


class Half:
    def init(self, ctx: Context) -> Params:
        return {"w": np.zeros(1, np.float32)}


class CannotBeMade(Good):
    def __init__(self) -> None:
        raise OSError("no such licence")
