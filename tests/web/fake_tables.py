"""Live tables, reports and dead letters, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from domain.boards import View
from domain.metrics import Metric
from domain.questions import Question
from domain.reports import Line
from domain.tables import Table
from stores.dead_letters import Listed, Parked
from stores.live import Changes
from stores.reports import Dropped
from stores.selecting import TooMany
from stores.totals import Row


@dataclass
class FakeWatching:
    """Tables, their rows, and a channel that a test fills: a Changes, None for one that opens, or an error."""

    serving: dict[str, Table] = field(default_factory=dict)
    found: list[Row] = field(default_factory=list)
    raises: Exception | None = None
    channel: asyncio.Queue[Changes | Exception | None] = field(default_factory=asyncio.Queue)
    order: list[str] = field(default_factory=list)
    before_rows: Callable[[], None] = field(default=lambda: None)

    async def tables(self) -> dict[str, Table]:
        if self.raises is not None:
            raise self.raises
        return dict(self.serving)

    async def rows(self, table: Table, view: View, since: int, most: int) -> list[Row]:
        self.order.append("rows")
        if self.raises is not None:
            raise self.raises
        found = [row for row in self.found if row.slot.metric == table.id and row.slot.start >= since]
        if len(found) > most:
            raise TooMany
        self.before_rows()
        return found

    async def listen(self, metric: str) -> AsyncIterator[Changes | None]:
        self.order.append(f"listen {metric}")
        yield None
        try:
            while True:
                told = await self.channel.get()
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            self.order.append(f"closed {metric}")


@dataclass
class FakeReports:
    """Metrics whose lines are given; which of them are asked for is what the real store says (tests/stores)."""

    metrics: list[Metric] = field(default_factory=list)
    found: dict[str, list[Line]] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)
    left_out: list[Dropped] = field(default_factory=list)
    raises: Exception | None = None

    async def tables(self) -> dict[str, Table]:
        return {metric.name: Table(number, metric) for number, metric in enumerate(self.metrics)}

    async def dropped(self, table: Table, since: int, until: int) -> list[Dropped]:
        return [one for one in self.left_out if since <= one.start < until]

    async def lines(
        self, table: Table, question: Question, most: int, after: tuple[int, str] | None = None
    ) -> list[Line]:
        if self.raises is not None:
            raise self.raises
        self.asked.append(question)
        return [
            line for line in self.found.get(table.metric.name, []) if after is None or (line.start, line.group) > after
        ][:most]


@dataclass
class FakeLetters:
    parked: list[Parked] = field(default_factory=list)

    async def listed(
        self, *, group: str | None, state: str | None, topic: str | None, limit: int, after: int
    ) -> list[Listed]:
        return [
            Listed(
                id=one.id, state=one.state, group=one.group, topic=one.topic, partition=one.partition,
                offset=one.offset, code=one.code, error=one.error, handler=one.handler, attempts=one.attempts,
                parked_at=one.parked_at, size=None if one.value is None else len(one.value),
            )
            for one in self.parked
            if one.id > after
            and group in (None, one.group)
            and state in (None, one.state)
            and topic in (None, one.topic)
        ][:limit]  # fmt: skip

    async def get(self, id: int) -> Parked | None:
        return next((one for one in self.parked if one.id == id), None)
