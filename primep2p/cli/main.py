"""The command line: a client of the control socket, with no private way in."""

import os
import sys
from importlib import import_module
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnknownCommandError, UnusedCliTokensError

from primep2p import __version__
from primep2p.cli.at import HERE, At, Json, Verbose, flag
from primep2p.cli.exits import USAGE, exit_code
from primep2p.model.errors import PluginError, PrimeError
from primep2p.model.text import printable

__all__ = ["app", "main"]

app = App(
    name="primep2p",
    version=__version__,
    help="A group of people trains one model together, with no server.",
    help_format="plaintext",
    result_action="return_value",
)
COMMANDS = {
    "daemon": "daemon:app",
    "status": "daemon:status",
    "run": "runs:app",
    "job": "jobs:app",
    "round": "rounds:app",
    "model": "models:app",
    "plugin": "plugins:app",
    "plan": "plans:app",
    "peers": "node:peers",
    "speedtest": "speed:speedtest",
    "dht": "directory:app",
    "events": "events:app",
    "top": "top:top",
    "rpc": "node:rpc",
    "config": "config:app",
    "keys": "homes:keys",
    "reset": "homes:reset",
    "help": "helping:help_",
    "completion": "helping:completion",
}
"""In `commands/`. Each is imported when it is asked for: none waits for what another needs."""

for _name, _place in COMMANDS.items():
    app.command(f"primep2p.cli.commands.{_place}", name=_name)
app.command("primep2p.cli.offline.aggregate:aggregate", name="aggregate")


@app.command
def doctor(*, json: Json = False, at: At = HERE) -> int | None:
    """Check whether this machine can do a member's work: libraries, backends, limits, home, disk, ports, peers, clock.
    Exit code 0 where no line is a fault, else 1. No daemon is needed; one that runs is asked."""
    # By name: what it looks at is heavy, and no other command shall wait for it.
    look = import_module("primep2p.cli.doctor").doctor
    code: int | None = look(at.load(), json=json)
    return code


@app.command
def demo(
    *,
    n: Annotated[int, Parameter(name=["--nodes", "-n"], help="How many nodes.")] = 4,
    rounds: Annotated[int, Parameter(help="How many rounds, before a node is killed and two more follow.")] = 10,
    model_size: Annotated[int, Parameter(help="How many units the model's hidden layer has.")] = 256,
    wire: Annotated[Literal["float32", "bf16", "int8", "topk"], Parameter(help="How deltas travel.")] = "float32",
    verbose: Verbose = False,
    keep: Annotated[bool, flag("--keep", help="Leave the nodes' homes where they are.")] = False,
    json: Json = False,
) -> int | None:
    """Train one model with several daemons on this machine, kill one on the way, and compare with training alone."""
    # By name: what the demo imports is heavy, and no other command shall wait for it.
    run = import_module("primep2p.cli.demo").demo
    code: int | None = run(n=n, rounds=rounds, model_size=model_size, wire=wire, verbose=verbose, keep=keep, json=json)
    return code


@app.command
def bench(
    *,
    quick: Annotated[bool, flag("--quick", help="A tenth of the values: seconds, and rougher figures.")] = False,
    json: Json = False,
) -> None:
    """Measure how fast this machine aggregates, encodes and reads memory; no daemon is asked."""
    # By name: numpy is heavy, and no other command shall wait for it.
    import_module("primep2p.cli.bench").bench(json=json, quick=quick)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits with its code: errors are a sentence on stderr, and no traceback unless it is a bug."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        # A line for each command is in the help of all of them, and a guess for one that is misspelt.
        chosen = app if words[:1] and words[0] in list(app) and not words[0].startswith("-") else whole()
        code = chosen(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print_mistake(error)
        sys.exit(USAGE)
    except PrimeError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has seen enough; nor shall the interpreter say so at its end
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def whole() -> App:
    """The same with every command imported."""
    for name in app:
        app[name]
    return app


def print_mistake(error: CycloptsError) -> None:
    """What is wrong with a command line, and the help of the command that was meant, as far as it is one."""
    known = " ".join(["primep2p", *(error.command_chain or ())])
    told = str(error)
    match error:
        case UnknownCommandError():
            told = told.partition(" Available commands:")[0]  # eight of them, and the help has all
        case MissingArgumentError(argument=argument) if argument is not None:
            name = argument.names[0]
            # As the help writes it: RUN for what needs no name.
            told = f"{known} needs {name.lstrip('-').upper() if argument.index is not None else name}"
        case UnusedCliTokensError():
            told = f"{known} takes no more words: {' '.join(error.unused_tokens or ())}"
    print(f"primep2p: {printable(told)}\n  see: {known} --help", file=sys.stderr)


def print_error(error: PrimeError) -> None:
    """The sentence, the trainer's last words where it was the trainer, and what to do next: where the error does not
    know, the page of its exit code does."""
    lines = [f"primep2p: {error.sentence}"]
    if isinstance(error, PluginError):
        lines += [f"  | {line}" for line in error.stderr.splitlines()]
    lines += [f"  {error.hint or f'what that means: primep2p help exit {exit_code(error)}'}"]
    try:
        print("\n".join(map(printable, lines)), file=sys.stderr, flush=True)
    except OSError:  # stderr is a file on the disk that is full: the exit code must say it alone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    main()
