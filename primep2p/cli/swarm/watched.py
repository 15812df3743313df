"""A run as real daemons tell of it over their control sockets: for benches and for tests.

Every round has one header, whoever tells of it and when: two are a fork, and end whatever is watched with an error.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from primep2p.cli.swarm.daemons import Daemon
from primep2p.cli.swarm.feed import Feed, Happened, Silent
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunCreate, RunJoin, RunShow
from primep2p.model.errors import PrimeError, Unavailable
from primep2p.model.views.events import Accused, AnyEvent, Event, RoundCertified, RunFinished, StepChanged
from primep2p.model.views.runs import RunDetail
from primep2p.run_config import RunConfig

__all__ = ["LONG_S", "Watched", "create_and_join", "eventually", "proposer_of"]

E = TypeVar("E", bound=Event)

LONG_S = 40.0
"""Far more than any single step takes on a machine that does nothing else."""


class Watched:
    """What was heard of one run, from the nodes that are followed."""

    def __init__(self, run: str, daemons: Sequence[Daemon]) -> None:
        self.run = run
        self.headers: dict[int, str] = {}
        self.certified: dict[Daemon, dict[int, RoundCertified]] = defaultdict(dict)
        self.events: list[tuple[Daemon, AnyEvent]] = []
        self.finished: set[Daemon] = set()
        self.silent: set[Daemon] = set()
        self._feed = Feed(run)
        self._daemons: set[Daemon] = set()
        self.follow(*daemons)

    def follow(self, *daemons: Daemon) -> None:
        """Also after a restart."""
        self._daemons.update(daemons)
        self.silent.difference_update(daemons)
        self._feed.follow(*daemons)

    def newest(self, *daemons: Daemon) -> int:
        """The newest round that one of them told of."""
        return max((round for daemon in daemons for round in self.certified[daemon]), default=-1)

    def until(self, wanted: Callable[[], bool], within_s: float = LONG_S) -> None:
        """Takes events until that is so. Raises Unavailable where it does not become so."""
        deadline = time.monotonic() + within_s
        try:
            while not wanted():
                self._take(self._feed.next(deadline - time.monotonic()))
        except Unavailable as error:
            error.add_note("\n".join(self._states()))
            raise

    def hear(self) -> None:
        """Takes what was told already, and waits for nothing."""
        with suppress(Unavailable):
            while True:
                self._take(self._feed.next(0.0))

    def until_round(self, round: int, *daemons: Daemon, within_s: float = LONG_S) -> None:
        """Each of these has told of it."""
        self.until(lambda: all(self.newest(daemon) >= round for daemon in daemons), within_s)

    def until_step(self, daemon: Daemon, round: int, *steps: str) -> None:
        """It has told of one of these steps of a round, or is further."""

        def told(event: AnyEvent) -> bool:
            return isinstance(event, StepChanged) and (
                event.round > round or (event.round == round and event.step in steps)
            )

        self.until(lambda: any(who is daemon and told(event) for who, event in self.events))

    def event(self, daemon: Daemon, kind: type[E], since: int = 0) -> E:
        """The first event of that kind on a node, heard already or awaited; `since` so many others were heard."""

        def told() -> list[E]:
            return [event for who, event in self.events[since:] if who is daemon and isinstance(event, kind)]

        self.until(lambda: bool(told()))
        return told()[0]

    def first_part(self, peer: str, after: int, teller: Daemon, within_s: float = LONG_S) -> int:
        """The first round after `after` in which a peer's update is, as `teller` has it."""

        def rounds() -> list[int]:
            told = self.certified[teller].items()
            return [round for round, event in told if round > after and peer in event.participants]

        self.until(lambda: bool(rounds()), within_s)
        return min(rounds())

    def blamed(self, *daemons: Daemon) -> list[str]:
        """What any of these holds against anybody in this run, and what was told of it."""
        said = [f"{who} told: {event.reason}" for who, event in self.events if isinstance(event, Accused)]
        for daemon in daemons:
            detail = daemon.call(RunShow(run=self.run))
            held = (*detail.accusations, *detail.evidence, *detail.expelled)
            said += [f"{daemon} holds: {each}" for each in held]
            said += [f"{daemon} counts rounds: {each}" for each in detail.members if each.rounds_blamed]
        return said

    def end(self, *daemons: Daemon) -> RunDetail:
        """All of these have finished the run, with one head; that."""
        self.until(lambda: self.finished >= set(daemons))
        details = [daemon.call(RunShow(run=self.run)) for daemon in daemons]
        assert len({(detail.head, detail.params, detail.head_round) for detail in details}) == 1
        assert details[0].head == self.headers[details[0].head_round]
        for daemon in daemons:
            eventually(partial(self._has_params, daemon, details[0].params))
        return details[0]

    def _has_params(self, daemon: Daemon, params: str) -> bool:
        return daemon.call(ModelPathOf(model=self.run)).cid == params

    def _states(self) -> Iterator[str]:
        """What each node says of the run, for whoever reads why something did not come."""
        for daemon in sorted(self._daemons, key=lambda each: each.number):
            try:
                detail = daemon.call(RunShow(run=self.run))
            except PrimeError as error:
                yield f"{daemon}: {error.sentence}"
            else:
                awaited = [member.peer[-6:] for member in detail.members if member.awaited]
                yield (
                    f"{daemon} (…{daemon.peer[-6:]}): {detail.phase}, round {detail.round} view {detail.view} "
                    f"{detail.step} for {detail.waiting_s} s, waits for {awaited}, {detail.plugin_error!r}"
                )

    def _take(self, happened: Happened) -> None:
        daemon, event = happened.daemon, happened.event
        if isinstance(event, Silent):
            self.silent.add(daemon)
            return
        self.events.append((daemon, event))
        match event:
            case RoundCertified():
                assert self.headers.setdefault(event.round, event.header) == event.header, "a fork"
                self.certified[daemon][event.round] = event
            case RunFinished():
                self.finished.add(daemon)


def create_and_join(config: RunConfig, creator: Daemon, *others: Daemon) -> str:
    """The id of a new run, which the others have joined. Raises PrimeError."""
    run = creator.call(RunCreate(config=config)).run
    for daemon in others:
        daemon.call(RunJoin(run=run))
    return run


def proposer_of(daemon: Daemon, run: str, round: int) -> str:
    """Who proposes first in a round that is under way on `daemon`, empty where another one is. Nobody knows sooner."""
    detail = daemon.call(RunShow(run=run))
    return detail.committee[0] if detail.head_round + 1 == round else ""


def eventually(holds: Callable[[], bool], within_s: float = LONG_S) -> None:
    """Asks again and again: for what no event tells of."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except PrimeError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.05)
