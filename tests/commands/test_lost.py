"""What the front says of a command when Kafka refused it, went away, or may have it or not."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from config import Settings
from embedded.stack import Stack
from streams import producer, publish, waiting
from streams.protocol import topic_info
from streams.publish import Answer, BrokerAway, Commands, Conflict, Order, Pending
from tests.commands.conftest import Clock, Path, records
from topics import COMMANDS_RESOURCES

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_S = 60.0
LARGE = msgspec.json.encode({"kind": "note", "body": "x" * 20_000})
Limit = Callable[[int], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session")
async def limit(installation: Settings) -> AsyncIterator[Limit]:
    """Sets the largest record batch that the broker takes of commands: what is larger it refuses for good."""
    topic = COMMANDS_RESOURCES.full_name(installation.topic_prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=installation.kafka_url)
    sender = AIOKafkaProducer(bootstrap_servers=installation.kafka_url)
    await admin.start()
    await sender.start()

    async def refused() -> bool:
        try:
            await sender.send_and_wait(topic, LARGE, b"key")
        except MessageSizeTooLargeError:
            return True
        return False

    async def set_to(size: int) -> None:
        configs = {"max.message.bytes": str(size), "cleanup.policy": COMMANDS_RESOURCES.cleanup}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
        async with asyncio.timeout(HANG_S):
            while await refused() != (size < len(LARGE)):
                await asyncio.sleep(0.02)

    yield set_to
    await set_to(COMMANDS_RESOURCES.max_bytes)
    await sender.stop()
    await admin.close()


async def shown(path: Path, order: Order) -> str | None:
    """What `GET /operations/{id}` makes its status of; None for 404."""
    found = await path.commands.find(order.operation, order.actor)
    return found.outcome if isinstance(found, Answer) else "pending" if isinstance(found, Pending) else None


async def until_shown(path: Path, order: Order, status: str | None) -> None:
    async with asyncio.timeout(HANG_S):
        while await shown(path, order) != status:
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def frozen(path: Path, stack: Stack) -> AsyncIterator[None]:
    """Kafka stands still, and has answered its last request."""
    sender = path.commands.broker.producer
    assert sender is not None
    os.kill(stack.pids["kafka"], signal.SIGSTOP)
    try:
        with contextlib.suppress(TimeoutError):
            while True:  # it does not stop at the very moment
                await asyncio.wait_for(topic_info(sender.client, []), 0.1)
        yield
    finally:
        if "kafka" in stack.pids:  # it was not killed meanwhile
            os.kill(stack.pids["kafka"], signal.SIGCONT)


async def taken_once(path: Path, before: int, order: Order, *others: Order) -> None:
    """Wait until Kafka has the order, beside `before` records; of the others it has none.

    A command behind each, in the same partition, has come: so nothing of them comes later.
    """
    async with asyncio.timeout(HANG_S):
        while await records(path.settings) == before:
            await asyncio.sleep(0.1)
    await until_there(path)
    for one in (order, *others):
        after = path.order(aggregate_id=one.aggregate_id)
        assert await path.commands.submit(after, wait=0) == Pending(after.operation)
    assert await records(path.settings) == before + 1 + len((order, *others))


async def until_there(path: Path) -> None:
    """Wait until the front sees Kafka again."""
    async with asyncio.timeout(HANG_S):
        while path.commands.broker.away is not None:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "keyed"])
async def test_a_command_that_kafka_refused_is_answered_early_and_shows_as_failed(
    path: Path, limit: Limit, keyed: bool
) -> None:
    await limit(5_000)
    order, clock = path.order(keyed=keyed, data=LARGE), Clock()
    assert await path.commands.submit(order, wait=20) == Pending(order.operation)
    assert clock.took < 18
    assert await shown(path, order) == "failed"


async def test_who_does_not_wait_is_told_of_it_too(path: Path, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (waiting, publish):
        monkeypatch.setattr(module, "SENT_S", HANG_S)
    await limit(5_000)
    order, clock = path.order(data=LARGE), Clock()
    assert await path.commands.submit(order, wait=0) == Pending(order.operation)
    assert clock.took < HANG_S / 2  # not when its time was over
    assert await shown(path, order) == "failed"


async def test_the_next_commands_of_the_partition_get_to_kafka(path: Path, limit: Limit) -> None:
    """The broker counts what a producer sends to a partition: after a record that it refused, the count is wrong."""
    await limit(5_000)
    first = path.order()
    large = path.order(data=LARGE, aggregate_id=first.aggregate_id)
    await path.commands.submit(first, wait=0)
    await path.commands.submit(large, wait=20)
    before = await records(path.settings)
    for _ in range(3):
        order = path.order(aggregate_id=large.aggregate_id)
        assert await path.commands.submit(order, wait=0) == Pending(order.operation)
        assert await shown(path, order) == "pending"
    assert await records(path.settings) == before + 3


async def test_a_retry_that_is_taken_is_pending_again(path: Path, limit: Limit) -> None:
    await limit(5_000)
    order = path.order(keyed=True, data=LARGE)
    await path.commands.submit(order, wait=20)
    assert await shown(path, order) == "failed"
    await limit(COMMANDS_RESOURCES.max_bytes)
    assert await path.commands.submit(order, wait=0) == Pending(order.operation)
    assert await shown(path, order) == "pending"
    with pytest.raises(Conflict):
        await path.commands.submit(order, wait=0)


async def test_a_retry_that_is_lost_leaves_the_first_try_running(path: Path, limit: Limit, soon_old: None) -> None:
    order = path.order(keyed=True)
    await path.commands.submit(order, wait=0)
    await limit(5_000)
    again = msgspec.structs.replace(order, data=LARGE)
    assert await path.commands.submit(again, wait=20) == Pending(order.operation)
    assert await shown(path, order) == "pending"


async def test_what_arrived_all_the_same_is_answered_from_the_table(path: Path, limit: Limit) -> None:
    await limit(5_000)
    order = path.order(data=LARGE)
    await path.done(order, "succeeded", b'{"id":1}')  # nobody looks for it before Kafka has refused it
    answer = await path.commands.submit(order, wait=20)
    assert isinstance(answer, Answer)
    assert answer.document == b'{"id":1}'
    assert await shown(path, order) == "succeeded"

    lost = path.order(keyed=True, data=LARGE)
    assert await path.commands.submit(lost, wait=20) == Pending(lost.operation)
    assert await shown(path, lost) == "failed"
    await path.done(lost, "succeeded", b'{"id":2}')
    assert await shown(path, lost) == "succeeded"


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "keyed"])
async def test_the_operation_of_a_late_loss_turns_from_pending_to_failed(
    path: Path, limit: Limit, stack: Stack, keyed: bool
) -> None:
    await limit(5_000)
    order = path.order(keyed=keyed, data=LARGE)
    async with frozen(path, stack):
        assert await path.commands.submit(order, wait=0.4) == Pending(order.operation)
        assert await shown(path, order) == "pending"
    await until_shown(path, order, "failed")
    await until_there(path)


async def test_a_command_under_way_when_kafka_crashes_is_pending_and_arrives_once(path: Path, stack: Stack) -> None:
    before = await records(path.settings)
    order = path.order()
    async with frozen(path, stack):
        assert await path.commands.submit(order, wait=0.4) == Pending(order.operation)
        await stack.kill("kafka")
        await stack.start("kafka")
    await taken_once(path, before, order)
    assert await shown(path, order) == "pending"


async def test_what_never_left_leaves_no_trace(path: Path) -> None:
    order = path.order(keyed=True)
    async with without_producer(path):
        with pytest.raises(BrokerAway):
            await path.commands.submit(order, wait=1)
    await until_shown(path, order, None)


async def test_a_retry_that_never_left_leaves_what_was_known(path: Path, limit: Limit, soon_old: None) -> None:
    taken, lost = path.order(keyed=True), path.order(keyed=True, data=LARGE)
    await path.commands.submit(taken, wait=0)
    await limit(5_000)
    await path.commands.submit(lost, wait=20)
    async with without_producer(path):
        for order in (taken, lost):
            with pytest.raises(BrokerAway):
                await path.commands.submit(order, wait=1)
    await until_shown(path, taken, "pending")
    await until_shown(path, lost, "failed")


async def test_what_has_not_left_is_never_answered_with_202(
    path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, order, keyed = path.order(), path.order(), path.order(keyed=True)
    before = await records(path.settings)
    async with frozen(path, stack):
        sent = asyncio.create_task(path.commands.submit(first, wait=0.3))
        await asyncio.sleep(0.02)
        # Behind the first, which is under way: these wait in the front, until the broker is found to be away.
        monkeypatch.setattr(publish, "SENT_S", HANG_S)  # nothing else may end their wait
        answers = await asyncio.gather(
            *(path.commands.submit(one, wait=0.1) for one in (order, keyed)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [BrokerAway, BrokerAway]
        await sent
        await until_shown(path, keyed, None)
        assert await shown(path, order) is None
        assert await shown(path, first) == "pending"
    await taken_once(path, before, first, order, keyed)


async def test_a_caller_with_little_patience_is_told_202_once_its_command_has_left(
    path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "PROBE_TIMEOUT_S", HANG_S)  # the broker is not found to be away
    first, order = path.order(), path.order()
    async with frozen(path, stack):
        sent = asyncio.create_task(path.commands.submit(first, wait=0.01))
        await asyncio.sleep(0.02)
        sending = asyncio.create_task(path.commands.submit(order, wait=0.01))
        async with asyncio.timeout(HANG_S):
            await sent
        await asyncio.sleep(0.2)
        assert not sending.done()
    assert await sending == Pending(order.operation)


async def test_what_may_have_arrived_when_kafka_went_away_for_long_is_sent_once_it_is_back(
    path: Path, stack: Stack
) -> None:
    before = await records(path.settings)
    first, behind = path.order(), path.order()
    async with frozen(path, stack):
        sent = asyncio.create_task(path.commands.submit(first, wait=0.3))
        await asyncio.sleep(0.02)
        given_back = asyncio.create_task(path.commands.submit(behind, wait=0.3))
        await sent
        await stack.kill("kafka")
        # As aiokafka does when its time for a request is over: the producer is given up, and none can be made.
        await path.commands.broker.renew(path.commands.broker.producer)
        with pytest.raises(BrokerAway):
            await given_back
        assert await shown(path, first) == "pending"
        await stack.start("kafka")
    await taken_once(path, before, first, behind)
    assert await shown(path, first) == "pending"


@pytest.mark.parametrize("kept", [True, False], ids=["kept for Kafka", "still in a producer"])
async def test_what_is_under_way_when_the_front_stops_shows_as_failed(
    path: Path, stack: Stack, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "STOP_S", HANG_S / 2)  # what it has to write last may take longer here
    order = path.order(keyed=True)
    async with contextlib.AsyncExitStack() as ending:
        ending.push_async_callback(until_there, path)
        ending.push_async_callback(stack.start, "kafka")
        async with Commands.open(path.settings, path.stores) as stopping:
            async with frozen(Path(path.settings, path.stores, stopping), stack):
                assert await stopping.submit(order, wait=0.3) == Pending(order.operation)
                await stack.kill("kafka")
            if kept:
                await stopping.broker.renew(stopping.broker.producer)
            assert await shown(path, order) == "pending"
        assert await shown(path, order) == "failed"


async def test_an_operation_that_was_forgotten_is_unknown_although_its_marker_stands(
    path: Path, soon_old: None
) -> None:
    order = path.order(keyed=True)
    waiting = asyncio.create_task(path.commands.submit(order, wait=10))
    await path.done(order, "succeeded", b"{}")
    assert isinstance(await waiting, Answer)
    key = path.commands._markers.key(order.operation)
    deadline = time.monotonic() + HANG_S
    while b"done" not in (await path.stores.redis.client.get(key) or b""):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await path.stores.database.execute("DELETE FROM operations WHERE operation = $1", order.operation)
    assert await shown(path, order) is None


async def test_a_marker_of_another_version_counts_as_none(path: Path) -> None:
    order = path.order(keyed=True)
    await path.stores.redis.client.set(path.commands._markers.key(order.operation), b"\xc1 another version", ex=60)
    assert await shown(path, order) is None
    assert await path.commands.submit(order, wait=0) == Pending(order.operation)
    assert await shown(path, order) == "pending"


class without_producer:  # noqa: N801 - reads as what it is where it is used
    """As while a producer is being replaced: nothing can leave, and nothing is known to be wrong."""

    def __init__(self, path: Path) -> None:
        self._broker = path.commands.broker

    async def __aenter__(self) -> None:
        await self._broker._probing.acquire()
        self._producer, self._broker.producer = self._broker.producer, None

    async def __aexit__(self, *_: object) -> None:
        self._broker.producer = self._producer
        self._broker._probing.release()
