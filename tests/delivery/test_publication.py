"""Publication when a partition can't be produced to: the others go on, and afterwards nothing is missing."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from config import Settings
from stores import migrations
from stores.aggregates import Commands, Entry, Journal
from stores.progress import Move
from stores.resources import TABLE
from streams import backlog, publisher
from streams.groups import Connections
from streams.publisher import Publication, Publisher
from tests.contracts.harness import HANG_S, Broker, until

GROUP = "tests.publication"


class Owner:
    """A publisher, and the commits whose events it is given; each commit is one command of a partition."""

    def __init__(self, connections: Connections, topic: str, partitions: int) -> None:
        self.connections = connections
        self.topic = topic
        self.topic_id = uuid4()
        self.life = 0
        self.told: dict[int, list[bytes]] = {partition: [] for partition in range(partitions)}
        journal = Journal(connections.database, "resources")
        self.publisher = Publisher(GROUP, connections.broker, topic, connections.progress, journal)
        self.publisher.start()

    async def begin(self) -> None:
        """Rows of a new topic of commands."""
        name = f"commands-{self.topic_id}"
        self.life = await self.connections.progress.life(name, self.topic_id)
        await self.connections.database.execute("DELETE FROM journal")
        await self.connections.database.execute("DELETE FROM progress")
        for partition in self.told:
            await self.connections.progress.begin(GROUP, name, self.topic_id, partition, 0, publishes=True)

    async def take_over(self) -> None:
        for partition in self.told:
            await self.publisher.take_over(partition, self.topic_id)

    async def commit(self, partition: int, *events: bytes, add: bool = True) -> None:
        """The events of one command, in the journal, and told to the publisher."""
        offset = len(self.told[partition])
        tenure = self.publisher.tenure(partition)
        self.told[partition] += [b"|".join(events)]
        entries = [
            Entry(self.life, partition, offset, index, UUID(int=partition), 1, b'"%s"' % event)
            for index, event in enumerate(events)
        ]
        move = Move(
            self.topic_id, partition, offset, offset + 1, self.publisher.take_published(self.topic_id, partition)
        )
        async with self.connections.database.connection() as connection:
            await Commands("resources", TABLE).commit(connection, GROUP, [move], [], entries, [])
        if add:
            records = [(str(entry.aggregate_id).encode(), entry.event) for entry in entries]
            await self.publisher.add([Publication(partition, tenure, offset + 1, records)])

    async def published(self, partition: int) -> None:
        """Waits until a reader that drops repeats has everything of the partition that was told, in order."""
        wanted = [b'"%s"' % event for command in self.told[partition] for event in command.split(b"|")]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.connections.settings.kafka_url)
        await consumer.start()
        found: list[bytes] = []
        try:
            consumer.assign([TopicPartition(self.topic, partition)])
            await consumer.seek_to_beginning()

            async def there() -> bool:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    # What is told twice is told from an earlier place on: the first time of each is in order.
                    found.extend(record.value for record in records if record.value not in found)
                assert found == wanted[: len(found)]
                return len(found) == len(wanted)

            await until(there)
        finally:
            await consumer.stop()

    async def level(self) -> None:
        """Waits until nothing waits, and PostgreSQL knows it."""

        async def known() -> bool:
            rows = await self.connections.database.fetch("SELECT 1 FROM progress WHERE published_offset < next_offset")
            return not rows and not self.publisher.has_work and not self.publisher.behind

        await until(known)


@pytest_asyncio.fixture(loop_scope="session")
async def shared(own_settings: Settings) -> AsyncIterator[Connections]:
    await migrations.apply(own_settings.postgres_url)
    connections = Connections(own_settings, "tests")
    await connections.broker.start()
    yield connections
    await connections.close()


async def owner_of(
    shared: Connections, broker: Broker, partitions: int, there: int | None = None, **configs: str
) -> Owner:
    owner = Owner(shared, await broker.topic(there or partitions, **configs), partitions)
    await owner.begin()
    return owner


async def bound(broker: Broker, topic: str, **configs: str) -> None:
    """Change settings of a topic, once the broker goes by them."""
    named = {key.replace("_", "."): value for key, value in configs.items()}
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, named)
    await broker.admin.alter_configs([resource])

    async def done() -> bool:
        (response,) = await broker.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        entries = {entry[0]: entry[1] for entry in response.resources[0][4]}
        return all(entries[key] == value for key, value in named.items())

    await until(done)


class Producers:
    """The producers that the shared broker has had, one after the other."""

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self.seen: list[AIOKafkaProducer] = []
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            producer = self._shared.broker.producer
            if producer is not None and producer not in self.seen:
                self.seen.append(producer)
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        self._task.cancel()


async def test_a_partition_that_is_not_there_stops_no_other(
    shared: Connections, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one without a leader: nobody takes its records, for as long as that lasts."""
    monkeypatch.setattr(backlog, "MOST_EVENTS", 5)
    owner = await owner_of(shared, broker, partitions=2, there=1)
    await owner.commit(1, b"before the take-over", add=False)
    await owner.take_over()
    producer = shared.broker.producer
    assert owner.publisher.behind == 1
    async with asyncio.timeout(HANG_S):
        for number in range(50):
            await owner.commit(1, b"lost %d" % number, b"and %d" % number)
            await owner.commit(0, b"well %d" % number)
        await owner.published(0)
    await until(lambda: owner.publisher.backing_off)  # so the watchdog lets it wait
    assert owner.publisher.has_work
    assert shared.broker.producer is producer
    await broker.admin.create_partitions({owner.topic: NewPartitions(2)})
    await owner.published(1)
    await owner.level()
    await owner.commit(1, b"after")
    await owner.published(1)
    assert not owner.publisher.backing_off
    assert shared.broker.producer is producer
    await owner.publisher.stop(5.0)


async def test_a_partition_without_an_answer_stops_no_other(
    shared: Connections, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broker alone answers for all partitions or for none, so the one that waits is held here."""
    monkeypatch.setattr(backlog, "MOST_EVENTS", 5)
    owner = await owner_of(shared, broker, partitions=2)
    await owner.take_over()
    answers = asyncio.Event()
    send = Publisher._send

    async def held(publisher: Publisher, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        if partition == 1:
            await answers.wait()
        await send(publisher, partition, records)

    monkeypatch.setattr(Publisher, "_send", held)
    async with asyncio.timeout(HANG_S):
        for number in range(50):
            await owner.commit(1, b"held %d" % number)
            await owner.commit(0, b"well %d" % number)
        await owner.published(0)
    await until(lambda: owner.publisher.behind)
    assert not owner.publisher.backing_off  # nothing that is known to be away: the watchdog looks on
    answers.set()
    await owner.published(1)
    await owner.level()
    await owner.publisher.stop(5.0)


async def test_a_refused_event_holds_up_its_partition_only_and_renews_the_producer_less_and_less_often(
    shared: Connections, broker: Broker
) -> None:
    owner = await owner_of(shared, broker, partitions=2, max_message_bytes="5000")
    await owner.take_over()
    producers = Producers(shared)
    began = asyncio.get_running_loop().time()
    await owner.commit(0, b"small")
    await owner.commit(0, b"x" * 9000)
    number = 0
    while asyncio.get_running_loop().time() < began + 5.0:
        await owner.commit(0, b"behind it %d" % number)
        await owner.commit(1, b"well %d" % number)
        await owner.published(1)
        number += 1
    # A try costs all partitions their producer: at 0, 0.1, 0.3, 0.7, 1.5 and 3.1 s, and so on.
    elapsed = asyncio.get_running_loop().time() - began
    assert 2 <= len(producers.seen) <= 2 + int(math.log2(10 * elapsed + 1))
    for _ in range(3):
        if owner.publisher.backing_off:
            # A try met a broker that counted as away, if only since this process stood still: that is waited for.
            tries = len(producers.seen)
            await owner.publisher.take_over(0, owner.topic_id)
            # The first new one follows a try of before; a second one follows a try of the new tenure.
            await until(lambda tries=tries: len(producers.seen) > tries + 1)  # type: ignore[misc]
    assert not owner.publisher.backing_off  # waiting does not help: the watchdog may end it if nothing else goes on
    await bound(broker, owner.topic, max_message_bytes="8388608")
    await owner.published(0)
    await owner.level()
    producers.stop()
    await owner.publisher.stop(5.0)


async def test_a_partition_that_is_always_busy_becomes_level_again(
    shared: Connections, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await owner_of(shared, broker, partitions=1)
    await owner.commit(0, b"before", add=False)
    after = Journal.after
    number = 0

    async def busy(journal: Journal, *arguments: Any) -> list[Entry]:
        """Whenever the publisher has seen that there is nothing more, there is."""
        nonlocal number
        found = await after(journal, *arguments)
        if not found:
            number += 1
            assert number < 100
            await owner.commit(0, b"meanwhile %d" % number)
        return found

    # A commit in there that is cut off has noted as told what is not there.
    monkeypatch.setattr(publisher, "PATIENCE_S", HANG_S)
    monkeypatch.setattr(Journal, "after", busy)
    await owner.take_over()
    await until(lambda: not owner.publisher.behind)  # a take-over does not wait for it for ever
    await owner.commit(0, b"after")
    await owner.published(0)
    await owner.level()
    await owner.publisher.stop(5.0)


async def test_a_journal_of_large_events_is_published_in_chunks(
    shared: Connections, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await owner_of(shared, broker, partitions=1)
    for number in range(12):
        await owner.commit(0, b"%d " % number + bytes([97 + number]) * (2 << 20), add=False)
    sent: list[int] = []
    send = Publisher._send

    async def noting(publisher: Publisher, partition: int, records: list[tuple[bytes, bytes]]) -> None:
        sent.append(sum(len(value) for _key, value in records))
        await send(publisher, partition, records)

    monkeypatch.setattr(Publisher, "_send", noting)
    await owner.take_over()
    await owner.published(0)
    await owner.level()
    assert len(sent) == 4
    assert max(sent) <= 8 << 20
    await owner.publisher.stop(5.0)


async def test_so_many_bytes_may_wait(shared: Connections, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_BYTES", 100)
    waiting = backlog.Backlog()
    tenure = backlog.Tenure(uuid4())
    waiting.put(Publication(0, tenure, 1, [(b"k", b"x" * 60)]))
    waiting.put(Publication(1, tenure, 1, []))
    await asyncio.wait_for(waiting.room(), 1)
    waiting.put(Publication(1, tenure, 2, [(b"k", b"x" * 60)]))
    room = asyncio.create_task(waiting.room())
    await asyncio.wait([room], timeout=0)
    assert not room.done()
    assert waiting.take({0}).keys() == {1}
    await asyncio.wait_for(room, 1)
    assert 0 in waiting
    waiting.drop()
    assert not waiting
