"""PostgreSQL refuses and no record is to blame: the batch waits, the group is not ready, and nothing is parked."""

import aiohttp
import msgspec
import pytest

from embedded.state import free_port
from streams.health import Health
from tests import defects
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene


def raising(sqlstate: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = '{sqlstate}'; END $$"


@pytest.mark.parametrize(
    "sqlstate",
    ["40001", "40P01", "53200", "53400", "57014", "57P05", "58030", "08006", "55P03", "25P03"],
)
async def test_what_passes_by_itself_is_waited_for(
    scene: MakeScene, sqlstate: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes = await scene()
    await notes.note("a", "b")
    notes.plan.statement = raising(sqlstate)
    async with notes:
        await until(lambda: notes.plan.calls >= 4)
        assert notes.running.state() == "waiting for the stores"
        notes.plan.statement = None
        await notes.reaches(2)
        await until(lambda: notes.running.state() == "ok")
    assert (await notes.notes(), await notes.letters()) == (["a", "b"], [])
    assert caplog.text.count(f"{notes.group} waits: ") == 1
    assert notes.metric("yeoul_store_waits_total") >= 3


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM made_by_the_next_migration", 'relation "made_by_the_next_migration" does not exist'),
        ("SELECT no_such_column FROM notes", 'column "no_such_column" does not exist'),
        (raising("42501"), "as if"),
        (raising("3F000"), "as if"),
        (raising("3D000"), "as if"),
        (raising("28000"), "as if"),
    ],
)
async def test_what_an_operator_has_to_mend_is_waited_for_and_told(
    scene: MakeScene, statement: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes = await scene()
    await notes.note("a", "b")
    notes.plan.statement = statement
    async with notes:
        await until(lambda: notes.plan.calls >= 4)
        assert notes.running.state() == f"waiting for an operator: {says}"
        assert caplog.text.count(f"{notes.group} waits for an operator: {says}") == 1
        notes.plan.statement = None
        await notes.reaches(2)
        await until(lambda: notes.running.state() == "ok")
    assert (await notes.notes(), await notes.letters()) == (["a", "b"], [])


async def test_a_table_that_is_made_meanwhile_is_enough(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note("a")
    notes.plan.statement = "SELECT * FROM made_later"
    async with notes:
        await until(lambda: notes.running.state().startswith("waiting for an operator"))
        await notes.connections.database.execute("CREATE TABLE made_later (id int)")
        await notes.reaches(1)
    assert await notes.notes() == ["a"]


@pytest.mark.parametrize("sqlstate", ["22012", "23505", "23514", "54000", "P0001"])
async def test_what_the_record_is_to_blame_for_is_parked(scene: MakeScene, sqlstate: str) -> None:
    notes = await scene()
    await notes.note("a")
    notes.plan.statement = raising(sqlstate)
    async with notes:
        await notes.reaches(1)
    assert [letter.code for letter in await notes.letters()] == ["handler_failed"]


async def test_a_worker_that_stops_meanwhile_lets_the_batch_go(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note("a")
    notes.plan.statement = "SELECT * FROM nowhere"
    async with notes:
        await until(lambda: notes.running.state().startswith("waiting for an operator"))
    assert (await notes.notes(), await notes.letters()) == ([], [])
    notes.plan.statement = None
    async with notes:
        await notes.reaches(1)
    assert await notes.notes() == ["a"]


@pytest.mark.parametrize("table", ["progress", "topic_lives", "dead_letters"])
async def test_a_table_that_is_missing_at_the_start_is_waited_for(
    scene: MakeScene, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a worker is deployed before its migration."""
    notes = await scene()
    await notes.note("a")
    given = notes.connections.settings
    url = given.postgres_url + "&password=does%20not"
    settings = msgspec.structs.replace(given, metrics_port=free_port(), postgres_url=url)
    says = f'waiting for an operator: relation "{table}" does not exist'
    async with notes:
        health = Health(settings, notes.connections, [notes.running])
        await health.start()
        await notes.reaches(1)  # so that there is something to look back at, for which dead letters are asked
        await notes.stop()
        await notes.note("b")
        await notes.connections.database.execute(f"ALTER TABLE {table} RENAME TO {table}_of_later")
        try:
            await notes.start()
            health._running = [notes.running]
            await until(lambda: notes.running.state() == says)
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{settings.metrics_port}/readyz") as answer,
            ):
                shown = (await answer.json())["checks"][notes.group]
                assert (answer.status, shown) == (503, says.replace("does not", "***"))
        finally:
            await notes.connections.database.execute(f"ALTER TABLE {table}_of_later RENAME TO {table}")
        await notes.reaches(2)
        await until(lambda: notes.running.state() == "ok")
        await health.stop()
    assert (await notes.notes(), await notes.letters()) == (["a", "b"], [])
    assert notes.metric("yeoul_group_restarts_total") == 0
    assert [record for record in caplog.records if record.exc_info and not defects.is_left(record)] == []
