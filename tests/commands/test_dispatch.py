"""Sending to a real broker: whatever goes wrong, each record's sender hears of it, and the next ones go out."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from config import Settings
from streams.dispatch import Dispatch
from streams.producer import Broker
from topics import COMMANDS_RESOURCES

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_S = 15.0


class Desk:
    """A dispatch, and what became of each record."""

    def __init__(self, settings: Settings) -> None:
        self.topic = COMMANDS_RESOURCES.full_name(settings.topic_prefix)
        self.broker = Broker(settings, "tests", [self.topic])
        self.dispatch = Dispatch(self.broker)

    def send(self, value: Any, key: bytes = b"key") -> "asyncio.Future[tuple[Exception | None, bool]]":
        future: asyncio.Future[tuple[Exception | None, bool]] = asyncio.get_running_loop().create_future()
        self.dispatch.send(self.topic, key, value, [], lambda error, arrived: future.set_result((error, arrived)))
        return future


@pytest_asyncio.fixture(loop_scope="session")
async def desk(installation: Settings) -> AsyncIterator[Desk]:
    desk = Desk(installation)
    await desk.broker.start()
    yield desk
    await desk.broker.stop()


async def test_what_is_acknowledged_is_told(desk: Desk) -> None:
    async with asyncio.timeout(HANG_S):
        assert await asyncio.gather(*(desk.send(b"x", b"%d" % key) for key in range(50))) == [(None, True)] * 50


async def test_an_error_that_nobody_expected_is_told_and_logged(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(producer: Any, records: Any) -> Any:
        raise ArithmeticError("a defect")

    async with asyncio.timeout(HANG_S):
        with monkeypatch.context() as patch:
            patch.setattr("streams.dispatch._batch", strange)
            error, arrived = await desk.send(b"x")
        assert isinstance(error, ArithmeticError)
        assert not arrived
        assert await desk.send(b"x") == (None, True)
    assert any(record.exc_info for record in caplog.records if record.name == "yeoul.streams.dispatch")


async def test_a_sender_that_fails_to_hear_does_not_take_the_others_along(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)

    def deaf(_error: Exception | None, _arrived: bool) -> None:
        raise RuntimeError("a defect")

    desk.dispatch.send(desk.topic, b"key", b"x", [], deaf)
    async with asyncio.timeout(HANG_S):
        assert await desk.send(b"x") == (None, True)
        assert await desk.send(b"x") == (None, True)
    assert "a defect" in caplog.text
