"""Record batches that Kafka's client can't take apart: where the partition stops, and that it goes on behind them."""

from collections.abc import Sequence

import pytest

from streams.work import MailServerAway, Part
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import Scene, event


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.progress.LIVES_EVERY_S", 0.1)


async def resume(notes: Scene, offset: int) -> None:
    assert await notes.connections.progress.resume(notes.group, notes.name, 0, offset)


async def test_everything_before_it_is_handled_and_the_reason_says_where_to_go_on(scene: MakeScene) -> None:
    notes = await scene(partitions=2)
    await notes.note("a", "b")
    await notes.send_broken(event("c"), event("broken"), event("behind it"), broken=1)
    await notes.note("d")
    await notes.note("other", partition=1)
    async with notes:
        reason = await notes.stops()
        assert reason.startswith("the records 3 to 4 can't be taken apart (UnicodeDecodeError: ")
        assert reason.endswith("); go on at 5")
        await notes.reaches(3, 1)
        assert await notes.notes() == ["a", "b", "c", "other"]
        await resume(notes, 5)
        await notes.reaches(6, 1)
        assert notes.running.state() == "ok"
    assert await notes.notes() == ["a", "b", "c", "d", "other"]
    assert notes.metric("yeoul_stopped_partitions_total") == 1


async def test_a_mail_server_that_is_away_hides_no_stopped_partition(scene: MakeScene) -> None:
    notes = await scene(partitions=2)

    async def no_server(parts: Sequence[Part]) -> None:
        raise MailServerAway("gone")

    await notes.send_broken(event("broken"), broken=0)
    async with notes:
        await notes.stops()
        stopped = "1 partitions are stopped: ./yeoul dead-letters stopped"
        await until(lambda: notes.running.state() == f"ok, but {stopped}")
        notes.plan.gate = no_server
        await notes.note("a", partition=1)
        both = f"ok, but waiting for the mail server: see the log; {stopped}"
        await until(lambda: notes.running.state() == both)
        notes.plan.gate = None
        await until(lambda: notes.running.state() == f"ok, but {stopped}")
        await notes.reaches(0, 1)
    assert await notes.notes() == ["a"]


async def test_a_restart_behind_it_still_knows_what_was_seen(scene: MakeScene) -> None:
    notes = await scene()
    await notes.send_broken(event("broken"), event("behind it"), broken=0)
    await notes.note("a")
    await notes.send_broken(event("b"), event("broken"), broken=1)
    await notes.send_broken(event("broken"), broken=0)
    await notes.note("c")
    await notes.send_broken(event("broken"), broken=0)
    async with notes:
        for begin, go_on in ((0, 2), (4, 5), (5, 6), (7, 8)):
            assert (await notes.stops()).endswith(f"; go on at {go_on}")
            await notes.reaches(begin)
            await resume(notes, go_on)
        await notes.reaches(8)
        assert await notes.notes() == ["a", "b", "c"]
    await notes.note("a", "b", "c", "d")
    async with notes:
        await notes.reaches(12)
        assert notes.running.state() == "ok"
    assert await notes.notes() == ["a", "b", "c", "d"]
    assert notes.counted("repeat") == 3
    assert notes.metric("yeoul_group_restarts_total") == 0


async def test_an_operator_who_goes_on_in_the_middle_of_it_is_told_again(scene: MakeScene) -> None:
    notes = await scene()
    await notes.send_broken(event("a"), event("broken"), event("x"), event("y"), broken=1)
    await notes.note("b")
    async with notes:
        assert (await notes.stops()).startswith("the records 1 to 3 ")
        await resume(notes, 2)
        await notes.reaches(2)
        assert (await notes.stops()).startswith("the records 2 to 3 ")
        await resume(notes, 4)
        await notes.reaches(5)
    assert await notes.notes() == ["a", "b"]
