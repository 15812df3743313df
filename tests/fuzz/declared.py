"""Values of any type that travels, made of its declaration alone: a new field has some at once."""

from random import Random
from typing import Any

import msgspec
from msgspec import inspect as declared

from primep2p.wire.cid import cid_of
from tests.wire.samples import identity

__all__ = ["SAMPLES", "samples"]

SAMPLES = 3
"""Of each type: its smallest value, and some between its bounds."""

MOST_ITEMS = 3

_PATTERNS = {
    "12D3KooW": lambda chance: identity(chance.randrange(4)).peer_id,
    "bafkrei": lambda chance: cid_of(bytes([chance.randrange(4)])),
    "^(0\\.": lambda chance: chance.choice(("0.5", "0.66", "1", "1.0")),
    "g-z._-": lambda chance: chance.choice(("digits", "m")),
    "(?!latest": lambda chance: chance.choice(("0", "17", "v1.2")),
    "^[A-Za-z_]": lambda chance: chance.choice(("rate", "learning_rate")),
    "^0\\.": lambda chance: chance.choice(("0.1", "0.000001")),
}
"""Texts that a pattern of the declarations allows, by what is in the pattern."""


def samples(type_: type[msgspec.Struct]) -> list[Any]:
    """Always the same for a declaration."""
    info = declared.type_info(type_)
    return [_value(info, Random(f"{type_.__name__}/{number}"), number == 0) for number in range(SAMPLES)]


def _value(info: Any, chance: Random, small: bool) -> Any:
    match info:
        case declared.Metadata(type=inner):
            return _value(inner, chance, small)
        case declared.StructType(cls=cls, fields=fields):
            return cls(*(_value(field.type, chance, small) for field in fields))
        case declared.UnionType(types=types):
            return _value(types[0] if small else chance.choice(types), chance, small)
        case declared.LiteralType(values=values):
            return values[0] if small else chance.choice(values)
        case declared.IntType() | declared.FloatType():
            return _number(info, chance, small)
        case declared.StrType():
            return _text(info, chance, small)
        case declared.BytesType(min_length=least, max_length=most):
            size = (least or 0) if small else min(most if most is not None else 40, (least or 0) + 40)
            return bytes(chance.randrange(256) for _ in range(size))
        case declared.VarTupleType() | declared.ListType():
            count = (info.min_length or 0) if small else min(MOST_ITEMS, info.max_length or MOST_ITEMS)
            items = [_value(info.item_type, chance, small) for _ in range(count)]
            return tuple(items) if isinstance(info, declared.VarTupleType) else items
        case declared.DictType(key_type=key, value_type=value):
            return {} if small else {_value(key, chance, small): _value(value, chance, small)}
        case declared.BoolType():
            return not small
        case declared.NoneType():
            return None
    raise NotImplementedError(f"a value of {info}")


def _number(info: Any, chance: Random, small: bool) -> int | float:
    least = info.ge if info.ge is not None else (0 if info.gt is None else info.gt + 1)
    most = next(
        (bound for bound in (info.le, None if info.lt is None else info.lt - 1) if bound is not None), least + 9
    )
    if isinstance(info, declared.FloatType):
        return float(least if small else chance.uniform(least, most))
    return least if small else chance.randint(least, most)


def _text(info: Any, chance: Random, small: bool) -> str:
    if info.pattern is None:
        return "x" * (info.min_length or 0 if small else min(info.max_length or 8, 8))
    return next(make(chance) for start, make in _PATTERNS.items() if start in info.pattern)
