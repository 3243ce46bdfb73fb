"""States and rows that the stores' tests begin with."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from domain.access import Visibility
from domain.resources import Resource
from stores.aggregates import Entry, Operation, Table
from stores.dead_letters import DeadLetters, Parked
from stores.postgres import Database
from stores.progress import ProgressStore

START = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = "tests.resources"
_lives = itertools.count()


def resource(number: int = 0, *, version: int = 1, **changes: Any) -> Resource:
    at = START + timedelta(seconds=number)
    state = Resource(
        uuid4(), "note", f"title {number}", "", (), {}, Visibility.PUBLIC, "open", UUID(int=1), version, at, at
    )  # fmt: skip
    return msgspec.structs.replace(state, **changes)


def entry(state: Resource, *, life: int, offset: int, index: int = 0) -> Entry:
    return Entry(life, 0, offset, index, state.id, state.version, b'{"type":"resource.created"}')


def operation(state: Resource, *, outcome: str = "succeeded", answer: bytes = b"{}") -> Operation:
    return Operation(uuid4(), "resources", state.id, UUID(int=1), "print", outcome, state.version, answer)


async def partitions(progress: ProgressStore, *numbers: int, at: int = 0, group: str = GROUP) -> UUID:
    """Rows of a new topic that publishes, each standing at `at`; returns the topic's id."""
    topic_id = uuid4()
    await progress.life(f"topic-{topic_id}", topic_id)
    for number in numbers:
        await progress.begin(group, f"topic-{topic_id}", topic_id, number, at, publishes=True)
    return topic_id


async def keep(database: Database, table: Table, *states: Any) -> None:
    """These states are rows of a noun's table, in place of those that had their ids."""
    names = ", ".join(column.name for column in table.columns)
    marks = ", ".join(f"${number}::{column.type}" for number, column in enumerate(table.columns, start=1))
    changes = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns)
    insert = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}"
    for state in states:
        await database.execute(insert, *table.row(state))


def life() -> int:
    """A number no other test has journal rows under."""
    return next(_lives)


async def letters(store: DeadLetters, *, group: str | None = None, state: str = "parked") -> list[Parked]:
    """All dead letters of a group, oldest first."""
    listed = await store.listed(group=group, state=state, topic=None, limit=5000, after=0)
    return [found for one in listed if (found := await store.get(one.id)) is not None]
