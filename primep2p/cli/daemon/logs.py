"""The daemon's log: JSON lines in its home always, in the foreground on the console too as `daemon logs` shows them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog
import trio
from structlog.typing import Processor

from primep2p.cli.daemon.logtail import for_people
from primep2p.config import LogSection
from primep2p.model.errors import StoreError
from primep2p.model.text import printable
from primep2p.model.views.events import LogLine

__all__ = ["configure_logs", "told"]

OURS = "primep2p"

OF_EVENTS = "primep2p.node"
"""Its lines are events already."""


def configure_logs(home: Path, section: LogSection, *, console: bool) -> None:
    """Libraries speak from warning on, and into the file only. Raises StoreError where the file cannot be written."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = RotatingFileHandler(
            home / "daemon.log",
            maxBytes=section.file_mib * 2**20,
            backupCount=section.keep_files,
            encoding="utf-8",
        )
    except OSError as error:
        raise StoreError(f"cannot write the log {home / 'daemon.log'}: {error.strerror}") from error
    file.setFormatter(_formatter([structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]))
    handlers: list[logging.Handler] = [file]
    if console:
        handlers.append(_console())
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(section.level.upper())
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk must not print a traceback for each line
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_COMMON,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


_COMMON: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _console() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.name == OURS or record.name.startswith(f"{OURS}."))
    handler.setFormatter(_formatter([structlog.processors.format_exc_info, _for_people]))
    return handler


def _for_people(logger: Any, method: str, event: Any) -> str:
    return for_people(dict(event))


def _formatter(last: list[Processor]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_COMMON,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


class _Teller(logging.Handler):
    """Hands on what concerns the owner. Lines come from any thread; `tell` is called in trio's."""

    def __init__(self, tell: Callable[[LogLine], object]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._token = trio.lowlevel.current_trio_token()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.startswith(f"{OURS}.") and record.name != OF_EVENTS

    def emit(self, record: logging.LogRecord) -> None:
        line = LogLine(level=record.levelname.lower(), sentence=_sentence(record))
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._tell, line)


def _sentence(record: logging.LogRecord) -> str:
    """What a line says, without its time and its traceback."""
    if not isinstance(record.msg, dict):
        return printable(record.getMessage())
    fields: dict[str, Any] = dict(record.msg)
    for name in ("timestamp", "level", "logger"):
        fields.pop(name, None)
    error = fields.pop("exc_info", None)
    rest = [f"{name}={value}" for name, value in fields.items() if name != "event" and value != ""]
    if isinstance(error, BaseException):
        rest.append(f"{type(error).__name__}: {error}")
    return printable(" ".join([str(fields.get("event", "")), *rest]))


@contextmanager
def told(tell: Callable[[LogLine], object]) -> Iterator[None]:
    """Within, in a run of trio, `tell` hears of each warning and error of the log, but for those that are events."""
    teller = _Teller(tell)
    logging.getLogger(OURS).addHandler(teller)
    try:
        yield
    finally:
        logging.getLogger(OURS).removeHandler(teller)
