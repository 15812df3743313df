"""Records of fixed content, whose bytes golden.json holds.

`python -m tests.wire.golden` writes the file. A change in it breaks every signature made so far: it takes a new
version of the protocol.
"""

import json
from pathlib import Path

from msgspec import Struct

from primep2p.core.beacons import HashChain, first_beacon, next_beacon
from primep2p.model import pipeline, plans, records, shelf, stopping
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import digest, encode
from primep2p.wire.envelope import Envelopes
from primep2p.wire.manifest import manifest_of
from tests.wire.samples import identity

NETWORK = "golden"
SEED_BYTE = 7

PEERS = tuple(sorted(identity(number).peer_id for number in (1, 2, 3)))
RUN, HEADER, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
CID = cid_of(b"golden")
PIPELINE = pipeline.Pipeline(
    rule=pipeline.MultiKrum(f=1, m=2),
    pre=(pipeline.Clip(norm=0.5), pipeline.Bucketing(size=3)),
    outer=pipeline.Sgd(learning_rate=0.7, momentum=0.9, nesterov=True),
    wire=pipeline.TopK(ratio="0.05"),
)


def signed() -> dict[str, Struct]:
    """One of each kind, by name."""
    return {
        "spec": records.RunSpec(
            creator=PEERS[0],
            name="digits",
            nonce=bytes(16),
            tensors=(records.TensorSpec("layer.weight", "float32", (10, 64)), records.TensorSpec("b", "float32", ())),
            trainer="mlp",
            trainer_config={"epochs": 2, "rate": 0.1, "shuffle": True, "layers": [64, 32], "name": "é"},
            params=CID,
            pipeline=PIPELINE,
            policy=records.RoundPolicy(rounds=20, mode="buffered", updates_per_version=3, max_staleness=5),
            admission=records.Admission("invite", (), PEERS),
            origin=OTHER,
            stop=stopping.Stop(stopping.AtLeast("accuracy", 0.95), 2_000_000_000),
        ),
        "join": records.Join(RUN, 0, ("/ip4/192.0.2.7/tcp/4650",), OTHER, HEADER, b"invite", b"acceptance"),
        "invite": records.Invite(RUN, PEERS[1], 4096, 500),
        "acceptance": records.Acceptance(RUN, PEERS[2]),
        "ban": records.Ban(RUN, PEERS[0]),
        "leave": records.Leave(RUN, 7),
        "update": records.Update(RUN, 300, HEADER, CID, 2**40, (records.Metric("loss", 0.25),)),
        "collected": records.Collected(
            RUN, 1, (records.UpdateRef(PEERS[0], HEADER),), (OTHER,), HEADER, (PEERS[1],), True
        ),
        "proposal": records.Proposal(RUN, 1, 0, 2, -1, HEADER),
        "vote": records.Vote(RUN, 1, 0, 2**31, "precommit", HEADER),
        "plan": plans.Plan(
            owner=PEERS[0],
            name="digits",
            mlx="0.32.4",
            rows=0,
            params=(plans.PlanArray("weight", "float32", (64, 10)),),
            state=(plans.PlanArray("velocity", "float32", (64, 10)),),
            batch=(plans.PlanArray("x", "float32", (64,)), plans.PlanArray("y", "int32", ())),
            settings=(plans.PlanSetting("learning_rate", 0.1),),
            metrics=("accuracy", "loss"),
            is_random=False,
            graphs=(plans.GraphRef("train", 5712, OTHER),),
        ),
        "nil": records.Vote(RUN, 2**53, 0, 0, "prevote", b""),
        "model": shelf.ModelRecord("digits", 2**53, CID),
        "withdrawn": shelf.ModelRecord("a-b.c_9", 1, None),
        "shelf": shelf.ShelfRecord(2**41, ("a-b.c_9", "digits")),
    }


def unsigned() -> dict[str, Struct]:
    """What all nodes compute alike; by the domain of the hash, where there is one."""
    return {
        "manifest": manifest_of([b"golden"]),
        "state": records.RunState(
            RUN,
            5,
            tuple(
                records.Member(peer, 0, place, OTHER, HEADER, place, 5, 300, 2, 1, 4)
                for place, peer in enumerate(PEERS)
            ),
            3,
            (identity(4).peer_id,),
            (records.InviteUse(HEADER, 500, 2),),
            (records.Parted(identity(6).peer_id, 5),),
            (OTHER,),
        ),
        "bundle": records.Bundle((b"list",), (b"update",), (b"join",), (b"vote",), (b"evidence",)),
        "header": records.Header(
            run=RUN,
            round=6,
            parent=HEADER,
            bundle=OTHER,
            inclusions=(records.Inclusion(PEERS[0], HEADER, CID, 1000, 3),),
            params=CID,
            optimiser=None,
            seen=PEERS,
            joined=(records.Newcomer(identity(5).peer_id, OTHER, HEADER, 4, OTHER, 500),),
            left=(records.Departure(PEERS[2], "dropped"),),
            blamed=(PEERS[1],),
            state=OTHER,
            reveal=HEADER,
            beacon=HEADER,
            metrics=(records.Metric("accuracy", 1 / 3),),
            void="",
            ended="metric",
        ),
        "evidence": records.Evidence(b"first", b"second"),
        "catalog": shelf.Catalog(
            PEERS[0],
            "digits",
            "12",
            (
                shelf.ModelVersion(
                    label="12",
                    params=CID,
                    size_bytes=2**36,
                    schema=OTHER,
                    trainer="mlp",
                    trainer_config={"hidden": [64]},
                    at_s=0.5,
                    metrics=(records.Metric("loss", 0.25),),
                    run=RUN,
                    round=12,
                    header=HEADER,
                ),
            ),
        ),
        "checkpoint": records.Checkpoint(b"header", records.Certificate(RUN, 6, HEADER, (b"vote", b"vote"))),
    }


def golden() -> dict[str, object]:
    """What the file says."""
    sealer = Envelopes(NETWORK, identity(SEED_BYTE))
    seals = {name: sealer.seal(record) for name, record in signed().items()}
    plain = {name: {"bytes": encode(record).hex()} for name, record in unsigned().items()}
    for domain in ("state", "bundle", "header"):
        plain[domain]["hash"] = digest(domain, encode(unsigned()[domain])).hex()
    return {
        "network": NETWORK,
        "seed_byte": SEED_BYTE,
        "peer": sealer.peer_id,
        "cid_of_manifest": cid_of(encode(unsigned()["manifest"])),
        "chain": [element.hex() for round in (0, 1, 300) if (element := HashChain(OTHER, 300).element(round))],
        "beacons": [first_beacon(RUN).hex(), next_beacon(first_beacon(RUN), RUN, 1, HEADER).hex()],
        "signed": {
            name: {
                "payload": encode(signed()[name]).hex(),
                "covered": sealer.peek(sealed.raw).covered.hex(),
                "hash": sealed.hash.hex(),
                "envelope": sealed.raw.hex(),
            }
            for name, sealed in seals.items()
        },
        "unsigned": plain,
    }


if __name__ == "__main__":
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden(), indent=1) + "\n")
