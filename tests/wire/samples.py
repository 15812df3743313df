"""What tests of the wire have in common: every type that travels, values of each, and keys of a fixed seed."""

from typing import get_args

from hypothesis import strategies as st
from msgspec import Struct

from primep2p.keys import Identity
from primep2p.model import messages, pipeline, plans, records, shelf, speed, stopping, transfer
from primep2p.wire.envelope import Envelopes

RECORDS: tuple[type[Struct], ...] = tuple(
    value
    for module in (records, pipeline, shelf, stopping, plans)
    for name in module.__all__
    if isinstance(value := getattr(module, name), type) and issubclass(value, Struct)
)
MESSAGES: tuple[type[Struct], ...] = (
    *get_args(messages.OverlayMessage),
    *get_args(messages.SyncQuestion),
    *get_args(messages.SyncAnswer),
    messages.Addresses,
    transfer.Want,
    *get_args(transfer.BlobAnswer),
    *get_args(speed.SpeedMessage),
)
UNIONS = (messages.OverlayMessage, messages.SyncQuestion, messages.SyncAnswer, transfer.BlobAnswer, speed.SpeedMessage)
EVERY_TYPE = (*RECORDS, *MESSAGES, *UNIONS)


def identity(number: int) -> Identity:
    """Always the same one for a number."""
    return Identity(bytes([number]) * 32)


def envelopes(network: str = "test", number: int = 1) -> Envelopes:
    """Those of the identity of a number."""
    return Envelopes(network, identity(number))


# ---- values of every type, within the bounds that the declarations give

PEERS = st.integers(0, 255).map(lambda number: identity(number).peer_id)
HASHES = st.binary(min_size=32, max_size=32)
CIDS = HASHES.map(lambda raw: _cid(raw))
ENVELOPES = st.lists(st.binary(max_size=80), max_size=3).map(tuple)
SECONDS = st.floats(min_value=0, max_value=604_800, exclude_min=True)
NAMES = st.text(min_size=1, max_size=64)
ROUNDS = st.integers(0, 2**53)
VIEWS = st.integers(0, 2**31)
COUNTS = st.integers(0, 2**31)
FLOATS = st.floats(allow_nan=False)
SCALARS = st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | st.text(max_size=8)


def _cid(raw: bytes) -> str:
    from primep2p.wire.cid import cid_of

    return cid_of(raw)


def _tuples(values: st.SearchStrategy, most: int = 3) -> st.SearchStrategy:
    return st.lists(values, max_size=most).map(tuple)


def _any_of(union: object) -> st.SearchStrategy:
    return st.one_of(*(STAGES[kind] for kind in get_args(union)))


TENSORS = st.builds(
    records.TensorSpec,
    name=st.text(min_size=1, max_size=256),
    dtype=st.just("float32"),
    shape=st.lists(st.integers(0, 2**40), max_size=8).map(tuple),
)
WEIGHTINGS = st.sampled_from(["examples", "uniform"])
HALVES = st.sampled_from(["0.1", "0.000001", "0.499999"])
SHARES = st.sampled_from(["0.1", "0.000001", "0.5"])
POSITIVE = st.floats(min_value=1e-30, max_value=1e30)
RATES = st.floats(min_value=0, max_value=1e6, exclude_min=True)
DECAYS = st.floats(min_value=0, max_value=1, exclude_max=True)
LIARS, TIMES = st.integers(1, 341), st.integers(1, 100)
MOMENTS = {"learning_rate": RATES, "beta1": DECAYS, "beta2": DECAYS, "tau": POSITIVE}
STAGES: dict[type[Struct], st.SearchStrategy] = {
    pipeline.FedAvg: st.builds(pipeline.FedAvg, weighting=WEIGHTINGS),
    pipeline.Median: st.builds(pipeline.Median),
    pipeline.TrimmedMean: st.builds(pipeline.TrimmedMean, trim_ratio=HALVES),
    pipeline.Krum: st.builds(pipeline.Krum, f=LIARS),
    pipeline.MultiKrum: st.builds(pipeline.MultiKrum, f=LIARS, m=st.integers(0, 1024)),
    pipeline.Bulyan: st.builds(pipeline.Bulyan, f=LIARS),
    pipeline.GeometricMedian: st.builds(pipeline.GeometricMedian, nu=POSITIVE, iterations=TIMES, weighting=WEIGHTINGS),
    pipeline.CenteredClip: st.builds(pipeline.CenteredClip, tau=POSITIVE, iterations=TIMES),
    pipeline.Clip: st.builds(pipeline.Clip, norm=POSITIVE),
    pipeline.Arc: st.builds(pipeline.Arc, f=LIARS),
    pipeline.NearestNeighbours: st.builds(pipeline.NearestNeighbours, f=LIARS),
    pipeline.Bucketing: st.builds(pipeline.Bucketing, size=st.integers(2, 64)),
    pipeline.Sgd: st.builds(pipeline.Sgd, learning_rate=RATES, momentum=DECAYS, nesterov=st.booleans()),
    pipeline.Adagrad: st.builds(pipeline.Adagrad, learning_rate=RATES, beta1=DECAYS, tau=POSITIVE),
    pipeline.Adam: st.builds(pipeline.Adam, **MOMENTS),
    pipeline.Yogi: st.builds(pipeline.Yogi, **MOMENTS),
    pipeline.Float32: st.builds(pipeline.Float32),
    pipeline.Bfloat16: st.builds(pipeline.Bfloat16),
    pipeline.Int8: st.builds(pipeline.Int8),
    pipeline.TopK: st.builds(pipeline.TopK, ratio=SHARES),
}
"""What a pipeline is made of."""

PIPELINES = st.builds(
    pipeline.Pipeline,
    rule=_any_of(pipeline.Rule),
    pre=_tuples(_any_of(pipeline.Pre), 4),
    outer=st.none() | _any_of(pipeline.Outer),
    wire=_any_of(pipeline.Wire),
    max_weight_ratio=st.floats(min_value=1, allow_nan=False),
)
POLICIES = st.builds(
    records.RoundPolicy,
    rounds=ROUNDS,
    first_members=st.integers(1, 64),
    min_members=st.integers(0, 4096),
    min_updates=st.integers(1, 1024),
    drop_after=st.integers(1, 1000),
    consensus_threshold=st.sampled_from(["0.5", "0.66", "0.999999", "1", "1.0"]),
    collect_s=SECONDS,
    grace_s=SECONDS,
    propose_s=SECONDS,
    vote_s=SECONDS,
    step_cap_s=SECONDS,
    committee_size=st.integers(16, 64),
    sample_fraction=st.sampled_from(["0.000001", "0.5", "1", "1.0"]),
    max_cohort=st.integers(1, 1024),
)
ADMISSIONS = st.builds(
    records.Admission,
    mode=st.sampled_from(["open", "allowlist", "invite"]),
    peers=_tuples(PEERS),
    inviters=_tuples(PEERS),
)
STAGES[stopping.AtLeast] = st.builds(stopping.AtLeast, metric=NAMES, value=FLOATS)
STAGES[stopping.AtMost] = st.builds(stopping.AtMost, metric=NAMES, value=FLOATS)
STOPS = st.builds(stopping.Stop, target=st.none() | _any_of(stopping.Target), until=ROUNDS)
METRICS = st.builds(records.Metric, name=NAMES, value=FLOATS)
MEMBERS = st.builds(
    records.Member,
    peer=PEERS,
    since=ROUNDS,
    missed=COUNTS,
    kernels=HASHES,
    anchor=HASHES,
    anchored=ROUNDS,
    rounds_done=COUNTS,
    rounds_missed=COUNTS,
    rounds_blamed=COUNTS,
)
USES = st.builds(records.InviteUse, invite=HASHES, until=ROUNDS, used=COUNTS)
PARTED = st.builds(records.Parted, peer=PEERS, round=ROUNDS)
REFS = st.builds(records.UpdateRef, trainer=PEERS, update=HASHES)
INCLUSIONS = st.builds(records.Inclusion, trainer=PEERS, update=HASHES, delta=CIDS, weight=st.integers(1, 2**40))
NEWCOMERS = st.builds(
    records.Newcomer,
    peer=PEERS,
    kernels=HASHES,
    anchor=HASHES,
    anchored=ROUNDS,
    invite=st.binary(max_size=32),
    until=ROUNDS,
)
DEPARTURES = st.builds(
    records.Departure, peer=PEERS, reason=st.sampled_from(["dropped", "convicted", "banned", "left"])
)
EVIDENCE = st.builds(records.Evidence, first=st.binary(max_size=80), second=st.binary(max_size=80))
CERTIFICATES = st.builds(records.Certificate, run=HASHES, round=ROUNDS, header=HASHES, votes=ENVELOPES)
CHECKPOINTS = st.builds(records.Checkpoint, header=st.binary(max_size=200), certificate=CERTIFICATES)
ADDRESSES = st.builds(messages.Addresses, peer=PEERS, addresses=_tuples(st.text(max_size=40)))
MODEL_NAMES = st.sampled_from(["digits", "m", "a-b.c_9"])
LABELS = st.sampled_from(["0", "17", "v1.2", "latest-1"])
VERSIONS = st.builds(
    shelf.ModelVersion,
    label=LABELS,
    params=CIDS,
    size_bytes=st.integers(0, 2**36),
    schema=HASHES,
    trainer=NAMES,
    trainer_config=st.dictionaries(st.text(max_size=8), SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    at_s=FLOATS,
    metrics=_tuples(METRICS),
    run=st.binary(max_size=32),
    round=ROUNDS,
    header=st.binary(max_size=32),
)
SEQUENCES = st.integers(1, 2**53)
INDICES = st.integers(0, records.MAX_CHUNKS - 1)
PLAN_ARRAYS = st.builds(
    plans.PlanArray,
    name=st.text(min_size=1, max_size=256),
    dtype=st.sampled_from(["float32", "int32", "bool"]),
    shape=st.lists(st.integers(0, 2**31 - 1), max_size=8).map(tuple),
)
PLAN_SETTINGS = st.builds(plans.PlanSetting, name=st.from_regex(r"[a-z_]{1,9}", fullmatch=True), default=FLOATS)
GRAPHS = st.builds(
    plans.GraphRef,
    kind=st.sampled_from(["init", "train", "evaluate", "predict"]),
    size_bytes=st.integers(1, plans.MAX_PLAN_BYTES),
    sha256=HASHES,
)
TEST_BYTES = st.integers(1, speed.MAX_TEST_BYTES)

VALUES: dict[type[Struct], st.SearchStrategy] = {
    records.Envelope: st.builds(
        records.Envelope,
        kind=st.text(max_size=32),
        signer=PEERS,
        payload=st.binary(max_size=100),
        signature=st.binary(min_size=64, max_size=64),
    ),
    records.Manifest: st.builds(
        records.Manifest,
        size_bytes=st.integers(0, 2**36),
        chunk_bytes=st.integers(1024, 16 * 2**20),
        chunks=_tuples(HASHES),
    ),
    records.TensorSpec: TENSORS,
    **STAGES,
    pipeline.Pipeline: PIPELINES,
    records.RoundPolicy: POLICIES,
    records.Admission: ADMISSIONS,
    records.RunSpec: st.builds(
        records.RunSpec,
        creator=PEERS,
        name=NAMES,
        nonce=st.binary(min_size=16, max_size=16),
        tensors=st.lists(TENSORS, min_size=1, max_size=3).map(tuple),
        trainer=NAMES,
        trainer_config=st.dictionaries(st.text(max_size=8), SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
        params=CIDS,
        pipeline=PIPELINES,
        policy=POLICIES,
        admission=ADMISSIONS,
        protocol=st.integers(0, 9),
        kernels=st.integers(0, 9),
        origin=st.binary(max_size=32),
        stop=STOPS,
    ),
    stopping.Stop: STOPS,
    records.Join: st.builds(
        records.Join,
        run=HASHES,
        round=ROUNDS,
        addresses=_tuples(st.text(max_size=40)),
        kernels=HASHES,
        anchor=HASHES,
        invite=st.binary(max_size=80),
        acceptance=st.binary(max_size=80),
    ),
    records.Invite: st.builds(records.Invite, run=HASHES, bearer=PEERS, uses=st.integers(1, 4096), until=ROUNDS),
    records.Acceptance: st.builds(records.Acceptance, run=HASHES, peer=PEERS),
    records.Ban: st.builds(records.Ban, run=HASHES, peer=PEERS),
    records.Leave: st.builds(records.Leave, run=HASHES, round=ROUNDS),
    records.Member: MEMBERS,
    records.Parted: PARTED,
    records.InviteUse: USES,
    records.RunState: st.builds(
        records.RunState,
        run=HASHES,
        round=ROUNDS,
        members=_tuples(MEMBERS),
        min_members=st.integers(0, 4096),
        expelled=_tuples(PEERS),
        invites=_tuples(USES),
        parted=_tuples(PARTED),
    ),
    records.Metric: METRICS,
    records.Update: st.builds(
        records.Update,
        run=HASHES,
        round=ROUNDS,
        base=HASHES,
        delta=CIDS,
        examples=st.integers(1, 2**40),
        metrics=_tuples(METRICS),
    ),
    records.UpdateRef: REFS,
    records.Collected: st.builds(
        records.Collected,
        run=HASHES,
        round=ROUNDS,
        updates=_tuples(REFS),
        notices=_tuples(HASHES),
        reveal=st.binary(max_size=32),
        accused=_tuples(PEERS),
        over=st.booleans(),
    ),
    records.Bundle: st.builds(
        records.Bundle, lists=ENVELOPES, updates=ENVELOPES, notices=ENVELOPES, votes=ENVELOPES, evidence=ENVELOPES
    ),
    records.Inclusion: INCLUSIONS,
    records.Newcomer: NEWCOMERS,
    records.Departure: DEPARTURES,
    records.Header: st.builds(
        records.Header,
        run=HASHES,
        round=ROUNDS,
        parent=HASHES,
        bundle=HASHES,
        inclusions=_tuples(INCLUSIONS),
        params=CIDS,
        optimiser=st.none() | CIDS,
        seen=_tuples(PEERS),
        joined=_tuples(NEWCOMERS),
        left=_tuples(DEPARTURES),
        blamed=_tuples(PEERS),
        reveal=st.binary(max_size=32),
        state=HASHES,
        beacon=HASHES,
        metrics=_tuples(METRICS),
        void=st.text(max_size=200),
        ended=st.sampled_from(["", "rounds", "time", "metric"]),
    ),
    records.Proposal: st.builds(
        records.Proposal,
        run=HASHES,
        round=ROUNDS,
        phase=st.integers(0, 2),
        view=VIEWS,
        valid_view=st.integers(-1, 2**31),
        header=HASHES,
    ),
    records.Vote: st.builds(
        records.Vote,
        run=HASHES,
        round=ROUNDS,
        phase=st.integers(0, 2),
        view=VIEWS,
        step=st.sampled_from(["prevote", "precommit"]),
        header=st.binary(max_size=32),
    ),
    records.Certificate: CERTIFICATES,
    records.Checkpoint: CHECKPOINTS,
    records.Evidence: EVIDENCE,
    shelf.ModelVersion: VERSIONS,
    shelf.Catalog: st.builds(
        shelf.Catalog,
        owner=PEERS,
        name=MODEL_NAMES,
        latest=LABELS,
        versions=st.lists(VERSIONS, min_size=1, max_size=3).map(tuple),
    ),
    shelf.ModelRecord: st.builds(shelf.ModelRecord, name=MODEL_NAMES, sequence=SEQUENCES, catalog=st.none() | CIDS),
    shelf.ShelfRecord: st.builds(shelf.ShelfRecord, sequence=SEQUENCES, names=_tuples(MODEL_NAMES)),
    plans.PlanArray: PLAN_ARRAYS,
    plans.PlanSetting: PLAN_SETTINGS,
    plans.GraphRef: GRAPHS,
    plans.Plan: st.builds(
        plans.Plan,
        owner=PEERS,
        name=NAMES,
        mlx=st.text(max_size=32),
        rows=st.integers(0, 2**20),
        params=st.lists(PLAN_ARRAYS, min_size=1, max_size=3).map(tuple),
        state=_tuples(PLAN_ARRAYS),
        batch=st.lists(PLAN_ARRAYS, min_size=1, max_size=3).map(tuple),
        settings=_tuples(PLAN_SETTINGS),
        metrics=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
        is_random=st.booleans(),
        graphs=st.lists(GRAPHS, min_size=1, max_size=4).map(tuple),
    ),
    messages.Records: st.builds(messages.Records, run=HASHES, items=ENVELOPES),
    messages.Proposed: st.builds(
        messages.Proposed,
        run=HASHES,
        proposal=st.binary(max_size=80),
        header=st.binary(max_size=80),
        bundle=st.binary(max_size=80),
        prevotes=ENVELOPES,
    ),
    messages.Digest: st.builds(
        messages.Digest, run=HASHES, round=st.integers(-(2**63), 2**64 - 1), have=_tuples(st.binary(max_size=8))
    ),
    messages.Certified: st.builds(messages.Certified, run=HASHES, checkpoint=CHECKPOINTS),
    messages.Proven: st.builds(messages.Proven, run=HASHES, evidence=EVIDENCE),
    messages.Abstained: st.builds(messages.Abstained, run=HASHES, round=st.integers(0, 2**53)),
    messages.AskSpec: st.builds(messages.AskSpec, run=HASHES),
    messages.AskHead: st.builds(messages.AskHead, run=HASHES),
    messages.AskChain: st.builds(messages.AskChain, run=HASHES, first=st.integers(0, 2**53)),
    messages.AskVotes: st.builds(messages.AskVotes, run=HASHES),
    messages.Introduce: st.builds(messages.Introduce, run=HASHES, join=st.binary(max_size=80)),
    messages.Spec: st.builds(messages.Spec, spec=st.binary(max_size=80)),
    messages.Addresses: ADDRESSES,
    messages.Head: st.builds(
        messages.Head, checkpoint=CHECKPOINTS, state=st.binary(max_size=80), members=_tuples(ADDRESSES)
    ),
    messages.Chain: st.builds(messages.Chain, checkpoints=_tuples(CHECKPOINTS), state=st.binary(max_size=80)),
    messages.Votes: st.builds(messages.Votes, round=st.integers(0, 2**53), items=ENVELOPES),
    messages.NotBegun: st.builds(messages.NotBegun),
    messages.Nothing: st.builds(messages.Nothing, reason=st.text(max_size=20)),
    transfer.Want: st.builds(transfer.Want, cid=CIDS, first=INDICES, count=st.integers(0, 16), manifest=st.booleans()),
    transfer.Has: st.builds(transfer.Has, manifest=st.binary(max_size=80)),
    transfer.Chunk: st.builds(transfer.Chunk, index=INDICES, content=st.binary(max_size=80)),
    speed.Measure: st.builds(speed.Measure, down=TEST_BYTES, up=TEST_BYTES),
    speed.Piece: st.builds(speed.Piece, content=st.binary(max_size=80), last=st.booleans()),
    speed.Heard: st.builds(speed.Heard, bytes=TEST_BYTES, seconds=st.floats(min_value=0, allow_nan=False)),
    speed.NotNow: st.builds(speed.NotNow, reason=st.just("busy")),
    transfer.Refused: st.builds(transfer.Refused, reason=st.sampled_from(["absent", "busy"])),
}
