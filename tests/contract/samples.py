"""A value of any type that a call or its answer declares: small, valid, and the same each time."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

__all__ = ["sample"]

_PLAIN = {str: "word", int: 7, float: 0.5, bool: True, bytes: b"\x01" * 32, NoneType: None, object: "anything"}


def sample(type_: Any) -> Any:
    """One value of `type_`; of a union the first kind that is not None."""
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return _bounded(sample(arguments[0]), arguments[1:])
    if origin is Literal:
        return arguments[0]
    if origin is Union or isinstance(type_, UnionType):
        return sample(next(each for each in arguments if each is not NoneType))
    if origin in (list, tuple, frozenset, set):
        return origin([sample(arguments[0])])
    if len(arguments) == 2:
        return {"key": sample(arguments[1])}
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return type_(**{field.name: sample(field.type) for field in msgspec.structs.fields(type_)})
    return _PLAIN[type_]


def _bounded(value: Any, metas: tuple[object, ...]) -> Any:
    for meta in metas:
        if isinstance(meta, msgspec.Meta):
            least = meta.ge if meta.ge is not None else meta.gt
            most = meta.le if meta.le is not None else meta.lt
            if isinstance(value, int | float) and least is not None and value < least:
                value = least if meta.ge is not None else least + 1
            if isinstance(value, int | float) and most is not None and value > most:
                value = most if meta.le is not None else most - 1
            if isinstance(value, str | bytes) and meta.min_length is not None:
                value = value.ljust(meta.min_length, value[:1])
            if isinstance(value, str | bytes) and meta.max_length is not None:
                value = value[: meta.max_length]
    return value
