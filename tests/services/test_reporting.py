"""What the owner is shown of a run: who does what, what a draw risks, who was expelled, what liars signed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from primep2p.config import TrainWhenSection
from primep2p.core.runs import Run
from primep2p.model.ids import PeerId
from primep2p.model.records import Admission, Ban, Evidence, RoundPolicy
from primep2p.model.views.runs import RunDetail
from primep2p.services.runs.rounds import RunService
from primep2p.services.training.machine import LocalMachine
from primep2p.services.training.resting import Resting
from primep2p.services.watching.reporting import detail, summary
from primep2p.store.db import open_store
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.wire.codec import encode
from tests.core.kit import Group, join_of, member


class Shown:
    """A group's run as its member `index` shows it."""

    def __init__(self, group: Group, store, index: int = 0) -> None:
        self.group, self.store, self.index = group, store, index

    def _service(self) -> RunService:
        group, me = self.group, member(self.index)
        seams = SimpleNamespace(
            envelopes=me,
            runs=self.store.runs,
            residuals=Path(),
            gate=Resting(TrainWhenSection(), LocalMachine(), trio.to_thread.run_sync),
            tell=lambda event: None,
        )
        row = RunRow(group.run, group.spec.raw, join_of(self.index, group.spec).raw, None, 0)
        service = RunService(row, group.spec, seams, lambda report: None)
        service.machine = Run(group.head, me)
        service.machine.begin(0.0)
        self.seams = seams
        return service

    @property
    def detail(self) -> RunDetail:
        return detail(self._service(), frozenset(), self.seams, "now-7")

    @property
    def phase(self) -> str:
        service = self._service()
        return summary(service, frozenset(), member(self.index).peer_id).phase


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path)
    yield store
    store.close()


def ban(group: Group, store, peer: PeerId) -> None:
    """One round more, whose lists name the creator's ban of `peer`."""
    sealed = member(0).seal(Ban(group.run, peer))
    updates = [group.update(who) for who in group.members]
    lists = [group.listing(who, updates, [sealed]) for who in group.members]
    head = group.go_on(group.bundle(lists, updates, [sealed]))
    store.runs.commit(group.run, head.round, StoredCheckpoint(head.checkpoint, encode(head.state)))


async def test_of_a_drawn_committee_it_says_who_votes_who_trains_and_what_the_draw_risks(store):
    group = Group(24, policy=RoundPolicy(first_members=1, min_updates=1, committee_size=16, sample_fraction="0.25"))
    shown = Shown(group, store).detail
    votes, trains = {m.peer for m in shown.members if m.votes}, {m.peer for m in shown.members if m.trains}
    assert votes == set(shown.committee) == set(group.head.committee.members)
    assert (len(votes), len(shown.members), shown.quorum) == (16, 24, 11)
    assert trains == group.head.cohort
    assert len(trains) == shown.cohort == 6
    fewer, more = shown.risks
    assert (fewer.bad_share, more.bad_share, fewer.rounds) == (0.1, 0.2, 1000)
    # 3 of 24 are never above the 5 that 16 bear; 5 of 24 are never above it either, and so nothing can happen.
    assert (fewer.fork, fewer.stall, more.fork, more.stall) == (0.0, 0.0, 0.0, 0.0)


async def test_a_larger_roster_can_draw_too_many_bad_members(store):
    group = Group(64, policy=RoundPolicy(first_members=1, min_updates=1, committee_size=16))
    fewer, more = Shown(group, store).detail.risks
    assert 0 < fewer.stall < more.stall <= 1
    assert 0 < fewer.fork < more.fork <= 1


async def test_where_everybody_votes_there_is_no_draw_to_risk_anything(store):
    shown = Shown(Group(4), store).detail
    assert shown.risks == []
    assert all(each.votes and each.trains for each in shown.members)


async def test_a_banned_member_is_shown_with_its_round_and_knows_that_it_is_out(store):
    group = Group(4)
    group.go_on()
    store.runs.commit(group.run, 1, StoredCheckpoint(group.head.checkpoint, encode(group.head.state)))
    assert Shown(group, store, 3).phase == "catching-up"
    ban(group, store, member(3).peer_id)
    [expelled] = Shown(group, store).detail.expelled
    assert (expelled.peer, expelled.reason, expelled.round) == (member(3).peer_id, "banned", 2)
    there = Shown(group, store, 3)
    assert (there.phase, there.detail.phase) == ("expelled", "expelled")
    assert "expelled" in there.detail.obstacle
    assert Shown(group, store).detail.obstacle == ""


async def test_of_an_expulsion_before_this_nodes_first_checkpoint_only_the_peer_is_known(store, tmp_path):
    group = Group(4)
    ban(group, store, member(3).peer_id)
    elsewhere = open_store(tmp_path / "elsewhere")
    [expelled] = Shown(group, elsewhere).detail.expelled
    assert (expelled.peer, expelled.reason, expelled.round) == (member(3).peer_id, "", -1)
    elsewhere.close()


async def test_evidence_is_told_in_words(store):
    group = Group(4)
    liar = member(2)
    pairs = [
        (group.vote(liar, b""), group.vote(liar, bytes(32)), "two prevotes of round 1, view 0"),
        (group.vote(liar, b"", step="precommit", view=3), None, "two precommits of round 1, view 3"),
        (group.update(liar), None, "two updates of round 1"),
        (group.listing(liar, []), None, "two lists of round 1"),
    ]
    for first, second, _ in pairs:
        evidence = encode(Evidence(first.raw, (second or first).raw))
        store.runs.accuse(liar.peer_id, "equivocation", evidence, run=group.run)
    shown = Shown(group, store).detail.evidence
    assert [(each.peer, each.slot) for each in shown] == [(liar.peer_id, words) for _, _, words in pairs]


async def test_admission_and_who_may_invite_are_shown(store):
    group = Group(2, admission=Admission("allowlist", (member(1).peer_id,)))
    assert Shown(group, store).detail.admission == "allowlist"
    assert Shown(group, store).detail.inviters == []
    assert "creator listed" in Shown(group, store, 4).detail.obstacle
    assert Shown(group, store, 4).phase == "joining"
