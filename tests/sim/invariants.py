"""What must always hold, looked at after every step, for what changed in it.

The world sees all: every record when it is signed, every entry of a journal, every checkpoint when a node commits it.
So a second certificate of a round is found when its votes exist, whoever has heard of them.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, localcontext
from statistics import median_low
from typing import TYPE_CHECKING

import msgspec

from primep2p.core import effects as fx
from primep2p.core.chain import Head, header_hash
from primep2p.core.votes import Slot, slot_of
from primep2p.model.ids import NIL, Hash, PeerId
from primep2p.model.journal import JournalEntry, Moved, Signed
from primep2p.model.messages import OverlayMessage
from primep2p.model.pipeline import Bucketing, FedAvg, Krum, NearestNeighbours
from primep2p.model.records import Bundle, Collected, RunSpec, RunState, Update, Vote
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Opened
from tests.core.kit import records_in
from tests.sim.blobs import made_of
from tests.sim.holdings import records_held
from tests.sim.node import SimNode

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Broken", "Invariants"]

HELD_PER_MEMBER = 64
"""Records of one member that an honest machine may hold: an update and a list, two of each; in each of at most 8 views
(3 back, its own, 2 ahead, those of lock and valid value) a proposal and two votes, two of each; 8 messages for the next
round; and its precommit for the head."""

HELD_BESIDES = 64
"""Joins."""

JOURNALLED = frozenset(("update", "collected", "proposal", "vote"))
"""Kinds of records of which a node signs one in each slot."""

LOOKED_EVERY = 64
"""Steps of one node between two counts of what its machine holds: counting walks all of it."""


class Broken(AssertionError):
    """An invariant does not hold."""


def entry_round(record: msgspec.Struct) -> int:
    """The round of a record that has a slot."""
    round: int = record.round  # type: ignore[attr-defined]
    return round


def _least(spec: RunSpec) -> int:
    """The updates that a round must have. Once more, from R2, for what scenarios have."""
    least = 1
    for stage in (spec.pipeline.rule, *reversed(spec.pipeline.pre)):
        match stage:
            case Bucketing(size=size):
                least = (least - 1) * size + 1
            case Krum(f=f):
                least = max(least, 2 * f + 3)
            case NearestNeighbours(f=f):
                least = max(least, 2 * f + 1)
            case FedAvg():
                pass
            case _:
                raise NotImplementedError(f"what {stage} needs")
    if spec.policy.mode == "buffered":
        least = max(least, (2 * spec.policy.min_members + 2) // 3)  # scenarios name a minimum
    return max(least, spec.policy.min_updates)


class Invariants:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.certificates: dict[int, Hash] = {}
        """The header that a quorum of precommits certifies, for each round."""
        self.heads: dict[int, Head] = {}
        """What honest nodes committed."""
        self.most_held = 0
        self._signed: dict[tuple[PeerId, Slot], Hash] = {}
        self._lists: dict[int, dict[PeerId, Collected]] = defaultdict(dict)
        """Of honest members, by round."""
        self._precommits: dict[int, dict[tuple[int, Hash], set[PeerId]]] = defaultdict(lambda: defaultdict(set))
        self._bundles: dict[Hash, bytes] = {}
        """By header."""
        self._steps: dict[int, int] = defaultdict(int)
        self._entered: dict[Hash, int] = {}
        """Updates that entered, and the round of the checkpoint."""
        self._last: dict[PeerId, int] = {}
        """By trainer, the round that the last of its updates that entered was for."""

    # ---- signatures

    def on_sealed(self, node: SimNode, opened: Opened[msgspec.Struct]) -> None:
        """Somebody signed. What an honest node signs counts once it is in its journal: before, nobody has it."""
        if not node.honest and isinstance(opened.record, Vote):
            self._count(node.peer, opened.record)

    def on_journal(self, node: SimNode, entry: JournalEntry) -> None:
        """No honest node signs two records in one slot, in any of its lives."""
        if not node.honest:
            return
        if isinstance(entry, Moved):
            self._bundles[header_hash(entry.header)] = entry.bundle
            return
        assert isinstance(entry, Signed)
        opened = node.envelopes.open_any(entry.envelope)
        record = opened.record
        slot = slot_of(record)
        if not isinstance(record, Update) and node.is_odd and entry_round(record) > 0:
            raise Broken(f"{node} signed for {slot}, and its kernels give other bytes")
        if self._signed.setdefault((node.peer, slot), opened.hash) != opened.hash:
            raise Broken(f"{node} signed two records for {slot}")
        if isinstance(record, Vote):
            self._count(node.peer, record)
        elif isinstance(record, Collected):
            self._lists[record.round][node.peer] = record

    def on_said(self, node: SimNode, message: OverlayMessage) -> None:
        """An honest node sends of its own what it has written down, and nothing else."""
        for raw in records_in(message):
            if raw not in node.disk.signed:
                peeked = node.envelopes.peek(raw)
                if peeked.signer == node.peer and peeked.kind in JOURNALLED:
                    raise Broken(f"{node} sent a {peeked.kind} that is not in its journal")

    def _count(self, voter: PeerId, vote: Vote) -> None:
        """No two certificates for one round."""
        if vote.step != "precommit" or vote.header == NIL or vote.round == 0:
            return
        voters = self._precommits[vote.round][vote.view, vote.header]
        voters.add(voter)
        parent = self.heads.get(vote.round - 1)
        if parent is not None and len(voters) >= parent.committee.q:
            self._look_at(vote.round, vote.view, vote.header, parent)

    def _look_at(self, round: int, view: int, header: Hash, parent: Head) -> None:
        committee = parent.committee
        voters = [peer for peer in self._precommits[round][view, header] if peer in committee]
        if len(voters) >= committee.q:
            self._certified(round, header)

    def _certified(self, round: int, header: Hash) -> None:
        if self.certificates.setdefault(round, header) != header:
            raise Broken(f"two certified checkpoints of round {round}")

    def on_aggregate(self, node: SimNode, effect: fx.Aggregate) -> None:
        """What an honest node aggregates it holds, the state of the optimiser too."""
        inputs = {effect.base, effect.optimiser, *effect.deltas} - {None}
        if node.honest and not inputs <= node.disk.blobs:
            raise Broken(f"{node} is to aggregate what it does not hold")

    # ---- checkpoints

    def on_commit(self, node: SimNode, head: Head) -> None:
        """Honest nodes agree on a prefix and on the roster; a checkpoint follows from the lists that it rests on."""
        if not node.honest:
            return
        self._certified(head.round, head.hash)
        agreed = self.heads.get(head.round)
        if agreed is None:
            self.heads[head.round] = head
            if head.round > 0:
                self._check_first(head)
            for view, header in list(self._precommits[head.round + 1]):
                self._look_at(head.round + 1, view, header, head)
            return
        if agreed is not head and agreed.state != head.state:
            raise Broken(f"two rosters after round {head.round}")

    def _check_first(self, head: Head) -> None:
        """What is checked once for each round: any two that commit it have the same bytes."""
        parent = self.heads.get(head.round - 1)
        if parent is None or head.header.parent != parent.hash:
            raise Broken(f"checkpoint {head.round} does not follow checkpoint {head.round - 1}")
        inclusions = head.header.inclusions
        kept = (parent.header.params, parent.header.optimiser)
        params, optimiser = kept if head.header.void else made_of(parent, inclusions)
        if head.header.params != params:
            raise Broken(f"checkpoint {head.round} has params that its inclusions do not give")
        if head.header.optimiser != optimiser:
            raise Broken(f"checkpoint {head.round} has a state of the optimiser that its inclusions do not give")
        if any(i.delta in self.world.wrong_blobs for i in inclusions):
            raise Broken(f"checkpoint {head.round} includes a delta that no honest member could list")
        self._check_roster(parent.state, head)
        self._check_ages(head)
        named = self._named(head, parent)
        self._check_left_out(head, named)
        self._check_end(head, parent)
        if bool(head.header.void) != (not named):
            raise Broken(f"checkpoint {head.round} is {head.header.void or 'full'}, and its lists name {len(named)}")
        entering = {} if head.header.void else named
        if {i.trainer: (i.update, i.weight) for i in inclusions} != entering:
            raise Broken(f"checkpoint {head.round} includes other updates than its lists name")

    def _check_ages(self, head: Head) -> None:
        """Nothing enters twice, nor after a later one of its trainer, nor from a base too old or that is none; and the
        state remembers what it must. Once more, from C4."""
        policy, round = head.spec.policy, head.round
        for inclusion in head.header.inclusions:
            if inclusion.update in self._entered:
                raise Broken(f"checkpoint {round} includes an update twice: {self._entered[inclusion.update]} had it")
            if not 0 <= inclusion.staleness <= (policy.max_staleness if policy.is_buffered else 0):
                raise Broken(f"checkpoint {round} includes an update of staleness {inclusion.staleness}")
            self._entered[inclusion.update] = round
            if self._last.get(inclusion.trainer, 0) >= round - inclusion.staleness:
                raise Broken(f"checkpoint {round} includes an older update than the one before of the same trainer")
            self._last[inclusion.trainer] = round - inclusion.staleness
        if not policy.is_buffered:
            return
        earlier = [self.heads[before].hash for before in range(round - 1, -1, -1) if before in self.heads]
        if list(head.state.bases) != earlier[: policy.max_staleness]:
            raise Broken(f"the state after round {round} names other bases than there were")
        for member in head.state.members:
            blamed = round if member.peer in head.header.blamed else 0
            if member.used < max(self._last.get(member.peer, 0), blamed) and member.since < round:
                raise Broken(f"the state after round {round} forgets what of {self.world.by_peer[member.peer]} entered")

    def _check_roster(self, before: RunState, head: Head) -> None:
        """No honest member is expelled, and none is dropped that was seen; nobody is a member who is not admitted."""
        members = {member.peer for member in head.state.members}
        for departure in head.header.left:
            node = self.world.by_peer.get(departure.peer)
            if node is not None and node.honest and departure.reason == "left" and not node.wants_out:
                raise Broken(f"checkpoint {head.round} lets {node} go, which wants to stay")
            if node is not None and node.honest and departure.reason in ("convicted", "banned"):
                raise Broken(f"checkpoint {head.round} expels {node}, which is honest")
        for member in before.members:
            node = self.world.by_peer.get(member.peer)
            is_dropped = member.peer not in members and not (node is not None and node.wants_out)
            if node is not None and node.honest and is_dropped and member.missed == 0:
                raise Broken(f"checkpoint {head.round} drops {node}, which was seen in the round before")
        for peer in members:
            newcomer = self.world.by_peer.get(peer)
            if newcomer is not None and newcomer.wants_out and all(peer != each.peer for each in before.members):
                raise Broken(f"checkpoint {head.round} brings {newcomer} back, which has left")
            if peer not in self.world.by_peer:
                raise Broken(f"checkpoint {head.round} has a member that is not admitted")

    def _named(self, head: Head, parent: Head) -> dict[PeerId, tuple[Hash, int]]:
        """The updates that must be in: those of trainers with one update in k of the bundle's lists, none of which
        claims too much. Written here once more, in the plainest words, from P3 and P4."""
        raw = self._bundles.get(head.hash)
        if raw is None:
            raise Broken(f"checkpoint {head.round} is certified, and no honest member was locked on it")
        open_ = self.world.nodes[0].envelopes.open_any
        bundle = decode(Bundle, raw)
        lists = [open_(each).of(Collected).record for each in bundle.lists]
        updates = {opened.hash: opened.of(Update).record for opened in map(open_, bundle.updates)}
        counts: dict[tuple[PeerId, Hash], int] = defaultdict(int)
        for each in lists:
            for ref in each.updates:
                counts[ref.trainer, ref.update] += 1
        often = [pair for pair, count in counts.items() if count >= parent.committee.k]
        once = [(t, u) for t, u in often if sum(t == other for other, _ in often) == 1]
        claims = {trainer: updates[update].examples for trainer, update in once}
        limit = head.spec.pipeline.max_weight_ratio * median_low(claims.values()) if claims else 0
        weighted = head.spec.pipeline.is_weighted
        kept = {}
        for trainer, update in once:
            record = updates[update]
            if record.base != self.heads[record.round - 1].hash:
                raise Broken(f"checkpoint {head.round} rests on an update whose base there never was")
            if claims[trainer] <= limit:
                weight = claims[trainer] if weighted else 1
                kept[trainer] = update, self._weighed(weight, head.round - record.round, head.spec)
        return kept if len(kept) >= _least(head.spec) else {}

    @staticmethod
    def _weighed(weight: int, staleness: int, spec: RunSpec) -> int:
        """Divided by the root of 1 + staleness, in 2**-20, for the rule that scenarios have."""
        if not spec.policy.is_buffered or not isinstance(spec.pipeline.rule, FedAvg):
            return weight
        with localcontext(prec=60):
            return int(Decimal(weight * 2**20) / Decimal(1 + staleness).sqrt())

    def _check_end(self, head: Head, parent: Head) -> None:
        """The run ends for a reason that some honest member has too, and ends where most have one."""
        scenario, ended = self.world.scenario, head.header.ended
        if (ended == "rounds") != (head.round >= scenario.rounds):
            raise Broken(f"checkpoint {head.round} of {scenario.rounds} ends the run by {ended or 'nothing'}")
        if ended == "time" and not any(node.time_is_up for node in self.world.honest):
            raise Broken(f"checkpoint {head.round} ends the run by time, and no honest clock is there")
        included = [self.world.by_peer[inclusion.trainer] for inclusion in head.header.inclusions]
        honest = sum(node.honest for node in included)
        is_met = bool(scenario.target) and 1 / head.round <= scenario.target
        if ended == "metric" and not (is_met and honest):
            raise Broken(f"checkpoint {head.round} ends the run by its target, and no honest trainer claims that")
        if is_met and honest >= max(parent.committee.k, len(included) // 2 + 1) and not ended:
            raise Broken(f"checkpoint {head.round} goes on, and most honest trainers claim that the target is met")

    def _check_left_out(self, head: Head, named: dict[PeerId, tuple[Hash, int]]) -> None:
        """An update that every honest member lists is in; one that an honest trainer never signed is not."""
        included = {i.trainer: i.update for i in head.header.inclusions}
        ages = {i.trainer: i.staleness for i in head.header.inclusions}
        for trainer, update in included.items():
            node = self.world.by_peer[trainer]
            if node.honest and self._signed.get((trainer, ("update", head.round - ages[trainer]))) != update:
                raise Broken(f"checkpoint {head.round} includes an update that {node} never signed")
        lists = [{(ref.trainer, ref.update) for ref in each.updates} for each in self._lists[head.round].values()]
        for trainer, _ in set.intersection(*lists) if lists else set():
            node = self.world.by_peer[trainer]
            overweight = named and trainer not in named
            if node.honest and trainer not in included and not overweight and not head.header.void:
                raise Broken(f"checkpoint {head.round} leaves out {node}, whose update every honest member lists")

    # ---- memory

    def after_step(self, node: SimNode) -> None:
        """What peers send does not pile up in an honest machine."""
        self._steps[node.index] += 1
        if self._steps[node.index] % LOOKED_EVERY or not node.honest or node.running is None:
            return
        held = records_held(node.running)
        self.most_held = max(self.most_held, held)
        head = node.running.head
        members, policy = len(head.state.members), head.spec.policy
        late = 2 * policy.max_staleness if policy.is_buffered else 0  # updates for earlier rounds
        if held > (HELD_PER_MEMBER + late) * members + HELD_BESIDES:
            raise Broken(f"{node} holds {held} records of {members} members")
