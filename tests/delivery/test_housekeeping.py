"""Old operations are forgotten for as long as a worker lives, whatever went wrong the last time."""

import asyncio
from uuid import UUID, uuid4

import pytest

import worker
from stores.aggregates import Operations
from streams.groups import Connections
from tests.contracts.harness import until


async def old_operation(connections: Connections) -> UUID:
    operation = uuid4()
    await connections.database.execute(
        """INSERT INTO operations
               (operation, noun, aggregate_id, actor, fingerprint, outcome, version, answer, created_at)
           VALUES ($1, 'resources', $1, $1, 'print', 'succeeded', 1, '', now() - interval '3 days')""",
        operation,
    )
    return operation


async def test_housekeeping_goes_on_after_an_error_that_nobody_thought_of(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "HOUSEKEEPING_S", 0.05)
    database = connections.database
    await database.execute(
        """CREATE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'nobody thought of this'; END $$"""
    )
    await database.execute("CREATE TRIGGER kept BEFORE DELETE ON operations FOR EACH ROW EXECUTE FUNCTION not_now()")
    operation = await old_operation(connections)
    task = asyncio.create_task(worker._housekeeping(connections))
    try:
        await until(lambda: caplog.text.count("old operations stay until the next try") >= 2 or task.done())
        assert not task.done()
        assert "nobody thought of this" in caplog.text
        await database.execute("DROP TRIGGER kept ON operations")

        async def forgotten() -> bool:
            return await Operations(database).find([operation]) == {}

        await until(forgotten)
    finally:
        task.cancel()
        await asyncio.wait((task,))
