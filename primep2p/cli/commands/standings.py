"""`primep2p run`: leave, pause, resume."""

from cyclopts import App

from primep2p.cli.at import At
from primep2p.cli.derive import asks
from primep2p.cli.render.printing import SHORT
from primep2p.cli.render.standings import show_left, show_paused, show_resumed
from primep2p.control.calls.standings import RunLeave, RunPause, RunResume
from primep2p.model.views.runs import RunLeft, RunSummary

__all__ = ["add_to"]


def add_to(app: App) -> None:
    """Beside the other commands about runs."""
    app.command(asks(RunLeave, _left), name="leave")
    app.command(asks(RunPause, _paused), name="pause")
    app.command(asks(RunResume, _resumed), name="resume")


def _left(answer: RunLeft, at: At) -> None:
    show_left(answer, at.command(f"run show {answer.run[:SHORT]}"), at.command(f"run leave {answer.run[:SHORT]} --now"))


def _paused(answer: RunSummary, at: At) -> None:
    show_paused(answer, at.command(f"run resume {answer.run[:SHORT]}"))


def _resumed(answer: RunSummary, at: At) -> None:
    show_resumed(answer)
