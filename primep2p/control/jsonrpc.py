"""JSON-RPC 2.0, one object a line: lines and messages in, lines and messages out, no socket.

Whatever comes in, `decode_request` gives a Request or a Refusal; it never raises for what a caller sent.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from primep2p.model.errors import (
    CallError,
    ConfigError,
    PeerError,
    PluginError,
    PrimeError,
    StoreError,
    Unavailable,
)

__all__ = [
    "CODES",
    "INTERNAL",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "MAX_ANSWER_BYTES",
    "MAX_LINE_BYTES",
    "METHOD_NOT_FOUND",
    "REFUSED",
    "End",
    "ErrorObject",
    "EventNotice",
    "InternalError",
    "LineBuffer",
    "Message",
    "Refusal",
    "Request",
    "RequestId",
    "TooLong",
    "answer_line",
    "blamed",
    "bug",
    "decode_message",
    "decode_params",
    "decode_request",
    "end_line",
    "error_line",
    "event_line",
    "failure",
    "failure_error",
    "notice_line",
    "request_line",
]

MAX_LINE_BYTES = 2**20
"""A call is a few hundred bytes; an allowlist of 4,096 peers is 230 KB."""

MAX_ANSWER_BYTES = 16 * 2**20
"""What a client takes from its own daemon."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
REFUSED = -32000
"""A PrimeError: `data.code` says whose fault it is."""

S = TypeVar("S", bound=Struct)

RequestId = Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(max_length=64)]


class InternalError(PrimeError):
    """The daemon has a bug; its log has the traceback."""

    code = "internal"


CODES: dict[str, type[PrimeError]] = {
    kind.code: kind
    for kind in (CallError, ConfigError, InternalError, PeerError, PluginError, StoreError, Unavailable, PrimeError)
}


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """A call by its name. `params` stay raw: the call's own type reads them."""

    jsonrpc: Literal["2.0"]
    method: Annotated[str, Meta(max_length=64)]
    id: RequestId
    params: Raw = Raw(b"{}")


class Refusal(Struct, frozen=True):
    """Why a line is no request; `id` is None where none could be read."""

    id: RequestId | None
    number: int
    sentence: str


class ErrorDetail(Struct, frozen=True):
    """Of an error: the stable code of who is at fault, and what to do next."""

    code: str = "call"
    hint: str = ""
    stderr: str = ""


class ErrorObject(Struct, frozen=True):
    """JSON-RPC's error."""

    code: int
    message: str
    data: ErrorDetail = ErrorDetail()


class EventNotice(Struct, frozen=True):
    """Params of the notification `event`: `id` is that of the request that subscribed."""

    id: RequestId
    event: Raw


class End(Struct, frozen=True):
    """Params of the notification `end`: the last of a stream; `error` where it did not end by itself."""

    id: RequestId
    error: ErrorObject | None = None


class Message(Struct, frozen=True):
    """What a client receives: an answer, an error or a notification."""

    jsonrpc: Literal["2.0"]
    id: RequestId | None = None
    result: Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET
    method: str = ""
    params: Raw = Raw(b"{}")


class TooLong(Exception):
    """A line beyond the limit: the connection cannot go on, as nobody knows where the next line starts."""


class LineBuffer:
    """Bytes as they arrive in, whole lines out; what it holds is bounded by the limit and one read."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pending = bytearray()

    @property
    def pending(self) -> bool:
        """The beginning of a line is here."""
        return bool(self._pending)

    def feed(self, received: bytes) -> list[bytes]:
        """The lines that `received` completes, without their ends. Raises TooLong."""
        self._pending += received
        *lines, rest = self._pending.split(b"\n") if b"\n" in received else [self._pending]
        self._pending = bytearray(rest) if lines else self._pending
        if any(len(line) > self._limit_bytes for line in (*lines, self._pending)):
            raise TooLong
        return [bytes(line) for line in lines if line.strip()]


_requests = msgspec.json.Decoder(Request)
_messages = msgspec.json.Decoder(Message)
_encoder = msgspec.json.Encoder()


def decode_request(line: bytes) -> Request | Refusal:
    """The request in a line."""
    try:
        return _requests.decode(line)
    except msgspec.ValidationError as error:
        return Refusal(_id_in(line), INVALID_REQUEST, f"not a JSON-RPC 2.0 request: {error}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Refusal(None, PARSE_ERROR, f"not JSON: {error}")


def decode_message(line: bytes) -> Message:
    """What the daemon sent. Raises Unavailable where it is no message of this protocol."""
    try:
        return _messages.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unavailable(f"the daemon's answer cannot be read: {error}") from error


class _OnlyId(Struct):
    id: RequestId | None = None


def _id_in(line: bytes) -> RequestId | None:
    try:
        return msgspec.json.decode(line, type=_OnlyId).id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def decode_params(type_: type[S], request: Request) -> S | None:
    """The params of a request that is no call; None where they are others."""
    try:
        return msgspec.json.decode(bytes(request.params), type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def request_line(id_: RequestId, method: str, params: object) -> bytes:
    """A request."""
    return _line({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})


def answer_line(id_: RequestId, result: object) -> bytes:
    """An answer."""
    return _line({"jsonrpc": "2.0", "id": id_, "result": result})


def error_line(id_: RequestId | None, error: ErrorObject) -> bytes:
    """An error, to whoever sent the request `id_`."""
    return _line({"jsonrpc": "2.0", "id": id_, "error": error})


def notice_line(method: str, params: object) -> bytes:
    """A notification: nobody answers it."""
    return _line({"jsonrpc": "2.0", "method": method, "params": params})


def event_line(id_: RequestId, event: object) -> bytes:
    """An event of the stream that the request `id_` opened."""
    return notice_line("event", {"id": id_, "event": event})


def end_line(id_: RequestId, error: ErrorObject | None = None) -> bytes:
    """No more events come for the request `id_`."""
    return notice_line("end", End(id_, error))


def failure(error: PrimeError | Refusal, number: int = REFUSED) -> ErrorObject:
    """The error object for what went wrong."""
    if isinstance(error, Refusal):
        return ErrorObject(error.number, error.sentence)
    stderr = error.stderr if isinstance(error, PluginError) else ""
    return ErrorObject(number, error.sentence, ErrorDetail(error.code, error.hint, stderr))


def failure_error(error: ErrorObject) -> PrimeError:
    """The same error on the other side of the socket."""
    detail = error.data
    if detail.code == PluginError.code:
        return PluginError(error.message, stderr=detail.stderr, hint=detail.hint)
    return CODES.get(detail.code, PrimeError)(error.message, hint=detail.hint)


def blamed(error: BaseException) -> PrimeError | None:
    """The error for people in `error`, or in a group that holds nothing worse; None for a bug."""
    if isinstance(error, BaseExceptionGroup):
        found = [blamed(each) for each in error.exceptions]
        return found[0] if None not in found else None
    return error if isinstance(error, PrimeError) else None


def bug(error: Exception) -> ErrorObject:
    """What a caller may know of a bug."""
    detail = ErrorDetail(InternalError.code, "the daemon's log has the traceback")
    return ErrorObject(INTERNAL, f"internal error: {type(error).__name__}", detail)


def _line(message: Any) -> bytes:
    return _encoder.encode(message) + b"\n"
