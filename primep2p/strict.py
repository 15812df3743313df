"""Frozen Structs from what people write: strict, and each fault is one sentence that names its path.

msgspec's own conversion knows the types; this walk adds exact paths (`p2p.listen[0]`), a guess for misspelt keys, and
tables for records that are arrays between peers.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

__all__ = ["Fault", "build", "plain"]

T = TypeVar("T", bound=msgspec.Struct)


class Fault(ValueError):
    """`str(fault)` is the sentence, without a full stop; the caller says whose mistake it is."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}" if path else problem)


def build(type_: type[T], raw: object, path: str = "") -> T:
    """The Struct of `type_` that `raw` describes. Raises Fault; `path` is where `raw` was found."""
    table = _table(raw, path)
    fields = {field.name: field for field in msgspec.structs.fields(type_)}
    for key in table:
        if key not in fields:
            raise Fault(_join(path, key), f"is not known{_guess(key, list(fields))}")
    for name, field in fields.items():
        if field.required and name not in table:
            raise Fault(_join(path, name), "is missing")
    return type_(**{key: _value(fields[key].type, value, _join(path, key)) for key, value in table.items()})


def plain(value: object) -> object:
    """What `build` takes: Structs as tables of all their fields."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _value(type_: Any, value: object, path: str) -> Any:
    bare = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    if isinstance(bare, UnionType) and NoneType in get_args(bare):
        if value is None:
            return None
        bare = type_ = get_args(bare)[0]
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return build(bare, value, path)
    if get_origin(bare) in (tuple, list) and isinstance(value, (list, tuple)):
        item = get_args(bare)[0]
        value = [_value(item, each, f"{path}[{index}]") for index, each in enumerate(value)]
    if get_origin(bare) is dict and isinstance(value, dict):
        value = {key: _value(get_args(bare)[1], each, _join(path, key)) for key, each in value.items()}
    if get_origin(bare) is Literal and value not in get_args(bare):
        raise Fault(path, f"must be one of {', '.join(get_args(bare))}")
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise Fault(path, _problem(str(error))) from error


def _table(raw: object, path: str) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise Fault(path, "must be a table of keys and values" if path else "a table of keys and values is expected")
    return raw


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _guess(key: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only a mistake pays for this import

    match get_close_matches(key, known, n=1):
        case [near]:
            return f": did you mean {near}?"
        case _:
            return f": the keys here are {', '.join(known)}" if known else ": nothing is expected here"


_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "null": "nothing",
}


def _problem(message: str) -> str:
    """msgspec's "Expected `int`, got `str`" as a sentence's end."""
    message = message.split(" - at ")[0]
    if "matching regex '^(0" in message:
        return "must be a decimal up to 1, such as 0.66"  # the one pattern of digits that people write
    expected, _, got = message.removeprefix("Expected ").partition(", got ")
    for name, words in _WORDS.items():
        expected = expected.replace(f"`{name}`", words)
        got = got.replace(f"`{name}`", words)
    expected = expected.replace("matching regex", "that matches").replace("`", "")
    return f"must be {expected}, not {got}" if got else f"must be {expected}"
