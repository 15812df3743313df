"""A watched run as lines of a terminal: exactly as many as it has, none longer than it is wide."""

from collections.abc import Sequence
from itertools import zip_longest

from rich.text import Text

from primep2p.cli.live.chart import bar, curve
from primep2p.cli.live.scene import Part, Scene
from primep2p.cli.live.transfers import Moving
from primep2p.cli.render.events import ending
from primep2p.cli.render.printing import SHORT, duration, many, number, size
from primep2p.cli.render.rounds import HEADING, round_row
from primep2p.model.text import printable

__all__ = ["chart", "frame", "moving_line"]

LEFT = 40
"""Cells for the table of members."""

GAP = 3

KEYS = "Ctrl-C leaves; the run goes on"

Lines = list[Text]


def frame(scene: Scene, width: int, height: int, now_s: float) -> Text:
    """The whole screen. `now_s` is Unix time."""
    top = max(3, min(len(scene.members) + 2, (height - 8) // 2))
    top = max(top, min(10, (height - 4) // 2))
    work = _work(scene, width, most=max(2, height // 8))
    head = [_title(scene, now_s), Text()]
    middle = _beside(_members(scene, top), _charts(scene, width - LEFT - GAP, top), width)
    notes = _notes(scene, most=max(1, height // 12))
    room = height - len(head) - len(middle) - len(work) - len(notes) - 3
    rows = [*head, *middle, Text(), *work, *_rounds(scene, max(0, room)), *notes]
    rows = [*rows[: height - 1], *([Text()] * (height - 1 - len(rows))), Text(KEYS, "dim")][-height:]
    for row in rows:
        row.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, end="").join(rows)


def _title(scene: Scene, now_s: float) -> Text:
    detail = scene.detail
    title = Text.assemble((printable(detail.name), "bold"), f"  {detail.run[:SHORT]}  ")
    if scene.finished:
        return title.append("left" if scene.detail.phase == "left" else "finished", "bold green")
    if not scene.rounds and detail.phase == "gathering":
        return title.append(f"gathering: {len(scene.members)} of {detail.first_members} members are here")
    title.append(f"round {scene.round}", "bold")
    title.append(f"  view {scene.view}" if scene.view else "", "yellow")
    title.append(f"  {scene.step or 'waiting'}", "bold cyan")
    return title.append(f"  {duration(max(0.0, now_s - scene.since_s))}", "dim")


def _members(scene: Scene, height: int) -> Lines:
    """A row each: what it has done in this round."""
    parts = [scene.parts.get(peer, Part()) for peer in scene.members]
    done = [sum(map(check, parts)) for check in (_has_update, _has_list, _has_prevote, _has_precommit)]
    rows = [
        Text(f"{'member':10} update  list  prevote  commit", "dim"),
        Text(f"{'of ' + str(len(parts)):10} {done[0]:^6}  {done[1]:^4}  {done[2]:^7}  {done[3]:^6}", "bold"),
    ]
    shown = list(scene.members.items())
    room = height - len(rows)
    hidden = len(shown) - room
    if hidden > 0:
        shown = shown[: room - 1]
    for peer, connected in shown:
        part = scene.parts.get(peer, Part())
        name = f"{ending(peer)}{' me' if peer == scene.me else ''}"
        row = Text(f"{name:10} ", "" if connected or peer == scene.me else "dim strike")
        row.append_text(_mark(part.update, 6)).append("  ").append_text(_mark(part.listed, 4)).append("  ")
        row.append_text(_vote(part.prevote, 7)).append("  ").append_text(_vote(part.precommit, 6))
        rows.append(row)
    return [*rows, Text(f"and {hidden + 1} more", "dim")] if hidden > 0 else rows


def _has_update(part: Part) -> bool:
    return part.update


def _has_list(part: Part) -> bool:
    return part.listed


def _has_prevote(part: Part) -> bool:
    return part.prevote is not None


def _has_precommit(part: Part) -> bool:
    return part.precommit is not None


def _mark(is_done: bool, width: int) -> Text:
    return Text(f"{'●' if is_done else '·':^{width}}", "green" if is_done else "dim")


def _vote(header: str | None, width: int) -> Text:
    """A vote for none is a ring."""
    if header is None:
        return _mark(False, width)
    return _mark(True, width) if header else Text(f"{'○':^{width}}", "yellow")


def _charts(scene: Scene, width: int, height: int) -> Lines:
    """Loss and accuracy over the rounds, above one another, or side by side where that is wide enough."""
    names = scene.metrics[:2]
    if not names or width < 16 or height < 3:
        return [Text("curves come with the first rounds", "dim")] if width >= 34 else []
    if len(names) == 1:
        return chart(scene, names[0], width, height)
    if width >= 90:
        half = (width - GAP) // 2
        left, right = (chart(scene, name, half, height) for name in names)
        return _beside(left, right, width, half)
    first = chart(scene, names[0], width, (height + 1) // 2)
    return [*first, *chart(scene, names[1], width, height // 2)]


def chart(scene: Scene, name: str, width: int, height: int) -> Lines:
    """A metric over the rounds, with its name, its newest value, and its largest and smallest beside the curve."""
    values = scene.metric(name)
    known = [value for value in values if value is not None]
    if not known or height < 2:
        return [Text(printable(name), "bold")] if height else []
    where = "" if any(name in each.metrics for each in scene.rounds) else " here"  # this node's own evaluation
    title = Text.assemble((printable(name)[:20], "bold"), f"{where} {number(known[-1])}")
    title.append(f"  over {many(len(values), 'round')}", "dim")
    most, least = number(max(known)), number(min(known))
    margin = max(len(most), len(least)) + 1
    lines = [title]
    rows = curve(values, max(1, width - margin), height - 1)
    for place, row in enumerate(rows):
        label = most if place == 0 else least if place == len(rows) - 1 and least != most else ""
        lines.append(Text.assemble((f"{label:>{margin - 1}} ", "dim"), (row, "cyan" if name == "loss" else "green")))
    return lines


def _work(scene: Scene, width: int, most: int) -> Lines:
    """This node's training, and what it fetches."""
    lines = [_training(scene, width)]
    moving = list(scene.transfers.moving.values())
    over = scene.transfers.over[::-1]
    transfers = [*moving, *over][: most - 1]
    lines += [moving_line(each, width) for each in transfers]
    lines += [Text("fetching  nothing", "dim")] * (most > 1 and not transfers)
    return [*lines, *[Text()] * (most - len(lines)), Text()]


def _training(scene: Scene, width: int) -> Text:
    report = scene.training
    if report is None:
        return Text("training  not now", "dim")
    loss = "" if report.loss is None else f"  loss {number(report.loss)}"
    if not report.steps:
        return Text(f"training  step {report.step}{loss}")
    said = f" {report.step} of {report.steps}{loss}"
    filled = bar(report.step / report.steps, max(4, min(40, width - 34)))
    return Text.assemble("training  ", (filled, "cyan on grey23"), said)


def moving_line(moving: Moving, width: int) -> Text:
    """A transfer in one line."""
    peer = f" from {ending(moving.provider)}" if moving.provider else ""
    if moving.state:
        return Text(f"fetched   {ending(moving.cid)}  {size(moving.bytes)}{peer}  {printable(moving.state)}", "dim")
    said = f" {size(moving.bytes_here)} of {size(moving.bytes)}{peer}"
    filled = bar(moving.share, max(4, min(40, width - 54)))
    return Text.assemble(f"fetching  {ending(moving.cid)}  ", (filled, "green on grey23"), said)


def _rounds(scene: Scene, room: int) -> Lines:
    """The newest, the last one lowest."""
    if room < 2:
        return []
    newest = list(scene.rounds)[1 - room :]
    return [Text(HEADING, "dim"), *(Text(printable(round_row(each))) for each in newest)]


def _notes(scene: Scene, most: int) -> Lines:
    return [Text(printable(said), "yellow") for _, said in list(scene.notes)[-most:]]


def _beside(left: Sequence[Text], right: Sequence[Text], width: int, left_width: int = LEFT) -> Lines:
    lines = []
    for one, other in zip_longest(left, right, fillvalue=Text()):
        row = one.copy()
        row.truncate(left_width, overflow="ellipsis", pad=True)
        row.append(" " * GAP).append_text(other)
        row.truncate(width)
        lines.append(row)
    return lines
