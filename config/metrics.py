"""The file in which metrics are declared: read, checked, and complained about by line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from config.variables import SettingsError
from domain import plain_json
from domain.metrics import Complaint, Metric
from domain.metrics import declared as metric_tables
from domain.plain_json import PlainJson


def load(path: Path) -> tuple[Metric, ...]:
    """The metrics that the file declares. Raises SettingsError with every complaint and its line."""
    return parse(_text(path), str(path))[0]


def load_plain(path: Path) -> PlainJson | None:
    """How the file says that plain JSON is read; None if it does not. Raises SettingsError as `load` does."""
    return parse(_text(path), str(path))[1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f"{path}: can't be read ({error}); YEOUL_METRICS_FILE names the file of metrics"]
        ) from None


def parse(text: str, name: str) -> tuple[tuple[Metric, ...], PlainJson | None]:
    """What `load` and `load_plain` give, of a text; `name` is how complaints call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        line = int(place[1]) if place else len(text.splitlines())  # without one it is about the end
        raise SettingsError([f"{name}:{line}: is no TOML: {error}"]) from None
    unknown = sorted(document.keys() - {"metrics", "plain"})
    if unknown:
        line = _line(text, unknown[0], "")
        raise SettingsError(
            [f"{name}:{line}: {unknown[0]!r} is nothing; there are tables named [metrics.NAME], and [plain]"]
        )
    if not isinstance(document.get("metrics", {}), dict):
        raise SettingsError([f"{name}:{_line(text, '', 'metrics')}: metrics must be tables named [metrics.NAME]"])
    metrics, complaints = metric_tables(document.get("metrics", {}))
    plain, more = plain_json.declared(document["plain"]) if "plain" in document else (None, ())
    told = [_told(text, name, f"metrics.{each.metric}", each) for each in complaints]
    told += [_told(text, name, each.metric, each) for each in more]
    if told:
        raise SettingsError(told)
    return metrics, plain


def _told(text: str, name: str, table: str, complaint: Complaint) -> str:
    line = _line(text, table, complaint.key)
    return f"{name}:{line}: {complaint.metric}: {complaint.text}"


def _line(text: str, table: str, key: str) -> int:
    """The line of a key in a table, or of the table's head; 1 if neither is found as people usually write them."""
    found, inside = 1, not table
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[([^\[\]]+)\]", line)
        if head:
            inside = head[1].strip() == table or head[1].strip().startswith(f"{table}.")
            if head[1].strip() == table:
                found = number
        elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return found
