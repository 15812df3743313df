"""`primep2p demo`: several daemons on this machine train one model, and one of them is killed on the way."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primep2p.cli.demo.play import AFTER_KILL, Play, survives_a_loss
from primep2p.cli.demo.screen import Screen
from primep2p.cli.render.printing import print_json
from primep2p.cli.swarm.digits import load_shares
from primep2p.model.errors import ConfigError
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import MAX_MEMBERS
from primep2p.strict import build

__all__ = ["demo"]

INTERRUPTED = 130

MAX_HIDDEN = 100_000
"""30 MB of params: the digits fill no larger model."""


def demo(*, n: int, rounds: int, model_size: int, wire: str, verbose: bool, keep: bool, json: bool) -> int:
    """The whole demo; returns its exit code: 0 where all nodes that live have the same certified model.

    No process of it is left afterwards, also when it is interrupted. Raises PrimeError.
    """
    _check("-n", n, MAX_MEMBERS)
    _check("--rounds", rounds, 10_000)
    _check("--model-size", model_size, MAX_HIDDEN)
    # A terminal that is closed, or a polite kill, ends the demo as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    pipeline = build(Pipeline, {"wire": wire})
    screen = Screen(n, rounds + AFTER_KILL * survives_a_loss(n), verbose=verbose, quiet=json)
    try:
        with screen:
            screen.doing("loading the digits")
            shares, held_out = load_shares(n)
            with _base(screen, keep=keep) as base:
                outcome, fault = Play(base, shares, held_out, rounds, model_size, pipeline, screen).run()
    except KeyboardInterrupt:
        print("primep2p: interrupted; every process of the demo is gone", file=sys.stderr)
        return INTERRUPTED
    if json:
        print_json(outcome)
    if fault:
        print(f"primep2p: {fault}", file=sys.stderr)
    return 1 if fault else 0


def _check(option: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ConfigError(f"{option} must be from 1 to {most}, and is {value}")


@contextmanager
def _base(screen: Screen, *, keep: bool) -> Iterator[Path]:
    """The directory of all homes."""
    base = Path(tempfile.mkdtemp(prefix="primep2p-demo-")).resolve()
    try:
        yield base
    finally:
        if keep:
            screen.say(f"the nodes' homes are kept in {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
