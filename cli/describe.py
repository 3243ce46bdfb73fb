"""A record in one line for a terminal, whoever wrote it: what can't be shown is named, and never ends the command."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

DIM, BOLD, END = "\x1b[2m", "\x1b[1m", "\x1b[0m"
GREEN, YELLOW, RED, BLUE, CYAN = (f"\x1b[{code}m" for code in (32, 33, 31, 34, 36))
_BY_ENDING = {"created": GREEN, "updated": YELLOW, "deleted": RED, "parked": RED}
SHOWN_DATA = 160
"""Characters of the data, of a type and of a subject that are shown."""
NO_TIME = "--:--:--.---"


def attributes(record: Any) -> dict[str, Any]:
    """The CloudEvents attributes of a record in either mode; what can't be read is shown by its size."""
    import orjson

    found: dict[str, Any] = {
        name[3:]: (value or b"").decode(errors="replace") for name, value in record.headers if name.startswith("ce_")
    }
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return found | {"data": f"<{len(record.value or b'')} bytes that are no JSON>"}
    if found:
        return found | {"data": value}
    return value if isinstance(value, dict) else {"data": value}


def matches(record: Any, types: Sequence[str] | None, subjects: Sequence[str] | None) -> bool:
    """True if its type fits one of these patterns and its subject one of those; None fits all."""
    if types is None and subjects is None:
        return True
    event = attributes(record)
    return _fits(event.get("type"), types) and _fits(event.get("subject"), subjects)


def _fits(value: Any, patterns: Sequence[str] | None) -> bool:
    text = "" if value is None else _text(value)
    return patterns is None or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def describe(record: Any, colour: bool) -> str:
    """One line: time, type, subject, version, where it stands, and the beginning of its data."""
    event = attributes(record)
    kind = _shown(_text(event.get("type", "?")))
    subject = _shown(_text(event.get("subject", "-")))
    data = _shown(_json(event.get("data")))
    version = f" v{_shown(_text(event['aggregateversion']))}" if "aggregateversion" in event else ""
    place = f"{record.topic.split('.', 1)[-1]}/{record.partition}@{record.offset}"
    time = _time(record.timestamp)
    if not colour:
        return f"{time} {kind} {subject}{version} {place} {data}"
    paint = _BY_ENDING.get(kind.rsplit(".", 1)[-1], BLUE)
    return f"{DIM}{time}{END} {BOLD}{paint}{kind}{END} {CYAN}{subject}{END}{version} {DIM}{place}{END} {data}"


def _time(timestamp_ms: int) -> str:
    """The local time of day; producers may give any number, and -1 for none."""
    try:
        when = datetime.fromtimestamp(timestamp_ms / 1000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return NO_TIME
    return when.strftime("%H:%M:%S.%f")[:-3] if timestamp_ms >= 0 else NO_TIME


def _text(value: Any) -> str:
    """An attribute as text, which it should be."""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    import orjson

    try:
        return orjson.dumps(value).decode()
    except TypeError:  # it can read four times the depth that it can write
        return "<JSON that is nested too deeply to be shown>"


def _shown(text: str) -> str:
    """Its beginning. Control characters of strangers' text must not steer the terminal."""
    text = text if len(text) <= SHOWN_DATA else text[: SHOWN_DATA - 1] + "…"
    return "".join(c if c.isprintable() else "�" for c in text)
