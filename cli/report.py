"""`report`: what the metrics say, for people and for scripts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path
from time import time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cli.connection import settings
from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from domain.metrics import Metric
    from domain.questions import Question
    from domain.reports import Line
    from domain.tables import Table
    from stores.reports import Reports

HELP = "what the metrics say, by window and group; --format csv, json or parquet for scripts"
FORMATS = ("table", "csv", "json", "parquet")
PAGE = 10_000


class UnknownMetric(EmbeddedError):
    """No metric has this name."""

    def __init__(self, given: str, known: list[str]) -> None:
        super().__init__(f"there is no metric {given!r}; there are: {', '.join(known) or 'none yet'}")


class CanNotWrite(EmbeddedError):
    """The file can't be written."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} can't be written: {error.strerror}; name another file with --output")


def _time(text: str) -> str:
    """A time as it was given, if it is one."""
    from domain import questions
    from domain.sentences import explain

    found = questions.moment(text, ZoneInfo("UTC"))
    if isinstance(found, int):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} {explain(found, 'en')}".replace("%2B", "+"))


def _group(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no group; write it as type=order.placed")
    return path, value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which windows of which metric, and how to print them."""
    parser.add_argument("metric", nargs="?", metavar="METRIC", help="its name; without it, the metrics are listed")
    parser.add_argument("--window", metavar="NAME", help="such as minute, hour or day; default: the metric's first")
    parser.add_argument(
        "--from", type=_time, metavar="TIME", help="the first window begins then or later; default: 60 windows ago"
    )
    parser.add_argument("--to", type=_time, metavar="TIME", help="the last window begins before; default: now")
    parser.add_argument(
        "--group", type=_group, action="append", default=[], metavar="PATH=VALUE", help="only of this value; repeatable"
    )
    parser.add_argument("--tz", metavar="ZONE", help="such as Asia/Seoul: times, days and months are of there")
    parser.add_argument("--fill", action="store_true", help="also the windows in which nothing happened")
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all")


def run(options: argparse.Namespace) -> int:
    """0 printed, 2 something was asked wrongly."""
    if options.format == "parquet" and options.output is None and sys.stdout.isatty():
        print("yeoul: Parquet is nothing for a terminal: name a file with --output", file=sys.stderr)
        return 2
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from stores.postgres import of
    from stores.reports import Reports

    database = of(settings("postgres"), "report", size=1, patience_s=60.0)
    try:
        read = Reports(database)
        tables = await read.tables()
        if options.metric is None:
            return _write(options, _list(options, [table.metric for table in tables.values()]))
        table = tables.get(options.metric)
        if table is None:
            raise UnknownMetric(options.metric, sorted(tables))
        question = _question(table.metric, options)
        if question is None:
            return 2
        lines = await _lines(read, table, question)
        await _tell_dropped(read, table, question)
    finally:
        await database.close()
    return _write(options, _printed(options.format, table.metric, lines, question.zone))


async def _tell_dropped(read: Reports, table: Table, question: Question) -> None:
    """Beside the values, on standard error: events of that time that are in no window, by reason."""
    counts: dict[str, int] = {}
    for row in await read.dropped(table, question.since - question.since % 3600, question.until):
        counts[row.reason] = counts.get(row.reason, 0) + row.count
    if counts:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        print(f"yeoul: in no window of {table.metric.name} in this time: {told} (docs/analytics.md)", file=sys.stderr)


def _question(metric: Metric, options: argparse.Namespace) -> Question | None:
    """What is asked; None if something is wrong with it, which is told then."""
    from config.zones import zone
    from domain import questions
    from domain.sentences import explain

    given = {"window": options.window, "from": vars(options)["from"], "to": options.to, "tz": options.tz}
    asked = {name: value for name, value in given.items() if value is not None}
    asked["fill"] = "true" if options.fill else "false"
    for path, value in options.group:
        if path not in metric.group_by:
            allowed = f"it has {', '.join(metric.group_by)}" if metric.group_by else "it has no groups"
            print(f"yeoul: --group {path}: {metric.name} is not grouped by that; {allowed}", file=sys.stderr)
            return None
        asked[f"group[{path}]"] = value
    found = questions.question(metric, asked, int(time()), zone)
    if not isinstance(found, tuple):
        return found
    for detail in found:
        print(f"yeoul: --{detail.field} {explain(detail, 'en')}", file=sys.stderr)
    return None


async def _lines(read: Reports, table: Table, question: Question) -> list[Line]:
    """All of them, page by page."""
    lines: list[Line] = []
    after = None
    while True:
        page = await read.lines(table, question, PAGE, after)
        lines += page
        if len(page) < PAGE:
            return lines
        after = (page[-1].start, page[-1].group)


def _printed(form: str, metric: Metric, lines: list[Line], zone: ZoneInfo) -> bytes:
    from domain import renderings

    if form == "json":
        return b"[" + b",\n".join(renderings.as_json(metric, line, zone) for line in lines) + b"]\n"
    if form in renderings.FORMS:
        return renderings.FORMS[form][1](metric, lines, zone)
    if not lines:
        return b"nothing in this time; ./yeoul report lists the metrics and their windows\n"
    numbers = len(metric.group_by) + 1
    return _table(renderings.columns(metric), [renderings.texts(metric, line, zone) for line in lines], numbers)


def _list(options: argparse.Namespace, metrics: list[Metric]) -> bytes:
    """The metrics: a table, or with --format json what the API says of them."""
    from domain import renderings

    if options.format == "json":
        return b"[" + b",\n".join(map(renderings.described, metrics)) + b"]\n"
    if not metrics:
        return b"there are no metrics yet: a worker of the group analytics begins those of YEOUL_METRICS_FILE\n"
    rows = [
        [
            metric.name,
            ", ".join(kept.window.name for kept in metric.windows),
            ", ".join(metric.group_by),
            ", ".join(measure.name for measure in metric.all_measures),
            metric.title,
        ]
        for metric in metrics
    ]
    return _table(["metric", "windows", "grouped by", "measures", "title"], rows, 5)


def _table(names: list[str], rows: list[list[str]], numbers: int) -> bytes:
    """Aligned columns, those from the place `numbers` on to the right; what a terminal would obey is shown as �."""
    shown = [["".join(c if c.isprintable() else "�" for c in cell) for cell in row] for row in [names, *rows]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if place >= numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]
    return ("\n".join(lines) + "\n").encode()


def _write(options: argparse.Namespace, content: bytes) -> int:
    path: Path | None = options.output
    if path is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return 0
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise CanNotWrite(path, error) from None
    return 0
