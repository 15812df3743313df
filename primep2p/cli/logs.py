"""The daemon's log: JSON lines in its home always, in the foreground on the console too as `daemon logs` shows them."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import Processor

from primep2p.cli.logtail import for_people
from primep2p.config import LogSection
from primep2p.model.errors import StoreError

__all__ = ["configure_logs"]

OURS = "primep2p"


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
