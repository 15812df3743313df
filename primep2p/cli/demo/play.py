"""The demo's plot: start, train, lose a node, go on, compare."""

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from primep2p.cli.daemon.logtail import follow, readable
from primep2p.cli.demo.judging import Judge
from primep2p.cli.demo.screen import Screen
from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.digits import Examples, save
from primep2p.cli.swarm.feed import Feed, Happened, Silent
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunCreate, RunJoin, RunShow
from primep2p.model.errors import Unavailable
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import (
    Accused,
    PluginFailed,
    RoundCertified,
    RunFinished,
    StepChanged,
    TrainingReported,
)
from primep2p.model.views.runs import RunDetail
from primep2p.run_config import RunConfig

__all__ = ["AFTER_KILL", "Outcome", "Play", "config_of", "survives_a_loss"]

AFTER_KILL = 2
"""Rounds without the node that was killed."""

FEWEST_TO_LOSE_ONE = 3
"""Nodes: with the default threshold two of three are a quorum, and of two both are needed."""

STALLED_S = 60.0
"""Nothing at all is heard from any node for so long: the demo gives up. A trainer reports far more often."""

MOST_NAMED = 10

ALL_ROUNDS = 1_000_000
"""Of the checkpoints: in the end each node trains alone from the first one."""

LOOK = "see what the daemons wrote with --keep or --verbose"


class Outcome(msgspec.Struct, frozen=True):
    """The demo's last line with --json. Nodes go by their peer ids; a head is the CID of its params."""

    rounds: int
    held_out_accuracy: float
    best_alone: float
    heads: dict[str, str]
    killed: str | None
    round_seconds: list[float]


def survives_a_loss(nodes: int) -> bool:
    """Whether the others are a quorum when one is gone."""
    return nodes >= FEWEST_TO_LOSE_ONE


class Play:
    """One demo, whose homes lie in `base`."""

    def __init__(
        self,
        base: Path,
        shares: Sequence[Examples],
        held_out: Examples,
        rounds: int,
        hidden: int,
        pipeline: Pipeline,
        screen: Screen,
    ) -> None:
        self._base = base
        self._shares = shares
        self._held_out = held_out
        self._rounds = rounds
        self._loses_one = survives_a_loss(len(shares))
        self._last_round = rounds + AFTER_KILL * self._loses_one
        self._config = config_of(len(shares), self._last_round, hidden, pipeline)
        self._hidden = hidden
        self._screen = screen
        self._judge = Judge(self._config, base / "held-out.npz", base)
        self._data = [base / f"share{number}.npz" for number in range(len(shares))]
        self._certified: list[RoundCertified] = []
        self._waiting: deque[RoundCertified] = deque()
        self._holders: dict[int, Daemon] = {}
        self._accuracy = 0.0
        self._killed: Daemon | None = None
        self._finished: set[Daemon] = set()

    def run(self) -> tuple[Outcome, str]:
        """What came of it, and what is wrong with that, if anything. Raises PrimeError."""
        save(self._base / "held-out.npz", self._held_out)
        for path, share in zip(self._data, self._shares, strict=True):
            save(path, share)
        settings = [Settings(data=path, keep_checkpoints=ALL_ROUNDS) for path in self._data]
        with Swarm(self._base, settings) as swarm:
            self._start(swarm)
            feed = self._found(swarm)
            while not self._over(swarm):
                self._on_happened(swarm, feed.next(STALLED_S))
            details = {daemon: daemon.call(RunShow(run=feed.run)) for daemon in swarm.daemons if daemon.alive}
            first = Path(swarm.daemons[-1].call(ModelPathOf(model=f"{feed.run}@0")).path)
            self._screen.doing("stopping the daemons")
        return self._compare(details, first)

    # ---- before the first round

    def _start(self, swarm: Swarm) -> None:
        up: list[Daemon] = []

        def ready(daemon: Daemon) -> None:
            up.append(daemon)
            self._screen.doing(f"{len(up)} of {len(swarm.daemons)} daemons are up")
            if self._screen.verbose:
                threading.Thread(target=self._show_log, args=(daemon,), daemon=True).start()

        self._screen.nodes(swarm.daemons, self._shares, self._held_out)
        self._screen.doing(f"starting {len(swarm.daemons)} daemons")
        swarm.start(ready=ready)
        self._screen.doing("the daemons meet")
        swarm.until_connected()

    def _found(self, swarm: Swarm) -> Feed:
        """The run, created by node 0 and joined by the others."""
        creator, *others = swarm.daemons
        self._screen.doing(f"{creator} creates a run")
        run = creator.call(RunCreate(config=self._config)).run
        for daemon in others:
            self._screen.doing(f"{daemon} joins the run")
            daemon.call(RunJoin(run=run))
        feed = Feed(run)
        feed.follow(*swarm.daemons)
        self._screen.doing("checkpoint 0")
        return feed

    # ---- while rounds go by

    def _over(self, swarm: Swarm) -> bool:
        watched = len(self._certified) > self._last_round  # checkpoint 0 is one of them
        return watched and all(daemon in self._finished for daemon in swarm.daemons if daemon is not self._killed)

    def _on_happened(self, swarm: Swarm, happened: Happened) -> None:
        daemon, event = happened.daemon, happened.event
        match event:
            case RoundCertified():
                if event.round == self._rounds and self._loses_one and self._killed is None:
                    self._killed = swarm.daemons[0]
                    self._killed.kill()
                if daemon.peer in event.signers and daemon is not self._killed:
                    self._holders.setdefault(event.round, daemon)  # it had the params on its disk when it signed
                if daemon is swarm.daemons[-1]:
                    self._waiting.append(event)
                while self._waiting and self._waiting[0].round in self._holders:
                    self._on_certified(swarm, self._waiting.popleft())
            case TrainingReported(steps=steps) if steps and event.round > self._newest:
                self._screen.training(daemon.peer, event.step / steps)
            case StepChanged():
                if daemon is swarm.daemons[-1]:
                    self._screen.step(event.step)
                if self._screen.verbose:
                    self._screen.say(f"{daemon}: round {event.round} view {event.view} {event.step}", "dim")
            case PluginFailed():
                self._screen.say(f"{daemon}: the trainer failed: {event.sentence}", "yellow")
            case Accused():
                self._screen.say(f"{daemon} accuses {event.peer}: {event.reason}", "yellow")
            case RunFinished():
                self._finished.add(daemon)
            case Silent(reason=reason):
                if daemon is not self._killed and daemon not in self._finished:
                    raise Unavailable(f"{daemon} is gone before the run was over: {reason}", hint=LOOK)

    @property
    def _newest(self) -> int:
        return self._certified[-1].round if self._certified else -1

    def _on_certified(self, swarm: Swarm, event: RoundCertified) -> None:
        self._certified.append(event)
        if event.round == 0:
            self._screen.begin(event.run, _parameters(self._hidden))
            return
        params = self._holders[event.round].call(ModelPathOf(model=f"{event.run}@{event.round}"))
        self._accuracy = self._judge.accuracy(Path(params.path))
        self._screen.certified(event, self._accuracy)
        if event.round == self._rounds and self._killed is not None:
            self._screen.killed(self._killed, len(swarm.daemons) - 1)

    def _show_log(self, daemon: Daemon) -> None:
        try:
            for line in follow(daemon.home / "daemon.log", 1_000):
                self._screen.say(f"{daemon}: {readable(line)[len('2000-01-01 ') :]}", "dim")
        except OSError:
            return  # its home is gone: the demo is over

    # ---- afterwards

    def _compare(self, details: dict[Daemon, RunDetail], first: Path) -> tuple[Outcome, str]:
        alone = []
        for number, path in enumerate(self._data):
            self._screen.doing(f"node {number} alone, with its own share")
            alone.append(self._judge.alone(path, first, self._last_round))
        best = max(range(len(alone)), key=alone.__getitem__)
        seconds = [event.seconds for event in self._certified if event.round]
        outcome = Outcome(
            rounds=self._newest,
            held_out_accuracy=round(self._accuracy, 4),
            best_alone=round(alone[best], 4),
            heads={daemon.peer: detail.params for daemon, detail in details.items()},
            killed=self._killed.peer if self._killed else None,
            round_seconds=[round(each, 3) for each in seconds],
        )
        fault = self._fault(details)
        own = len(self._shares[best])
        self._screen.verdict(
            [
                ("together", f"{self._accuracy:.1%}", "of the held-out digits, by the model of all"),
                ("best alone", f"{alone[best]:.1%}", f"by node {best}: the same training on its own {own} examples"),
                ("heads", "differ" if fault else "equal", self._heads(details)),
                ("time", f"{sum(seconds):.1f} s", f"for {self._newest} rounds; {self._screen.elapsed_s:.1f} s in all"),
            ]
        )
        for note in self._notes():
            self._screen.say(note)
        return outcome, fault

    def _fault(self, details: dict[Daemon, RunDetail]) -> str:
        """Why the demo failed; empty where it did not."""
        if len({(detail.head, detail.params) for detail in details.values()}) != 1:
            return "the nodes that live do not have the same head"
        if self._newest != self._last_round:
            return f"only {self._newest} of {self._last_round} rounds were certified"
        return ""

    def _heads(self, details: dict[Daemon, RunDetail]) -> str:
        heads = {detail.params for detail in details.values()}
        shown = ", ".join(f"…{head[-8:]}" for head in sorted(heads))
        if len(details) > MOST_NAMED:
            return f"{shown} on the {len(details)} nodes that live"
        return f"{shown} on each node that lives: {', '.join(str(daemon.number) for daemon in details)}"

    def _notes(self) -> list[str]:
        """What is to be known beside the figures."""
        if self._killed is None:
            return ["Nobody was killed: all nodes are needed for a quorum, when there are so few."]
        late = [e.round for e in self._certified if e.round > self._rounds and self._killed.peer in e.participants]
        if late:
            return [f"Round {', '.join(map(str, late))} has an update that {self._killed} sent before it was killed."]
        return []


def config_of(nodes: int, rounds: int, hidden: int, pipeline: Pipeline) -> RunConfig:
    """A run in which every update counts: with fewer than all but one a round waits for those who train longer."""
    most = max(1, nodes - 1)
    return RunConfig(
        name="digits",
        trainer="mlp",
        pipeline=pipeline,
        trainer_config={
            "hidden": [hidden],
            "learning_rate": min(0.2, max(0.03, hidden / 320)),  # large steps drive a narrow layer out of its range
            "momentum": 0.9,
            "epochs": 10,
            "batch_size": 16,
            "features": 64,
            "classes": 10,
        },
        policy=RoundPolicy(rounds=rounds, first_members=nodes, min_members=most, min_updates=most),
    )


def _parameters(hidden: int) -> int:
    return (64 + 1) * hidden + (hidden + 1) * 10
