"""API keys in PostgreSQL: what is read, when a use is written down, what is swept away, and word of ended ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest

from domain.access import Role, Scope
from domain.accounts import AccountStatus
from domain.api_keys import ApiKey, ApiKeys
from domain.sessions import ENDED_KEPT, Ended
from stores import Stores
from stores.api_keys import TABLE, USED_EVERY
from stores.revocations import Revoked
from tests.contracts.harness import until
from tests.stores.given import keep
from tests.stores.test_accounts import account

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime.now(UTC)
MINUTE = timedelta(minutes=1)


def key(expires: datetime | None = None) -> ApiKey:
    return ApiKey(uuid4(), "f" * 64, "name", (Scope.READ,), 1, NOW, expires)


async def test_a_state_comes_back_as_it_was(opened: Stores) -> None:
    state = ApiKeys(uuid4(), (key(), key(NOW + MINUTE)), (Ended(uuid4(), NOW, 3),), 2, 4)
    await keep(opened.database, TABLE, state)
    found = await opened.api_keys.get(state.id)
    assert found is not None
    assert (found.keys, found.at) == (state, {})
    assert await opened.api_keys.get(uuid4()) is None


@pytest.mark.parametrize(("status", "usable"), [("active", True), ("disabled", False), ("erased", False)])
async def test_only_keys_of_an_active_account_can_be_used(opened: Stores, status: str, usable: bool) -> None:
    state = ApiKeys(uuid4(), (key(),), (), 0, 1)
    await keep(opened.database, TABLE, state)
    assert await opened.api_keys.usable(state.id) is None  # no account at all
    await account(opened.database, id=state.id, role=Role.ADMIN, status=AccountStatus(status))
    found = await opened.api_keys.usable(state.id)
    assert (found is not None) == usable
    assert found is None or (found.keys, found.role) == (state, Role.ADMIN)


async def test_a_use_is_written_down_once_a_minute(opened: Stores) -> None:
    one, other = key(), key()
    state = ApiKeys(uuid4(), (one, other), (), 0, 2)
    await keep(opened.database, TABLE, state)
    note = opened.api_keys.note_use
    assert sorted(await asyncio.gather(*(note(state.id, one.id, NOW) for _ in range(5)))) == [False] * 4 + [True]
    assert not await note(state.id, one.id, NOW + USED_EVERY - timedelta(seconds=1))
    assert await note(state.id, other.id, NOW + MINUTE / 2)
    assert await note(state.id, one.id, NOW + USED_EVERY)
    assert not await note(state.id, one.id, NOW)  # an older one, of a front that was slow
    assert not await note(uuid4(), one.id, NOW)
    found = await opened.api_keys.get(state.id)
    assert found is not None
    assert found.at == {one.id: NOW + USED_EVERY, other.id: NOW + MINUTE / 2}
    assert found.keys == state  # its version, too: whoever has loaded it may write it


async def test_what_is_over_is_swept_away_with_its_uses(opened: Stores) -> None:
    lasting, short, long = key(), key(NOW - MINUTE), key(NOW + MINUTE)
    state = ApiKeys(uuid4(), (lasting, short, long), (Ended(uuid4(), NOW - ENDED_KEPT - MINUTE, 1),), 0, 5)
    endless = ApiKeys(uuid4(), (key(),), (), 0, 1)
    await keep(opened.database, TABLE, state, endless)
    for one in state.held:
        await opened.api_keys.note_use(state.id, one.id, NOW)
    assert await opened.api_keys.sweep(NOW) == 2  # a row, for what expired and for what ended
    found = await opened.api_keys.get(state.id)
    assert found is not None
    assert found.keys == msgspec.structs.replace(state, held=(lasting, long), ended=())
    assert set(found.at) == {lasting.id, long.id}
    assert await opened.api_keys.sweep(NOW) == 0
    assert await opened.api_keys.sweep(NOW + MINUTE) == 1
    assert await opened.api_keys.sweep(NOW + timedelta(days=10_000)) == 0
    found = await opened.api_keys.get(endless.id)
    assert found is not None
    assert found.keys == endless


async def test_word_of_an_ended_key_gets_about_without_redis(opened: Stores) -> None:
    ended = ApiKeys(uuid4(), (), (Ended(uuid4(), datetime.now(UTC), 2),), 0, 2)
    revoked = Revoked(opened.database, opened.redis)
    async with revoked.following():
        await keep(opened.database, TABLE, ended)

        async def known() -> bool:
            return ended.ended[0].id in revoked

        await until(known)


async def test_looking_scans_no_table(opened: Stores) -> None:
    await opened.database.execute(
        """INSERT INTO api_keys SELECT gen_random_uuid(), '[]', '[]', 1, now() + interval '1 day', NULL, 1
           FROM generate_series(1, 20000)"""
    )
    await opened.database.execute("ANALYZE api_keys")
    ended = "ended_at IS NOT NULL AND (ended_at, id) > (now(), $1) ORDER BY ended_at, id"
    for where in ("first_expiry <= now() ORDER BY first_expiry", ended):
        rows = await opened.database.fetch(
            f"EXPLAIN SELECT id FROM api_keys WHERE {where} LIMIT 1000", *([uuid4()] if "$1" in where else [])
        )
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan
        assert "api_keys_by_" in plan
