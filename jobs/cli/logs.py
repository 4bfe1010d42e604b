"""Logging of commands: one line per message on stdout, for people or for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime

# `python -m jobs.<step>` names the command's own logger __main__; other packages log nothing below their own settings
LOGGERS = ("jobs", "lake", "msr_models", "__main__")


def configure_logging(*, quiet: bool = False, as_json: bool = False) -> None:
    """Log `HH:MM:SS message` (UTC) to stdout, with the level from WARNING on; `quiet`: only those.

    `as_json`: one object per line instead, with time (ISO 8601), level, logger and message.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter() if as_json else _PlainFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
        logger.handlers = [handler]


class _PlainFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        return f"{record.asctime} {level}{record.message}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
