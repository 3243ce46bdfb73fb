"""Logs for people on a terminal, JSON lines elsewhere. Five levels; never a secret or a personal field."""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

from config import Settings

_COLOURS = {"DEBUG": "\x1b[2m", "INFO": "", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
# Chatty at their own INFO; what they have to say to an operator comes as a warning or in our own words.
_QUIET = ("aiokafka", "faust", "mode", "asyncio", "aiohttp.access")


class People(logging.Formatter):
    """One line: time, level, room, words, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        colour = _COLOURS.get(record.levelname, "")
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        line = (
            f"{time} {record.levelname.lower():7} {record.name.removeprefix('yeoul.')}: {record.getMessage()}{fields}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return f"{colour}{line}\x1b[0m" if colour else line


class Json(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["error"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(entry, default=str).decode()


def configure(settings: Settings, process: str) -> None:
    """Log to stderr as the settings say; `process` names this one in JSON lines."""
    people = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(People() if people else Json(process))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING if settings.log_level != "debug" else logging.INFO)
    logging.captureWarnings(True)
