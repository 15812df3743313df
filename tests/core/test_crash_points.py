"""A member is stopped before and after everything that it does, and starts again from its disk: it signs nothing twice,
its locks are where they were and can be proved, nothing certified is lost, and the run goes on with it."""

from collections.abc import Iterable, Iterator

import msgspec
import pytest

from primep2p.core import effects as fx
from primep2p.core import rounds
from primep2p.core.consensus import Consensus
from primep2p.core.genesis import Gathering
from primep2p.core.pen import entry_of
from primep2p.core.runs import Run
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash
from primep2p.model.journal import JournalEntry, Moved, Signed
from primep2p.model.messages import Certified, OverlayMessage
from primep2p.model.records import Proposal, RoundPolicy, Vote
from primep2p.wire.envelope import Opened
from tests.core.cluster import Broken, Cluster, Disk, Node, Script
from tests.core.mutants import WithoutLock

POLICY = RoundPolicy(
    rounds=3,
    first_members=1,
    min_members=1,
    min_updates=2,
    drop_after=50,
    collect_s=2.0,
    grace_s=0.05,
    propose_s=0.4,
    vote_s=0.2,
    step_cap_s=3.0,
)


def policy(**changed: object) -> RoundPolicy:
    return msgspec.structs.replace(POLICY, **changed)


def split(sender: int, receiver: int, message: OverlayMessage, opened: Opened[msgspec.Struct] | None) -> float | None:
    """In round 1: nobody hears the proposers of views 0 and 2. In view 1 rank 2 hears no proposal and votes nil; rank 3
    sees a quorum of prevotes in time, and locks; rank 1 sees it after it has precommitted nil; rank 0 never. So view 3
    begins with rank 3's turn, and it must put forward what it locked, with the proof."""
    record = opened.record if opened is not None else None
    match record:
        case Proposal(round=1, view=0 | 2):
            return None
        case Proposal(round=1, view=1) if receiver == 2:
            return None
        case Vote(round=1, view=1, step="prevote"):
            return {(0, 1): 1.5, (3, 0): None}.get((sender, receiver), 0.0)
        case Vote(round=1, view=1, step="precommit") if (sender, receiver) == (2, 1):
            return 0.8
    return 0.0


PLAIN = Script("a plain round", policy=POLICY)
VIEWS = Script("a round of four views", policy=POLICY, delay_s=split)
VOID = Script(
    "a void round",
    policy=policy(min_updates=4, collect_s=0.5),
    untrained=lambda rank, round: (rank, round) == (1, 1),
)
BEGINNING = Script("checkpoint 0", policy=policy(first_members=4), gathers=True)
ROSTER = Script(
    "a join and a drop",
    rounds=2,
    joins=1,
    absent=frozenset({3}),
    policy=policy(rounds=4, drop_after=1, min_members=3),
)
SEVEN = Script("seven members", n=7, policy=POLICY)

BUFFERED = Script(
    "buffered rounds",
    rounds=2,
    policy=policy(
        rounds=4, mode="buffered", min_members=3, updates_per_version=3, max_staleness=2, collect_s=1.0, grace_s=0.03
    ),
    training_s=lambda rank, round: 0.35 if rank == 0 else 0.1 + 0.04 * rank,
)
"""Rank 0 trains as long as two rounds take."""

SWEEPS = [
    (PLAIN, 0, False),
    (PLAIN, 1, True),
    (VIEWS, 3, False),
    (VIEWS, 3, True),
    (VIEWS, 1, False),
    (VOID, 0, True),
    (VOID, 1, False),
    (BEGINNING, 0, False),
    (BEGINNING, 2, False),
    (ROSTER, 0, False),
    (ROSTER, 4, True),
    (SEVEN, 0, True),
    (BUFFERED, 0, False),
    (BUFFERED, 3, True),
]
"""Scenario, the member that is stopped by its rank, and whether journal entries that stand together are one write."""


def sweep(cluster: Cluster, stops: Iterable[list[int]], **how: float) -> None:
    """Every one of `stops` in a run of its own."""
    script, chosen = cluster.script, cluster.rank(cluster.chosen.peer)
    for stop in stops:
        try:
            Cluster(script, chosen, stop, batched=cluster.batched, **how).run()  # type: ignore[arg-type]
        except Broken as broken:
            raise Broken(
                f"{script.name}, rank {chosen} stopped at {stop}, {cluster.batched=}, {how}: {broken}"
            ) from None


def undisturbed(script: Script, chosen: int, batched: bool = False) -> Cluster:
    return Cluster(script, chosen, batched=batched).run()


# ---- the scenarios are what they claim to be


def test_the_round_of_four_views_moves_a_lock_and_a_value_that_is_no_lock() -> None:
    locker = undisturbed(VIEWS, 3)
    assert [(move.view, move.locked) for move in locker.chosen.moves[:2]] == [(1, True), (3, True)]
    late = undisturbed(VIEWS, 1)
    assert (late.chosen.moves[0].view, late.chosen.moves[0].locked) == (1, False)
    assert locker.views == {0, 3}


def test_the_other_scenarios_hold_what_they_are_named_after() -> None:
    assert undisturbed(VOID, 0).voids == {1}
    assert undisturbed(BEGINNING, 0).certified.keys() == {0, 1, 2, 3}
    assert max(undisturbed(BUFFERED, 0).ages) > 0
    cluster = undisturbed(ROSTER, 0)
    headers = [head.header for _, head in cluster.heads if head.round > 0]
    assert {cluster.rank(newcomer.peer) for header in headers for newcomer in header.joined} == {4}
    assert {(cluster.rank(each.peer), each.reason) for header in headers for each in header.left} == {(3, "dropped")}


# ---- every point


@pytest.mark.parametrize(("script", "chosen", "batched"), SWEEPS, ids=lambda value: getattr(value, "name", value))
def test_a_member_that_is_stopped_anywhere_goes_on_from_its_disk(script: Script, chosen: int, batched: bool) -> None:
    cluster = undisturbed(script, chosen, batched)
    assert len(cluster.distinct) > 30
    sweep(cluster, ([point] for point in cluster.distinct))


def test_a_member_that_comes_back_when_the_others_are_further_loses_nothing() -> None:
    cluster = undisturbed(VIEWS, 3)
    sweep(cluster, ([point] for point in cluster.distinct[::3]), restart_s=2.0)


def test_a_power_cut_that_stops_everybody_loses_nothing() -> None:
    cluster = undisturbed(VIEWS, 3)
    sweep(cluster, ([point] for point in cluster.distinct[::2]), everybody=True)


def test_a_member_that_is_stopped_again_while_it_starts_goes_on() -> None:
    cluster = undisturbed(VIEWS, 3)
    for first in cluster.distinct[::13]:
        starting = Cluster(VIEWS, 3, [first]).run().distinct_of[1]
        sweep(cluster, ([first, second] for second in starting[:12]))


def test_a_member_that_is_stopped_twice_far_apart_goes_on() -> None:
    cluster = undisturbed(VIEWS, 3)
    for first in cluster.distinct[::15]:
        later = Cluster(VIEWS, 3, [first]).run().distinct_of[1]
        sweep(cluster, ([first, second, 3] for second in later[14::9]))


# ---- what a disk returns that is worse than its promise


def split_twice(
    sender: int, receiver: int, message: OverlayMessage, opened: Opened[msgspec.Struct] | None
) -> float | None:
    """As `split`, then nothing comes of views 2 to 4, and view 5 is as split as view 1."""
    match opened.record if opened is not None else None:
        case Proposal(round=1, view=2 | 3 | 4 | 6):
            return None
        case Proposal(round=1, view=5) if receiver == 2:
            return None
        case Vote(round=1, view=5, step="prevote") if (sender, receiver) in ((0, 1), (3, 0)):
            return None
    return split(sender, receiver, message, opened)


LONG = Script("a round of eight views", policy=POLICY, delay_s=split_twice)


def restarted(cluster: Cluster, entries: list[JournalEntry], foreign: Iterable[bytes] = ()) -> Run:
    """The chosen member's machine after a start in round 1, with this journal, and what others hold."""
    run = Run(cluster.group.head, cluster.chosen.envelopes)
    run.begin(0.0, entries=entries, foreign=list(foreign))
    return run


def state(run: Run) -> tuple[object, ...]:
    """All that a journal must give back."""
    assert run.round is not None
    round, consensus = run.round, run.round.consensus
    moved = [at for at in (consensus.locked, consensus.valid) if at is not None]
    proofs = [consensus.tally.quorum(view, "prevote", header) for view, header in moved]
    own = {opened.hash for opened in round.records.by(round.me)}
    return own, consensus.locked, consensus.valid, consensus.view, consensus.step, proofs


def flips(raw: bytes) -> Iterator[bytes]:
    """One bit turned: near both ends, and here and there between."""
    places = {*range(min(24, len(raw))), *range(max(0, len(raw) - 24), len(raw)), *range(0, len(raw), 29)}
    for place in sorted(places):
        yield raw[:place] + bytes([raw[place] ^ (1 << place % 8)]) + raw[place + 1 :]


def test_one_bit_of_the_journal_that_turned_mutes_or_changes_nothing() -> None:
    cluster = undisturbed(VIEWS, 3)
    raws = cluster.chosen.disk.journal[1]
    whole = state(restarted(cluster, [entry_of(raw) for raw in raws]))
    muted = 0
    for index, raw in enumerate(raws):
        for damaged in flips(raw):
            run = restarted(cluster, [entry_of(other) for other in (*raws[:index], damaged, *raws[index + 1 :])])
            assert run.round is not None
            muted += run.round.pen.muted
            assert run.round.pen.muted or state(run) == whole
    assert muted > 100


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00" * 64, b"\xff" * 300, b"\x93\xa6signed"], ids=["nothing", "zeros", "ones", "cut"]
)
def test_an_entry_that_is_garbage_mutes_until_the_next_round(garbage: bytes) -> None:
    cluster = undisturbed(VIEWS, 3)
    raws = cluster.chosen.disk.journal[1]
    for index in range(len(raws) + 1):
        run = restarted(cluster, [entry_of(raw) for raw in (*raws[:index], garbage, *raws[index + 1 :])])
        assert run.round is not None
        assert run.round.pen.muted
        effects = run.handle(fx.Expired(fx.Moment(1, "collect")), 1.0)
        assert not [effect for effect in effects if isinstance(effect, fx.Journal)]
        run.handle(fx.Received(cluster.group.ranks[0].peer_id, certified(cluster, 1)), 2.0)
        assert run.round.round == 2
        assert not run.round.pen.muted


def test_a_member_with_a_damaged_journal_of_checkpoint_0_refuses_to_start() -> None:
    cluster = undisturbed(BEGINNING, 2)
    node = cluster.chosen
    for index, raw in enumerate(node.disk.journal[0]):
        for damaged in (b"garbage", *flips(raw)):
            raws = [*node.disk.journal[0][:index], damaged, *node.disk.journal[0][index + 1 :]]
            machine = Gathering(cluster.spec, cluster.joins[node.peer], node.envelopes)
            with pytest.raises(PeerError):
                machine.begin([entry_of(raw) for raw in raws])


def test_a_whole_journal_of_many_views_is_not_taken_for_an_old_one() -> None:
    cluster = undisturbed(LONG, 3)
    disk = cluster.chosen.disk
    assert [move.view for move in cluster.chosen.moves][:3] == [1, 5, 7]
    entries = disk.entries(1)
    run = restarted(cluster, entries, [entry.envelope for entry in entries if isinstance(entry, Signed)])
    assert run.round is not None
    assert not run.round.pen.muted


def test_a_store_that_lost_whole_rounds_mutes_in_all_of_them() -> None:
    cluster = undisturbed(PLAIN, 0)
    others_hold = [entry.envelope for entry in cluster.chosen.disk.entries(2) if isinstance(entry, Signed)]
    run = restarted(cluster, [], others_hold)
    for round in (1, 2):
        assert run.round is not None
        assert (run.round.round, run.round.pen.muted) == (round, True)
        run.handle(fx.Received(cluster.group.ranks[1].peer_id, certified(cluster, round)), 1.0)
    assert not run.round.pen.muted


def certified(cluster: Cluster, round: int) -> Certified:
    return Certified(cluster.spec.hash, cluster.chosen.disk.chain[round][0])


# ---- and the checks can fail


class JournalsLate(Node):
    """Sends first, and writes then."""

    def perform(self, effects: list[fx.Effect]) -> None:
        late = sorted(effects, key=lambda effect: isinstance(effect, fx.Journal))
        super().perform(late)


class DropsMoves(Node):
    """Keeps what it signed, and not what its locks rest on."""

    def write(self, effect: fx.Journal) -> None:
        if not isinstance(effect.entry, Moved):
            super().write(effect)


class LosesCommits(Node):
    """Takes a checkpoint for stored that is not."""

    def commit(self, effect: fx.Commit) -> None:
        if effect.head.round != 1:
            super().commit(effect)


class EmptyDisk(Disk):
    def entries(self, round: int) -> list[JournalEntry]:
        return []


class ForgetsItsJournal(Node):
    """Starts as if it had signed nothing."""

    def start(self) -> None:
        if self.lives == 1:
            self.disk = EmptyDisk({}, self.disk.chain, self.disk.blobs, self.disk.signed, self.disk.proven)
        super().start()


class ForgetsMoves(Consensus):
    """Restores nothing of what moved its lock."""

    def restore_move(self, view: int, header: Hash, prevotes: object, *, locked: bool) -> None:
        pass


class RestoresWithoutProof(Consensus):
    """Restores the lock, and not the votes that others would have to see."""

    def restore_move(self, view: int, header: Hash, prevotes: object, *, locked: bool) -> None:
        super().restore_move(view, header, [], locked=locked)


def caught(cluster: Cluster, chosen_is: type[Node] = Node) -> str:
    """What is said at the first point at which a mutant is caught."""
    for stop in [[], *([point] for point in cluster.distinct)]:
        try:
            Cluster(cluster.script, cluster.rank(cluster.chosen.peer), stop, chosen_is=chosen_is).run()
        except Broken as broken:
            return str(broken)
    return ""


@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        (JournalsLate, "not in its journal"),
        (DropsMoves, "without the proof in its journal"),
        (LosesCommits, "has not stored checkpoint 1"),
        (ForgetsItsJournal, "signed two records"),
    ],
)
def test_a_disk_or_driver_that_breaks_its_promise_is_caught(mutant: type[Node], found: str) -> None:
    assert found in caught(undisturbed(VIEWS, 3), mutant)


@pytest.mark.parametrize(
    ("mutant", "found"),
    [(ForgetsMoves, "and is at None"), (RestoresWithoutProof, "cannot prove"), (WithoutLock, "and is at None")],
)
def test_a_machine_that_restores_too_little_is_caught(
    mutant: type[Consensus], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = undisturbed(VIEWS, 3)
    monkeypatch.setattr(rounds, "Consensus", mutant)
    assert found in caught(cluster)
