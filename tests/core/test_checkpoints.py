"""From lists to a header: the exact inclusions against a naive oracle, and every way to bend a bundle."""

from collections.abc import Callable
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primep2p.core.checkpoints import derive, header_of, named_by_k, open_bundle
from primep2p.core.checks import max_listed_notices
from primep2p.core.roster import peers_of
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.model.pipeline import Arc, Bucketing, FedAvg, Krum, MultiKrum, Pipeline, Sgd, TrimmedMean
from primep2p.model.records import (
    Admission,
    Ban,
    Bundle,
    Collected,
    Departure,
    Evidence,
    Metric,
    RoundPolicy,
    Update,
    UpdateRef,
    Vote,
)
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Opened
from tests.core.kit import Group, accepted, ban_of, cid, invite_of, join_of, member, newcomer, verified

POLICY = RoundPolicy(first_members=1, min_updates=2, drop_after=2, min_members=2)
FOUR = Group(4, policy=POLICY)


def derived(group: Group, bundle: bytes):  # type: ignore[no-untyped-def]
    return derive(open_bundle(bundle, group.head, verified), group.head)


# ---- what lists name

_REFS = [UpdateRef(f"trainer {t}", bytes([h]) * 32) for t in range(4) for h in range(2)]
_LISTS = st.lists(st.sets(st.sampled_from(range(len(_REFS)))), min_size=1, max_size=6)


@given(chosen=_LISTS, k=st.integers(1, 4))
def test_named_are_exactly_the_updates_in_k_lists_but_for_trainers_of_whom_two_are(
    chosen: list[set[int]], k: int
) -> None:
    lists = [Collected(bytes(32), 1, tuple(_REFS[i] for i in sorted(some))) for some in chosen]
    often = {ref for ref in _REFS if sum(ref in entry.updates for entry in lists) >= k}
    expected = {
        (ref.trainer, ref.update) for ref in often if [other.trainer for other in often].count(ref.trainer) == 1
    }
    assert named_by_k(lists, k).updates == expected


@given(chosen=_LISTS, k=st.integers(1, 4), seed=st.randoms())
def test_the_order_of_lists_does_not_matter(chosen: list[set[int]], k: int, seed) -> None:  # type: ignore[no-untyped-def]
    lists = [Collected(bytes(32), 1, tuple(_REFS[i] for i in sorted(some))) for some in chosen]
    shuffled = list(lists)
    seed.shuffle(shuffled)
    assert named_by_k(lists, k) == named_by_k(shuffled, k)


def test_a_hash_that_one_liar_made_up_censors_nobody() -> None:
    honest, forged = UpdateRef("t", bytes(32)), UpdateRef("t", b"x" * 32)
    lists = [Collected(bytes(32), 1, (ref,)) for ref in (honest, honest, forged)]
    assert named_by_k(lists, 2).updates == {("t", bytes(32))}


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=5), st.integers(1, 3))
def test_notices_are_named_like_updates(chosen: list[set[int]], k: int) -> None:
    lists = [Collected(bytes(32), 1, (), tuple(bytes([n]) * 32 for n in sorted(some))) for some in chosen]
    expected = {bytes([n]) * 32 for n in range(6) if sum(n in some for some in chosen) >= k}
    assert named_by_k(lists, k).notices == expected


# ---- the exact inclusions, through real bundles


@settings(max_examples=40, deadline=None)
@given(
    holds=st.lists(st.sets(st.integers(0, 3)), min_size=4, max_size=4),
    listers=st.sampled_from([(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3)]),
)
def test_inclusions_are_those_of_a_naive_count(holds: list[set[int]], listers: tuple[int, ...]) -> None:
    updates = [FOUR.update(who) for who in FOUR.members]
    lists = [FOUR.listing(FOUR.members[i], [updates[t] for t in holds[i]]) for i in listers]
    result = derived(FOUR, FOUR.bundle(lists, updates))
    named = [t for t in range(4) if sum(t in holds[i] for i in listers) >= FOUR.head.committee.k]
    if len(named) < POLICY.min_updates:
        assert (result.inclusions, result.void) == ((), f"too few updates: {len(named)} of 2")
    else:
        assert [i.trainer for i in result.inclusions] == [FOUR.members[t].peer_id for t in named]
        assert result.void == ""


IN_BUCKETS = "too few updates: 7 of the 9 that arc with f = 2 needs, in buckets of 2"


@pytest.mark.parametrize(
    ("pipeline", "delivered", "void"),
    [
        (Pipeline(), 1, "too few updates: 1 of 2"),
        (Pipeline(), 2, ""),
        (Pipeline(Krum(1)), 4, "too few updates: 4 of the 5 that krum with f = 1 needs"),
        (Pipeline(Krum(1)), 5, ""),
        (Pipeline(MultiKrum(1, 5)), 5, "too few updates: 5 of the 6 that multi_krum with f = 1 and m = 5 needs"),
        (
            Pipeline(TrimmedMean(), (Bucketing(3),)),
            6,
            "too few updates: 6 of the 7 that trimmed_mean needs, in buckets of 3",
        ),
        (Pipeline(TrimmedMean(), (Bucketing(3),)), 7, ""),
        (Pipeline(TrimmedMean(), (Arc(3), Bucketing(2))), 6, "too few updates: 6 of the 7 that arc with f = 3 needs"),
        (Pipeline(TrimmedMean(), (Bucketing(2), Arc(2))), 7, IN_BUCKETS),
    ],
)
def test_a_round_with_fewer_updates_than_a_stage_needs_is_void_and_says_which(
    pipeline: Pipeline, delivered: int, void: str
) -> None:
    group = Group(7, policy=POLICY, pipeline=pipeline)
    updates = [group.update(who) for who in group.members[:delivered]]
    result = derived(group, group.bundle([group.listing(who, updates) for who in group.members], updates))
    assert result.void == void
    assert len(result.inclusions) == (0 if void else delivered)


def test_a_shortage_is_that_of_the_policy_where_it_asks_for_as_many_as_the_rule() -> None:
    policy = msgspec.structs.replace(POLICY, min_updates=5)
    group = Group(7, policy=policy, pipeline=Pipeline(Krum(1)))
    lists = [group.listing(who, ()) for who in group.members]
    assert derived(group, group.bundle(lists, ())).void == "too few updates: 0 of 5"


def test_two_proposers_with_the_same_lists_make_the_same_header_byte_for_byte() -> None:
    updates, lists, _ = FOUR.full()
    bundles = {FOUR.bundle(list(order), reversed(updates)) for order in permutations(lists)}
    assert len(bundles) == 1
    assert len({FOUR.header(bundle) for bundle in bundles}) == 1


def test_a_header_of_a_void_round_keeps_the_params_and_says_why() -> None:
    _, _, bundle = FOUR.full()
    header = header_of(FOUR.head, derived(FOUR, bundle), None, None, "the mean is not finite")
    assert (header.params, header.inclusions, header.metrics) == (FOUR.head.header.params, (), ())
    assert header.void == "the mean is not finite"


def test_a_void_round_keeps_the_optimisers_state_and_a_full_one_names_the_next() -> None:
    group = Group(4, policy=POLICY, pipeline=Pipeline(outer=Sgd(momentum=0.9)))
    first = group.go_on().header.optimiser
    assert first is not None
    result = derived(group, group.full()[2])
    full = header_of(group.head, result, cid("params"), cid("state"), "")
    void = header_of(group.head, result, None, None, "the params are not finite")
    assert (full.optimiser, void.optimiser) == (cid("state"), first)
    short = derived(group, group.bundle([group.listing(who, ()) for who in group.members], ()))
    assert header_of(group.head, short, None, None, "").optimiser == first


# ---- weights


def weighed(examples: list[int], *, ratio: float = 10.0, weighting: str = "examples"):  # type: ignore[no-untyped-def]
    group = Group(len(examples), policy=POLICY, pipeline=Pipeline(FedAvg(weighting), max_weight_ratio=ratio))  # type: ignore[arg-type]
    updates = [group.update(who, examples=count) for who, count in zip(group.members, examples, strict=True)]
    lists = [group.listing(who, updates) for who in group.members]
    result = derived(group, group.bundle(lists, updates))
    return [i.weight for i in result.inclusions], [group.members.index(group.by_peer[p]) for p in result.blamed]


def test_weights_are_examples_or_one() -> None:
    assert weighed([10, 20, 30, 40]) == ([10, 20, 30, 40], [])
    assert weighed([10, 20, 30, 40], weighting="uniform") == ([1, 1, 1, 1], [])


def test_one_that_claims_too_much_is_left_out_by_the_median_of_all() -> None:
    assert weighed([10, 10, 10, 101]) == ([10, 10, 10], [3])
    assert weighed([10, 10, 10, 100]) == ([10, 10, 10, 100], [])
    assert weighed([10, 10, 10, 101], weighting="uniform") == ([1, 1, 1], [3])


def test_of_two_the_larger_claim_cannot_vouch_for_itself() -> None:
    assert weighed([10, 2**40, 10, 2**40]) == ([10, 10], [1, 3])  # the lower median


# ---- metrics


def test_metrics_are_weighted_means_of_those_that_all_report() -> None:
    group = Group(2, policy=POLICY)
    one, two = group.members
    updates = [
        group.update(one, examples=1, metrics=(Metric("loss", 1.0), Metric("only one", 5.0))),
        group.update(two, examples=3, metrics=(Metric("accuracy", 0.5), Metric("loss", 2.0))),
    ]
    bundle = group.bundle([group.listing(who, updates) for who in group.members], updates)
    assert derived(group, bundle).metrics == (Metric("loss", 1.75),)


def test_a_mean_that_is_not_finite_is_left_out() -> None:
    group = Group(2, policy=POLICY)
    updates = [group.update(who, examples=2**40, metrics=(Metric("loss", 1.7e308),)) for who in group.members]
    bundle = group.bundle([group.listing(who, updates) for who in group.members], updates)
    assert derived(group, bundle).metrics == ()


# ---- who was there, who comes and goes


def test_seen_are_those_that_listed_trained_or_voted() -> None:
    group = Group(4, policy=POLICY)
    updates = [group.update(who) for who in group.members[:2]]
    lists = [group.listing(who, updates) for who in group.members[:3]]
    assert derived(group, group.bundle(lists, updates)).seen == {who.peer_id for who in group.members[:3]}
    late = group.members[3].seal(Vote(group.run, 0, 0, 5, "precommit", b""))
    assert derived(group, group.bundle(lists, updates, votes=[late])).seen == peers_of(group.head.state)


def test_a_member_that_is_silent_for_so_long_is_dropped_and_one_that_is_heard_is_not() -> None:
    group = Group(4, policy=POLICY)
    for round, left in ((1, ()), (2, (Departure(group.members[3].peer_id, "dropped"),))):
        present = [who for who in group.members if who.peer_id in peers_of(group.head.state)][:3]
        updates = [group.update(who) for who in present]
        head = group.go_on(group.bundle([group.listing(who, updates) for who in present], updates))
        assert (head.round, head.header.left) == (round, left)


def joining(group: Group, *joins: Opened[msgspec.Struct]):  # type: ignore[no-untyped-def]
    updates = [group.update(who) for who in group.members]
    lists = [group.listing(who, updates, joins) for who in group.members]  # type: ignore[arg-type]
    return derived(group, group.bundle(lists, updates, joins))  # type: ignore[arg-type]


def test_a_joiner_that_k_lists_name_becomes_a_member() -> None:
    result = joining(FOUR, join_of(7, FOUR.spec))
    assert (result.joined, result.left) == ((newcomer(7, FOUR.spec),), ())


def test_two_joins_of_one_peer_make_one_member() -> None:
    assert len(joining(FOUR, join_of(7, FOUR.spec), join_of(7, FOUR.spec, address="x")).joined) == 1


def test_joins_that_are_from_the_future_of_a_member_or_not_allowed_change_nothing() -> None:
    assert joining(FOUR, join_of(7, FOUR.spec, round=2)).joined == ()
    assert joining(FOUR, join_of(1, FOUR.spec)).joined == ()
    closed = Group(4, policy=POLICY, admission=Admission("allowlist", tuple(member(i).peer_id for i in (1, 2, 3))))
    assert joining(closed, join_of(7, closed.spec)).joined == ()


def test_a_roster_of_sixteen_lets_in_more_of_whom_a_committee_is_drawn() -> None:
    group = Group(16, policy=POLICY)
    join = join_of(20, group.spec)
    updates = [group.update(who) for who in group.members]
    bundle = group.bundle([group.listing(who, updates, [join]) for who in group.members], updates, [join])
    head = group.go_on(bundle)
    assert head.header.joined == (newcomer(20, group.spec),)
    assert head.is_drawn


# ---- bundles that are not so


def rebuilt(group: Group, **parts: Callable[[Bundle], tuple[bytes, ...]]) -> bytes:
    """The bundle of a full round, with parts exchanged."""
    bundle = decode(Bundle, group.full()[2])
    return encode(msgspec.structs.replace(bundle, **{name: part(bundle) for name, part in parts.items()}))


def _list(who: int, *refs: tuple[int, str], round: int = 1, notices: tuple[bytes, ...] = ()) -> bytes:
    """A list of member `who` with these updates, in this order."""
    named = tuple(UpdateRef(FOUR.members[t].peer_id, FOUR.update(FOUR.members[t], what=what).hash) for t, what in refs)
    return FOUR.members[who].seal(Collected(FOUR.run, round, named, notices)).raw


def _accusing(*peers: int) -> bytes:
    """A list of member 3 that accuses these, who are members by their place in the roster."""
    accused = tuple(FOUR.members[i].peer_id if i < 4 else member(i).peer_id for i in peers)
    record = FOUR.listing(FOUR.members[3], [FOUR.update(who) for who in FOUR.members]).record
    return FOUR.members[3].seal(msgspec.structs.replace(record, accused=accused)).raw


def _hashes(count: int) -> tuple[bytes, ...]:
    return tuple(n.to_bytes(32, "big") for n in range(count))


def _stranger_list() -> bytes:
    return FOUR.listing(member(9), []).raw


def _odd_update(**changes: object) -> bytes:
    record = FOUR.update(FOUR.members[0]).record
    return FOUR.members[0].seal(msgspec.structs.replace(record, **changes)).raw


def with_update(update: bytes) -> bytes:
    """A bundle whose lists all name this update of member 0, and no other."""
    opened = verified(update).of(Update)
    lists = [FOUR.listing(who, [opened]) for who in FOUR.members]
    return encode(Bundle(tuple(entry.raw for entry in sorted(lists, key=lambda e: e.signer)), (update,)))


ALL = ((0, ""), (1, ""), (2, ""), (3, ""))
BENT: dict[str, Callable[[], bytes]] = {
    "too few lists": lambda: rebuilt(FOUR, lists=lambda b: b.lists[:2]),
    "lists out of order": lambda: rebuilt(FOUR, lists=lambda b: b.lists[::-1]),
    "a list twice": lambda: rebuilt(FOUR, lists=lambda b: (b.lists[0], *b.lists)),
    "two lists of one member": lambda: rebuilt(FOUR, lists=lambda b: (_list(0), *b.lists)),
    "a list from a stranger": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists[:3], _stranger_list())),
    "a list of another round": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists[:3], _list(3, *ALL, round=2))),
    "a list that names a trainer twice": lambda: rebuilt(
        FOUR, lists=lambda b: (*b.lists[:3], _list(3, (0, ""), (0, "")))
    ),
    "a list that names a trainer with two hashes": lambda: rebuilt(
        FOUR, lists=lambda b: (*b.lists[:3], _list(3, (0, ""), (0, "other")))
    ),
    "a list that is not sorted": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists[:3], _list(3, (1, ""), (0, "")))),
    "a list with a notice twice": lambda: rebuilt(
        FOUR, lists=lambda b: (*b.lists[:3], _list(3, *ALL, notices=(bytes(32), bytes(32))))
    ),
    "a list with too many notices": lambda: rebuilt(
        FOUR,
        lists=lambda b: (
            *b.lists[:3],
            _list(
                3,
                *ALL,
                notices=_hashes(max_listed_notices(FOUR.head.committee) + 1),
            ),
        ),
    ),
    "a list that accuses out of order": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists[:3], _accusing(1, 0))),
    "a list that accuses one twice": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists[:3], _accusing(1, 1))),
    "a list that accuses a stranger": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists[:3], _accusing(9))),
    "an update missing": lambda: rebuilt(FOUR, updates=lambda b: b.updates[1:]),
    "an update too many": lambda: rebuilt(
        FOUR, updates=lambda b: (FOUR.update(FOUR.members[0], what="x").raw, *b.updates)
    ),
    "updates out of order": lambda: rebuilt(FOUR, updates=lambda b: b.updates[::-1]),
    "an update exchanged": lambda: rebuilt(
        FOUR, updates=lambda b: (FOUR.update(FOUR.members[0], what="x").raw, *b.updates[1:])
    ),
    "a notice that nobody named": lambda: rebuilt(FOUR, notices=lambda b: (join_of(7, FOUR.spec).raw,)),
    "a vote of a stranger": lambda: rebuilt(
        FOUR, votes=lambda b: (member(9).seal(Vote(FOUR.run, 0, 0, 0, "precommit", b"")).raw,)
    ),
    "a vote of another round": lambda: rebuilt(
        FOUR, votes=lambda b: (FOUR.vote(FOUR.members[0], b"", step="precommit").raw,)
    ),
    "a prevote": lambda: rebuilt(
        FOUR, votes=lambda b: (FOUR.members[0].seal(Vote(FOUR.run, 0, 0, 0, "prevote", b"")).raw,)
    ),
    "an update of another base": lambda: with_update(_odd_update(base=bytes(32))),
    "an update of another round": lambda: with_update(_odd_update(round=2)),
    "an update of another run": lambda: with_update(_odd_update(run=bytes(32))),
    "an update with a metric that is no number": lambda: with_update(
        _odd_update(metrics=(Metric("loss", float("nan")),))
    ),
    "an update whose delta has two names": lambda: with_update(_odd_update(delta="bafkrei" + "b" * 52)),
    "junk": lambda: b"junk",
    "junk for a list": lambda: rebuilt(FOUR, lists=lambda b: (*b.lists, b"junk")),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_a_bundle_that_is_bent_is_refused(bend: Callable[[], bytes]) -> None:
    with pytest.raises(PeerError):
        open_bundle(bend(), FOUR.head, verified)


def test_an_update_that_is_as_it_should_be_is_not_refused_for_being_alone() -> None:
    assert len(open_bundle(with_update(_odd_update()), FOUR.head, verified).updates) == 1


def test_a_bundle_with_any_byte_changed_is_refused_or_says_what_it_said() -> None:
    bundle = FOUR.full()[2]
    before = derived(FOUR, bundle)
    for place in range(0, len(bundle), 37):
        bent = bytearray(bundle)
        bent[place] ^= 1
        try:
            after = derived(FOUR, bytes(bent))
        except PeerError:
            continue
        assert (after.inclusions, after.seen, after.joined, after.left) == (
            before.inclusions,
            before.seen,
            before.joined,
            before.left,
        )


# ---- who is convicted, who is banned

LIAR, OTHER = FOUR.members[1].peer_id, FOUR.members[2].peer_id
EVIDENCE = {who.peer_id: FOUR.evidence(who) for who in FOUR.members}


def accusing(accused: list[list[PeerId]], notices: list[Opened[Ban]], listed_by: int = 4) -> bytes:
    """A bundle of four lists, of which each accuses these, and the last so many name the notices."""
    updates = [FOUR.update(who) for who in FOUR.members]
    lists = [
        FOUR.listing(who, updates, notices if i >= 4 - listed_by else (), accused=some)
        for i, (who, some) in enumerate(zip(FOUR.members, accused, strict=True))
    ]
    return FOUR.bundle(lists, updates, notices, evidence=EVIDENCE)


def ban(peer: PeerId, *, by: int = 0) -> Opened[Ban]:
    return ban_of(FOUR.spec, peer, by=by)


def test_one_that_k_lists_accuse_is_convicted_by_the_evidence_in_the_bundle() -> None:
    result = derived(FOUR, accusing([[LIAR], [], [], [LIAR]], []))
    assert result.left == (Departure(LIAR, "convicted"),)
    assert result.state.expelled == (LIAR,)
    assert LIAR not in peers_of(result.state)


def test_one_that_fewer_lists_accuse_is_convicted_by_nobody_whatever_evidence_there_is() -> None:
    bundle = accusing([[LIAR], [OTHER], [], []], [])
    assert decode(Bundle, bundle).evidence == ()
    assert derived(FOUR, bundle).left == ()
    with pytest.raises(PeerError, match="evidence"):
        open_bundle(_with_evidence(bundle, EVIDENCE[LIAR]), FOUR.head, verified)


def _with_evidence(bundle: bytes, *evidence: Evidence) -> bytes:
    parts = tuple(encode(each) for each in evidence)
    return encode(msgspec.structs.replace(decode(Bundle, bundle), evidence=parts))


SAME = FOUR.vote(FOUR.members[1], b"").raw
INSUFFICIENT: dict[str, list[Evidence]] = {
    "none": [],
    "against one of two": [EVIDENCE[LIAR]],
    "against another": [EVIDENCE[LIAR], EVIDENCE[FOUR.members[3].peer_id]],
    "against one more": [EVIDENCE[peer] for peer in sorted([LIAR, OTHER, FOUR.members[3].peer_id])],
    "out of order": [EVIDENCE[peer] for peer in sorted([LIAR, OTHER], reverse=True)],
    "twice": [EVIDENCE[LIAR], EVIDENCE[LIAR], EVIDENCE[OTHER]],
    "of nothing": [Evidence(SAME, SAME), EVIDENCE[OTHER]],
    "of another run": [Group(4, policy=RoundPolicy(first_members=1)).evidence(FOUR.members[1]), EVIDENCE[OTHER]],
}


@pytest.mark.parametrize("evidence", INSUFFICIENT.values(), ids=INSUFFICIENT)
def test_lists_that_accuse_need_the_evidence_in_the_bundle_and_no_other(evidence: list[Evidence]) -> None:
    bundle = accusing([[LIAR, OTHER]] * 4, [])
    assert len(derived(FOUR, bundle).left) == 2
    with pytest.raises(PeerError):
        open_bundle(_with_evidence(bundle, *evidence), FOUR.head, verified)


def test_a_ban_that_k_lists_name_expels_a_member_or_a_stranger() -> None:
    stranger = member(9).peer_id
    victim = next(who.peer_id for who in FOUR.members if who.peer_id != FOUR.spec.record.creator)
    result = derived(FOUR, accusing([[]] * 4, [ban(victim), ban(stranger)], listed_by=2))
    assert result.left == tuple(Departure(peer, "banned") for peer in sorted([victim, stranger]))
    assert result.state.expelled == tuple(sorted([victim, stranger]))
    assert derived(FOUR, accusing([[]] * 4, [ban(victim)], listed_by=1)).left == ()


def test_a_conviction_and_a_ban_may_come_in_one_round_and_of_one_peer_the_conviction_counts() -> None:
    stranger = member(9).peer_id
    liar = next(who.peer_id for who in FOUR.members if who.peer_id != FOUR.spec.record.creator)
    result = derived(FOUR, accusing([[liar]] * 4, [ban(stranger), ban(liar)]))
    expected = {liar: "convicted", stranger: "banned"}
    assert {departure.peer: departure.reason for departure in result.left} == expected
    assert len(result.left) == 2


def test_one_that_is_expelled_already_leaves_no_second_time() -> None:
    group = Group(4, policy=POLICY)
    banned = ban_of(group.spec, member(9).peer_id)
    for left in ((Departure(member(9).peer_id, "banned"),), ()):
        updates = [group.update(who) for who in group.members]
        lists = [group.listing(who, updates, [banned]) for who in group.members]
        head = group.go_on(group.bundle(lists, updates, [banned]))
        assert (head.header.left, head.state.expelled) == (left, (member(9).peer_id,))


def test_a_ban_by_somebody_else_is_refused_in_a_bundle_though_k_lists_name_it() -> None:
    with pytest.raises(PeerError, match="ban"):
        open_bundle(accusing([[]] * 4, [ban(LIAR, by=7)]), FOUR.head, verified)


def test_the_convicted_leave_below_the_minimum_and_the_chain_follows() -> None:
    group = Group(4, policy=msgspec.structs.replace(POLICY, min_members=4))
    liars = group.members[1:3]
    accused = [liar.peer_id for liar in liars]
    updates = [group.update(who) for who in group.members]
    lists = [group.listing(who, updates, accused=accused) for who in group.members]
    head = group.go_on(group.bundle(lists, updates, evidence={who.peer_id: group.evidence(who) for who in liars}))
    assert head.header.left == tuple(Departure(peer, "convicted") for peer in accused)
    assert set(head.committee.members) == {group.members[0].peer_id, group.members[1].peer_id}
    assert group.go_on().round == 2


def test_one_that_wants_to_join_in_the_round_that_bans_it_does_not() -> None:
    join = join_of(7, FOUR.spec)
    notices: list[Opened[msgspec.Struct]] = [join, ban(join.signer)]  # type: ignore[list-item]
    result = joining(FOUR, *notices)
    assert (result.joined, result.left) == ((), (Departure(join.signer, "banned"),))


# ---- invites


def test_an_invite_is_used_up_over_rounds_as_in_one() -> None:
    group = Group(1, policy=POLICY, admission=Admission("invite"))
    invite = invite_of(group.spec, uses=3)
    asking = {i: join_of(i, group.spec, invitation=accepted(invite, group.spec, i)) for i in range(5, 10)}
    joined = []
    for some in ((5, 6), (7, 8), (9,)):
        updates = [group.update(member(0))]
        joins = [asking[i] for i in some]
        lists = [group.listing(member(0), updates, joins)]
        result = derived(group, group.bundle(lists, updates, joins))
        joined.append(len(result.joined))
        state = msgspec.structs.replace(group.head.state, invites=result.state.invites)
        head = group.head
        group.head = type(head)(head.run, head.spec, head.header, head.hash, state, head.checkpoint)
    assert joined == [2, 1, 0]
