"""Answers and events for people: tables, and one line of JSON for everybody else.

Names, reasons and metrics are words of peers: all that is printed here goes through `printable`.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from primep2p.model.text import printable
from primep2p.model.views import (
    OTHER_KERNELS,
    Accused,
    AnyEvent,
    Evaluated,
    InviteView,
    LogLine,
    MemberView,
    NodeStatus,
    PeerChanged,
    PeerView,
    PluginFailed,
    RoundCertified,
    RunDetail,
    RunFinished,
    RunSummary,
    StepChanged,
    TrainingReported,
)

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "SHORT",
    "RoundTable",
    "clock",
    "duration",
    "print_json",
    "show_banned",
    "show_created",
    "show_file",
    "show_gathering",
    "show_invite",
    "show_joined",
    "show_joined_late",
    "show_peers",
    "show_run",
    "show_runs",
    "show_started",
    "show_status",
]

PATIENCE_S = 2.0
"""A round that moves waits for somebody all the time: that is worth a line when it has lasted, or cost a view."""

SHORT = 12
"""Digits of a hash that people compare."""


def print_json(answer: object) -> None:
    """One line, at once: a pipe may be waiting for it."""
    line = msgspec.json.encode(answer).decode()
    # JSON itself escapes the older control characters, and not these, which drive terminals too.
    sys.stdout.write(re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")
    sys.stdout.flush()


def show_status(status: NodeStatus) -> None:
    """The daemon at a glance."""
    _print(f"peer      {status.peer_id}")
    _print(f"daemon    {status.version}, pid {status.pid}, up {duration(status.uptime_s)}, {_mib(status.rss_bytes)}")
    _print(f"network   {status.network}")
    _print(f"home      {status.home}")
    for index, address in enumerate(status.addresses):
        _print(f"{'' if index else 'listens':10}{address}")
    if status.backend:
        _print(f"computes  with {status.backend}, {_many(status.threads, 'thread')}")
    _print(f"peers     {len(status.connected)} connected")
    if not status.same_kernels:
        _print(f"kernels   {OTHER_KERNELS}")
    if status.runs:
        _print()
        _print_runs(status.runs)


def show_started(status: NodeStatus, status_command: str) -> None:
    """The daemon that has this terminal now, and how to go on."""
    show_status(status)
    _print(f"Ctrl-C stops it; in another terminal: {status_command}")


def show_runs(runs: list[RunSummary], create_command: str) -> None:
    """A run a row, or how to start one."""
    if not runs:
        _print(f"no runs yet; start one with: {create_command}")
        return
    _print_runs(runs)


def _print_runs(runs: list[RunSummary]) -> None:
    table = _table("run", "name", "phase", ">round", ">members", ">connected", "head")
    for run in runs:
        row = (run.run[:SHORT], run.name, run.phase, run.round, run.members, run.connected, run.head[:SHORT] or "-")
        table.add_row(*_cells(row))
    _print_table(table)


def show_created(run: RunDetail, invite_command: str, watch_command: str) -> None:
    """The new run, how others come in, and how to see it."""
    _print(f"run {run.run}")
    if run.origin:
        _print(f"from {run.origin}")
    first = run.first_members
    are_here = "1 member is here" if first == 1 else f"{first} members are here"
    if run.admission == "invite":
        _print(f"training begins when {are_here}; others join with what this prints for each of them:")
        _print(f"  {invite_command.replace('run invite', f'run invite {run.run[:SHORT]}')}")
    else:
        _print(f"training begins when {are_here}; others join with:")
        _print(f"  primep2p run join {run.run}")
    _print(f"watch it with: {watch_command}")


def show_invite(invite: InviteView) -> None:
    """The token alone on stdout, so that it can be piped to where it is needed; what it is good for beside it."""
    _print(invite.token)
    good_for = f"{_many(invite.uses, 'new member')}, up to round {invite.until}"
    print(f"good for {good_for}; it is a secret, and is used with: primep2p run join INVITE", file=sys.stderr)


def show_banned(run: RunSummary, peer: str, show_command: str) -> None:
    """What comes next."""
    _print(f"{peer} is banned from {run.name} ({run.run[:SHORT]}): a coming checkpoint expels it")
    _print(f"see it with: {show_command}")


def show_joined(run: RunDetail, watch_command: str) -> None:
    """The run that this node is in now, and how to see it."""
    begun = f"round {run.round}, {_many(len(run.members), 'member')}"
    state = f"{_here(run)} members are here" if run.phase == "gathering" else begun
    _print(f"joined {run.name} ({run.run[:SHORT]}): {run.phase}, {state}")
    if run.obstacle:
        _print(f"cannot be a member: {run.obstacle}")
    _print(f"watch it with: {watch_command}")


def show_joined_late(run: RunDetail, file: str, show_command: str, *, member: bool) -> None:
    """A run that is over: this node has its model, or fetches it now."""
    has = "now has its model" if file else "fetches its model"
    _print(f"{run.name} ({run.run[:SHORT]}) is finished: this node {has}{'' if member else ', and is no member'}")
    show_file(file)
    if not file:
        _print(f"see where it is with: {show_command}")


def show_file(file: str) -> None:
    """Where the newest model is on this node; nothing where it is not here."""
    if file:
        _print(f"file      {file}")


def show_gathering(run: RunDetail) -> None:
    """Why there is no round to see yet."""
    _print(f"gathering: {_here(run)} members are here")


def show_run(run: RunDetail, file: str) -> None:
    """A run in full; `file` is where its newest model is, if it is here."""
    _print(f"run       {run.run}")
    _print(f"name      {run.name}, trainer {run.trainer}, {run.phase}")
    _print(f"pipeline  {_pipeline(run.pipeline)}")
    step = run.step or "no step"
    _print(f"round     {run.round}, view {run.view}, {step}, last moved {duration(run.waiting_s)} ago")
    if run.head:
        _print(f"head      {run.head} of round {run.head_round}")
    _print(f"params    {run.params or '-'}")
    show_file(file)
    if run.pin:
        _print(f"pin       {run.pin}")
    if run.origin:
        _print(f"from      {run.origin}")
    _show_admission(run)
    _show_quorum(run)
    for index, line in enumerate(run.plugin_error.splitlines()):
        _print(f"{'' if index else 'trainer':10}{line}")
    for accusation in run.accusations:
        _print(f"accused   {accusation}")
    for evidence in run.evidence:
        _print(f"evidence  {evidence.peer} signed {evidence.slot}")
    for expelled in run.expelled:
        when = f" in round {expelled.round}" if expelled.round >= 0 else ""
        _print(f"expelled  {expelled.peer}, {expelled.reason or 'some time ago'}{when}")
    _print()
    _print_members(run)
    if run.rounds:
        _print()
        rounds = RoundTable()
        for certified in run.rounds:
            rounds.add(certified)


def _pipeline(pipeline: dict[str, Any]) -> str:
    """Its stages in the order in which they work; `wire` last, which is no stage."""
    stages = [*pipeline["pre"], pipeline["rule"], *([pipeline["outer"]] if pipeline["outer"] else [])]
    return f"{', then '.join(map(_stage, stages))}; deltas travel as {_stage(pipeline['wire'])}"


def _stage(stage: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in stage.items() if name != "name")
    return f"{stage['name']} ({settings})" if settings else str(stage["name"])


def _show_admission(run: RunDetail) -> None:
    """Who may join, and what keeps this node out."""
    _print(f"admission {run.admission}{', by ' if run.inviters else ''}{', '.join(run.inviters)}")
    for invite in run.invites:
        joined = _many(invite.used, "member")
        _print(f"invite    {invite.invite[:SHORT]}: {joined} joined by it, good up to round {invite.until}")
    if run.obstacle:
        _print(f"outside   {run.obstacle}")


def _show_quorum(run: RunDetail) -> None:
    """How many decide, what that survives, and whom the run waits for."""
    missing = run.first_members - len(run.members) if run.phase == "gathering" else 0
    if run.phase != "gathering":
        drawn = "" if len(run.committee) == len(run.members) else f" drawn from {_many(len(run.members), 'member')}"
        survives = f"{_many(run.survives_silent, 'silent member')}, {_many(run.survives_liars, 'liar')}"
        _print(f"quorum    {run.quorum} of {len(run.committee)}{drawn}: survives {survives}")
        spare = run.cohort - run.least_updates
        learns = f"bears {_many(spare, 'silent trainer')}" if spare >= 0 else "not before more members join"
        _print(f"learns    from {_many(run.least_updates, 'update')} a round or more, of {run.cohort}: {learns}")
    for risk in run.risks:
        fork, stall = _chance(risk.fork), _chance(risk.stall)
        _print(f"risk      with {risk.bad_share:.0%} bad, in {risk.rounds:,} rounds: a fork {fork}, a stall {stall}")
    is_stuck = run.view > 0 or run.waiting_s >= PATIENCE_S
    if missing > 0:
        _print(f"waits for {_many(missing, 'more member')} ({_here(run)} are here)")
    elif is_stuck and (awaited := [member.peer for member in run.members if member.awaited]):
        _print(f"waits for {', '.join(awaited)}, since {datetime.fromtimestamp(run.waiting_since):%Y-%m-%d %H:%M:%S}")


def _print_members(run: RunDetail) -> None:
    """A member a row; what is the same for all of them is left out."""
    parts = len({(member.votes, member.trains, member.same_kernels) for member in run.members}) > 1
    blamed = any(member.rounds_blamed for member in run.members)
    more = [*([">blamed"] if blamed else []), *(["part"] if parts else [])]
    table = _table("!member", ">since", ">silent", ">done", *more, "now")
    for member in run.members:
        row: list[object] = [member.peer, member.since, member.missed]
        row.append(f"{member.rounds_done}/{member.rounds_done + member.rounds_missed}")
        row += [member.rounds_blamed] if blamed else []
        row += [_part(member)] if parts else []
        row.append(f"{'here' if member.connected else 'away'}{', awaited' if member.awaited else ''}")
        table.add_row(*_cells(row))
    _print_table(table)


def _part(member: MemberView) -> str:
    """What it does in the round; who computes other bytes has no vote in any."""
    part = " ".join(word for word, has in (("trains", member.trains), ("votes", member.votes)) if has) or "-"
    return part if member.same_kernels else f"{part}, other kernels"


def show_peers(peers: list[PeerView]) -> None:
    """A peer a row."""
    if not peers:
        _print("no peers yet; p2p.bootstrap in node.toml names some to meet")
        return
    table = _table("!peer", "connected", "runs")
    for peer in peers:
        runs = " ".join(run[:SHORT] for run in peer.runs)
        table.add_row(*_cells((peer.peer, _yes(peer.connected), runs or "-")))
    _print_table(table)
    for peer in peers:
        for fault in peer.faults:
            _print(f"accused   {peer.peer}: {fault}")


class RoundTable:
    """Rows of certified rounds as they come, under a heading that is printed once; other events are lines between."""

    HEADING = f"{'round':>6} {'trained':>7} {'signed':>7} {'seconds':>8}  {'head':{SHORT}}  metrics"

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._begun = False

    def add(self, event: AnyEvent) -> None:
        """Prints the event if it is worth a line."""
        if not self._begun and isinstance(event, RoundCertified):
            self._begun = True
            _print(self.HEADING)
        for line in self._lines(event):
            _print(line)

    def _lines(self, event: AnyEvent) -> list[str]:
        match event:
            case RoundCertified():
                return [_round_row(event)]
            case RunFinished(round=round_):
                return [f"finished after round {round_}"]
            case PluginFailed(sentence=sentence, stderr=stderr):
                return [f"  the trainer failed: {sentence}", *(f"  | {line}" for line in stderr.splitlines())]
            case Accused(peer=peer, reason=reason):
                return [f"  {peer} is accused: {reason}"]
            case LogLine(level="warning" | "error", sentence=sentence):
                return [f"  {sentence}"]
        line = self._step_line(event) if self._verbose else ""
        return [line] if line else []

    def _step_line(self, event: AnyEvent) -> str:
        when = clock(datetime.fromtimestamp(event.at_s))
        match event:
            case StepChanged(round=round_, view=view, step=step):
                return f"  {when} round {round_} view {view}: {step}"
            case TrainingReported(step=step, steps=steps, loss=loss):
                told = "" if loss is None else f", loss {_number(loss)}"
                return f"  {when} trained {step}{f' of {steps}' if steps else ''}{told}"
            case Evaluated(round=round_, metrics=metrics):
                return f"  {when} evaluated round {round_}: {_metrics(metrics)}"
            case PeerChanged(peer=peer, connected=connected):
                return f"  {when} {peer} {'connected' if connected else 'lost'}"
            case LogLine(sentence=sentence):
                return f"  {when} {sentence}"
        return ""


def clock(moment: datetime) -> str:
    """A time of the day, as everywhere where one is shown."""
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def duration(seconds: float) -> str:
    """A time span in the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"


def _round_row(event: RoundCertified) -> str:
    trained = f"{len(event.participants)}/{len(event.roster)}"
    signed = f"{len(event.signers)}/{len(event.roster)}"
    said = f"void: {event.void}" if event.void else _metrics(event.metrics)
    return (
        f"{event.round:>6} {trained:>7} {signed:>7} {event.seconds:>8.2f}  {event.header[:SHORT]:{SHORT}}  {said}"
    ).rstrip()


def _metrics(metrics: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in sorted(metrics.items()))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _chance(share: float) -> str:
    if share == 0:
        return "cannot happen"
    return f"{100 * share:.2g}%" if share >= 0.0001 else "under 0.01%"


def _here(run: RunDetail) -> str:
    return f"{len(run.members)} of {run.first_members}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _print(line: str = "") -> None:
    """At once: a pipe may be waiting for it."""
    print(printable(line), flush=True)


def _cells(row: Iterable[object]) -> Iterable[str]:
    return (printable(str(each)) for each in row)


def _table(*headings: str) -> "Table":
    """Columns whose heading starts with > are set right. One that starts with ! is shown whole, and the others take
    several lines where they must."""
    from rich.table import Table  # takes longer to import than all else that a command needs

    folds = any(heading.startswith("!") for heading in headings)
    table = Table(box=None, pad_edge=False, collapse_padding=folds, header_style="bold")
    for heading in headings:
        table.add_column(
            heading.lstrip(">!"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=not folds or heading.startswith("!"),
            overflow="fold" if folds else "ellipsis",
        )
    return table


def _print_table(table: "Table") -> None:
    from rich.console import Console

    # What is not a terminal has room for whole ids.
    width = None if sys.stdout.isatty() else 10_000
    Console(markup=False, highlight=False, width=width).print(table)
