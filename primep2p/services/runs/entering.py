"""The runs that this node is in: founds them, joins them, and opens them again after a start."""

from functools import partial
from time import time

import msgspec
import trio

from primep2p.core.admission import UNINVITED, join_of, request_of
from primep2p.core.chain import header_hash
from primep2p.core.genesis import Gathering
from primep2p.core.runs import Run
from primep2p.keys import public_key_of
from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.ids import Cid, PeerId, RunId
from primep2p.model.messages import Records
from primep2p.model.records import KERNELS_DIGEST, Ban, Join, RunSpec, TensorSpec
from primep2p.model.views.events import LogLine
from primep2p.run_config import RunConfig, StopConfig
from primep2p.services.aggregating.aggregation import check_files
from primep2p.services.peers.retrying import until_worth_a_try
from primep2p.services.runs.inviting import Invitation, accept, check_welcome, invite
from primep2p.services.runs.joining import Pin, Seekers, find_spec, learn_head, run_key, seek_membership
from primep2p.services.runs.origins import Start, certified, find
from primep2p.services.runs.reopening import own_rows, spec_of
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.training.hiring import Hiring, Own
from primep2p.services.training.resting import LEAVING, PAUSED
from primep2p.store.seam import RunRow, Standing, StoredCheckpoint
from primep2p.tasks import TaskStatus
from primep2p.wire.envelope import Opened
from primep2p.wire.token import Token

__all__ = ["JOIN_S", "Runs", "config_of"]

PROVIDE_RUN_EVERY_S = 12 * 3600.0
"""Half of what a provider record lives."""

JOIN_S = 90.0
"""To find a run, and to check its chain: less than the control client's patience."""

_PEERS = "see `primep2p peers`, and try again"

AFTERWARDS = "a new run can go on from it: primep2p run create --from RUN"

LINGER_S = 60.0
"""For members to learn of the checkpoint that lets this node go, from the one whose vote they may lack for it."""

RETRY_S = 15.0
"""Before a directory that failed among connected peers is asked again."""


class Runs:
    """Every run of this node, in `services`, which others may read. Verbs may be called while `run` runs."""

    def __init__(self, services: dict[RunId, RunService], seams: Seams, own: Own) -> None:
        self.hiring = Hiring(seams, own)
        self._services = services
        self._seams = seams
        self._own = own
        self._joining = trio.Lock()
        self._providing = trio.Lock()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """All runs of the store, and those that are entered, until cancelled. Raises ConfigError, StoreError."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for row in await own_rows(self._own.home, self._seams):
                await self._open(nursery, row)
            task_status.started()
            await trio.sleep_forever()  # the first run may be entered at any time

    # ---- verbs

    def all(self) -> list[RunService]:
        """Each of them."""
        return list(self._services.values())

    def known(self, run: RunId) -> RunService | None:
        """That run, if this node is in it."""
        return self._services.get(run)

    def named(self, prefix: str) -> RunService:
        """The run whose id begins with `prefix`. Raises CallError."""
        found = [service for run, service in self._services.items() if run.hex().startswith(prefix.lower())]
        if not prefix or not found:
            raise CallError(f"this node is in no run {prefix!r}", hint="see: primep2p run list")
        if len(found) > 1:
            raise CallError(f"{prefix!r} is the beginning of {len(found)} runs", hint="write more of the id")
        return found[0]

    async def found(self, config: RunConfig, *, own_loop: bool = False) -> RunService:
        """A new run with this node as its first member. Raises PluginError where its trainer fails."""
        nonce = self._own.entropy(16)
        await self._check_kernels()
        await self.hiring.check(config.trainer, own_loop)
        made = await self.hiring.first_params(config)
        return await self._begin(config, nonce, *made, own_loop=own_loop)

    async def found_from(self, start: Start, config: RunConfig | None, *, own_loop: bool = False) -> RunService:
        """A new run whose first params are those of a certified checkpoint of a run of this node; without `config`
        with the settings of that run. No trainer is asked. Raises CallError, and Unavailable without these params."""
        await self._check_kernels()
        seams, old = self._seams, self.named(start.run)
        spec = old.spec.record
        config = config or config_of(spec)
        await self.hiring.check(config.trainer, own_loop)
        async with seams.keeping:  # else an old checkpoint's params might go before the new run needs them
            head = await seams.offload(certified, start, old.spec, seams.runs, seams.blobs, seams.envelopes)
            nonce = self._own.entropy(16)
            params, tensors = head.header.params, spec.tensors
            service = await self._begin(config, nonce, params, tensors, origin=head.hash, own_loop=own_loop)
        service.origin = f"{head.run.hex()}@{head.round}"
        return service

    async def _check_kernels(self) -> None:
        """Raises CallError where this node would have no vote in a run of its own."""
        if (await self._seams.compute.chosen()).kernels != KERNELS_DIGEST:
            raise CallError(
                "this machine cannot create a run: what it computes has other bytes than the protocol says",
                hint="create it on another machine; this one may join it, and trains there without a vote",
            )

    async def _begin(
        self,
        config: RunConfig,
        nonce: bytes,
        params: Cid,
        tensors: tuple[TensorSpec, ...],
        *,
        origin: bytes = b"",
        own_loop: bool,
    ) -> RunService:
        envelopes = self._seams.envelopes
        try:
            check_files(config.pipeline, tensors)
        except PeerError as error:
            raise CallError(
                f"the run's files could not be: {error.sentence}", hint="choose another pipeline"
            ) from error
        spec = envelopes.seal(
            RunSpec(
                creator=envelopes.peer_id,
                name=config.name,
                nonce=nonce,
                tensors=tensors,
                trainer=config.trainer,
                trainer_config=config.trainer_config,
                params=params,
                pipeline=config.pipeline,
                policy=config.policy,
                admission=config.admission,
                origin=origin,
                stop=config.stop.stop(self._seams.unix_time()),
            )
        )
        return await self._enter(spec, await self._own_join(spec, 0, None), own_loop=own_loop)

    async def join(
        self, run: RunId, pin: Pin | None, token: Token | None = None, *, own_loop: bool = False
    ) -> RunService:
        """Take part in a run: at its beginning, or from a head that members confirm or the owner pins. A token brings
        an invite; for a run that this node waits to be let into, another one."""
        invitation = accept(self._seams.envelopes, token) if token else None
        async with self._joining:  # who asks again while the first is under way must not open the run twice
            if (service := self._services.get(run)) is not None:
                await self._check_pin(run, pin)
                if service.standing.leave:
                    return await self._come_back(service, invitation, own_loop)
                self._check_loop(service, own_loop)
                await self._renew(service, invitation)
                return service
            try:
                with trio.fail_after(JOIN_S):
                    if invitation is not None and token is not None:
                        await self.meet(invitation.invite.signer, token.addresses)
                    return await self._join(run, pin, invitation, own_loop)
            except trio.TooSlowError as error:
                raise Unavailable(
                    f"the members of run {run.hex()[:12]} did not answer within {JOIN_S:g} s",
                    hint=_PEERS,
                ) from error

    def invite(self, prefix: str, *, uses: int, rounds: int) -> tuple[Token, int]:
        """A new invite to a run, and the last round that it is good for. Raises CallError."""
        service, seams = self.named(prefix), self._seams
        head = service.head
        if head is not None and head.is_last:
            raise CallError(f"run {service.run_id.hex()[:12]} is finished: nobody joins it any more", hint=AFTERWARDS)
        until = (head.round if head else 0) + rounds
        addresses, entropy = seams.addresses(), self._own.entropy
        token = invite(seams.envelopes, service.spec, uses=uses, until=until, addresses=addresses, entropy=entropy)
        return token, until

    async def ban(self, prefix: str, peer: PeerId) -> RunService:
        """Have a peer expelled; returns when the ban is on its way to the others. Raises CallError, Unavailable."""
        service, seams = self.named(prefix), self._seams
        name, creator, me = service.run_id.hex()[:12], service.spec.record.creator, seams.envelopes.peer_id
        _check_ban(service, peer, me, name, creator)
        if not isinstance(service.machine, Run):
            raise Unavailable(
                f"this node still asks the members of run {name} for its own votes", hint="try again in a moment"
            )
        voters = frozenset(service.machine.head.committee.members)
        if not voters & seams.host.connected and voters != {me}:
            raise Unavailable(f"no member of run {name} is connected: nobody would hear of the ban", hint=_PEERS)
        ban = seams.envelopes.seal(Ban(service.run_id, peer))
        await service.receive(me, Records(service.run_id, (ban.raw,)))
        await service.settled()
        return service

    # ---- in

    async def meet(self, inviter: PeerId, addresses: tuple[str, ...]) -> None:
        """Whoever invited is the first to ask; where it cannot be reached, others may be."""
        self._seams.overlay.know({inviter: addresses})
        self._seams.book.remember(inviter, addresses)
        try:
            await self._seams.host.connect(inviter, addresses)
        except (Unavailable, PeerError):
            return

    async def _join(self, run: RunId, pin: Pin | None, invitation: Invitation | None, own_loop: bool) -> RunService:
        seams = self._seams
        at = Seekers(seams.host, seams.sync, seams.envelopes)
        spec, holders = await find_spec(run, at)
        await self.hiring.check(spec.record.trainer, own_loop, holders)
        learned = await learn_head(spec, holders, at, pin)
        check_welcome(spec, learned[0] if learned else None, seams.envelopes.peer_id, invitation)
        join = await self._own_join(spec, learned[0].round if learned else 0, invitation)
        if learned is not None:
            head, state = learned
            await seams.offload(seams.runs.commit, run, head.round, StoredCheckpoint(head.checkpoint, state, time()))
        return await self._enter(spec, join, pin, own_loop=own_loop)

    def _check_loop(self, service: RunService, own_loop: bool) -> None:
        """Who is in the run already goes on to train there as before. Raises CallError."""
        if own_loop and service.run_id not in self._own.desks:
            trainer = service.spec.record.trainer
            raise CallError(
                f"this node is in the run already, and trains there with the plugin {trainer!r}",
                hint="leave it first, and join it again: primep2p run leave",
            )

    async def _renew(self, service: RunService, invitation: Invitation | None) -> None:
        """Another invite for a run that this node is in already, but is no member of. Raises CallError."""
        head, me = service.head, self._seams.envelopes.peer_id
        if invitation is None or (head is not None and me in head.members):
            return
        check_welcome(service.spec, head, me, invitation)
        await service.keep_join(await self._own_join(service.spec, head.round if head else 0, invitation))

    async def _come_back(self, service: RunService, invitation: Invitation | None, own_loop: bool) -> RunService:
        """Into a run that this node has left: as a stranger would, and with the chain that it has. Raises CallError."""
        head, me, gathering = service.head, self._seams.envelopes.peer_id, isinstance(service.machine, Gathering)
        if not (service.out.is_set() or gathering):
            raise CallError(
                f"this node is still leaving run {service.run_id.hex()[:12]}",
                hint="join again when it has left; see: primep2p run list",
            )
        check_welcome(service.spec, head, me, invitation)
        if service.out.is_set():
            await self.hiring.check(service.spec.record.trainer, own_loop)
        else:
            self._check_loop(service, own_loop)
        join = await self._own_join(service.spec, head.round if head else 0, invitation)
        await service.stand(Standing(paused=service.standing.paused))
        self._own.resting.order(service.run_id, PAUSED if service.standing.paused else "")
        await service.keep_join(join)
        if not service.out.is_set():
            return service  # nobody has begun yet: it just goes on
        service.closing.set()
        await service.closed.wait()
        row = msgspec.structs.replace(service.row, own_loop=own_loop)
        await self._seams.offload(self._seams.runs.save_run, row)
        return await self._open(self._live_nursery(), row)

    def _live_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise Unavailable("the node is still starting", hint="try again in a moment")
        return self._nursery

    async def _own_join(self, spec: Opened[RunSpec], round: int, invitation: Invitation | None) -> Opened[Join]:
        """This node's Join, of which nothing is kept before it is known to be good. Raises CallError."""
        envelopes = self._seams.envelopes
        join = join_of(
            envelopes,
            spec,
            round=round,
            addresses=self._seams.addresses(),
            kernels=(await self._seams.compute.chosen()).kernels,
            invitation=invitation.raws if invitation else UNINVITED,
        )
        try:
            request_of(spec.hash, spec.record, join, envelopes.open_any)
        except PeerError as error:
            raise CallError(f"this node cannot join: {error.sentence}") from error
        return join

    async def _check_pin(self, run: RunId, pin: Pin | None) -> None:
        """A pin for a run that this node is in already must be on its chain. Raises CallError."""
        if pin is None:
            return
        stored = await self._seams.offload(self._seams.runs.checkpoint, run, pin.round)
        if stored is None or header_hash(stored.checkpoint.header) != pin.hash:
            raise CallError(
                f"this node is in the run already, and checkpoint {pin.round} of its chain has not that hash",
                hint="ask the others what `primep2p run show` says: somebody is on another chain",
            )

    async def _enter(
        self, spec: Opened[RunSpec], join: Opened[Join], pin: Pin | None = None, *, own_loop: bool
    ) -> RunService:
        nursery = self._live_nursery()
        row = RunRow(spec.hash, spec.raw, join.raw, pin.hash if pin else None, pin.round if pin else 0, own_loop)
        await self._seams.offload(self._seams.runs.save_run, row)
        service = await self._open(nursery, row)
        if service.note:
            self._seams.tell(LogLine(run=service.run_id.hex(), level="warning", sentence=service.note))
        return service

    async def _open(self, nursery: trio.Nursery, row: RunRow) -> RunService:
        spec = spec_of(row, self._seams.envelopes, self._own.home)

        standing = await self._seams.offload(self._seams.runs.standing, row.run)
        self._own.resting.order(row.run, LEAVING if standing.leave else PAUSED if standing.paused else "")
        hire = partial(self.hiring.hire, row, spec.record)
        service = RunService(row, spec, self._seams, hire, standing)
        service.note = self.hiring.note(row, spec.record)
        self._services[row.run] = service
        if standing.has_left:
            await service.recall()
        else:
            await nursery.start(self._take_part, service)
        return service

    async def _take_part(
        self, service: RunService, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until this node has left the run, and others have had time to learn of it."""
        seams, me = self._seams, self._seams.envelopes.peer_id
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            nursery.start_soon(seek_membership, service, seams)
            nursery.start_soon(self._provide, service.run_id)
            if service.spec.record.origin:
                nursery.start_soon(self._find_origin, service)
            task_status.started()
            await service.out.wait()
            if service.head is None or me not in service.head.members:
                with trio.move_on_after(LINGER_S):
                    await service.closing.wait()
            nursery.cancel_scope.cancel()
        seams.overlay.detach(service.run_id)
        service.closed.set()

    async def _find_origin(self, service: RunService) -> None:
        """Where its first params come from, if that is known here."""
        spec, seams = service.spec.record, self._seams
        others = [other.spec for other in self._services.values() if other is not service]
        service.origin = service.origin or await seams.offload(find, spec.origin, spec.tensors, others, seams.runs)

    async def _provide(self, run: RunId) -> None:
        """Tell the directory, again and again, that this node is in the run."""
        while True:
            try:
                async with self._providing:  # one at a time: each is work for other nodes too
                    await self._seams.host.directory.provide(run_key(run))
            except Unavailable:
                await until_worth_a_try(self._seams.host, RETRY_S)
            else:
                await trio.sleep(PROVIDE_RUN_EVERY_S)


def config_of(spec: RunSpec) -> RunConfig:
    """The settings of a run, for another one like it."""
    return RunConfig(
        name=spec.name,
        trainer=spec.trainer,
        trainer_config=spec.trainer_config,
        pipeline=spec.pipeline,
        policy=spec.policy,
        admission=spec.admission,
        stop=StopConfig.of(spec.stop),
    )


def _check_ban(service: RunService, peer: PeerId, me: PeerId, name: str, creator: PeerId) -> None:
    """Raises CallError where a ban would be of no use."""
    if me != creator:
        raise CallError(f"only the creator of run {name} may ban, which is {creator}", hint="ask its owner to do it")
    if peer == creator:
        raise CallError(f"the creator of run {name} cannot be banned from it", hint=f"see: primep2p run show {name}")
    try:
        public_key_of(peer)
    except PeerError as error:
        raise CallError(error.sentence, hint=f"see: primep2p run show {name}") from error
    head = service.head
    if head is None:
        raise CallError(
            f"run {name} has not begun: nobody can be banned before its first checkpoint",
            hint="whom the creator does not want, an allowlist or invites keep out: see admission in examples/run.toml",
        )
    if head.is_last:
        raise CallError(f"run {name} is finished: nobody is expelled from it any more", hint=AFTERWARDS)
    if peer in head.state.expelled:
        raise CallError(f"{peer} was expelled from run {name} already", hint=f"see: primep2p run show {name}")
