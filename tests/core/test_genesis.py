"""How a run begins: who may be named, who must sign, and that a member signs once."""

import msgspec
import pytest

from primep2p.core import effects as fx
from primep2p.core.chain import header_hash
from primep2p.core.genesis import Gathering, certified_start
from primep2p.model.errors import PeerError
from primep2p.model.journal import JournalEntry, Signed
from primep2p.model.messages import Certified, Proposed, Records
from primep2p.model.records import (
    MAX_FIRST_MEMBERS,
    Admission,
    Bundle,
    Checkpoint,
    Header,
    InviteUse,
    Join,
    Proposal,
    RoundPolicy,
    RunSpec,
    Vote,
)
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened
from tests.core.kit import accepted, certificate, first_proposed, invite_of, join_of, member, run_spec, verified

POLICY = RoundPolicy(rounds=100, first_members=3, min_updates=1)


def spec_of(*, first_members: int = 3, admission: Admission | None = None) -> Opened[RunSpec]:
    return run_spec(policy=msgspec.structs.replace(POLICY, first_members=first_members), admission=admission)


class Joiner:
    """A gathering machine with its journal, whose params are here at once."""

    def __init__(self, index: int, spec: Opened[RunSpec], journal: list[JournalEntry] | None = None) -> None:
        self.envelopes = member(index)
        self.spec = spec
        self.machine = Gathering(spec, join_of(index, spec), self.envelopes)
        self.done = self.machine.begin(journal or [])
        self.handle(fx.ParamsHeld(spec.record.params))

    def handle(self, event: fx.Event) -> list[fx.Effect]:
        effects = self.machine.handle(event)
        self.done += effects
        return effects

    def hear(self, sender: int, message: Records | Proposed | Certified) -> list[fx.Effect]:
        return self.handle(fx.Received(member(sender).peer_id, message))

    @property
    def journal(self) -> list[JournalEntry]:
        return [effect.entry for effect in self.done if isinstance(effect, fx.Journal)]

    @property
    def votes(self) -> list[bytes]:
        records = [verified(entry.envelope).record for entry in self.journal if isinstance(entry, Signed)]
        return [record.header for record in records if isinstance(record, Vote)]


def first(spec: Opened[RunSpec], members: range | list[int], **more: object) -> Proposed:
    return first_proposed(spec, members, **more)[0]  # type: ignore[arg-type]


def test_the_creator_names_all_who_joined_once_they_are_enough() -> None:
    spec = spec_of()
    creator = Joiner(0, spec)
    creator.hear(1, Records(spec.hash, (join_of(1, spec).raw,)))
    assert creator.votes == []
    effects = creator.hear(2, Records(spec.hash, (join_of(2, spec).raw,)))
    [proposed] = [e.message for e in effects if isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed)]
    assert (proposed.header, proposed.bundle) == (first(spec, range(3)).header, first(spec, range(3)).bundle)
    assert creator.votes == [header_hash(proposed.header)]


def test_a_run_begins_when_everybody_named_has_signed_and_not_before() -> None:
    spec = spec_of()
    message = first(spec, range(3))
    machine = Joiner(1, spec)
    machine.hear(0, message)
    votes = {i: member(i).seal(Vote(spec.hash, 0, 0, 0, "precommit", header_hash(message.header))) for i in (0, 2)}
    machine.hear(0, Records(spec.hash, (votes[0].raw,)))
    assert machine.machine.head is None
    machine.hear(2, Records(spec.hash, (votes[2].raw,)))
    assert machine.machine.head is not None
    assert machine.machine.head.hash == header_hash(message.header)


@pytest.mark.parametrize("missing", range(3))
def test_a_certificate_that_lacks_one_named_member_begins_nothing(missing: int) -> None:
    spec = spec_of()
    header = first(spec, range(3)).header
    signers = [member(i) for i in range(3) if i != missing]
    with pytest.raises(PeerError):
        certified_start(spec, Checkpoint(header, certificate(signers, header, run=spec.hash, round=0)), member(0))


def test_strangers_cannot_begin_somebody_elses_run_without_its_creator() -> None:
    spec = spec_of()
    header = first(spec, [4, 5, 6]).header
    strangers = [member(i) for i in (4, 5, 6)]
    checkpoint = Checkpoint(header, certificate(strangers, header, run=spec.hash, round=0))
    creator = Joiner(0, spec)
    creator.hear(4, Certified(spec.hash, checkpoint))
    assert creator.machine.head is None
    assert [effect.peer for effect in creator.done if isinstance(effect, fx.Accuse)] == [member(4).peer_id]


def test_a_checkpoint_0_whose_members_have_no_kernels_begins_nothing() -> None:
    spec = spec_of()
    joins = {member(i).peer_id: join_of(i, spec) for i in range(3)}
    odd = {
        peer: msgspec.structs.replace(join.record, kernels=b"") for peer, join in joins.items()
    }  # a state with these could be written, and never read again
    message = first(
        spec, range(3), joins={peer: Opened(odd[peer], peer, join.hash, join.raw) for peer, join in joins.items()}
    )
    everybody = [member(i) for i in range(3)]
    with pytest.raises(PeerError, match="malformed Header"):
        certified_start(
            spec, Checkpoint(message.header, certificate(everybody, message.header, run=spec.hash, round=0)), member(0)
        )


def test_a_member_signs_the_first_checkpoint_0_and_no_other_even_after_a_restart() -> None:
    spec = spec_of()
    one, other = first(spec, range(3)), first(spec, range(4))
    machine = Joiner(1, spec)
    machine.hear(0, one)
    machine.hear(0, other)
    assert machine.votes == [header_hash(one.header)]
    again = Joiner(1, spec, machine.journal)
    again.hear(0, other)
    assert again.votes == []
    effects = again.handle(fx.Expired(fx.Moment(0, "repair")))
    resent = [raw for e in effects if isinstance(e, fx.Broadcast) for raw in e.message.items]  # type: ignore[union-attr]
    assert [v.record.header for raw in resent if isinstance((v := verified(raw)).record, Vote)] == machine.votes


def test_a_creator_that_crashed_after_it_proposed_proposes_the_same_again() -> None:
    spec = spec_of()
    creator = Joiner(0, spec)
    for i in (1, 2):
        creator.hear(i, Records(spec.hash, (join_of(i, spec).raw,)))
    proposal, *_ = creator.journal
    again = Joiner(0, spec, [proposal])
    again.hear(3, Records(spec.hash, (join_of(3, spec).raw,)))
    assert again.votes == creator.votes
    assert not any(isinstance(verified(e.envelope).record, Proposal) for e in again.journal if isinstance(e, Signed))


def test_a_creator_names_no_more_members_than_a_run_may_begin_with_however_many_join() -> None:
    spec = spec_of(first_members=MAX_FIRST_MEMBERS)
    creator = Joiner(0, spec)
    joins = tuple(join_of(i, spec).raw for i in range(1, MAX_FIRST_MEMBERS + 6))
    creator.hear(1, Records(spec.hash, joins))
    [header] = [decode(Header, e.header) for e in creator.journal if isinstance(e, Signed)][:1]
    assert len(header.seen) == MAX_FIRST_MEMBERS
    assert member(0).peer_id in header.seen


def test_a_checkpoint_0_of_more_members_than_a_run_may_begin_with_is_refused() -> None:
    spec = spec_of()
    machine = Joiner(1, spec)
    machine.hear(0, first(spec, range(MAX_FIRST_MEMBERS + 1)))
    assert machine.votes == []
    assert any(isinstance(effect, fx.Accuse) for effect in machine.done)


def test_joins_have_room_for_so_many_strangers_and_no_more() -> None:
    spec = spec_of(first_members=16)
    machine = Joiner(1, spec)
    machine.hear(2, Records(spec.hash, tuple(join_of(i, spec).raw for i in range(2, 2 * MAX_FIRST_MEMBERS))))
    assert len(machine.machine.requests) == MAX_FIRST_MEMBERS


def test_the_allowlist_decides_who_is_named() -> None:
    allowed = Admission("allowlist", tuple(member(i).peer_id for i in (1, 2)))
    spec = spec_of(admission=allowed)
    creator = Joiner(0, spec)
    creator.hear(3, Records(spec.hash, (join_of(3, spec).raw,)))
    assert member(3).peer_id not in creator.machine.requests
    machine = Joiner(1, spec)
    machine.hear(0, first(spec, [0, 1, 3]))
    assert machine.votes == []
    machine.hear(0, first(spec, [0, 1, 2]))
    assert len(machine.votes) == 1


def test_a_node_that_is_not_named_signs_nothing() -> None:
    spec = spec_of()
    machine = Joiner(5, spec)
    machine.hear(0, first(spec, range(3)))
    assert machine.votes == []
    assert not any(isinstance(effect, fx.Accuse) for effect in machine.done)


def test_a_member_whose_join_is_not_in_the_bundle_is_not_signed_for() -> None:
    spec = spec_of()
    message = first(spec, range(4))
    header = decode(Header, message.header)
    bundle = encode(Bundle((), (), decode(Bundle, message.bundle).notices[:3]))
    raw = encode(msgspec.structs.replace(header, bundle=digest("bundle", bundle)))
    proposal = member(0).seal(Proposal(spec.hash, 0, 0, 0, -1, header_hash(raw)))
    machine = Joiner(1, spec)
    machine.hear(0, Proposed(spec.hash, proposal.raw, raw, bundle))
    assert machine.votes == []


@pytest.mark.parametrize(
    "change",
    [
        {"params": "bafkrei" + "a" * 52},
        {"round": 1},
        {"parent": bytes(32)},
        {"beacon": bytes(32)},
        {"state": bytes(32)},
        {"void": "why not"},
        {"seen": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_checkpoint_0_that_says_anything_else_is_refused(change: dict[str, object]) -> None:
    spec = spec_of()
    message = first(spec, range(3))
    raw = encode(msgspec.structs.replace(decode(Header, message.header), **change))
    proposal = member(0).seal(Proposal(spec.hash, 0, 0, 0, -1, header_hash(raw)))
    machine = Joiner(1, spec)
    machine.hear(0, Proposed(spec.hash, proposal.raw, raw, message.bundle))
    assert machine.votes == []
    assert any(isinstance(effect, fx.Accuse) for effect in machine.done)


def test_only_the_creator_proposes_checkpoint_0() -> None:
    spec = spec_of()
    machine = Joiner(1, spec)
    machine.hear(2, first(spec, range(3), creator=2))
    assert machine.votes == []


# ---- strangers


def test_a_stranger_that_repeats_the_creators_proposal_makes_nobody_shout() -> None:
    spec = spec_of()
    message = first(spec, range(3))
    machine = Joiner(1, spec)
    machine.hear(0, message)
    assert [e for _ in range(10) for e in machine.hear(9, message) if isinstance(e, fx.Broadcast)] == []


def test_who_connects_hears_all_that_was_said_and_nobody_else_hears_it_again() -> None:
    spec = spec_of()
    creator = Joiner(0, spec)
    for joiner in (1, 2):
        creator.hear(joiner, Records(spec.hash, (join_of(joiner, spec).raw,)))
    effects = creator.handle(fx.Connected(member(1).peer_id))
    assert {(type(effect), effect.peer) for effect in effects} == {(fx.Send, member(1).peer_id)}  # type: ignore[union-attr]
    assert [type(effect.message) for effect in effects] == [Records, Proposed]  # type: ignore[union-attr]
    assert creator.handle(fx.Connected(member(9).peer_id)) == []


def test_a_stranger_that_claims_the_run_has_begun_is_asked_once_between_repairs() -> None:
    spec = spec_of()
    machine = Joiner(1, spec)
    header = first(spec, range(3)).header
    claim = Certified(spec.hash, Checkpoint(header, certificate([member(9)], header, run=spec.hash, round=7)))
    asked = [e for _ in range(50) for e in machine.hear(9, claim) if isinstance(e, fx.CatchUp)]
    assert len(asked) == 1
    machine.handle(fx.Expired(fx.Moment(0, "repair")))
    assert any(isinstance(e, fx.CatchUp) for e in machine.hear(9, claim))


def test_who_wraps_a_members_vote_in_much_keeps_no_run_from_beginning() -> None:
    spec = spec_of()
    creator = Joiner(0, spec)
    for index in (1, 2):
        creator.hear(index, Records(spec.hash, (join_of(index, spec).raw,)))
    header = first(spec, range(3)).header
    votes = [member(i).seal(Vote(spec.hash, 0, 0, 0, "precommit", header_hash(header))) for i in (1, 2)]
    wrapped = msgspec.msgpack.encode([*msgspec.msgpack.decode(votes[0].raw), bytes(2000)])
    assert verified(wrapped).hash == votes[0].hash
    heard = creator.hear(2, Records(spec.hash, (wrapped,)))
    assert [effect.peer for effect in heard if isinstance(effect, fx.Accuse)] == [member(2).peer_id]
    for vote in votes:
        creator.hear(2, Records(spec.hash, (vote.raw,)))
    assert creator.machine.head is not None


def test_votes_of_a_crowd_of_strangers_do_not_keep_out_those_of_members() -> None:
    spec = spec_of()
    message = first(spec, range(3))
    vote = Vote(spec.hash, 0, 0, 0, "precommit", header_hash(message.header))
    machine = Joiner(1, spec)
    machine.hear(0, message)
    machine.hear(9, Records(spec.hash, tuple(member(i).seal(vote).raw for i in range(20, 20 + 2 * MAX_FIRST_MEMBERS))))
    machine.hear(9, Records(spec.hash, tuple(member(i).seal(vote).raw for i in (0, 2))))
    assert machine.machine.head is not None


# ---- invites


def invited(index: int, spec: Opened[RunSpec], invite: bytes) -> Opened[Join]:
    return join_of(index, spec, invitation=accepted(invite, spec, index))


def asked(spec: Opened[RunSpec], *joins: Opened[Join]) -> Joiner:
    """The creator, when it has heard these."""
    creator = Joiner(0, spec)
    for join in joins:
        creator.handle(fx.Received(join.signer, Records(spec.hash, (join.raw,))))
    return creator


def test_a_run_by_invite_begins_with_its_creator_and_those_it_invited() -> None:
    spec = spec_of(admission=Admission("invite"))
    invite = invite_of(spec, uses=2)
    creator = asked(spec, join_of(3, spec), invited(1, spec, invite))
    assert creator.votes == []  # one without an invite is nobody
    creator.hear(2, Records(spec.hash, (invited(2, spec, invite).raw,)))
    [proposed] = [e.message for e in creator.done if isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed)]
    header = decode(Header, proposed.header)
    assert set(header.seen) == {member(i).peer_id for i in range(3)}
    everybody = [member(i) for i in range(3)]
    checkpoint = Checkpoint(proposed.header, certificate(everybody, proposed.header, run=spec.hash, round=0))
    head = certified_start(spec, checkpoint, member(9))
    assert head.state.invites == (InviteUse(verified(invite).hash, 20, 2),)


def test_an_invite_for_one_counts_for_one_of_those_who_begin() -> None:
    spec = spec_of(admission=Admission("invite"))
    one, other = invite_of(spec), invite_of(spec, until=21)
    creator = asked(spec, invited(1, spec, one), invited(2, spec, one))
    assert creator.votes == []
    creator.hear(3, Records(spec.hash, (invited(3, spec, other).raw,)))
    assert len(creator.votes) == 1


def test_nobody_signs_a_checkpoint_0_with_somebody_who_was_not_invited() -> None:
    spec = spec_of(admission=Admission("invite"))
    invite = invite_of(spec, uses=9)
    everybody = {i: invited(i, spec, invite) if i else join_of(0, spec) for i in range(4)}
    for odd in (join_of(3, spec), invited(3, spec, invite_of(spec, by=3))):
        machine = Joiner(1, spec)
        joins = {join.signer: join for join in (everybody | {3: odd}).values()}
        machine.hear(0, first(spec, range(4), joins=joins))
        assert machine.votes == []
        assert [effect.peer for effect in machine.done if isinstance(effect, fx.Accuse)] == [member(0).peer_id]


def test_a_join_with_somebody_elses_invite_is_blamed_on_whoever_brings_it() -> None:
    spec = spec_of(admission=Admission("invite"))
    stolen = join_of(2, spec, invitation=accepted(invite_of(spec), spec, 1))
    creator = asked(spec, stolen)
    assert [effect.peer for effect in creator.done if isinstance(effect, fx.Accuse)] == [member(2).peer_id]
    assert creator.machine.requests.keys() == {member(0).peer_id}
