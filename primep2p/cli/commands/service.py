"""`primep2p daemon install` and `uninstall`."""

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, flag
from primep2p.cli.render.printing import say
from primep2p.config import ENV_PREFIX, effective
from primep2p.control.client import BlockingClient
from primep2p.model.errors import CallError, Unavailable

if TYPE_CHECKING:
    from primep2p.cli.daemon.service import Service

__all__ = ["register"]

Named = Annotated[str, Parameter(help="What the system calls it: one for each home, where there are several.")]


def register(app: App) -> None:
    """Adds both commands to `primep2p daemon`."""
    app.command(install)
    app.command(uninstall)


def install(
    *,
    name: Named = "primep2p",
    print_: Annotated[bool, flag("--print", help="Print what would be written, and do nothing.")] = False,
    at: At = HERE,
) -> None:
    """Have the system start the daemon now and at each login, and again when it fails: by systemd, or by launchd."""
    service = _service(name, at)
    if print_:
        sys.stdout.write(service.text.decode())
        return
    _check_free(at)
    service.write()
    say(f"wrote     {service.path}")
    for variable in sorted(variable for variable in os.environ if variable.startswith(ENV_PREFIX)):
        say(f"not in it {variable}, which is set here: write it into a node.toml")
    _tell(service, service.start, f"the file is written; {service.name} is not started")
    say(f"started   {service.name}: see it with {at.command('status')}")
    if sys.platform != "darwin":
        say("          it ends when you log out, unless you say once: loginctl enable-linger")


def uninstall(*, name: Named = "primep2p", at: At = HERE) -> None:
    """Stop the daemon that the system starts, and have it forget it. The home stays as it is."""
    service = _service(name, at)
    if not service.path.exists():
        raise CallError(f"there is no {service.path}", hint="see: primep2p daemon install")
    _tell(service, service.stop, f"{service.path} is left as it is")
    service.remove()
    say(f"removed   {service.path}")


def _service(name: str, at: At) -> "Service":
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise CallError(f"{name!r} cannot be a service's name", hint="letters, digits, - and _")
    found = effective(at.config, home=at.home)
    options = ["--home", str(found.config.home)]
    options += ["--config", str(Path.cwd() / found.file)] if found.file else []
    made: Service = import_module("primep2p.cli.daemon.service").service(name, found.config.home, options)
    return made


def _check_free(at: At) -> None:
    """Raises CallError where a daemon has the home: the system's would not start."""
    home = at.load().home
    try:
        with BlockingClient(home, at.options):
            pass
    except Unavailable:
        return
    raise CallError(f"a daemon runs for {home} already", hint="see: primep2p daemon stop; then install it")


def _tell(service: "Service", commands: tuple[tuple[str, ...], ...], state: str) -> None:
    try:
        import_module("primep2p.cli.daemon.service").tell(commands)
    except Unavailable as error:
        error.hint = f"{state}; by hand: {' && '.join(' '.join(command) for command in commands)}"
        raise
