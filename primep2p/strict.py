"""Frozen Structs from what people write: strict, and each fault is one sentence that names its path.

msgspec's own conversion knows the types; this walk adds exact paths (`p2p.listen[0]`), a guess for misspelt keys, and
tables for records that are arrays between peers. One of several kinds of record says which by a key of its own, and may
be that word alone: `rule = "krum"` is `rule = { name = "krum" }`. Decimals, which records hold as text, may be numbers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

__all__ = ["MOST_FAULTS", "Fault", "Faults", "build", "plain"]

T = TypeVar("T", bound=msgspec.Struct)

MOST_FAULTS = 32
"""Found in one place at a time: more are of no use to anybody, and each costs time that a caller may not take."""


class Fault(ValueError):
    """`str(fault)` is the sentence, without a full stop; the caller says whose mistake it is. `all` has it first, and
    then what else is wrong in the same place: whoever mends a file wants to do it once."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}" if path else problem)
        self.path = path
        self.all: tuple[Fault, ...] = (self,)


class Faults:
    """What is wrong, until all has been looked at."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    @property
    def are_enough(self) -> bool:
        """Nobody wants to know more of them."""
        return len(self._found) >= MOST_FAULTS

    def add(self, path: str, problem: str) -> None:
        """One more."""
        self._found.append(Fault(path, problem))

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """A Fault that is raised inside waits for `done`."""
        try:
            yield
        except Fault as fault:
            self._found += fault.all

    def done(self) -> None:
        """Raises the first, which knows all."""
        if self._found:
            first = self._found[0]
            first.all = tuple(self._found)
            raise first


def build(type_: type[T], raw: object, path: str = "") -> T:
    """The Struct of `type_` that `raw` describes. Raises Fault; `path` is where `raw` was found."""
    table, faults = _table(raw, path), Faults()
    fields = {field.name: field for field in msgspec.structs.fields(type_)}
    for key in table:
        if key not in fields and not faults.are_enough:
            faults.add(_join(path, key), f"is not known{_guess(key, [*_tag_of(type_), *fields])}")
    for name, field in fields.items():
        if field.required and name not in table:
            faults.add(_join(path, name), "is missing")
    values = {}
    for key in (key for key in table if key in fields):
        with faults.gathering():
            values[key] = _value(fields[key].type, table[key], _join(path, key))
    faults.done()
    return type_(**values)


def plain(value: object) -> object:
    """What `build` takes: Structs as tables of all their fields, and which of several kinds they are."""
    if isinstance(value, msgspec.Struct):
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return {**_tag_of(type(value)), **fields}
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
        several = [each for each in get_args(bare) if each is not NoneType]
        bare = type_ = several[0] if len(several) == 1 else Union[tuple(several)]  # noqa: UP007
    kinds = get_args(bare) if _is_union(bare) else (bare,)
    if all(isinstance(kind, type) and issubclass(kind, msgspec.Struct) for kind in kinds):
        return build(kinds[0], value, path) if len(kinds) == 1 else _one_of(kinds, value, path)
    if (words := _decimal_in_words(type_)) is not None:
        return _decimal(type_, words, value, path)
    if (most := _most_items(type_)) is not None and isinstance(value, (list, tuple, dict)) and len(value) > most:
        raise Fault(path, f"must have at most {most} entries, not {len(value)}")
    if get_origin(bare) in (tuple, list) and isinstance(value, (list, tuple)):
        value = _items(get_args(bare)[0], {f"{path}[{index}]": each for index, each in enumerate(value)})
    if get_origin(bare) is dict and isinstance(value, dict):
        made = _items(get_args(bare)[1], {_join(path, key): each for key, each in value.items()})
        value = dict(zip(value, made, strict=True))
    if get_origin(bare) is Literal and value not in get_args(bare):
        raise Fault(path, f"must be one of {', '.join(get_args(bare))}")
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise Fault(path, _problem(str(error))) from error


def _most_items(type_: Any) -> int | None:
    """How many a type allows: looked at before each of them is."""
    metas = get_args(type_)[1:] if get_origin(type_) is Annotated else ()
    return next((each.max_length for each in metas if isinstance(each, msgspec.Meta) and each.max_length), None)


def _items(type_: Any, by_path: Mapping[str, object]) -> list[Any]:
    """Values of one type, each with where it was found."""
    made, faults = [], Faults()
    for path, value in by_path.items():
        if faults.are_enough:
            break
        with faults.gathering():
            made.append(_value(type_, value, path))
    faults.done()
    return made


def _is_union(type_: Any) -> bool:
    return isinstance(type_, UnionType) or get_origin(type_) is Union


def _one_of(kinds: tuple[type[msgspec.Struct], ...], value: object, path: str) -> msgspec.Struct:
    """The kind that a table names, or a word alone."""
    key = str(kinds[0].__struct_config__.tag_field)
    by_name = {str(kind.__struct_config__.tag): kind for kind in kinds}
    if isinstance(value, str):
        place, name, rest = path, value, {}
    elif isinstance(value, dict):
        if key not in value:
            raise Fault(_join(path, key), f"is missing: one of {', '.join(by_name)}")
        place, name = _join(path, key), value[key]
        rest = {each: value[each] for each in value if each != key}
    else:
        raise Fault(path, f"must be one of {', '.join(by_name)}, or a table with such a {key}")
    if not isinstance(name, str) or name not in by_name:
        raise Fault(place, f"must be one of {', '.join(by_name)}")
    return build(by_name[name], rest, path)


def _tag_of(type_: type[msgspec.Struct]) -> dict[str, object]:
    config = type_.__struct_config__
    return {config.tag_field: config.tag} if config.tag_field is not None else {}


def _decimal_in_words(type_: Any) -> str | None:
    """What a type asks for that is a decimal in text; None where it is not."""
    for each in get_args(type_)[1:] if get_origin(type_) is Annotated else ():
        if isinstance(each, msgspec.Meta) and each.extra and "decimal" in each.extra:
            return str(each.extra["decimal"])
    return None


def _decimal(type_: Any, words: str, value: object, path: str) -> Any:
    """A number without quotes says the same."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = format(Decimal(str(value)), "f")  # never 1e-05
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise Fault(path, f"must be {words}") from error


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
    expected, _, got = message.removeprefix("Expected ").partition(", got ")
    for name, words in _WORDS.items():
        expected = expected.replace(f"`{name}`", words)
        got = got.replace(f"`{name}`", words)
    expected = expected.replace("matching regex", "that matches").replace("`", "")
    return f"must be {expected}, not {got}" if got else f"must be {expected}"
