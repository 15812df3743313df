"""The runs of a store at a start: whether they are of this node's identity, network and version."""

from pathlib import Path

import msgspec

from primep2p.core.admission import UNINVITED, join_of
from primep2p.keys import former_peers
from primep2p.model.errors import ConfigError, PeerError
from primep2p.model.records import PROTOCOL_VERSION, RunSpec
from primep2p.model.views.events import LogLine
from primep2p.services.seams import Seams
from primep2p.store.seam import RunRow
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes, Opened, Peeked

__all__ = ["own_rows", "spec_of"]

_PROTOCOL = [field.name for field in msgspec.structs.fields(RunSpec)].index("protocol")
"""Where the version stands in a spec of any version."""


async def own_rows(home: Path, seams: Seams) -> list[RunRow]:
    """The runs that go on. Where the home's identity was rotated, this node is another peer: it asks to be let into
    runs that have begun, and leaves the others, in which the others wait for the peer that it was. Raises ConfigError
    where the store is of another identity or network, or of another version."""
    rows = []
    former = await seams.offload(former_peers, home)
    for row in await seams.offload(seams.runs.runs):
        spec = spec_of(row, seams.envelopes, home)
        owner = seams.envelopes.peek(row.join).signer
        if owner == seams.envelopes.peer_id:
            rows.append(row)
            continue
        if owner not in former:
            raise ConfigError(
                f"{home} belongs to the peer {owner}, and its identity.key is that of another one",
                hint="put the identity back, or start with a home of its own; `primep2p keys rotate` makes a new one",
            )
        renewed = await _renewed(row, spec, seams)
        rows += [renewed] if renewed is not None else []
    return rows


async def _renewed(row: RunRow, spec: Opened[RunSpec], seams: Seams) -> RunRow | None:
    """The row of a run in which this node was another peer; None where the run had not begun."""
    head, name = await seams.offload(seams.runs.head, row.run), f"{spec.record.name} ({row.run.hex()[:12]})"
    if head is None:
        await seams.offload(seams.runs.forget_run, row.run)
        told = f"run {name} had not begun, and its members wait for the peer that this node was: it is left"
        seams.tell(LogLine(level="warning", sentence=told))
        return None
    join = join_of(
        seams.envelopes,
        spec,
        round=head[0],
        addresses=seams.addresses(),
        kernels=(await seams.compute.chosen()).kernels,
        invitation=UNINVITED,
    )
    row = msgspec.structs.replace(row, join=join.raw)
    await seams.offload(seams.runs.renew_run, row)
    return row


def spec_of(row: RunRow, envelopes: Envelopes, home: Path) -> Opened[RunSpec]:
    """The spec of a stored run. Raises ConfigError where the store is of another network, or of another version."""
    try:
        spec = envelopes.open(RunSpec, row.spec)
    except PeerError as error:
        _check_version(row, _version(envelopes.peek(row.spec)), home)
        raise ConfigError(
            f"node.network: {home} holds the run {row.run.hex()[:12]}, which is not of the network "
            f"{envelopes.network!r}",
            hint="set node.network back, or give the other network a home of its own",
        ) from error
    _check_version(row, spec.record.protocol, home)
    return spec


def _version(spec: Peeked) -> int:
    """Which version of the protocol a spec claims that this one may not be able to read."""
    try:
        fields = decode(list, spec.envelope.payload)
    except PeerError:
        return PROTOCOL_VERSION
    version = fields[_PROTOCOL] if len(fields) > _PROTOCOL else PROTOCOL_VERSION
    return version if isinstance(version, int) else PROTOCOL_VERSION


def _check_version(row: RunRow, version: int, home: Path) -> None:
    if version != PROTOCOL_VERSION:
        other = "a newer one" if version > PROTOCOL_VERSION else "an older one"
        raise ConfigError(
            f"{home} holds the run {row.run.hex()[:12]}, which is of version {version} of the protocol, and this "
            f"primep2p speaks version {PROTOCOL_VERSION}",
            hint=f"finish it with {other}, or give this one a home of its own; `primep2p reset` removes a home's runs",
        )
