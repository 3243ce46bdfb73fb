"""Second factors in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio

import stores
from config import Settings
from domain.second_factors import SecondFactor
from stores import Stores, migrations
from stores.second_factors import TABLE

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime.now(UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def opened(own_settings: Settings) -> AsyncIterator[Stores]:
    await migrations.apply(own_settings.postgres_url)
    async with stores.open(own_settings) as found:
        yield found


async def test_a_state_comes_back_as_it_was(opened: Stores) -> None:
    columns = [column.name for column in TABLE.columns]
    marks = ", ".join(f"${n}::{column.type}" for n, column in enumerate(TABLE.columns, start=1))
    for state in (
        SecondFactor(uuid4(), None, "pending", NOW, None, 0, (), 1),
        SecondFactor(uuid4(), "sealed", None, None, NOW, 59_000_000, ("f" * 64, "e" * 64), 2),
        SecondFactor(uuid4(), None, None, None, None, 0, (), 3),
    ):
        insert = f"INSERT INTO second_factors ({', '.join(columns)}) VALUES ({marks})"
        await opened.database.execute(insert, *TABLE.row(state))
        assert await opened.second_factors.get(state.id) == state
    assert await opened.second_factors.get(uuid4()) is None
