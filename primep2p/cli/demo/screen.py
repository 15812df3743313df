"""What the demo shows: rows that stay, and below them one line that moves."""

import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from primep2p.cli.swarm.daemons import Daemon
from primep2p.cli.swarm.digits import Examples
from primep2p.model.ids import PeerId
from primep2p.model.text import printable
from primep2p.model.views.events import RoundCertified

__all__ = ["Screen", "short"]

MOST_DIGITS = 10
"""Nodes that have a digit each as their name in the table; of more only the number is shown."""

LEVELS = "▁▂▃▄▅▆▇█"

KNOWN = 0.05
"""A share knows a digit if so much of it shows that one."""

BEFORE_VOTES = 0.9
"""Of a round's time, roughly what training takes."""


class Screen:
    """On stdout, or on stderr where stdout is for a program; quiet where that is no terminal. A context."""

    def __init__(self, nodes: int, rounds: int, *, verbose: bool, quiet: bool) -> None:
        stream = sys.stderr if quiet else sys.stdout
        self.verbose = verbose
        self._console = Console(
            file=stream, quiet=quiet and not stream.isatty(), highlight=False, markup=False, soft_wrap=True
        )
        self._nodes = nodes
        self._rounds = rounds
        self._numbers: dict[PeerId, int] = {}
        self._trained: dict[PeerId, float] = {}
        self._lost: PeerId | None = None
        self._certified = 0
        self._began_at = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[levels]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            expand=True,
            disable=not self._console.is_terminal,
        )
        self._line: TaskID = self._progress.add_task("", total=None, levels="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    # ---- the line that moves

    def doing(self, what: str) -> None:
        """What goes on, for as long as it takes."""
        self._progress.update(self._line, description=what, levels="", total=None)

    def training(self, peer: PeerId, share: float) -> None:
        """How far a node's training of this round is, from 0 to 1."""
        self._trained[peer] = share
        self._show()

    def step(self, step: str) -> None:
        """The round is at another step."""
        shown = min(self._certified + 1, self._rounds)
        self._progress.update(self._line, description=f"round {shown} of {self._rounds}: {step:9}")

    def _show(self) -> None:
        shares = [self._trained.get(peer, 0.0) for peer in self._numbers if peer != self._lost]
        levels = "".join(LEVELS[round(share * (len(LEVELS) - 1))] for share in shares)
        done = self._certified + BEFORE_VOTES * sum(shares) / max(1, len(shares))
        self._progress.update(
            self._line, total=self._rounds, completed=done, levels=levels if len(levels) <= MOST_DIGITS else ""
        )

    # ---- rows that stay

    def nodes(self, daemons: Sequence[Daemon], shares: Sequence[Examples], held_out: Examples) -> None:
        """Who takes part, and what each knows."""
        self._numbers = {daemon.peer: daemon.number for daemon in daemons}
        who = f"{self._nodes} nodes" if self._nodes > 1 else "1 node"
        self._print(f"{who}, no server, {sum(map(len, shares))} digits shared out unevenly:", "bold")
        self._print()
        self._print("  node  peer      examples  mostly of", "dim")
        for daemon, share in zip(daemons, shares, strict=True):
            counts = np.bincount(share.y, minlength=10)
            known = " ".join(str(digit) if counts[digit] >= KNOWN * len(share) else "·" for digit in range(10))
            self._print(f"  {daemon.number:>4}  {short(daemon.peer):8}  {len(share):>8}  {known}")
        self._print()
        self._print(f"  {len(held_out)} more digits are held out: no node trains on them.")

    def begin(self, run: str, parameters: int) -> None:
        """The run's first checkpoint is certified: rounds begin."""
        self._print(f"  Run {run[:12]}: {parameters:,} parameters, checkpoint 0 signed by every node.")
        self._print()
        width = self._who_width
        heading = f"  round  {'trained':{width}}  {'signed':{width}}    loss  held-out  seconds"
        self._print(heading, "dim")
        self._show()

    def certified(self, event: RoundCertified, accuracy: float) -> None:
        """A row for a round that is over."""
        self._certified = event.round
        self._trained.clear()
        loss = event.metrics.get("loss")
        width = self._who_width
        row = f"  {event.round:>5}  {self._who(event.participants):{width}}  {self._who(event.signers):{width}}  "
        row += "  void  " if event.void else f"{loss:>6.3f}  " if loss is not None else f"{'-':>6}  "
        row += f"{accuracy:>8.1%}  {event.seconds:>7.2f}"
        self._print(row)
        if event.void:
            self._print(f"{'':9}void: {event.void}", "yellow")
        self._show()

    def killed(self, daemon: Daemon, left: int) -> None:
        """A node is gone for good."""
        self._lost = daemon.peer
        what = f"{daemon}, the run's creator, is killed (SIGKILL, pid {daemon.pid}); {left} go on"
        self._print(f"{'':9}{what}", "bold red")

    def say(self, line: str, style: str = "") -> None:
        """A line of its own, or several."""
        for each in line.splitlines():
            self._print(f"  {each}", style)

    def verdict(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """What came of it: a name, a figure and what it means, a row each."""
        self._print()
        for name, figure, meaning in rows:
            line = Text(f"  {name:10}  ")
            line.append(f"{figure:>7}", "bold green" if figure else "")
            line.append(f"  {meaning}")
            self._console.print(line)

    @property
    def elapsed_s(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began_at

    @property
    def _who_width(self) -> int:
        return max(7, 2 * self._nodes - 1) if self._nodes <= MOST_DIGITS else 7

    def _who(self, peers: Iterable[PeerId]) -> str:
        """The nodes by number, each in its place."""
        there = {self._numbers[peer] for peer in peers}
        if self._nodes > MOST_DIGITS:
            return f"{len(there)}/{self._nodes}"
        return " ".join(str(number) if number in there else "·" for number in range(self._nodes))

    def _print(self, line: str = "", style: str = "") -> None:
        self._console.print(printable(line), style=style or None)  # reasons are words of peers


def short(peer: PeerId) -> str:
    """The end of a peer id: all of them begin alike."""
    return f"…{peer[-6:]}"
