"""What follows a commit, and what is said of it: nothing before it is true, and a failure once."""

import pytest

from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene


async def test_a_failure_behind_a_commit_is_told_once_and_costs_nothing(
    scene: MakeScene, caplog: pytest.LogCaptureFixture
) -> None:
    notes = await scene()
    notes.plan.after_fails = 1
    async with notes:
        for number, id in enumerate("abcd"):
            await notes.note(id)
            await notes.reaches(number + 1)
    assert await notes.notes() == ["a", "b", "c", "d"]
    assert caplog.text.count("ZeroDivisionError: behind the commit") == 1
    assert f"{notes.group}: what follows a commit failed" in caplog.text
    assert "a batch failed as a whole" not in caplog.text


async def test_a_failure_behind_the_last_commit_is_told_when_the_group_stops(
    scene: MakeScene, caplog: pytest.LogCaptureFixture
) -> None:
    notes = await scene()
    notes.plan.after_fails = 1
    await notes.note("a")
    async with notes:
        await notes.reaches(1)
    assert caplog.text.count("ZeroDivisionError: behind the commit") == 1
    assert f"{notes.group} crashed" not in caplog.text


async def test_parked_is_said_of_what_was_parked(scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    notes = await scene()
    notes.plan.poison = {"a"}
    said = f"parked {notes.name}/0@0"
    await notes.note("a")
    async with notes.connections.database.connection() as other, notes:
        async with other.transaction():
            await other.execute("LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")

            async def waits() -> bool:
                row = await notes.connections.database.fetchrow(
                    "SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND relation = 'dead_letters'::regclass"
                )
                return bool(row["n"])

            await until(waits)
            assert said not in caplog.text
        await notes.reaches(1)
        await until(lambda: said in caplog.text)
    assert "ValueError: a is poison" in caplog.text
