"""How a world begins: a spec, and checkpoint 0 by a gathering of all, or made directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from primep2p.core import admission
from primep2p.core.chain import Head, header_hash
from primep2p.core.roster import first_state
from primep2p.model.ids import Hash
from primep2p.model.records import (
    MAX_FIRST_MEMBERS,
    Admission,
    Checkpoint,
    Join,
    RoundPolicy,
    RunSpec,
    TensorSpec,
)
from primep2p.model.stopping import AtMost, Stop
from primep2p.wire.codec import encode
from primep2p.wire.envelope import Opened
from tests.core.kit import KERNELS, certificate, cid, first_header

if TYPE_CHECKING:
    from tests.sim.keys import SimEnvelopes
    from tests.sim.node import SimNode
    from tests.sim.world import World

__all__ = ["begin", "checkpoint_0", "join_now", "join_of", "spec_of"]


def spec_of(world: World) -> Opened[RunSpec]:
    """The run that all nodes take part in; node 0 is its creator."""
    scenario, n, creator = world.scenario, world.members, world.nodes[0]
    policy = scenario.policy
    return creator.envelopes.seal(
        RunSpec(
            creator=creator.peer,
            name="sim",
            nonce=bytes(16),
            tensors=(TensorSpec("w", "float32", (2,)),),
            trainer="fake",
            trainer_config={},
            params=cid("initial"),
            pipeline=scenario.pipeline,
            policy=RoundPolicy(
                rounds=scenario.rounds,
                first_members=min(n, MAX_FIRST_MEMBERS),
                min_members=policy.min_members or n,
                min_updates=policy.min_updates,
                drop_after=policy.drop_after,
                collect_s=policy.collect_s,
                grace_s=policy.grace_s,
                propose_s=policy.propose_s,
                vote_s=policy.vote_s,
                step_cap_s=policy.step_cap_s,
                committee_size=policy.committee_size,
                sample_fraction=policy.sample_fraction,
                max_cohort=policy.max_cohort,
                mode=policy.mode,
                updates_per_version=policy.updates_per_version,
                max_staleness=policy.max_staleness,
            ),
            admission=Admission("allowlist", tuple(sorted(node.peer for node in world.nodes))),
            stop=Stop(AtMost("loss", scenario.target) if scenario.target else None, 1 if scenario.over_s else 0),
        )
    )


def join_now(world: World, node: SimNode) -> Opened[Join]:
    """A node asks to become a member."""
    head = node.head
    return join_of(world, node.envelopes, head.round if head is not None else 0, node.kernels)


def join_of(world: World, envelopes: SimEnvelopes, round: int, kernels: Hash = KERNELS) -> Opened[Join]:
    """Somebody asks to become a member, as of a round."""
    return admission.join_of(envelopes, world.spec, round=round, addresses=(), kernels=kernels)


def begin(world: World) -> None:
    """All nodes start."""
    world.nodes[0].disk.blobs.add(world.spec.record.params)
    if world.scenario.begins == "gathering":
        for node in world.nodes:
            node.start()
        return
    head = checkpoint_0(world)
    for node in world.nodes:
        node.disk.blobs.add(world.spec.record.params)
        node.start_at(head)
        world.invariants.on_commit(node, head)


def checkpoint_0(world: World) -> Head:
    """What a gathering of all members would have come to [G1], however many they are."""
    spec, members = world.spec, world.nodes[: world.members]
    header, _ = first_header(spec, {node.peer: join_now(world, node) for node in members})
    state = first_state(spec.hash, spec.record.policy, header.joined)
    raw = encode(header)
    checkpoint = Checkpoint(raw, certificate((node.envelopes for node in members), raw, run=spec.hash, round=0))
    return Head(spec.hash, spec.record, header, header_hash(raw), state, checkpoint)
