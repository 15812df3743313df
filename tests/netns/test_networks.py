"""Daemons on networks that lose packets, take their time, and fall in two."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from wires import Refused, Wires

from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.watched import Watched, create_and_join, eventually
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.calls.runs import RunShow
from primep2p.model.records import RoundPolicy
from primep2p.run_config import RunConfig

PARTED_S = 30.0

FAR_S = 120.0
"""Where every question takes 0.4 s, and more where a packet is lost."""


@contextmanager
def swarm_on(wires: Wires, base: Path) -> Iterator[Swarm]:
    """A daemon on each host; they know each other. Skips the test where this machine does not let it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(wires)
        except Refused as refused:
            pytest.skip(str(refused))
        hosts = enumerate(wires.hosts)
        settings = [Settings(host=host, under=wires.under(number)) for number, host in hosts]
        swarm = stack.enter_context(Swarm(base, settings))
        swarm.start()
        swarm.until_connected(within_s=FAR_S)
        yield swarm


def found(daemons: list[Daemon], *, rounds: int, seconds: float) -> Watched:
    """A run of all these, in which training takes so many seconds."""
    config = RunConfig(
        name="netns",
        trainer="noop",
        trainer_config={"seconds": seconds},
        policy=RoundPolicy(rounds=rounds, first_members=len(daemons), min_updates=len(daemons) - 1),
    )
    return Watched(create_and_join(config, *daemons), daemons)


def test_a_partition_of_four_and_three_certifies_nothing_and_is_over_when_it_heals(tmp_path):
    wires = Wires(7)
    with swarm_on(wires, tmp_path) as swarm:
        four, three = swarm.daemons[:4], swarm.daemons[4:]
        run = found(swarm.daemons, rounds=0, seconds=1.0)
        run.until_round(2, *swarm.daemons)
        run.hear()
        run.until_step(four[0], run.newest(*swarm.daemons) + 1, "train")  # nobody has said anything in the round yet
        wires.part(daemon.number for daemon in three)
        parted_at = time.monotonic()
        run.hear()
        under_way = run.newest(*swarm.daemons) + 1
        for side, others in [(four, three), (three, four)]:
            for daemon in side:
                beyond = {other.peer for other in others}
                eventually(lambda daemon=daemon, beyond=beyond: not beyond & connected(daemon))
                eventually(lambda daemon=daemon, beyond=beyond: awaits_only(beyond, daemon, run))
        time.sleep(max(0.0, parted_at + PARTED_S - time.monotonic()))  # what is tested is the time itself
        run.hear()
        newest = run.newest(*swarm.daemons)
        assert newest <= under_way  # whose votes may all have been on their way
        wires.heal()
        run.until_round(newest + 3, *swarm.daemons)  # with one header in each round, which `run` itself holds
        assert run.blamed(*swarm.daemons) == []


def test_a_network_with_200_ms_and_3_percent_of_loss_costs_time_and_no_round(tmp_path):
    with swarm_on(Wires(4, delay_s=0.2, loss=0.03), tmp_path) as swarm:
        run = found(swarm.daemons, rounds=3, seconds=0.5)
        run.until_round(3, *swarm.daemons, within_s=FAR_S)
        run.end(*swarm.daemons)
        assert not any(event.void for event in run.certified[swarm.daemons[0]].values())
        assert run.blamed(*swarm.daemons) == []


def connected(daemon: Daemon) -> set[str]:
    return set(daemon.call(DaemonStatus()).connected)


def awaits_only(peers: set[str], daemon: Daemon, run: Watched) -> bool:
    """The run waits for some of these there, and for nobody else."""
    awaited = {member.peer for member in daemon.call(RunShow(run=run.run)).members if member.awaited}
    return bool(awaited) and awaited <= peers
