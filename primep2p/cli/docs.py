"""Writes docs/cli.md and docs/control.md from the declarations: `python -m primep2p.cli.docs`."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from cyclopts import App

from primep2p.cli.derive import description
from primep2p.cli.exit_pages import EXIT_PAGES
from primep2p.cli.main import app
from primep2p.control.calls import CALLS
from primep2p.control.calls.call import Call, answer_type
from primep2p.control.connection import MAX_CALLS, MAX_UNREAD_BYTES
from primep2p.control.jsonrpc import MAX_LINE_BYTES

__all__ = ["PAGES", "cli_page", "control_page", "exit_page", "write"]

_MADE = "<!-- Made by `python -m primep2p.cli.docs`: change the declarations, not this page. -->\n"

_CLI_HEAD = f"""{_MADE}
# Commands

Most commands are calls of [the control socket](control.md). `aggregate`, `bench`, `completion`, `config`, `daemon
install`, `daemon logs`, `daemon start`, `demo`, `doctor`, `help`, `keys`, `reset` and `run check` need no daemon. Each
that reads has `--json`, but for `top`. Where a node is meant, `--home` names it by its home and `--config` (`-c`) by
its configuration; else that is $PRIMEP2P_CONFIG, else node.toml in the home, else all defaults.
"""

_CONTROL_HEAD = f"""{_MADE}
# The control socket

The daemon listens on a Unix socket that only its owner can open: mode 0600 in a directory of mode 0700, and the kernel
is asked who is at the other end. `<home>/control.sock` is a symlink to it.

It speaks JSON-RPC 2.0, one object a line, at most {MAX_LINE_BYTES:,} bytes in a request. Several requests may be
under way on one connection; answers come as they are ready. An unknown field is an error that names its path. A call
under way is carried out even if its caller leaves, but for `job.next`, which waits for something to happen.

```
-> {{"jsonrpc":"2.0","id":1,"method":"run.show","params":{{"run":"3f2a"}}}}
<- {{"jsonrpc":"2.0","id":1,"error":{{"code":-32000,"message":"this node is in no run '3f2a'",
    "data":{{"code":"call","hint":"see: primep2p run list","stderr":""}}}}}}
```

`error.data.code` says whose fault it is and never changes its meaning: `config`, `peer`, `unavailable`, `plugin`,
`store`, `call`, or `internal` for a bug. `error.code` is JSON-RPC's: -32700 not JSON, -32600 not a request, -32601 no
such call, -32602 wrong params, -32603 internal, -32000 refused.

A **stream** answers `null` once the subscription is in place. Then come notifications `event` with
`{{"id": the request's, "event": …}}`, and `end` with `{{"id": …, "error": null}}` when there will be no more. Closing
the connection cancels it. Of one connection {MAX_CALLS} calls are under way at a time, and none is begun while
{MAX_UNREAD_BYTES // 2**20} MiB of answers wait to be read.

What happens on the node is one such stream, `events.watch`. Each event has a **cursor**. The newest events are
kept, so many and no more: a reader that is slow, or that comes back with the cursor of the last event it had (`after`),
gets what came after it. What is not kept any more is never left out in silence: `events-missed` says how many are gone,
and those that follow are all that is kept. A cursor of an earlier start of the daemon is answered with `events-missed`
too, with null as the number, which nobody counted. `run.show` and `daemon.status` have the cursor at which their answer
is true: events after it are what changed since.

**The TCP door**, for other users and containers of this machine: with `control.tcp = "127.0.0.1:4651"` in node.toml
the daemon listens there too, on loopback only, and makes two tokens in its home, mode 0600: `control.token` for
everything, `control.read.token` for calls that read. Give one to whom you trust with that, as a file of theirs.
Commands and clients use the door where PRIMEP2P_CONTROL is its address and PRIMEP2P_TOKEN_FILE a file with a token. The
token is never sent: the daemon begins with a challenge, the client's first line is the answer, and the daemon's answer
proves in turn that it knows the token. A proof is HMAC-SHA256 under the token's bytes, of the text
`primep2p control <end> <port> <nonce>`, with the end that proves and the other end's nonce, in hexadecimal:

```
<- {{"jsonrpc":"2.0","method":"challenge","params":{{"nonce":"c1…"}}}}
-> {{"jsonrpc":"2.0","id":0,"method":"authenticate","params":{{"proof":hmac("… client 4651 c1…"),"nonce":"d2…"}}}}
<- {{"jsonrpc":"2.0","id":0,"result":{{"proof":hmac("… daemon 4651 d2…"),"access":"write"}}}}
```

`rpc.discover` describes all of it to programs, as an OpenRPC document. A call that reads changes nothing, here or among
peers.

In Python, `primep2p.Client` speaks it under asyncio and trio; the calls are the classes of `primep2p.control.calls`:
`async with Client.open(home) as client: await client.call(RunList())`, and for a stream
`async with client.stream(EventsWatch()) as events`, then `async for event in events`.
"""


_COMMON = {"--home", "--config"}


def cli_page() -> str:
    """docs/cli.md."""
    codes = "".join(
        f"| [{code}](exits/{_exit_file(code)}) | {page.name} | {_first_sentence(page.meaning)} |\n"
        for code, page in EXIT_PAGES.items()
    )
    commands = "\n".join(_command(path, command) for path, command in _walk(app, "primep2p"))
    head = "`primep2p help exit CODE` prints these pages.\n\n| code | name | meaning |\n|---|---|---|\n"
    return f"{_CLI_HEAD}\n{commands}\n## Exit codes\n\n{head}{codes}"


def exit_page(code: int) -> str:
    """docs/exits/CODE-NAME.md."""
    page = EXIT_PAGES[code]
    parts = [f"{_MADE}\n# Exit code {code}: {page.name}\n\n{page.meaning}\n"]
    for heading, lines in (("Why it comes", page.causes), ("What to do", page.remedies)):
        parts.append(f"## {heading}\n\n" + "".join(f"- {line}\n" for line in lines))
    return "\n".join(parts)


def control_page() -> str:
    """docs/control.md."""
    types: dict[str, type[msgspec.Struct]] = {}
    calls = "\n".join(_call(call, types) for call in CALLS.values())
    rows: list[str] = []
    while pending := [name for name in types if f"### {name}\n" not in "".join(rows)]:
        rows += [_struct(types[name], types) for name in pending]
    return f"{_CONTROL_HEAD}\n## Calls\n\n{calls}\n## Types\n\n{''.join(sorted(rows))}".rstrip() + "\n"


def _exit_file(code: int) -> str:
    return f"{code}-{EXIT_PAGES[code].name}.md"


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".") + "."


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "control.md": control_page,
    **{f"exits/{_exit_file(code)}": partial(exit_page, code) for code in EXIT_PAGES},
}


def write(directory: Path) -> None:
    """Writes the pages into `directory`."""
    for name, page in PAGES.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(page(), encoding="utf-8")


def _walk(parent: App, path: str) -> Iterator[tuple[str, App]]:
    for name in sorted(parent.resolved_commands()):
        if name.startswith("-"):
            continue
        command = parent[name]
        if command.default_command is None:
            yield from _walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _command(path: str, command: App) -> str:
    arguments = [
        each
        for each in command.assemble_argument_collection()
        if each.parameter.show is not False and not each.children and not _COMMON.intersection(each.names)
    ]
    positional = [_metavar(each) for each in arguments if each.index is not None]
    usage = " ".join([path, *positional, *(["[options]"] if len(arguments) > len(positional) else [])])
    rows = "".join(f"| {_names(each)} | {each.parameter.help or ''}{_default(each)} |\n" for each in arguments)
    table = f"\n| option | meaning |\n|---|---|\n{rows}" if rows else ""
    return f"## {path}\n\n```\n{usage}\n```\n\n{inspect.getdoc(command.default_command)}\n{table}"


def _metavar(argument: Any) -> str:
    name = argument.names[0].lstrip("-").upper()
    return name if argument.required else f"[{name}]"


def _names(argument: Any) -> str:
    if argument.index is not None:
        return f"`{_metavar(argument)}`"
    return ", ".join(f"`{name}`" for name in argument.names)


def _default(argument: Any) -> str:
    default = argument.field_info.default
    if argument.required or default in (None, "", False, inspect.Parameter.empty):
        return ""
    return f" Default: {default}."


def _call(call: type[Call[Any]], types: dict[str, type[msgspec.Struct]]) -> str:
    fields = msgspec.structs.fields(call)
    params = "".join(f"{_field(field, types)}\n" for field in fields)
    answer = _type(answer_type(call), types)
    kind = f"A stream of {answer}" if call.stream else f"Answers {answer}"
    told = f"{call.access.capitalize()}. {kind}. Command: `primep2p {call.command}`."
    return f"### {call.name}\n\n{inspect.getdoc(call)}\n\n{told}\n{params and chr(10) + params}"


def _field(field: msgspec.structs.FieldInfo, types: dict[str, type[msgspec.Struct]]) -> str:
    said = description(field)
    return f"- `{field.name}`: {_type(field.type, types)}{_or_default(field)}{said and '. ' + said}"


def _struct(type_: type[msgspec.Struct], types: dict[str, type[msgspec.Struct]]) -> str:
    config = type_.__struct_config__
    tagged = [f'- `{config.tag_field}`: "{config.tag}"\n'] if config.tag else []
    fields = [f"{_field(field, types)}\n" for field in msgspec.structs.fields(type_)]
    return f"### {type_.__name__}\n\n{inspect.getdoc(type_)}\n\n{''.join(tagged + fields)}\n"


def _or_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if isinstance(default, msgspec.Struct):
        return ", may be left out"
    return f", default {msgspec.json.encode(default).decode()}"


def _type(type_: Any, types: dict[str, type[msgspec.Struct]]) -> str:
    """A type in words; the Structs in it are added to `types`."""
    if get_origin(type_) is Annotated:
        return _type(get_args(type_)[0], types)
    if get_origin(type_) is Literal:
        return " or ".join(f'"{each}"' for each in get_args(type_))
    arguments = [each for each in get_args(type_) if each is not Ellipsis]
    if isinstance(type_, UnionType) or "Union" in str(get_origin(type_)):
        return " or ".join(_type(each, types) for each in arguments)
    if get_origin(type_) in (list, tuple):
        inner = _type(arguments[0], types)
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    if len(arguments) == 2:
        return f"table of {_type(arguments[1], types)}"
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        types.setdefault(type_.__name__, type_)
        return f"[{type_.__name__}](#{type_.__name__.lower()})"
    names = {
        str: "text",
        int: "integer",
        bytes: "base64 text",
        float: "number",
        bool: "true or false",
        NoneType: "null",
        object: "anything",
    }
    return names[type_]


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "docs")
