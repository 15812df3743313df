"""`primep2p keys` and `primep2p reset`: what is done to a home while no daemon has it."""

from importlib import import_module
from typing import TYPE_CHECKING, Annotated

from cyclopts import App

from primep2p.cli.at import HERE, At, Json, flag
from primep2p.cli.render.printing import duration, many, mib, print_json, say
from primep2p.model.errors import CallError

if TYPE_CHECKING:
    from primep2p.cli.offline.homes import IdentityView, Removal, Rotation

__all__ = ["keys", "reset"]

keys = App(name="keys", help="The identity of this node.", help_format="plaintext")


@keys.command
def show(*, json: Json = False, at: At = HERE) -> None:
    """Show who this node is, and where its secret key lies. No daemon is asked."""
    view: IdentityView = import_module("primep2p.cli.offline.homes").identity_of(at.load().home)
    print_json(view) if json else _show_identity(view)


@keys.command
def rotate(
    *,
    force: Annotated[bool, flag("--force", help="Even where a run goes on that this node is a member of.")] = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Make a new identity, and keep the old one in a file beside it. This node is another peer then: when it starts, it
    asks to be let into its runs anew, and who knows the old id has to be told."""
    done: Rotation = import_module("primep2p.cli.offline.homes").rotate(at.load(), force=force)
    print_json(done) if json else _show_rotation(done)


def reset(
    *,
    yes: Annotated[bool, flag("--yes", "-y", help="Do it: without, only what it would remove is told.")] = False,
    identity: Annotated[bool, flag("--identity", help="Remove the identity too, and those it had before.")] = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Remove this node's runs and all models from its home. Its identity, its configuration and its log stay."""
    removal: Removal = import_module("primep2p.cli.offline.homes").remove(at.load(), identity=identity, really=yes)
    if not yes:
        words = at.command(f"reset --yes{' --identity' if identity else ''}")
        raise CallError(f"reset would remove {_removed(removal)}", hint=f"do it with: {words}")
    print_json(removal) if json else say(f"removed {_removed(removal)}")


def _show_identity(view: "IdentityView") -> None:
    say(f"peer      {view.peer}")
    say(f"public    {view.public_key}")
    say(f"key       {view.path}, mode {view.mode}, {duration(view.age_s)} old")
    for peer in view.former:
        say(f"was       {peer}")


def _show_rotation(done: "Rotation") -> None:
    say(f"peer      {done.peer}")
    say(f"was       {done.was}")
    say(f"kept      {done.kept}")
    say("This node is another peer now. When it starts, it asks to be let into its runs anew: a run by invite takes")
    say("another invite, and an allowlist that names the old id does not let it in. In runs that it created it can")
    say("neither invite nor ban any more, and models that it published stay under the old id. Who has its address in")
    say("p2p.bootstrap has to change the id there.")


def _removed(removal: "Removal") -> str:
    runs = many(len(removal.runs), "run") + (f" ({', '.join(removal.runs)})" if removal.runs else "")
    who = f", and the identity {removal.identity}" if removal.identity else ""
    return f"{runs} and {mib(removal.size_bytes)} from {removal.home}{who}"
