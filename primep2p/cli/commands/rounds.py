"""`primep2p round`: show."""

from typing import Annotated

from cyclopts import App

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.derive import described
from primep2p.cli.render.history import show_round
from primep2p.cli.render.printing import print_json
from primep2p.control.calls.rounds import RoundShow

__all__ = ["app"]

app = App(name="round", help="Certified rounds of a run.", help_format="plaintext")


@app.command
def show(
    run: Annotated[str, described(RoundShow, "run")],
    round: Annotated[int, described(RoundShow, "round")] = -1,
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Show a certified round: what entered the model and with what weight, what did not and why, and who signed."""
    with at.connect() as client:
        answer = client.call(RoundShow(run=run, round=round))
    print_json(answer) if json else show_round(answer)
