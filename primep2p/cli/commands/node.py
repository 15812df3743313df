"""`primep2p peers` and `primep2p rpc`."""

from cyclopts import App

from primep2p.cli.at import At
from primep2p.cli.derive import asks
from primep2p.cli.render.node import show_calls, show_peers
from primep2p.control.calls.daemon import Discover, PeersList
from primep2p.model.views.node import PeerView

__all__ = ["peers", "rpc"]


def _show_peers(answer: list[PeerView], at: At) -> None:
    show_peers(answer)


def _show_calls(answer: dict[str, object], at: At) -> None:
    show_calls(answer)


peers = asks(PeersList, _show_peers)

rpc = App(name="rpc", help="The control socket itself.", help_format="plaintext")
rpc.command(asks(Discover, _show_calls), name="discover")
