"""Invites before a run begins: who comes first has a use, and who comes too late may bring another one."""

from primep2p.core import effects as fx
from primep2p.core.genesis import Gathering
from primep2p.model.messages import OverlayMessage, Records
from primep2p.model.records import Acceptance, Admission, Invite, Join, RoundPolicy, RunSpec, Vote
from primep2p.wire.envelope import Opened
from tests.core.kit import join_of, member, run_spec, verified

SPEC = run_spec(policy=RoundPolicy(first_members=3, min_updates=1), admission=Admission("invite"))
FIRST, LATE = sorted((1, 2), key=lambda index: member(index).peer_id)
"""Of two with one invite between them, the first has it."""


def invited(index: int, bearer: int, spec: Opened[RunSpec] = SPEC) -> Opened[Join]:
    """Peer `index` asks to be a member, with the creator's invite that the key of `bearer` accepts."""
    invite = member(0).seal(Invite(spec.hash, member(bearer).peer_id, 1, 20))
    acceptance = member(bearer).seal(Acceptance(spec.hash, member(index).peer_id))
    return join_of(index, spec, invitation=(invite.raw, acceptance.raw))


class Gatherer:
    """A gathering machine whose params are here, and what it sends to everybody."""

    def __init__(self, index: int, join: Opened[Join]) -> None:
        self.peer = member(index).peer_id
        self.machine = Gathering(SPEC, join, member(index))
        self.machine.begin([])
        self.machine.handle(fx.ParamsHeld(SPEC.record.params))

    def hears(self, sender: int, *items: Opened[Join]) -> None:
        raws = tuple(item.raw for item in items)
        self.machine.handle(fx.Received(member(sender).peer_id, Records(SPEC.hash, raws)))

    @property
    def sent(self) -> list[OverlayMessage]:
        effects = self.machine.handle(fx.Expired(fx.Moment(0, "repair")))
        return [effect.message for effect in effects if isinstance(effect, fx.Broadcast)]

    @property
    def has_voted(self) -> bool:
        raws = [raw for message in self.sent if isinstance(message, Records) for raw in message.items]
        return any(isinstance(verified(raw).record, Vote) for raw in raws)


def test_one_whose_invite_another_has_used_up_comes_in_with_a_second_one() -> None:
    creator, late = Gatherer(0, join_of(0, SPEC)), Gatherer(LATE, invited(LATE, 900))
    creator.hears(FIRST, invited(FIRST, 900))
    creator.hears(LATE, invited(LATE, 900))
    assert not creator.has_voted

    late.machine.renew(invited(LATE, 901))
    [message] = late.sent
    creator.machine.handle(fx.Received(late.peer, message))
    assert creator.has_voted
    assert creator.machine.requests.keys() == {member(index).peer_id for index in range(3)}


def test_a_second_join_of_one_who_has_a_place_changes_nothing() -> None:
    creator = Gatherer(0, join_of(0, SPEC))
    creator.hears(FIRST, invited(FIRST, 900), invited(FIRST, 901))
    assert creator.machine.requests[member(FIRST).peer_id].join.hash == invited(FIRST, 900).hash
