"""Runs, for people."""

import sys
import time
from datetime import datetime
from typing import Any

from primep2p.cli.render.printing import SHORT, cells, columns, duration, many, print_table, say
from primep2p.cli.render.rounds import RoundTable
from primep2p.cli.render.standings import ends
from primep2p.model.text import printable
from primep2p.model.views.runs import InviteView, MemberView, RunDetail, RunSummary

__all__ = [
    "PATIENCE_S",
    "print_runs",
    "show_banned",
    "show_created",
    "show_file",
    "show_gathering",
    "show_invite",
    "show_joined",
    "show_joined_late",
    "show_note",
    "show_run",
    "show_runs",
]


PATIENCE_S = 2.0
"""A round that moves waits for somebody all the time: that is worth a line when it has lasted, or cost a view."""


def show_runs(runs: list[RunSummary], create_command: str) -> None:
    """A run a row, or how to start one."""
    if not runs:
        say(f"no runs yet; start one with: {create_command}")
        return
    print_runs(runs)


def print_runs(runs: list[RunSummary]) -> None:
    table = columns("run", "name", "phase", ">round", ">members", ">connected", "head")
    for run in runs:
        phase = f"{run.phase}, rests" if run.rests and run.phase == "running" else run.phase
        row = (run.run[:SHORT], run.name, phase, run.round, run.members, run.connected, run.head[:SHORT] or "-")
        table.add_row(*cells(row))
    print_table(table)


def show_note(run: RunSummary) -> None:
    """What may be forgotten, before all else: on stderr, as it is no part of the answer."""
    if run.note:
        print(printable(f"note: {run.note}"), file=sys.stderr)


def show_created(run: RunDetail, invite_command: str, watch_command: str, next_command: str) -> None:
    """The new run, how others come in, and how to see it."""
    say(f"run {run.run}")
    if run.origin:
        say(f"from {run.origin}")
    first = run.first_members
    are_here = "1 member is here" if first == 1 else f"{first} members are here"
    if run.admission == "invite":
        say(f"training begins when {are_here}; others join with what this prints for each of them:")
        say(f"  {invite_command.replace('run invite', f'run invite {run.run[:SHORT]}')}")
    else:
        say(f"training begins when {are_here}; others join with:")
        say(f"  primep2p run join {run.run}")
    if run.own_loop:
        say(f"take its jobs with: {next_command}")
    say(f"watch it with: {watch_command}")


def show_invite(invite: InviteView) -> None:
    """The token alone on stdout, so that it can be piped to where it is needed; what it is good for beside it."""
    say(invite.token)
    good_for = f"{many(invite.uses, 'new member')}, up to round {invite.until}"
    print(f"good for {good_for}; it is a secret, and is used with: primep2p run join INVITE", file=sys.stderr)


def show_banned(run: RunSummary, peer: str, show_command: str) -> None:
    """What comes next."""
    say(f"{peer} is banned from {run.name} ({run.run[:SHORT]}): a coming checkpoint expels it")
    say(f"see it with: {show_command}")


def show_joined(run: RunDetail, watch_command: str, next_command: str) -> None:
    """The run that this node is in now, and how to see it."""
    begun = f"round {run.round}, {many(len(run.members), 'member')}"
    state = _gathered(run) if run.phase == "gathering" else begun
    say(f"joined {run.name} ({run.run[:SHORT]}): {run.phase}, {state}")
    if run.obstacle:
        say(f"cannot be a member: {run.obstacle}")
    if run.own_loop:
        say(f"take its jobs with: {next_command}")
    say(f"watch it with: {watch_command}")


def show_joined_late(run: RunDetail, file: str, show_command: str, *, member: bool) -> None:
    """A run that is over: this node has its model, or fetches it now."""
    has = "now has its model" if file else "fetches its model"
    say(f"{run.name} ({run.run[:SHORT]}) is finished: this node {has}{'' if member else ', and is no member'}")
    show_file(file)
    if not file:
        say(f"see where it is with: {show_command}")


def show_file(file: str) -> None:
    """Where the newest model is on this node; nothing where it is not here."""
    if file:
        say(f"file      {file}")


def show_gathering(run: RunDetail) -> None:
    """Why there is no round to see yet."""
    say(f"gathering: {_gathered(run)}")


def show_run(run: RunDetail, file: str) -> None:
    """A run in full; `file` is where its newest model is, if it is here."""
    say(f"run       {run.run}")
    own_loop = " (a loop of your own)" if run.own_loop else ""
    say(f"name      {run.name}, trainer {run.trainer}{own_loop}, {run.phase}")
    say(f"pipeline  {_pipeline(run.pipeline)}")
    step = run.step or "no step"
    say(f"round     {run.round}, view {run.view}, {step}, last moved {duration(run.waiting_s)} ago")
    say(f"ends      {ends(run, time.time())}")
    if run.rests:
        say(f"rests     {run.rests}")
    if run.head:
        say(f"head      {run.head} of round {run.head_round}")
    say(f"params    {run.params or '-'}")
    show_file(file)
    if run.pin:
        say(f"pin       {run.pin}")
    if run.origin:
        say(f"from      {run.origin}")
    _show_admission(run)
    _show_quorum(run)
    for index, line in enumerate(run.plugin_error.splitlines()):
        say(f"{'' if index else 'trainer':10}{line}")
    for accusation in run.accusations:
        say(f"accused   {accusation}")
    for evidence in run.evidence:
        say(f"evidence  {evidence.peer} signed {evidence.slot}")
    for expelled in run.expelled:
        when = f" in round {expelled.round}" if expelled.round >= 0 else ""
        say(f"expelled  {expelled.peer}, {expelled.reason or 'some time ago'}{when}")
    say()
    _print_members(run)
    if run.rounds:
        say()
        rounds = RoundTable()
        for certified in run.rounds:
            rounds.add(certified)


def _pipeline(pipeline: dict[str, Any]) -> str:
    """Its stages in the order in which they work; `wire` last, which is no stage."""
    stages = [*pipeline["pre"], pipeline["rule"], *([pipeline["outer"]] if pipeline["outer"] else [])]
    return f"{', then '.join(map(_stage, stages))}; deltas travel as {_stage(pipeline['wire'])}"


def _stage(stage: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {_setting(value)}" for name, value in stage.items() if name != "name")
    return f"{stage['name']} ({settings})" if settings else str(stage["name"])


def _setting(value: object) -> str:
    """As it is written in run.toml."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show_admission(run: RunDetail) -> None:
    """Who may join, and what keeps this node out."""
    say(f"admission {run.admission}{', by ' if run.inviters else ''}{', '.join(run.inviters)}")
    for invite in run.invites:
        joined = many(invite.used, "member")
        say(f"invite    {invite.invite[:SHORT]}: {joined} joined by it, good up to round {invite.until}")
    if run.obstacle:
        say(f"outside   {run.obstacle}")


def _show_quorum(run: RunDetail) -> None:
    """How many decide, what that survives, and whom the run waits for."""
    missing = run.first_members - len(run.members) if run.phase == "gathering" else 0
    if run.phase != "gathering":
        drawn = "" if len(run.committee) == len(run.members) else f" drawn from {many(len(run.members), 'member')}"
        survives = f"{many(run.survives_silent, 'silent member')}, {many(run.survives_liars, 'liar')}"
        say(f"quorum    {run.quorum} of {len(run.committee)}{drawn}: survives {survives}")
        spare = run.cohort - run.least_updates
        learns = f"bears {many(spare, 'silent trainer')}" if spare >= 0 else "not before more members join"
        say(f"learns    from {many(run.least_updates, 'update')} a round or more, of {run.cohort}: {learns}")
        if run.mode == "buffered":
            age = f"an update counts up to {many(run.max_staleness, 'round')} late"
            say(f"buffered  a round takes {many(run.wanted_updates, 'update')} and what else is there; {age}")
    for risk in run.risks:
        fork, stall = _chance(risk.fork), _chance(risk.stall)
        say(f"risk      with {risk.bad_share:.0%} bad, in {risk.rounds:,} rounds: a fork {fork}, a stall {stall}")
    is_stuck = run.view > 0 or run.waiting_s >= PATIENCE_S
    if missing > 0:
        say(f"waits for {many(missing, 'more member')} ({_here(run)} {'is' if len(run.members) == 1 else 'are'} here)")
    elif is_stuck and (awaited := [member.peer for member in run.members if member.awaited]):
        say(f"waits for {', '.join(awaited)}, since {datetime.fromtimestamp(run.waiting_since):%Y-%m-%d %H:%M:%S}")


def _print_members(run: RunDetail) -> None:
    """A member a row; what is the same for all of them is left out."""
    parts = len({(member.votes, member.trains, member.same_kernels) for member in run.members}) > 1
    blamed = any(member.rounds_blamed for member in run.members)
    more = [*([">blamed"] if blamed else []), *(["part"] if parts else [])]
    table = columns("!member", ">since", ">silent", ">done", *more, "now")
    for member in run.members:
        row: list[object] = [member.peer, member.since, member.missed]
        row.append(f"{member.rounds_done}/{member.rounds_done + member.rounds_missed}")
        row += [member.rounds_blamed] if blamed else []
        row += [_part(member)] if parts else []
        row.append(f"{'here' if member.connected else 'away'}{', awaited' if member.awaited else ''}")
        table.add_row(*cells(row))
    print_table(table)


def _part(member: MemberView) -> str:
    """What it does in the round; who computes other bytes has no vote in any."""
    part = " ".join(word for word, has in (("trains", member.trains), ("votes", member.votes)) if has) or "-"
    return part if member.same_kernels else f"{part}, other kernels"


def _chance(share: float) -> str:
    if share == 0:
        return "cannot happen"
    return f"{100 * share:.2g}%" if share >= 0.0001 else "under 0.01%"


def _gathered(run: RunDetail) -> str:
    return f"{_here(run)} members {'is' if len(run.members) == 1 else 'are'} here"


def _here(run: RunDetail) -> str:
    return f"{len(run.members)} of {run.first_members}"
