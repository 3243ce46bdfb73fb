"""Lines of a metric as people take them away: JSON, CSV, Parquet. No number is rounded on the way.

A column is named as the path or the measure; each percentile has its own, such as `size.p95`.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from domain.metrics import Kind, Measure, Metric
from domain.reports import Line

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet may calculate."""
CSV, PARQUET = "text/csv; charset=utf-8", "application/vnd.apache.parquet"
DECIMAL_DIGITS = 38
"""Digits of Parquet's decimals that every reader knows."""

_encode = msgspec.json.Encoder().encode


def as_json(metric: Metric, line: Line, zone: ZoneInfo) -> bytes:
    """`{"start", "group": {path: value}, measure: value, …}`; a decimal is written with its own digits."""
    shown: dict[str, Any] = {
        "start": datetime.fromtimestamp(line.start, zone),
        "group": dict(zip(metric.group_by, line.group_values, strict=True)),
    }
    for name, value in line.values.items():
        shown[name] = msgspec.Raw(digits(value).encode()) if isinstance(value, Decimal) else value
    return _encode(shown)


def dropped(start: int, reason: str, count: int) -> bytes:
    """`{"start", "reason", "count"}`: events in no window, in the hour from `start` (seconds since 1970)."""
    return _encode({"start": datetime.fromtimestamp(start, UTC), "reason": reason, "count": count})


def described(metric: Metric) -> bytes:
    """What can be asked of a metric, as JSON. `kept` is in seconds."""
    return _encode(
        {
            "name": metric.name,
            "title": metric.title,
            "group_by": metric.group_by,
            "measures": [{"name": measure.name, "kind": measure.kind} for measure in metric.all_measures],
            "windows": [{"name": kept.window.name, "kept": kept.keep} for kept in metric.windows],
        }
    )


def digits(number: Decimal) -> str:
    """A number with all its digits, and without an exponent."""
    return format(number, "f")


def columns(metric: Metric) -> list[str]:
    """The names of the columns of CSV, Parquet and tables."""
    return ["start", *metric.group_by, *(name for measure in metric.all_measures for name, _ in _columns(measure))]


def _columns(measure: Measure) -> Iterator[tuple[str, str]]:
    """The columns of a measure, each with its key in a dict of percentiles, empty for others."""
    if measure.kind is Kind.PERCENTILES:
        yield from ((f"{measure.name}.p{percent:g}", f"p{percent:g}") for percent in measure.at)
    else:
        yield measure.name, ""


def texts(metric: Metric, line: Line, zone: ZoneInfo) -> list[str]:
    """A line as texts, one for each column; empty for nothing."""
    start = _encode(datetime.fromtimestamp(line.start, zone)).decode().strip('"')
    found = [start, *(_text(value) or "" for value in line.group_values)]
    for measure in metric.all_measures:
        value = line.values[measure.name]
        for _, key in _columns(measure):
            each = value[key] if key else value
            found.append(digits(each) if isinstance(each, Decimal) else _text(each) or "")
    return found


def _text(value: Any) -> str | None:
    """What a value says, without the quotes of a text; None for nothing."""
    if value is None:
        return None
    written = _encode(value)
    if written[:1] == b'"':
        text: str = msgspec.json.decode(written)
        return text
    return None if written == b"null" else written.decode()


def as_csv(metric: Metric, lines: Sequence[Line], zone: ZoneInfo) -> bytes:
    """CSV (RFC 4180) in UTF-8, with a line of names; a `top` is a JSON list.

    A text that a spreadsheet would take for a formula has an apostrophe before it. Numbers are as they are.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns(metric))
    for line in lines:
        row = texts(metric, line, zone)
        row[1 : 1 + len(line.group_values)] = map(_no_formula, line.group_values)
        writer.writerow(row)
    return out.getvalue().encode()


def _no_formula(value: Any) -> str:
    found = _text(value) or ""
    # What strangers put into an event is opened by somebody else (OWASP, CSV injection). A text begins with a quote.
    return f"'{found}" if found.startswith(FORMULAS) and _encode(value)[:1] == b'"' else found


def as_parquet(metric: Metric, lines: Sequence[Line], zone: ZoneInfo) -> bytes:
    """Parquet: groups are text, counts int64, percentiles doubles, sums decimals; a `top` is a list of value and count.

    A column of numbers with more than DECIMAL_DIGITS digits is text.
    """
    import pyarrow as pa
    from pyarrow import parquet

    starts = [line.start * 1000 for line in lines]
    arrays = {"start": pa.array(starts, pa.timestamp("ms", tz=zone.key))}
    for place, path in enumerate(metric.group_by):
        arrays[path] = pa.array([_text(line.group_values[place]) for line in lines], pa.string())
    for measure in metric.all_measures:
        values = [line.values[measure.name] for line in lines]
        for name, key in _columns(measure):
            arrays[name] = _array(pa, measure.kind, [value[key] for value in values] if key else values)
    out = io.BytesIO()
    parquet.write_table(pa.table(arrays), out, compression="zstd")
    return out.getvalue()


def _array(pa: Any, kind: Kind, values: Sequence[Any]) -> Any:
    match kind:
        case Kind.COUNT | Kind.DISTINCT:
            return pa.array(values, pa.int64())
        case Kind.PERCENTILES:
            return pa.array(values, pa.float64())
        case Kind.TOP:
            shown = [[{"value": _text(each["value"]), "count": each["count"]} for each in value] for value in values]
            return pa.array(shown, pa.list_(pa.struct([("value", pa.string()), ("count", pa.int64())])))
    written = [None if value is None else digits(value) for value in values]
    split = [text.lstrip("-").partition(".") for text in written if text is not None]
    whole = max((len(before) for before, _, _ in split), default=1)
    scale = max((len(behind) for _, _, behind in split), default=0)
    if whole + scale > DECIMAL_DIGITS:
        return pa.array(written, pa.string())
    numbers = [None if text is None else Decimal(text) for text in written]
    return pa.array(numbers, pa.decimal128(DECIMAL_DIGITS, scale))


FORMS = {"csv": (CSV, as_csv), "parquet": (PARQUET, as_parquet)}
"""What can be taken away besides JSON: by name, its media type and how it is made. Many lines take a while."""
