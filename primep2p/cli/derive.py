"""Commands made from the declarations of calls: their fields become parameters, their docstrings the help.

A command that does more than ask and show is written by hand in `commands/`.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from cyclopts import Parameter

from primep2p.cli.at import HERE, At, Json, flag
from primep2p.cli.render.printing import print_json
from primep2p.control.calls.call import Call

__all__ = ["asks", "described", "description"]

A = TypeVar("A")


def asks(call: type[Call[A]], show: Callable[[A, At], None]) -> Callable[..., None]:
    """The command that asks `call` and shows its answer: required fields by place, the others as options."""

    def command(*places: Any, json: bool = False, at: At = HERE, **options: Any) -> None:
        given = dict(zip(by_place, places, strict=True)) | options
        with at.connect() as client:
            answer = client.call(call(**given))
        print_json(answer) if json else show(answer, at)

    fields = msgspec.structs.fields(call)
    by_place = [field.name for field in fields if field.required]
    parameters = [_parameter(field) for field in sorted(fields, key=lambda field: not field.required)]
    common = [("json", False, Json), ("at", HERE, At)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [inspect.Parameter(name, keyword, default=default, annotation=of) for name, default, of in common]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what cyclopts reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = inspect.getdoc(call)
    command.__name__ = call.command.split()[-1]
    return command


def described(call: type[Call[Any]], field: str, **more: Any) -> Parameter:
    """How a hand-written command says what a field of its call is."""
    [found] = [each for each in msgspec.structs.fields(call) if each.name == field]
    return Parameter(help=description(found), **more)


def _parameter(field: msgspec.structs.FieldInfo) -> inspect.Parameter:
    bare = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
    is_flag = bare is bool
    option = f"--{field.name.replace('_', '-')}"
    annotation: Any = Annotated[
        bare, flag(option, help=description(field)) if is_flag else Parameter(help=description(field))
    ]
    if field.required:
        return inspect.Parameter(field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def description(field: msgspec.structs.FieldInfo) -> str:
    """What its declaration says of a field; empty where it says nothing."""
    metas = get_args(field.type)[1:] if get_origin(field.type) is Annotated else ()
    return next((each.description for each in metas if isinstance(each, msgspec.Meta) and each.description), "")
