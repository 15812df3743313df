"""Every call of the control socket, declared once: a module for each group."""

from typing import Any

import msgspec

from primep2p.control.calls import (
    daemon,
    directory,
    events,
    jobs,
    models,
    plans,
    plugins,
    rounds,
    runs,
    speed,
    standings,
)
from primep2p.control.calls.call import Call
from primep2p.model.errors import CallError
from primep2p.strict import Fault, build

__all__ = ["CALLS", "decode_call"]

GROUPS = (daemon, events, runs, standings, jobs, models, rounds, directory, plugins, plans, speed)

CALLS: dict[str, type[Call[Any]]] = {
    each.name: each
    for group in GROUPS
    for each in vars(group).values()
    if isinstance(each, type) and issubclass(each, Call) and each is not Call
}
"""By name, group by group."""


def decode_call(method: str, params: bytes) -> Call[Any]:
    """The call in a request. Raises CallError that names the path of what is wrong."""
    call = CALLS.get(method)
    if call is None:
        raise CallError(f"there is no call {method!r}", hint="see: primep2p rpc discover")
    try:
        decoded = build(call, msgspec.json.decode(params), "params")
        decoded.check()
    except Fault as fault:
        raise CallError(f"{method}: {fault}") from fault
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CallError(f"{method}: params cannot be read: {error}") from error
    return decoded
