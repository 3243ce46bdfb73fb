"""The table of ratios, for a terminal."""

import os
import platform
from collections.abc import Sequence

from bench.records import Record


def number(value: float | None) -> str:
    """A figure with about three digits that matter."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(record: Record) -> str:
    """Whether the goal is reached."""
    return {None: "", True: "reached", False: "short"}[record.met]


def table(records: Sequence[Record]) -> str:
    """The figures, one a row; below them what is measured beside, latencies, CPU and memory."""
    head = ("figure", "unit", "Yeoul", "beside", "ratio", "lowest–highest", "goal", "", "runs")
    rows = [_row(record) for record in records]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines.insert(1, "─" * len(lines[0]))
    for record in records:
        lines += _more(record)
    return "\n".join(line.rstrip() for line in lines) + f"\n\n{machine()}\n"


def _row(record: Record) -> tuple[str, ...]:
    spread = "–" if record.spread is None else "–".join(number(end) for end in record.spread)
    return (
        record.id,
        record.unit,
        number(record.yeoul),
        number(record.baseline),
        number(record.ratio),
        spread,
        record.goal,
        verdict(record),
        str(record.runs),
    )


def _more(record: Record) -> list[str]:
    lines = [
        f"    beside {name}: {number(beside.value)} {record.unit}, ratio {number(beside.ratio)}"
        for name, beside in record.beside.items()
    ]
    if record.latency_ms:
        pairs = (f"{side} {number(ms['p50'])} / {number(ms['p99'])}" for side, ms in record.latency_ms.items())
        lines.append(f"    ms, p50 / p99: {' · '.join(pairs)}")
    if record.cpu:
        pairs = (f"{side} {number(seconds)}" for side, seconds in record.cpu.items())
        lines.append(f"    {record.cpu_unit}: {' · '.join(pairs)}")
    if record.resident_mb:
        pairs = (f"{side} {number(megabytes)}" for side, megabytes in record.resident_mb.items())
        lines.append(f"    MB resident: {' · '.join(pairs)}")
    lines += [f"    errors of {side}: {errors}" for side, errors in record.errors.items()]
    if record.note:
        lines.append(f"    {record.note}")
    return ["", f"  {record.id}", *lines] if lines else []


def machine() -> str:
    """Where it was measured."""
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}; medians of alternating runs"
