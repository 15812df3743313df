"""Trainers, for people."""

from primep2p.cli.render.printing import cells, columns, print_table, say, yes
from primep2p.model.views.plugins import Finding, PluginLog, PluginView

__all__ = ["show_finding", "show_log", "show_made", "show_plugins"]


def show_plugins(plugins: list[PluginView], check_command: str) -> None:
    """A trainer a row; then why some do not load."""
    table = columns("name", "from", "class", "loads", ">api", "predicts")
    for each in plugins:
        loads = "-" if each.loads is None else yes(each.loads)
        predicts = yes(each.predicts) if each.loads else "-"
        table.add_row(*cells((each.name, each.source, each.location, loads, each.abi_version or "-", predicts)))
    print_table(table)
    for each in plugins:
        if each.problem:
            say(each.problem)
    if any(each.problem for each in plugins):
        say(f"see: {check_command}")


def show_log(log: PluginLog) -> None:
    """The lines as they were printed."""
    for line in log.lines:
        say(line)


def show_finding(finding: Finding) -> None:
    """What was looked at, and what was found."""
    say(f"{finding.state:6}{finding.what:12}{finding.said}")


def show_made(paths: list[str], check_command: str) -> None:
    """What was written, and what to do with it."""
    for path in paths:
        say(path)
    say(f"try it with: {check_command}")
