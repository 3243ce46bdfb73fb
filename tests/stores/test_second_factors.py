"""Second factors in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from domain.second_factors import SecondFactor
from stores import Stores
from stores.second_factors import TABLE
from tests.stores.given import keep

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime.now(UTC)


async def test_a_state_comes_back_as_it_was(opened: Stores) -> None:
    for state in (
        SecondFactor(uuid4(), None, "pending", NOW, None, 0, (), 1),
        SecondFactor(uuid4(), "sealed", None, None, NOW, 59_000_000, ("f" * 64, "e" * 64), 2),
        SecondFactor(uuid4(), None, None, None, None, 0, (), 3),
    ):
        await keep(opened.database, TABLE, state)
        assert await opened.second_factors.get(state.id) == state
    assert await opened.second_factors.get(uuid4()) is None
