"""Whoever waits is answered: with what a worker of any version wrote, or at the latest when the wait is over."""

import asyncio
import logging
import os
import signal

import msgspec
import pytest

from domain.refusals import Code, Detail, Problem, Refusal
from embedded.stack import Stack
from streams.answers import Inbox, Sent, write, write_refusal
from streams.markers import Attempt
from streams.publish import Answer, Pending
from streams.waiting import Waiter
from tests.commands.conftest import Path

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_S = 15.0
"""Bounds what hangs; nothing that works takes this long."""


def told(code: str, **more: object) -> bytes:
    return msgspec.json.encode({"code": code, **more})


async def test_a_code_that_only_a_newer_worker_knows_is_shown_with_its_status(path: Path) -> None:
    order = path.order()
    details = [{"field": "a", "problem": "too_long", "allowed": "3"}, {"field": "b", "problem": "too_blue"}]
    await path.done(order, "refused", told("OF_TOMORROW", status=409, details=details))
    async with asyncio.timeout(HANG_S):
        answer = await path.commands.submit(order, wait=5)
    assert isinstance(answer, Answer)
    assert answer.outcome == "refused"
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.status) == (Code.REFUSED, 409)
    assert answer.refusal.details == (Detail("a", Problem.TOO_LONG, "3"), Detail("b", Problem.INVALID))
    assert await path.commands.find(order.operation, order.actor) == answer


@pytest.mark.parametrize(
    ("outcome", "answer", "code", "status"),
    [
        ("refused", told("OF_TOMORROW"), Code.REFUSED, 422),
        ("refused", told("OF_TOMORROW", status=200), Code.REFUSED, 422),
        ("refused", told("STALE_VERSION", status=499), Code.STALE_VERSION, 412),
        ("refused", b"no JSON", Code.REFUSED, 422),
        ("refused", told("NOT_FOUND", details="some"), Code.REFUSED, 422),
        ("failed", told("OF_TOMORROW"), Code.OPERATION_FAILED, 500),
        ("failed", b"", Code.OPERATION_FAILED, 500),
    ],
)
async def test_whatever_a_row_holds_is_readable(
    path: Path, outcome: str, answer: bytes, code: Code, status: int
) -> None:
    order = path.order()
    await path.done(order, outcome, answer)
    async with asyncio.timeout(HANG_S):
        found = await path.commands.submit(order, wait=5)
    assert isinstance(found, Answer)
    assert found.refusal is not None
    assert (found.outcome, found.refusal.code, found.refusal.status) == (outcome, code, status)


async def test_the_wait_ends_whatever_becomes_of_the_looks(path: Path) -> None:
    await path.stores.database.execute("ALTER TABLE operations RENAME COLUMN answer TO reply")
    try:
        order = path.order()
        async with asyncio.timeout(HANG_S):  # the wait, its grace, and time for a slow machine
            assert await path.commands.submit(order, wait=1) == Pending(order.operation)
    finally:
        await path.stores.database.execute("ALTER TABLE operations RENAME COLUMN reply TO answer")


async def test_a_look_that_fails_is_followed_by_others(path: Path) -> None:
    order = path.order()
    await path.stores.database.execute("ALTER TABLE operations RENAME COLUMN answer TO reply")
    waiting = asyncio.create_task(path.commands.submit(order, wait=10))
    await asyncio.sleep(0.8)  # looks begin after 0.3 s
    await path.stores.database.execute("ALTER TABLE operations RENAME COLUMN reply TO answer")
    await path.done(order, "succeeded", b'{"id":1}')
    async with asyncio.timeout(HANG_S):
        answer = await waiting
    assert isinstance(answer, Answer)
    assert answer.document == b'{"id":1}'


@pytest.mark.parametrize(
    "message",
    [
        b"\xc1 no message",
        msgspec.msgpack.encode([["not", "an", "answer"]]),
        write([Sent(Path.order().operation, "vanished", False, 1, b"")]),  # type: ignore[arg-type]
        write([Sent(Path.order().operation, "refused", False, 1, told("OF_TOMORROW"))]),
    ],
    ids=["no MessagePack", "another shape", "another outcome", "another code"],
)
async def test_a_message_that_nobody_understands_leaves_the_listener_alive(
    path: Path, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    inbox = path.commands._inbox
    async with asyncio.timeout(HANG_S):
        while not inbox.listening:
            await asyncio.sleep(0.02)
    for _ in range(3):
        assert await path.stores.redis.client.publish(inbox.channel, message) == 1
    order = path.order()
    waiting = asyncio.create_task(path.commands.submit(order, wait=10))
    # The table has nothing of it: only the channel can bring this answer.
    good = write([Sent(order.operation, "succeeded", False, 7, b"{}")])
    while not waiting.done():
        assert await path.stores.redis.client.publish(inbox.channel, good) == 1
        await asyncio.wait([waiting], timeout=0.05)
    answer = waiting.result()
    assert isinstance(answer, Answer)
    assert answer.version == 7
    assert inbox.listening
    assert len([record for record in caplog.records if record.name == "yeoul.streams.answers"]) <= 1


async def test_each_of_two_that_wait_under_one_key_is_given_its_own_answer(path: Path) -> None:
    """A front that has no marker of the key knows of neither that there is the other."""
    first = path.order()
    other = msgspec.structs.replace(first, fingerprint="another body")
    waiting = [asyncio.create_task(path.commands.submit(order, wait=20)) for order in (first, other)]
    reused = write_refusal(Refusal(Code.KEY_REUSED))
    # The table has nothing of it: only the channel can bring these answers. As a worker answers a batch of both.
    answers = write(
        [
            Sent(first.operation, "succeeded", False, 1, b'{"id":1}', first.fingerprint),
            Sent(first.operation, "refused", False, 0, reused, other.fingerprint),
        ]
    )
    one, two = await answered(path, answers, waiting)
    assert (one.outcome, one.document) == ("succeeded", b'{"id":1}')
    assert (two.outcome, two.refusal) == ("refused", Refusal(Code.KEY_REUSED))


async def test_an_answer_that_names_no_command_is_for_whoever_waits(path: Path) -> None:
    """Fronts are deployed after workers, and yet a worker of before may be there for a while."""
    order = path.order()
    waiting = asyncio.create_task(path.commands.submit(order, wait=20))
    (answer,) = await answered(
        path, msgspec.msgpack.encode([[order.operation, "succeeded", False, 1, b"{}"]]), [waiting]
    )
    assert (answer.outcome, answer.document) == ("succeeded", b"{}")


@pytest.mark.parametrize("lost", [None, TimeoutError("no word of Kafka")], ids=["acknowledged", "not acknowledged"])
async def test_who_does_not_wait_is_told_the_same_when_the_answer_is_quicker_than_kafka(
    path: Path, lost: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, order = path.commands._sent, path.order(keyed=True)

    def late(waiter: Waiter, attempt: Attempt, span: None, _error: Exception | None, arrived: bool) -> None:
        """What Kafka has to say is heard after what the worker said."""
        path.commands._waiting.deliver(Answer(order.operation, "succeeded", False, b"{}", 1), order.fingerprint)
        sent(waiter, attempt, span, lost, arrived)

    monkeypatch.setattr(path.commands, "_sent", late)
    async with asyncio.timeout(HANG_S):
        assert await path.commands.submit(order, wait=0) == Pending(order.operation)
    await asyncio.gather(*path.commands._tasks)
    # It has arrived, so it is not lost, whatever Kafka says.
    assert await path.commands.find(order.operation, order.actor) == Pending(order.operation)


async def answered(path: Path, message: bytes, waiting: list[asyncio.Task[Answer | Pending]]) -> list[Answer]:
    """What those who wait are told by this message, sent until they have heard it."""
    async with asyncio.timeout(HANG_S):
        while not all(task.done() for task in waiting):
            await path.stores.redis.client.publish(path.commands._inbox.channel, message)
            await asyncio.wait(waiting, timeout=0.05)
    answers = [task.result() for task in waiting]
    assert all(isinstance(answer, Answer) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Answer)]


async def test_a_listener_that_dies_is_started_again(path: Path) -> None:
    heard: list[Answer] = []
    raised: list[BaseException] = [RuntimeError("a defect"), asyncio.CancelledError()]

    def deliver(answer: Answer, _fingerprint: str) -> None:
        if raised:
            raise raised.pop()
        heard.append(answer)

    inbox = Inbox(path.stores.redis, f"{path.settings.topic_prefix}:answers:test", deliver)
    await inbox.start()

    async def hears() -> None:
        before = len(heard)
        good = write([Sent(path.order().operation, "succeeded", False, 1, b"{}")])
        async with asyncio.timeout(HANG_S):
            while len(heard) == before:
                await path.stores.redis.client.publish(inbox.channel, good)
                await asyncio.sleep(0.02)

    try:
        await hears()
        assert raised == []
        outages = path.stores.redis.outages
        await path.stores.redis.client.client_kill_filter(_type="pubsub")
        await hears()
        assert inbox.listening
        assert path.stores.redis.outages > outages
    finally:
        await inbox.stop()


async def test_a_front_that_asks_nothing_notices_a_frozen_redis(path: Path, stack: Stack) -> None:
    outages = path.stores.redis.outages
    os.kill(stack.pids["valkey"], signal.SIGSTOP)
    try:
        async with asyncio.timeout(HANG_S):
            while path.stores.redis.outages == outages:
                await asyncio.sleep(0.02)
        assert not path.commands._inbox.listening
    finally:
        os.kill(stack.pids["valkey"], signal.SIGCONT)
    async with asyncio.timeout(HANG_S):
        while not path.commands._inbox.listening:
            await asyncio.sleep(0.02)
