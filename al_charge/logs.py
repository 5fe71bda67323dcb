"""Logs: one logger for each room, such as ``al_charge.fw``, written to standard error.

Rooms only log. Nothing is configured by an import: the command line and worker processes call
`configure`, and who uses the package from Python configures `logging` as usual.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from al_charge.errors import one_line

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

LEVEL_ENV = "AL_CHARGE_LOG_LEVEL"
FORMAT_ENV = "AL_CHARGE_LOG_FORMAT"


@dataclass(frozen=True)
class LogSettings:
    """How a process writes its log.

    Attributes
    ----------
    level
        Least severe records to write: ``debug``, ``info``, ``warning`` or ``error``.
    format
        Lines of ``text`` for people, or one ``json`` document per line.
    """

    level: str = "info"
    format: Literal["text", "json"] = "text"


def configure(settings: LogSettings) -> None:
    """Write the records of every room to standard error, as the settings say.

    Parameters
    ----------
    settings
        Level and format; they replace those of an earlier call.
    """
    logger = logging.getLogger("al_charge")
    handler = _StandardError()
    handler.setFormatter(_Json() if settings.format == "json" else _Text())
    logger.handlers = [h for h in logger.handlers if not isinstance(h, _StandardError)] + [handler]
    logger.setLevel(settings.level.upper())


def details(**fields: Any) -> dict[str, Any]:
    """Return the argument ``extra`` of a log call that carries fields beside its message.

    Parameters
    ----------
    **fields
        What a JSON line tells besides; values that JSON knows.

    Returns
    -------
    dict
        For ``logger.info(message, extra=details(seconds=1.5))``.
    """
    return {"details": fields}


class _StandardError(logging.Handler):
    """Writes to what is standard error at the time: a progress bar puts lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # as every handler does: a log must not end the work
            self.handleError(record)


class _Text(logging.Formatter):
    """One line for people: local time, level, logger and message.

    What a command tells whoever has typed it is marked with the program's name alone.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        if record.name == "al_charge.cli":
            return f"al-charge: {record.getMessage()}"
        return one_line(super().formatMessage(record))


class _Json(logging.Formatter):
    """One JSON document: what every record has, and the `details` of this one."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "host": socket.gethostname(),
            "process": record.process,
            "message": record.getMessage(),
        }
        document |= getattr(record, "details", {})
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)
