"""Becoming a member: find the run's spec, get a head that can be trusted, ask to be let in until a checkpoint does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import trio

from primep2p.core.admission import JOIN_LIFETIME, join_of
from primep2p.core.chain import Head, follow, header_hash, trusted_head
from primep2p.core.genesis import certified_start
from primep2p.core.roster import peers_of
from primep2p.core.runs import Run
from primep2p.core.sortition import ranked
from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.messages import AskChain, AskHead, AskSpec, Chain, Introduce, NotBegun, Nothing, Records, Spec
from primep2p.model.messages import Head as HeadMessage
from primep2p.model.records import KERNELS_VERSION, MAX_REFS, PROTOCOL_VERSION, RunSpec
from primep2p.net.host import Host
from primep2p.services.aggregating.aggregation import check_files
from primep2p.services.peers.sync import Sync
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.wire.codec import digest, encode
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Pin", "Seekers", "find_spec", "learn_head", "run_key", "seek_membership"]

POLL_S = 1.0
"""How often one who is not (yet) a member asks for the head: certificates reach it by gossip, which may lose them."""

PATIENCE_S = 10.0
"""For one peer to show and have confirmed where the run is, before the next one is asked as well."""

RIVALS_S = 30.0
"""For all others together to show another chain: whoever takes longer keeps nobody from joining."""

JOIN_AGAIN_ROUNDS = JOIN_LIFETIME // 2
"""The next one is on its way while the last is still good."""

INTRODUCED_TO = 4
"""Members that hear a Join from its signer and pass it on to all who vote: others than these next time, and gossip
carries it too."""

MEET_S = 5.0
"""A daemon that has just started has met nobody yet: its owner need not try again so soon."""

ASK_A_HUMAN = "ask a member for the pin that `primep2p run show` prints, and join with ID@round:hash"


@dataclass(frozen=True)
class Pin:
    """A certified header that the owner trusts."""

    round: int
    hash: Hash


@dataclass(frozen=True)
class Seekers:
    """What looking for a run takes."""

    host: Host
    sync: Sync
    envelopes: Envelopes


def run_key(run: RunId) -> str:
    """Under which members of a run are found in the directory."""
    return f"run:{run.hex()[:40]}"


async def find_spec(run: RunId, at: Seekers) -> tuple[Opened[RunSpec], list[PeerId]]:
    """The spec of `run`, from connected peers, else from those that the directory names; and who had it.

    Raises Unavailable where nobody has it, CallError where this version cannot take part.
    """
    until = trio.current_time() + MEET_S
    while True:
        before = at.host.connected
        holders = await _holders(run, at, before) or await _holders(run, at, await _providers(run, at))
        if holders or trio.current_time() >= until:
            break
        with trio.move_on_after(POLL_S):  # or the directory may have heard of it meanwhile
            await _somebody_new(at.host, before)
    if not holders:
        raise Unavailable(
            f"nobody that this node can reach knows the run {run.hex()}",
            hint="check the id, and that p2p.bootstrap in node.toml names a node that is in the run",
        )
    spec = next(iter(holders.values()))
    needed, has = (spec.record.protocol, spec.record.kernels), (PROTOCOL_VERSION, KERNELS_VERSION)
    if needed[0] > has[0] or needed[1] > has[1]:
        raise CallError("the run needs a newer version of primep2p than this one", hint="upgrade primep2p")
    if needed != has:
        raise CallError("the run is of an older version of primep2p than this one", hint="join it with that version")
    if spec.record.policy.committee_size * spec.record.policy.max_cohort > MAX_REFS:
        raise CallError("the run's committee and cohort are larger than its rounds could carry", hint="ask its creator")
    try:
        check_files(spec.record.pipeline, spec.record.tensors)
    except PeerError as error:
        raise CallError(f"that run's files cannot be: {error.sentence}", hint="ask its creator") from error
    return spec, sorted(holders)


async def _somebody_new(host: Host, before: frozenset[PeerId]) -> None:
    """Returns when somebody is connected who was not."""
    async with host.peer_events() as events:
        async for _ in events:
            if host.connected - before:
                return


async def _holders(run: RunId, at: Seekers, peers: Iterable[PeerId]) -> dict[PeerId, Opened[RunSpec]]:
    """Those of `peers` that have the spec, all asked at once: one that is silent costs its own time only."""
    found: dict[PeerId, Opened[RunSpec]] = {}

    async def ask(peer: PeerId) -> None:
        try:
            await at.host.connect(peer)
            answer = await at.sync.ask(peer, AskSpec(run), Spec)
            spec = at.envelopes.open(RunSpec, answer.spec)
        except (Unavailable, PeerError):
            return
        if spec.hash == run and spec.signer == spec.record.creator:
            found[peer] = spec

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(ask, peer)
    return found


async def _providers(run: RunId, at: Seekers) -> tuple[PeerId, ...]:
    try:
        return await at.host.directory.providers(run_key(run))
    except Unavailable:
        return ()


@dataclass(frozen=True)
class _Proven:
    """The end of a chain that was checked from checkpoint 0 on, with its encoded state and all its headers' hashes."""

    head: Head
    state: bytes
    hashes: Mapping[int, Hash]


async def learn_head(
    spec: Opened[RunSpec], holders: Iterable[PeerId], at: Seekers, pin: Pin | None
) -> tuple[Head, bytes] | None:
    """A head to start from, with its encoded state; None where the run has not begun.

    With a pin, the pinned header. Without one, the newest head of a chain that is checked from checkpoint 0 on, which
    k members of its own committee must confirm. A group of departed members could certify and confirm a chain of its
    own, longer than the run's: where anybody shows another chain that is as good, a human is to be asked, and where too
    few confirm [K3]. Raises Unavailable.
    """
    order = list(holders)
    if pin is not None:
        return await _first_pinned(spec, order, at, pin)
    first = await _first_accepted(spec, order, at)
    if isinstance(first, NotBegun):
        return None
    if first is None:
        raise Unavailable("too few members confirm where the run is", hint=ASK_A_HUMAN)
    peer, proven = first
    await _look_for_rivals(spec, proven, [other for other in order if other != peer], at)
    return proven.head, proven.state


async def _first_accepted(
    spec: Opened[RunSpec], order: list[PeerId], at: Seekers
) -> tuple[PeerId, _Proven] | NotBegun | None:
    """The first chain that holds and is confirmed, and whose it is. Peers are asked in turn, and one that takes its
    time does not hold up the next: it may do so on purpose, checkpoint by checkpoint."""
    found: list[tuple[PeerId, _Proven]] = []
    gathering: list[NotBegun] = []

    async def attempt(peer: PeerId, done: trio.Event) -> None:
        try:
            answer = await at.sync.answer_of(peer, AskHead(spec.hash))
            proven = None if isinstance(answer, NotBegun) else await _accepted(spec, peer, at)
        except Unavailable:
            done.set()
            return
        if isinstance(answer, NotBegun):
            gathering.append(answer)
        if proven is not None:
            found.append((peer, proven))
            nursery.cancel_scope.cancel()
        done.set()

    async with trio.open_nursery() as nursery:
        for peer in order:
            done = trio.Event()
            nursery.start_soon(attempt, peer, done)
            with trio.move_on_after(PATIENCE_S):
                await done.wait()
        nursery.cancel_scope.deadline = trio.current_time() + PATIENCE_S
    return found[0] if found else gathering[0] if gathering else None


async def _first_pinned(spec: Opened[RunSpec], holders: list[PeerId], at: Seekers, pin: Pin) -> tuple[Head, bytes]:
    for peer in holders:
        try:
            return await _pinned(spec, peer, at, pin)
        except (Unavailable, PeerError):
            continue
    raise Unavailable(
        f"nobody that this node can reach has checkpoint {pin.round} with that hash",
        hint="take a newer pin from a member's `primep2p run show`",
    )


async def _accepted(spec: Opened[RunSpec], peer: PeerId, at: Seekers) -> _Proven | None:
    """The chain of `peer`, if it holds and is confirmed."""
    try:
        proven = await _proved(spec, peer, at)
        answer = await at.sync.answer_of(peer, AskHead(spec.hash))
    except (Unavailable, PeerError):
        return None
    hints = answer.members if isinstance(answer, HeadMessage) else ()
    return proven if await _confirmed(proven.head, {hint.peer: hint.addresses for hint in hints}, at) else None


async def _look_for_rivals(spec: Opened[RunSpec], proven: _Proven, others: list[PeerId], at: Seekers) -> None:
    """Raises Unavailable where one of `others` has a chain that is as good as `proven`, and another, and shows it."""
    rivals: list[_Proven] = []

    async def compare(peer: PeerId) -> None:
        try:
            theirs = (await at.sync.ask(peer, AskHead(spec.hash), HeadMessage)).checkpoint
            if theirs.certificate.round > proven.head.round:
                answer = await at.sync.ask(peer, AskChain(spec.hash, proven.head.round), Chain)
                theirs = answer.checkpoints[0] if answer.checkpoints else theirs
        except Unavailable:
            return
        if proven.hashes.get(theirs.certificate.round) != header_hash(theirs.header):
            rival = await _accepted(spec, peer, at)
            if rival is not None and not _is_one_chain(proven, rival):
                rivals.append(rival)
                nursery.cancel_scope.cancel()

    with trio.move_on_after(RIVALS_S):
        async with trio.open_nursery() as nursery:
            for peer in others:
                nursery.start_soon(compare, peer)
    for rival in rivals:
        raise Unavailable(
            f"members are on two chains: one is at round {proven.head.round}, another at round {rival.head.round}",
            hint=ASK_A_HUMAN,
        )


def _is_one_chain(one: _Proven, other: _Proven) -> bool:
    last = min(one.head.round, other.head.round)
    return one.hashes[last] == other.hashes[last]


async def _pinned(spec: Opened[RunSpec], peer: PeerId, at: Seekers, pin: Pin) -> tuple[Head, bytes]:
    chain = await at.sync.ask(peer, AskChain(spec.hash, pin.round), Chain)
    if not chain.checkpoints:
        raise Unavailable(f"{peer} has no checkpoint {pin.round}")
    head = trusted_head(spec, chain.checkpoints[0], chain.state, at.envelopes.open_any)
    if (head.round, head.hash) != (pin.round, pin.hash):
        raise Unavailable(f"{peer} has another checkpoint {pin.round}")
    return head, chain.state


async def _proved(spec: Opened[RunSpec], peer: PeerId, at: Seekers) -> _Proven:
    """The head of `peer`'s chain, every certificate and roster change of it checked."""
    head: Head | None = None
    hashes: dict[int, Hash] = {}
    while True:
        first = 0 if head is None else head.round + 1
        try:
            chain = await at.sync.ask(peer, AskChain(spec.hash, first), Chain)
        except Unavailable:
            if head is None:
                raise
            break
        for checkpoint in chain.checkpoints:
            if head is None:
                head = certified_start(spec, checkpoint, at.envelopes)
            else:
                head = follow(head, checkpoint, at.envelopes.open_any)
            hashes[head.round] = head.hash
            await trio.lowlevel.checkpoint()
        if not chain.checkpoints:
            break
    if head is None:
        raise Unavailable(f"{peer} has no checkpoint 0")
    return _Proven(head, encode(head.state), hashes)


async def _confirmed(head: Head, addresses: Mapping[PeerId, tuple[str, ...]], at: Seekers) -> bool:
    """Whether k members of the committee, or all others of a smaller one, have this header in their chain. Where they
    are is a hint of whoever told of the head, to one who may know nobody else."""
    members = frozenset(head.committee.members) - {at.envelopes.peer_id}
    confirmed: set[PeerId] = set()

    async def ask(peer: PeerId) -> None:
        try:
            if peer not in addresses and peer not in at.host.connected:
                await at.host.directory.find_peer(peer)
            await at.host.connect(peer, addresses.get(peer, ()))
            answer = await at.sync.ask(peer, AskChain(head.run, head.round), Chain)
        except (Unavailable, PeerError):
            return
        if any(header_hash(checkpoint.header) == head.hash for checkpoint in answer.checkpoints[:1]):
            confirmed.add(peer)
        if len(confirmed) >= enough:
            nursery.cancel_scope.cancel()

    enough = min(head.committee.k, len(members))
    async with trio.open_nursery() as nursery:
        for peer in members:
            nursery.start_soon(ask, peer)
    return len(confirmed) >= enough


async def seek_membership(service: RunService, seams: Seams) -> None:
    """While this node is not in the roster of a run that has begun: ask to be let in, and follow the head. Whoever was
    expelled or has left has nothing to ask for; who wants to leave follows, since it may have been let in."""
    me, asked_at, asked_with = seams.envelopes.peer_id, -JOIN_AGAIN_ROUNDS - 1, b""
    while True:
        machine, head = service.machine, service.head
        outside = isinstance(machine, Run) and not machine.finished and me not in peers_of(machine.head.state)
        if not outside or head is None or me in head.state.expelled or service.out.is_set():
            await service.head_changed()
            asked_at = -JOIN_AGAIN_ROUNDS - 1
            continue
        is_due = head.round - asked_at > JOIN_AGAIN_ROUNDS or service.row.join != asked_with
        if is_due and not service.standing.leave:
            asked_at = head.round
            asked_with = await _introduce(service, seams, head)
        with trio.move_on_after(POLL_S):
            await service.head_changed()
            continue
        await _poll(service, seams, head)


async def _introduce(service: RunService, seams: Seams, head: Head) -> bytes:
    """A new Join, to a few of the members that can be reached and to everybody by gossip; its envelope."""
    join = join_of(
        seams.envelopes,
        service.spec,
        round=head.round,
        addresses=seams.addresses(),
        kernels=(await seams.compute.chosen()).kernels,
        invitation=service.invitation,
    )
    await service.keep_join(join)
    await service.publish(Records(head.run, (join.raw,)))
    heard = 0
    for peer in _in_own_order(head, seams.envelopes.peer_id, seams.host.connected):
        try:
            await seams.sync.ask(peer, Introduce(head.run, join.raw), Nothing)
        except Unavailable:
            continue
        heard += 1
        if heard == INTRODUCED_TO:
            break
    return join.raw


def _in_own_order(head: Head, me: PeerId, connected: frozenset[PeerId]) -> list[PeerId]:
    """Connected members, those who vote first, in an order of this node's own that changes with the head."""
    order = ranked(digest("introduced", head.header.beacon + me.encode()), "joiner", tuple(sorted(head.members)))
    return sorted((peer for peer in order if peer in connected), key=lambda peer: peer not in head.committee)


async def _poll(service: RunService, seams: Seams, head: Head) -> None:
    """Ask one member after the other until one is further."""
    roster = peers_of(head.state)
    for peer in sorted(roster & seams.host.connected):
        try:
            answer = await seams.sync.ask(peer, AskHead(head.run), HeadMessage)
        except Unavailable:
            continue
        if answer.checkpoint.certificate.round > head.round:
            seams.overlay.know({hint.peer: hint.addresses for hint in answer.members if hint.peer in roster})
            await service.catch_up(peer, head.round + 1)
            return
