"""What a group is: what it reads, and how its parts are put together from what its process shares."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import topics
from config import Settings
from stores.aggregates import Journal
from stores.cache import Cache
from stores.dead_letters import DeadLetters
from stores.postgres import Database, of
from stores.progress import ProgressStore
from stores.redis import Redis
from streams.decisions import Decisions, Noun
from streams.producer import Broker
from streams.progress import Progress
from streams.publisher import Publisher
from streams.readers import Reader
from streams.recent import LookBack
from streams.work import Handler
from topics import Topic


class Connections:
    """What the groups of one process share."""

    def __init__(self, settings: Settings, process: str) -> None:
        self.settings = settings
        self.database: Database = of(settings, process, patience_s=30.0)
        self.redis = Redis(settings)
        self.cache = Cache(self.redis)
        self.progress = ProgressStore(self.database)
        self.dead_letters = DeadLetters(self.database)
        # Of no topic: each group finds out about those that it needs itself, and one that is missing stops no other.
        self.broker = Broker(settings, process, [])

    async def close(self) -> None:
        """Close them all."""
        await self.broker.stop()
        await self.cache.close()
        await self.database.close()
        await self.redis.close()


class Group(Protocol):
    """A subscriber: what it reads, and the handler of its records."""

    name: str
    topics: tuple[Topic, ...]
    start: Literal["beginning", "end"]
    read_ahead: bool
    max_records: int
    gather_s: float

    def assemble(self, connections: Connections, full_name: str, named: Mapping[str, Topic]) -> "Assembly":
        """Progress, handler and publisher of this group."""


class Assembly:
    """The parts of a running group."""

    def __init__(self, progress: Progress, handler: Handler, publisher: Publisher | None) -> None:
        self.progress = progress
        self.handler = handler
        self.publisher = publisher


class CommandGroup:
    """The owner of a noun: its commands in, its events out."""

    start: Literal["beginning", "end"] = "beginning"
    read_ahead = False
    max_records = 1000
    """More would not commit faster, and whoever waits for an answer waits for the whole batch."""
    gather_s = 0.0

    def __init__(self, noun_name: str, noun: Noun, decisions: type[Decisions] = Decisions) -> None:
        self.name = noun_name
        self.topics: tuple[Topic, ...] = (topics.COMMANDS_OF[noun_name],)
        self._noun = noun
        self._decisions = decisions

    def assemble(self, connections: Connections, full_name: str, named: Mapping[str, Topic]) -> Assembly:
        """See Group.assemble."""
        settings = connections.settings
        events = topics.EVENTS_OF[self.name].full_name(settings.topic_prefix)
        journal = Journal(connections.database, self.name)
        publisher = Publisher(full_name, connections.broker, events, connections.progress, journal)
        progress = Progress(
            full_name,
            named,
            connections.progress,
            take_over=publisher.take_over,
            release=publisher.release,
        )
        decisions = self._decisions(
            self._noun, full_name, connections.database, connections.cache, progress, publisher, settings.command_key
        )
        return Assembly(progress, decisions, publisher)


class ReaderGroup:
    """A reader of events. `build` makes its handler from what the process shares and the group's full name."""

    def __init__(
        self, name: str, read: tuple[Topic, ...], build: Callable[[Connections, str], Reader], *,
        start: Literal["beginning", "end"] = "beginning", read_ahead: bool = True,
        max_records: int = 5000, gather_s: float = 0.25,
    ) -> None:  # fmt: skip
        """`gather_s`: how long a reader that has caught up lets events gather, seconds; nobody waits for its answer."""
        self.name = name
        self.topics = read
        self.start: Literal["beginning", "end"] = start
        self.read_ahead = read_ahead
        self.max_records = max_records
        self.gather_s = gather_s
        self._build = build

    def assemble(self, connections: Connections, full_name: str, named: Mapping[str, Topic]) -> Assembly:
        """See Group.assemble."""
        handler = self._build(connections, full_name)
        look_back = LookBack(connections.settings.kafka_url, full_name, handler.decode, connections.dead_letters)
        progress = Progress(
            full_name, named, connections.progress, look_back=look_back, start=self.start, prepare=handler.prepare
        )
        return Assembly(progress, handler, None)
