"""What each pane of `primep2p top` says, as lines none of which is wider than the pane."""

from collections.abc import Iterable
from datetime import datetime

from rich.text import Text

from primep2p.cli.live.chart import bar
from primep2p.cli.live.draw import chart, moving_line
from primep2p.cli.live.scene import Scene
from primep2p.cli.render.events import ending, in_words
from primep2p.cli.render.printing import SHORT, clock, many, mib
from primep2p.cli.render.rounds import HEADING, round_row
from primep2p.cli.top.picture import Picture
from primep2p.model.text import printable

__all__ = ["PANES", "fitted", "head_line"]

CHART_ROWS = 6

MOST_ROUNDS = 200


def head_line(picture: Picture, trouble: str, width: int) -> Text:
    """Who this is, or why nothing is heard of it."""
    status = picture.status
    if trouble:
        line = Text(f" waiting for the daemon: {printable(trouble)}", "bold red")
    elif status is None:
        line = Text(" connecting", "dim")
    else:
        here = sum(peer.connected for peer in picture.peers.values())
        said = f"  {status.version}, {mib(status.rss_bytes)} at the start, {many(here, 'peer')} connected"
        line = Text.assemble((f" node {ending(status.peer_id)}", "bold"), said)
        home = Text(f"  {printable(status.home)}", "dim")
        if line.cell_len + home.cell_len <= width:
            line.append_text(home)
    return _cut(line, width)


def runs(picture: Picture, width: int) -> list[Text]:
    """A run after the other, with its curves."""
    if not picture.scenes:
        return [Text("no runs yet", "dim")]
    lines: list[Text] = []
    for scene in picture.scenes.values():
        lines += [*_run(scene), *_curves(scene, width), Text()]
    return lines


def _run(scene: Scene) -> list[Text]:
    detail = scene.detail
    title = Text.assemble((printable(detail.name), "bold"), f"  {detail.run[:SHORT]}  ")
    members = f"{sum(scene.members.values())} of {many(len(scene.members), 'member')} here"
    if scene.finished:
        return [title.append("finished", "bold green").append(f" after round {scene.round}, {members}")]
    if not scene.rounds and detail.phase == "gathering":
        return [title.append(f"gathering: {len(scene.members)} of {detail.first_members} members are here")]
    title.append(f"round {scene.round} view {scene.view}  ").append(scene.step or "waiting", "bold cyan")
    parts = scene.parts.values()
    counts = (
        f"{members}; updates {sum(part.update for part in parts)}, lists {sum(part.listed for part in parts)}, "
        f"prevotes {sum(part.prevote is not None for part in parts)}, "
        f"precommits {sum(part.precommit is not None for part in parts)}"
    )
    report = scene.training
    lines = [title, Text(counts)]
    if report is not None and report.steps:
        done = bar(report.step / report.steps, 20)
        lines.append(Text.assemble("training ", (done, "cyan on grey23"), f" {report.step} of {report.steps}"))
    return lines


def _curves(scene: Scene, width: int) -> list[Text]:
    names = scene.metrics[:2]
    return [line for name in names for line in chart(scene, name, width, CHART_ROWS)]


def peers(picture: Picture, width: int) -> list[Text]:
    """A peer a row, those that are connected first."""
    if not picture.peers:
        return [Text("no peers yet", "dim")]
    rows = [Text(f"{'peer':54}state  runs", "dim")]
    for peer in sorted(picture.peers.values(), key=lambda each: (not each.connected, each.peer)):
        names = [printable(scene.detail.name) for scene in picture.scenes.values() if peer.peer in scene.members]
        row = Text(f"{printable(peer.peer):54}{'here' if peer.connected else 'away':5}  {' '.join(names) or '-'}")
        rows.append(row if peer.connected else _styled(row, "dim"))
        rows += [Text(f"  accused: {printable(fault)}", "yellow") for fault in peer.faults]
    return rows


def rounds(picture: Picture, width: int) -> list[Text]:
    """Certified rounds, the newest first; with the run where there are several."""
    several = len(picture.scenes) > 1
    rows = [Text(f"{'run       ' if several else ''}{HEADING}", "dim")]
    for scene, event in picture.rounds[:MOST_ROUNDS]:
        rows.append(Text(f"{f'{scene.detail.run[:8]}  ' if several else ''}{printable(round_row(event))}"))
    return rows if len(rows) > 1 else [Text("no rounds yet", "dim")]


def transfers(picture: Picture, width: int) -> list[Text]:
    """Those under way, then those that are over, the newest first."""
    moving = [moving_line(each, width) for each in picture.transfers.moving.values()]
    over = [
        Text(f"{clock(datetime.fromtimestamp(each.at_s))}  ", "dim").append_text(moving_line(each, width - 14))
        for each in reversed(picture.transfers.over)
    ]
    return [*moving, *over] or [Text("nothing was fetched yet", "dim")]


def log(picture: Picture, width: int) -> list[Text]:
    """What happened, the newest first."""
    names = {scene.detail.run: printable(scene.detail.name)[:12] for scene in picture.scenes.values()}
    several = len(names) > 1
    lines = []
    for event in reversed(picture.log):
        line = Text(f"{clock(datetime.fromtimestamp(event.at_s))}  ", "dim")
        if several and event.run:
            line.append(f"{names.get(event.run, event.run[:8])}  ", "dim")
        lines.append(line.append(printable(in_words(event)), STYLES.get(type(event).__name__, "")))
    return lines or [Text("nothing happened yet", "dim")]


STYLES = {
    "RoundCertified": "bold green",
    "RunFinished": "bold green",
    "Accused": "yellow",
    "PluginFailed": "bold yellow",
    "LogLine": "yellow",
    "TransferFailed": "yellow",
    "EventsMissed": "bold red",
    "MemberLeft": "yellow",
}


PANES = {"runs": runs, "peers": peers, "rounds": rounds, "transfers": transfers, "log": log}


def _styled(text: Text, style: str) -> Text:
    text.stylize(style)
    return text


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def fitted(lines: Iterable[Text], width: int) -> Text:
    """One text of lines that fit."""
    return Text("\n", no_wrap=True, end="").join(_cut(line, width) for line in lines)
