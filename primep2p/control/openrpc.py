"""The control socket described for programs, after OpenRPC 1.3 (spec.open-rpc.org)."""

import inspect
from typing import Any

import msgspec

from primep2p import __version__
from primep2p.control.calls import CALLS
from primep2p.control.calls.call import Call, answer_type
from primep2p.control.jsonrpc import CODES, REFUSED
from primep2p.control.schema import Schemas
from primep2p.strict import plain

__all__ = ["discover"]


def discover() -> dict[str, object]:
    """The OpenRPC document of all calls."""
    schemas = Schemas()
    methods = [_method(call, schemas) for call in CALLS.values()]
    about = {
        "title": "primep2p",
        "version": __version__,
        "description": "The control socket of a primep2p daemon: JSON-RPC 2.0, one object a line, params by name.",
    }
    errors = {"Refused": {"code": REFUSED, "message": "data.code says whose fault it is", "data": _error_data()}}
    components = {"schemas": dict(sorted(schemas.components.items())), "errors": errors}
    return {"openrpc": "1.3.2", "info": about, "methods": methods, "components": components}


def _method(call: type[Call[Any]], schemas: Schemas) -> dict[str, object]:
    summary, _, rest = (inspect.getdoc(call) or "").partition("\n\n")
    answer = schemas.of(answer_type(call))
    said: dict[str, object] = {
        "name": call.name,
        "summary": " ".join(summary.split()),
        **({"description": " ".join(rest.split())} if rest else {}),
        "tags": [{"name": call.access}, *([{"name": "stream"}] if call.stream else [])],
        "paramStructure": "by-name",
        "params": [_param(field, schemas) for field in msgspec.structs.fields(call)],
        "result": {"name": "subscribed", "schema": {"type": "null"}} if call.stream else _named("answer", answer),
        "errors": [{"$ref": "#/components/errors/Refused"}],
        "x-command": f"primep2p {call.command}",
    }
    return {**said, "x-event": answer} if call.stream else said


def _param(field: msgspec.structs.FieldInfo, schemas: Schemas) -> dict[str, object]:
    schema = schemas.of(field.type)
    description = schema.pop("description", "")
    if not field.required and field.default is not msgspec.NODEFAULT:
        schema["default"] = plain(field.default)
    return {**_named(field.encode_name, schema), "description": description, "required": field.required}


def _named(name: str, schema: dict[str, object]) -> dict[str, object]:
    return {"name": name, "schema": schema}


def _error_data() -> dict[str, object]:
    properties = {"code": {"enum": sorted(CODES)}, "hint": {"type": "string"}, "stderr": {"type": "string"}}
    return {"type": "object", "properties": properties}
