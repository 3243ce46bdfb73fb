"""One run of the bench: the wanted figures, measured one group after the other on one stack."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from bench import api, freshness, fronts, streams, windows, workers
from bench.figures import FRESH, FRESH_P99, Figure, Options, selected
from bench.records import Record
from bench.stage import Stage, opened
from bench.table import table

Measure = Callable[[Stage, Sequence[Figure]], Awaitable[list[Record]]]
GROUPS: tuple[tuple[tuple[str, ...], Measure], ...] = (
    (("stream.",), streams.measure),
    (("write.", "read."), fronts.measure),
    (("worker.",), workers.measure),
    ((FRESH.id, FRESH_P99.id), freshness.measure),
    (("streams.",), windows.measure),
    (("api.",), api.measure),
)
"""Figures by the beginning of their ids: the first that fits measures them."""


def _measurer(figure: Figure) -> Measure:
    return next(measure for begins, measure in GROUPS if figure.id.startswith(begins))


def save(records: Sequence[Record], path: Path) -> None:
    """Write the records as a JSON array."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(records)) + b"\n")


async def measured(names: Sequence[str], options: Options, json: Path | None) -> list[Record]:
    """Measure, print the table, write the JSON. What was measured before an error or a Ctrl-C is told all the same."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    wanted = selected(names)
    records: list[Record] = []
    try:
        async with opened(options) as stage:
            for _, measure in GROUPS:
                of_group = [figure for figure in wanted if _measurer(figure) is measure]
                if of_group:
                    records += await measure(stage, of_group)
    finally:
        if records:
            print(table(records))
            if json is not None:
                save(records, json)
    return records
