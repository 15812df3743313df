"""`primep2p help` and `primep2p completion`."""

import sys
from importlib import import_module
from typing import Annotated, Literal

from cyclopts import App, Parameter

from primep2p.cli.at import flag
from primep2p.cli.exit_pages import EXIT_PAGES, ExitPage
from primep2p.cli.render.printing import say
from primep2p.model.errors import CallError

__all__ = ["completion", "help_"]

Shell = Literal["bash", "zsh", "fish"]


def help_(*words: Annotated[str, Parameter(help="A command, or `exit` and a code, as in `help exit 6`.")]) -> None:
    """Print the help of a command; `help exit` has what exit codes mean."""
    if words[:1] == ("exit",):
        _show_exits(words[1:])
        return
    found = app = _app()
    for word in words:
        if word not in found.resolved_commands():
            raise CallError(f"there is no command {' '.join(words)!r}", hint="see: primep2p help")
        found = found[word]
    app.help_print(list(words))


def completion(
    shell: Annotated[Shell, Parameter(help="bash, zsh or fish.")],
    *,
    install: Annotated[bool, flag("--install", help="Put it where the shell finds it at its next start.")] = False,
) -> None:
    """Print what makes a shell complete the words of primep2p: `source <(primep2p completion bash)` tries it."""
    app = _app()
    if install:
        say(f"wrote {app.install_completion(shell=shell)}; it works in the next shell")
        return
    sys.stdout.write(app.generate_completion(prog_name="primep2p", shell=shell))


def _app() -> App:
    """All commands: these two are among them."""
    app: App = import_module("primep2p.cli.main").whole()
    return app


def _show_exits(words: tuple[str, ...]) -> None:
    if not words:
        for code, page in EXIT_PAGES.items():
            say(f"{code:>3}  {page.name:12}{page.meaning.partition('. ')[0].rstrip('.')}")
        say("more of one with: primep2p help exit CODE")
        return
    asked, known = " ".join(words), {str(code): code for code in EXIT_PAGES}
    if asked not in known:
        told = f"{asked!r} is no exit code of primep2p: those are {', '.join(known)}"
        raise CallError(told, hint="see: primep2p help exit")
    _show_page(known[asked], EXIT_PAGES[known[asked]])


def _show_page(code: int, page: ExitPage) -> None:
    say(f"exit code {code}: {page.name}")
    say(page.meaning)
    for heading, lines in (("why it comes", page.causes), ("what to do", page.remedies)):
        say()
        say(heading)
        for line in lines:
            say(f"  - {line}")
