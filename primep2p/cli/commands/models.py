"""`primep2p model`: where certified models are."""

from cyclopts import App

from primep2p.cli.at import At
from primep2p.cli.derive import asks
from primep2p.cli.render.printing import say
from primep2p.control.calls.models import ModelPathOf
from primep2p.model.views.models import ModelPath

__all__ = ["app"]

app = App(name="model", help="Certified models.", help_format="plaintext")


def _show_path(answer: ModelPath, at: At) -> None:
    say(answer.path)


app.command(asks(ModelPathOf, _show_path), name="path")
