"""The group of resources at work, for tests of commands."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.resources import NOUN
from config import Settings
from domain.resources import CreateResource, Resource
from security.signatures import sign
from stores.aggregates import Operation, Operations
from stores.cache import Cache
from stores.dead_letters import Parked
from stores.resources import Resources
from streams.envelope import SIGNATURE, Command, Event, write
from streams.groups import CommandGroup, Connections
from streams.replay import replay
from streams.runtime import Running
from tests.contracts.harness import Broker, until
from tests.stores.given import letters as letters_of
from topics import COMMANDS_RESOURCES, EVENTS_RESOURCES

OWNER = UUID(int=0xA)


class Desk:
    """The group of resources at work, with a decision that fails for titles in `poison`."""

    def __init__(self, settings: Settings, connections: Connections, broker: Broker) -> None:
        self.settings = settings
        self.connections = connections
        self.poison: set[str] = set()
        self.idle: set[str] = set()
        """Titles for which nothing has to happen."""
        self._broker = broker
        self.topic = COMMANDS_RESOURCES.full_name(settings.topic_prefix)
        self.group = f"{settings.topic_prefix}.resources"
        self.running = Running(
            connections, CommandGroup("resources", msgspec.structs.replace(NOUN, decide=self._decide))
        )

    def _decide(self, state: Any, command: Any, context: Any) -> Any:
        if getattr(command, "title", None) in self.poison:
            raise RuntimeError(f"{command.title} is poison")
        if isinstance(command, CreateResource) and command.title in self.idle:
            return ()
        return NOUN.decide(state, command, context)

    def command(self, title: str, **changes: Any) -> Command:
        operation = uuid4()
        data = msgspec.json.encode({"kind": "note", "title": title, "visibility": "public"})
        made = Command(
            id=str(operation), source="/yeoul/web", type="create_resource", subject=uuid4(), time=datetime.now(UTC),
            operation=operation, data=msgspec.Raw(data), actor=OWNER, actorrole="user", fingerprint="print",
        )  # fmt: skip
        return msgspec.structs.replace(made, **changes)

    async def send(
        self, value: Command | bytes | None, *, key: bytes | None = None, signed: bool = True, partition: int = 0
    ) -> None:
        if isinstance(value, Command):
            key = str(value.subject).encode() if key is None else key
            value = write(value)
        headers = []
        if signed:
            signature = sign(self.settings.command_key, b"resources", key or b"", value or b"")
            headers = [(SIGNATURE, signature.encode())]
        await self._broker.producer.send_and_wait(self.topic, value, key, partition=partition, headers=headers)

    async def done(self, command: Command) -> Operation:
        async def found() -> Operation | None:
            operations = await Operations(self.connections.database).find([command.operation])
            return operations.get(command.operation)

        operation = await until(found)
        assert isinstance(operation, Operation)
        return operation

    async def letters(self, count: int) -> list[Parked]:
        async def there() -> list[Parked] | None:
            found = await letters_of(self.connections.dead_letters, group=self.group)
            return found if len(found) == count else None

        letters: list[Parked] = await until(there)
        return letters

    async def replay(self, *letters: Parked) -> dict[int, str]:
        """As the command line sends them again."""
        store = self.connections.dead_letters
        return await replay(self.settings, store, await store.named([letter.id for letter in letters]))

    async def published(self, count: int, partition: int = 0) -> list[Event]:
        """The first events of a partition of the events' topic."""
        name = EVENTS_RESOURCES.full_name(self.settings.topic_prefix)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_url, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(name, partition)])
            found: list[ConsumerRecord] = []

            async def there() -> bool:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.extend(records)
                return len(found) >= count

            await until(there)
            return [msgspec.json.decode(record.value, type=Event) for record in found]
        finally:
            await consumer.stop()

    async def rows(self) -> list[Resource]:
        """The resources there are."""
        found = await self.connections.database.fetch("SELECT id FROM resources")
        states = await Resources(self.connections.database, Cache(self.connections.redis)).states(
            [row["id"] for row in found]
        )
        return list(states.values())
