"""A live table to watch over HTTP, and what is told of it."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import ClientResponse

from domain.metrics import declared
from domain.tables import Slot
from stores.totals import Row

PATH = "/api/v1/analytics/orders/live"
NOW = int(time.time())
MINUTE = NOW - NOW % 60
STRANGE = "<img src=x onerror=alert(1)>"


def metric(public: bool = True, **more: Any) -> Any:
    fields = {
        "events": ["order.*"],
        "group_by": ["data.shop"],
        "measures": {"revenue": {"sum": "data.total"}},
        "windows": {"minute": "2d", "10m/5m": "2d", "month": "5y"},
        "public": public,
        **more,
    }
    (found,), complaints = declared({"orders": fields})
    assert not complaints
    return found


def row(n: int, *, start: int = MINUTE, shop: str = "a", feed: str = "events/0", table: int = 1, pane: int = 60) -> Row:
    return Row(Slot(table, pane, start, msgspec.json.encode([shop]).decode()), "count", feed, n)


class Stream:
    """The events of an answer, one after the other."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer
        self.comments = 0

    async def next(self) -> tuple[str, Any]:
        fields: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self.answer.content.readline(), 10)).decode()
            if not line:
                raise EOFError
            if line.startswith(":"):
                self.comments += 1
            elif line == "\n":
                if fields:
                    assert fields["id"]
                    return fields["event"], json.loads(fields["data"])
            else:
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value

    async def counts(self, event: str) -> dict[tuple[str, str], int]:
        name, data = await self.next()
        assert name == event
        return {(each["start"], each["group"]["data.shop"]): each["count"] for each in data["rows"]}


def text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
