"""A run before this node takes part in it: what it would cost, and whether members would admit this node."""

from collections.abc import Sequence
from pathlib import Path

import trio

from primep2p.core.chain import Head, trusted_head
from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.ids import PeerId, RunId
from primep2p.model.messages import AskChain, AskHead, Chain
from primep2p.model.messages import Head as HeadMessage
from primep2p.model.records import KERNELS_DIGEST, RunSpec, TensorSpec
from primep2p.model.views.previews import Preview
from primep2p.run_config import RunConfig
from primep2p.services.runs.costs import cost_of
from primep2p.services.runs.entering import JOIN_S, Runs, config_of
from primep2p.services.runs.inviting import accept, check_welcome
from primep2p.services.runs.joining import Seekers, find_spec
from primep2p.services.runs.origins import Start
from primep2p.services.seams import Seams
from primep2p.store.intake import tensors_in
from primep2p.wire.envelope import Opened
from primep2p.wire.token import Token

__all__ = ["Previews"]

SKETCH = "preview"
"""How the files begin that are made for a preview, in the scratch directory: those of the newest are kept."""


class Previews:
    """Verbs change nothing but a file in the scratch directory. They raise what the deed itself would raise."""

    def __init__(self, runs: Runs, seams: Seams, keep_checkpoints: int) -> None:
        self._runs = runs
        self._seams = seams
        self._keep_checkpoints = keep_checkpoints

    async def found(self, config: RunConfig) -> Preview:
        """Of a run that this node would create. Where its trainer makes the first params, it makes them now."""
        seams, path = self._seams, ""
        if config.params:
            tensors = await seams.offload(_given, Path(config.params))
        else:
            await seams.offload(_discard, seams.scratch)
            made, tensors = await self._runs.hiring.sketch(config, SKETCH)
            path = str(made)
        return await self._of_config(config, tensors, path)

    async def continued(self, start: Start, config: RunConfig | None) -> Preview:
        """Of a run that would go on from another one of this node."""
        old = self._runs.named(start.run).spec.record
        return await self._of_config(config or config_of(old), old.tensors, "")

    async def joined(self, run: RunId, token: Token | None) -> Preview:
        """Of a run that members know; how far it is, is the word of one of them. Raises Unavailable."""
        try:
            with trio.fail_after(JOIN_S):
                return await self._joined(run, token)
        except trio.TooSlowError as error:
            raise Unavailable(
                f"the members of run {run.hex()[:12]} did not answer within {JOIN_S:g} s", hint="see: primep2p peers"
            ) from error

    async def _joined(self, run: RunId, token: Token | None) -> Preview:
        seams, invitation = self._seams, accept(self._seams.envelopes, token) if token else None
        if (known := self._runs.known(run)) is not None:
            spec, head = known.spec, known.head
        else:
            if token is not None and invitation is not None:
                await self._runs.meet(invitation.invite.signer, token.addresses)
            at = Seekers(seams.host, seams.sync, seams.envelopes)
            spec, holders = await find_spec(run, at)
            head = await _said_head(spec, holders, at)
        obstacle, me = "", seams.envelopes.peer_id
        try:
            check_welcome(spec, head, me, invitation)
        except CallError as error:
            obstacle = f"{error.sentence}; {error.hint}"
        record, roster = spec.record, set(head.members) if head else set()
        return await self._preview(
            record,
            record.tensors,
            run=run.hex(),
            obstacle=obstacle,
            members=len(roster),
            reckoned=len(roster | {me}) if roster else record.policy.first_members,
            round=head.round if head else 0,
        )

    async def _of_config(self, config: RunConfig, tensors: Sequence[TensorSpec], params: str) -> Preview:
        return await self._preview(config, tensors, reckoned=config.policy.first_members, params=params)

    async def _preview(
        self,
        settings: RunSpec | RunConfig,
        tensors: Sequence[TensorSpec],
        *,
        reckoned: int,
        run: str = "",
        obstacle: str = "",
        members: int = 0,
        round: int = 0,
        params: str = "",
    ) -> Preview:
        seams, policy = self._seams, settings.policy
        votes = (await seams.compute.chosen()).kernels == KERNELS_DIGEST
        try:
            cost = cost_of(
                settings.pipeline,
                policy,
                tensors,
                members=reckoned,
                votes=votes,
                keep_updates=seams.keep_updates,
                keep_checkpoints=self._keep_checkpoints,
            )
        except PeerError as error:
            raise CallError(
                f"the run's files could not be: {error.sentence}", hint="choose another pipeline"
            ) from error
        return Preview(
            run=run,
            name=settings.name,
            trainer=settings.trainer,
            creator=settings.creator if isinstance(settings, RunSpec) else seams.envelopes.peer_id,
            admission=settings.admission.mode,
            obstacle=obstacle,
            members=members,
            first_members=policy.first_members,
            round=round,
            rounds=policy.rounds,
            votes=votes,
            cost=cost,
            params=params,
        )


async def _said_head(spec: Opened[RunSpec], holders: Sequence[PeerId], at: Seekers) -> Head | None:
    """Where the run is, by the word of the first member that says so: nothing rests on it."""
    for peer in holders:
        try:
            answer = await at.sync.answer_of(peer, AskHead(spec.hash))
            if not isinstance(answer, HeadMessage):
                continue
            chain = await at.sync.ask(peer, AskChain(spec.hash, answer.checkpoint.certificate.round), Chain)
            if chain.checkpoints:
                return trusted_head(spec, chain.checkpoints[0], chain.state, at.envelopes.open_any)
        except (Unavailable, PeerError):
            continue
    return None


def _given(path: Path) -> tuple[TensorSpec, ...]:
    try:
        return tensors_in(path)
    except PeerError as error:
        raise CallError(
            f"the params {str(path)!r} cannot begin a run: {error.sentence}", hint="float32 safetensors are expected"
        ) from error


def _discard(scratch: Path) -> None:
    for made in scratch.glob(f"{SKETCH}-*.safetensors"):
        made.unlink(missing_ok=True)
