"""The file in which metrics are declared: read, checked, and complained about by line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from config.variables import SettingsError
from domain.metrics import Complaint, Metric, declared


def load(path: Path) -> tuple[Metric, ...]:
    """The metrics that the file declares. Raises SettingsError with every complaint and its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f"{path}: can't be read ({error}); YEOUL_METRICS_FILE names the file of metrics"]
        ) from None
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[Metric, ...]:
    """As `load`, of a text; `name` is how complaints call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        raise SettingsError([f"{name}:{place[1] if place else 1}: is no TOML: {error}"]) from None
    unknown = sorted(document.keys() - {"metrics"})
    if unknown:
        line = _line(text, unknown[0], "")
        raise SettingsError([f"{name}:{line}: {unknown[0]!r} is nothing; metrics are tables named [metrics.NAME]"])
    metrics, complaints = declared(document.get("metrics", {}))
    if complaints:
        raise SettingsError([_told(text, name, complaint) for complaint in complaints])
    return metrics


def _told(text: str, name: str, complaint: Complaint) -> str:
    line = _line(text, f"metrics.{complaint.metric}", complaint.key)
    return f"{name}:{line}: {complaint.metric}: {complaint.text}"


def _line(text: str, table: str, key: str) -> int:
    """The line of a key in a table, or of the table's head; 1 if neither is found as people usually write them."""
    found, inside = 1, False
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[([^\[\]]+)\]", line)
        if head:
            inside = head[1].strip() == table or head[1].strip().startswith(f"{table}.")
            if head[1].strip() == table:
                found = number
        elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return found
