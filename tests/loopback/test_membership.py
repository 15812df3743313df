"""Who comes in by invite, who is banned, and how those go on whose others are gone: three daemons that know nobody, and
a fourth."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import plugins
from msgspec.structs import replace
from runs import found

from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.watched import Watched, eventually
from primep2p.control.calls.daemon import PeersList
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunBan, RunCreate, RunInvite, RunJoin, RunList, RunShow
from primep2p.control.calls.speed import SpeedMeasure
from primep2p.control.calls.standings import RunLeave, RunPause, RunResume
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.records import Admission, RoundPolicy
from primep2p.run_config import RunConfig

BY_INVITE = RunConfig(
    name="by invite",
    trainer="steady",
    trainer_config={"seconds": 0.3},
    policy=RoundPolicy(first_members=2, min_updates=1),
    admission=Admission("invite"),
)


@pytest.fixture
def strangers(tmp_path) -> Iterator[Swarm]:
    """Three nodes that have nobody's address."""
    with Swarm(tmp_path, [Settings(plugins=plugins(0))] * 3) as swarm:
        for daemon in swarm.daemons:
            daemon.configure([])
        swarm.start()
        yield swarm


def test_an_invite_is_all_that_a_stranger_needs_and_lets_in_as_many_as_it_is_for(strangers):
    creator, one, other = strangers.daemons
    run = creator.call(RunCreate(config=BY_INVITE)).run
    token = creator.call(RunInvite(run=run)).token
    assert one.call(PeersList()) == []
    one.call(RunJoin(run=token))
    watched = Watched(run, (creator, one))
    watched.until_round(1, creator, one)
    assert [use.used for use in one.call(RunShow(run=run)).invites] == [1]

    with pytest.raises(CallError, match="the invite is used up"):
        other.call(RunJoin(run=token))
    assert other.call(RunList()) == []
    with pytest.raises(CallError, match="is by invite only"):
        other.call(RunJoin(run=run))
    with pytest.raises(CallError, match=f"only {creator.peer} may invite"):
        one.call(RunInvite(run=run))

    short = creator.call(RunInvite(run=run, rounds=1))
    watched.until_round(short.until, creator)
    pin = f"{run}@0:{watched.headers[0]}"  # from where the invite is still good
    other.call(RunJoin(run=pin, invite=short.token))
    eventually(lambda: "the invite has expired" in other.call(RunShow(run=run)).obstacle)
    assert other.call(RunShow(run=run)).phase == "joining"
    other.call(RunJoin(run=creator.call(RunInvite(run=run)).token))
    watched.follow(other)
    watched.first_part(other.peer, 1, creator)
    assert other.call(RunShow(run=run)).obstacle == ""
    for daemon in strangers.daemons:
        assert token[40:] not in (daemon.home / "daemon.log").read_text()


def test_two_with_one_invite_begin_once_the_second_of_them_brings_another(strangers):
    creator, *others = strangers.daemons
    config = replace(BY_INVITE, policy=RoundPolicy(rounds=2, first_members=3, min_updates=1))
    run = creator.call(RunCreate(config=config)).run
    token = creator.call(RunInvite(run=run)).token
    for daemon in others:
        daemon.call(RunJoin(run=token))
    eventually(lambda: len(creator.call(RunShow(run=run)).members) == 3)
    watched = Watched(run, strangers.daemons)
    assert creator.call(RunShow(run=run)).phase == "gathering"
    second = max(others, key=lambda daemon: daemon.peer)  # of two who ask at once
    second.call(RunJoin(run=creator.call(RunInvite(run=run)).token))
    watched.end(*strangers.daemons)
    assert watched.certified[creator][0].roster == sorted(daemon.peer for daemon in strangers.daemons)


def test_a_banned_member_is_out_for_ever_and_knows_it(strangers):
    creator, one, other = strangers.daemons
    run = creator.call(RunCreate(config=BY_INVITE)).run
    token = creator.call(RunInvite(run=run, uses=2)).token
    with pytest.raises(CallError, match="has not begun"):
        creator.call(RunBan(run=run, peer=one.peer))
    one.call(RunJoin(run=token))
    other.call(RunJoin(run=token))
    watched = Watched(run, (creator, one, other))
    watched.first_part(other.peer, 0, creator)
    with pytest.raises(CallError, match=f"only the creator of run {run[:12]} may ban, which is {creator.peer}"):
        one.call(RunBan(run=run, peer=other.peer))

    creator.call(RunBan(run=run, peer=one.peer))
    watched.until(lambda: one.peer not in watched.certified[other][watched.newest(other)].roster)
    [expelled] = other.call(RunShow(run=run)).expelled
    assert (expelled.peer, expelled.reason) == (one.peer, "banned")
    assert one.peer not in watched.certified[other][expelled.round].roster
    eventually(lambda: one.call(RunShow(run=run)).phase == "expelled")
    assert "was expelled" in one.call(RunShow(run=run)).obstacle
    with pytest.raises(CallError, match="was expelled from run"):
        one.call(RunJoin(run=creator.call(RunInvite(run=run)).token))
    with pytest.raises(CallError, match=f"{one.peer} was expelled from run {run[:12]} already"):
        creator.call(RunBan(run=run, peer=one.peer))
    watched.until_round(watched.newest(other) + 2, other)
    assert one.peer not in watched.certified[other][watched.newest(other)].roster
    _rests_and_leaves(strangers, watched, creator, other)


def _rests_and_leaves(strangers: Swarm, watched: Watched, stays: Daemon, other: Daemon) -> None:
    """One of two pauses in the middle of a training, and votes on; trains again; measures the network; and goes."""
    run = watched.run
    assert other.call(RunPause(run=run)).rests
    resting = watched.newest(stays) + 2
    watched.until_round(resting + 1, stays, other)
    assert [watched.certified[stays][round].participants for round in (resting, resting + 1)] == [[stays.peer]] * 2
    assert all(other.peer in watched.certified[stays][round].roster for round in (resting, resting + 1))
    assert other.call(RunResume(run=run)).rests == ""
    watched.first_part(other.peer, resting + 2, stays)
    speed = other.call(SpeedMeasure(peer=stays.peer))
    assert min(speed.up_mbps, speed.down_mbps) > 0

    assert other.call(RunLeave(run=run)).phase == "leaving"
    eventually(lambda: other.call(RunShow(run=run)).phase == "left")
    out = other.call(RunShow(run=run)).head_round
    watched.until_round(out + 2, stays)
    assert watched.certified[stays][out].roster == [stays.peer]
    strangers.stop(other)
    strangers.start(other)
    assert other.call(RunShow(run=run)).phase == "left"
    assert Path(other.call(ModelPathOf(model=f"{run}@{out}")).path).exists()


def test_who_lost_all_others_for_good_goes_on_from_the_last_certified_model(four):
    survivor, *lost, newcomer = four
    run = found(survivor, *lost, rounds=0, seconds=0.3)
    run.until_round(2, survivor)
    for daemon in lost:
        daemon.kill()
    gone = {daemon.peer for daemon in lost}
    eventually(lambda: _awaited(survivor, run.run) == gone)
    stuck = survivor.call(RunShow(run=run.run))
    assert stuck.quorum == 2
    assert survivor.call(RunShow(run=run.run)).waiting_since == stuck.waiting_since
    with pytest.raises(Unavailable, match="nobody would hear of the ban"):
        survivor.call(RunBan(run=run.run, peer=lost[0].peer))

    config = RunConfig(
        name="again", trainer="uninitialised", policy=RoundPolicy(rounds=2, first_members=2, min_updates=2)
    )
    new = survivor.call(RunCreate(config=config, origin=run.run[:12])).run
    newcomer.call(RunJoin(run=new))
    again = Watched(new, (survivor, newcomer))
    again.end(survivor, newcomer)
    assert again.certified[newcomer][0].params == stuck.params
    assert survivor.call(RunShow(run=new)).origin == f"{run.run}@{stuck.head_round}"
    assert newcomer.call(RunShow(run=new)).origin == stuck.head
    there, here = newcomer.call(ModelPathOf(model=f"{new}@0")), survivor.call(ModelPathOf(model=run.run))
    assert Path(there.path).read_bytes() == Path(here.path).read_bytes()

    same = survivor.call(RunCreate(origin=f"{run.run}@1"))
    assert (same.name, same.params) == ("loopback", run.certified[survivor][1].params)
    with pytest.raises(CallError, match="no checkpoint 999 of run"):
        survivor.call(RunCreate(origin=f"{run.run}@999"))


def _awaited(daemon, run: str) -> set[str]:
    return {member.peer for member in daemon.call(RunShow(run=run)).members if member.awaited}
