"""The totals of rows as they are after a commit, on their way to those who watch."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from domain.tables import Slot

MOST_ROWS = 5_000
"""With more rows of a metric than this at once, its watchers are told to read PostgreSQL instead."""
MOST_BYTES = 4 * 1024 * 1024
"""The same of what their sketches come to: strangers fill them."""


class Row(msgspec.Struct, frozen=True):
    """The totals of a row, as they are after a commit."""

    slot: Slot
    measure: str
    feed: str
    n: int
    total: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    sketch: bytes | None = None


class Totals:
    """New totals by metric, the latest of each row; of too many it is only known that there are."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows: dict[int, dict[tuple[Any, ...], Row] | None] = {}
        self._bytes: dict[int, int] = {}
        self.add(rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Later ones than those that are there."""
        for row in rows:
            metric = row.slot.metric
            of_metric = self._rows.setdefault(metric, {})
            if of_metric is None:
                continue
            key = (row.slot, row.measure, row.feed)
            before = of_metric.get(key)
            size = self._bytes.get(metric, 0) + len(row.sketch or b"") - len((before and before.sketch) or b"")
            of_metric[key], self._bytes[metric] = row, size
            if len(of_metric) > MOST_ROWS or size > MOST_BYTES:
                self._rows[metric] = None

    def merge(self, later: "Totals") -> None:
        """Those of a later commit."""
        for metric, rows in later._rows.items():
            if rows is None:
                self._rows[metric] = None
            else:
                self.add(rows.values())

    def take(self) -> dict[int, list[Row] | None]:
        """By metric; None for too many. Nothing is left."""
        taken, self._rows, self._bytes = self._rows, {}, {}
        return {metric: None if rows is None else list(rows.values()) for metric, rows in taken.items()}
