"""Logs for people on a terminal, JSON lines elsewhere. Five levels; never a secret or a personal field."""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

from config import Settings

_COLOURS = {"DEBUG": "\x1b[2m", "INFO": "", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
# Chatty at their own INFO; what they have to say to an operator comes as a warning or in our own words. `streams` is
# mode's too: it names its logs after the modules of the classes that extend it. Ours begin with `yeoul.`.
_QUIET = ("aiokafka", "faust", "mode", "streams", "asyncio", "aiohttp.access")

EXPECTED = (
    "Unable connect to",
    "Unable to request metadata from",
    "Unable to update metadata from",
    "Failed fetch messages from",
    "Error sending %s to node",
    "Marking the coordinator dead",
    "Group Coordinator Request failed",
    "Heartbeat session expired",
    "Heartbeat send request failed",
    "Heartbeat failed for group",
    "Heartbeat failed: local member_id",
    "OffsetCommit failed for group %s due to group",
    "Failed to commit on finallization",
    "LeaveGroup request failed",
    "Timer %s is overlapping",
    # With each batch that is produced again; what can't be sent at all is an error of its sender.
    "Got error produce response",
    # asyncpg, with a traceback each time, while PostgreSQL is away.
    "Failed to restore the pool connection",
)
"""How lines of aiokafka, mode and asyncpg begin that only say, many times a second, that a server is away or that a
group is being divided anew. Both are states that pass; the rooms that can do something about them say so once."""


_SIGNS = {
    number: chr(number).encode("unicode_escape").decode() for number in (*range(32), *range(127, 160), 0x2028, 0x2029)
}
"""What would move the cursor, begin another line or colour it, written as escapes."""
_IN_LINES = {number: sign for number, sign in _SIGNS.items() if chr(number) not in "\n\t"}


class People(logging.Formatter):
    """One line: time, level, room, words, fields; a traceback below. What a stranger wrote stays within its line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        colour = _COLOURS.get(record.levelname, "")
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        line = (
            f"{time} {record.levelname.lower():7} {record.name.removeprefix('yeoul.')}: {record.getMessage()}{fields}"
        )
        line = line.translate(_SIGNS)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_IN_LINES)
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


class Unexpected(logging.Filter):
    """Lets through what is no expected state of Kafka's client."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if record.name == "asyncio":
            # What became of an offset that was committed for tools only; aiokafka drops the task and its error.
            return "_do_commit_offsets" not in record.getMessage()
        return not (record.name.startswith(("aiokafka", "mode", "asyncpg")) and str(record.msg).startswith(EXPECTED))


def configure(settings: Settings, process: str) -> None:
    """Log to stderr as the settings say; `process` names this one in JSON lines."""
    people = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(People() if people else Json(process))
    if settings.log_level != "debug":
        handler.addFilter(Unexpected())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING if settings.log_level != "debug" else logging.INFO)
    logging.captureWarnings(True)
