"""`primep2p dht`: get, put, provide, providers."""

import sys
from base64 import b64decode

from cyclopts import App

from primep2p.cli.at import At
from primep2p.cli.derive import asks
from primep2p.cli.render.printing import say
from primep2p.control.calls.directory import DhtGet, DhtProvide, DhtProviders, DhtPut
from primep2p.model.views.directory import DirectoryProviders, DirectoryValue, Published

__all__ = ["app"]

app = App(name="dht", help="The directory: pointers that nodes hold for each other.", help_format="plaintext")


def _show_value(answer: DirectoryValue, at: At) -> None:
    """Text alone; what is none as it is where it is piped, else in base64: bytes could drive a terminal."""
    if answer.text is not None or sys.stdout.isatty():
        say(answer.base64 if answer.text is None else answer.text)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(b64decode(answer.base64))
    sys.stdout.buffer.flush()


def _show_put(answer: Published, at: At) -> None:
    say(f"published {answer.key} of {answer.owner}")
    say(f"read it on any node with: primep2p dht get {answer.key} --owner {answer.owner}")


def _show_provided(answer: Published, at: At) -> None:
    say(f"others find this node under {answer.key} now")


def _show_providers(answer: DirectoryProviders, at: At) -> None:
    for peer in answer.providers or ["nobody else says so"]:
        say(peer)


app.command(asks(DhtGet, _show_value), name="get")
app.command(asks(DhtPut, _show_put), name="put")
app.command(asks(DhtProvide, _show_provided), name="provide")
app.command(asks(DhtProviders, _show_providers), name="providers")
