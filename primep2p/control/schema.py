"""JSON schemas of what travels on the control socket, from the types that declare it.

Records are tables here though they are arrays between peers, so that msgspec's own schemas would be wrong.
"""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

__all__ = ["Schema", "Schemas"]

Schema = dict[str, object]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    NoneType: {"type": "null"},
    object: {},
    Any: {},
}

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
    "description": "description",
}
"""msgspec's names for what JSON Schema says."""


class Schemas:
    """Schemas of types; each Struct among them is kept once, in `components`, and referred to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, type_: Any) -> Schema:
        """What a value of this type may be."""
        origin, arguments = get_origin(type_), get_args(type_)
        if origin is Annotated:
            return self._bounded(self.of(arguments[0]), arguments[1:])
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is Union or isinstance(type_, UnionType):
            return {"anyOf": [self.of(each) for each in arguments]}
        if origin in (list, tuple, frozenset, set):
            return {"type": "array", "items": self.of(arguments[0])}
        if len(arguments) == 2:  # a mapping
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            return self._reference(type_)
        return dict(_PLAIN[type_])

    def _bounded(self, schema: Schema, metas: tuple[object, ...]) -> Schema:
        """Beside a reference no other key counts in older readers, so it is wrapped."""
        more: Schema = {}
        for meta in metas:
            if isinstance(meta, msgspec.Meta):
                found = {name: getattr(meta, key) for key, name in _BOUNDS.items()}
                unit = "Items" if schema.get("type") == "array" else "Length"
                found |= {f"min{unit}": meta.min_length, f"max{unit}": meta.max_length}
                more |= {name: value for name, value in found.items() if value is not None}
        if more and "$ref" in schema:
            return {"allOf": [schema], **more}
        return {**schema, **more}

    def _reference(self, type_: type[msgspec.Struct]) -> Schema:
        name = type_.__name__
        if name not in self.components:
            self.components[name] = {}  # a type may hold itself
            self.components[name] = self._table(type_)
        return {"$ref": f"#/components/schemas/{name}"}

    def _table(self, type_: type[msgspec.Struct]) -> Schema:
        properties: dict[str, object] = {}
        required: list[str] = []
        config = type_.__struct_config__
        if config.tag_field is not None:
            properties[config.tag_field] = {"const": config.tag}
            required.append(config.tag_field)
        for field in msgspec.structs.fields(type_):
            properties[field.encode_name] = self.of(field.type)
            if field.required:
                required.append(field.encode_name)
        described = {"description": " ".join(type_.__doc__.split())} if type_.__doc__ else {}
        return {"type": "object", **described, "properties": properties, "required": required}
