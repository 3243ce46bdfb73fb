"""Analytics: everybody's events → counts by hour, source and type, each event once."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka.structs import ConsumerRecord

import topics
from domain import accounts, resources
from stores.analytics import Slot, add
from streams.envelope import Foreign, Unreadable, read_foreign
from streams.groups import ReaderGroup
from streams.readers import Reader
from streams.work import Part

LONGEST_NAME = 256
"""Characters of a source or type: they are keys of a table that strangers fill."""
OURS = frozenset().union(
    accounts.EVENTS, accounts.COMMANDS, resources.EVENTS, resources.COMMANDS, (topics.DEAD_LETTER_PARKED,)
)
"""Types of ours, which strangers can't use."""
OUR_SOURCES = "/yeoul/"


class EventCounts(Reader):
    """Counts events of our own topics and of `ingest`."""

    name = "analytics.event_counts"

    def decode(self, record: ConsumerRecord) -> Foreign:
        """See streams.work.Handler."""
        event = read_foreign(record)
        if len(event.source) > LONGEST_NAME or len(event.type) > LONGEST_NAME or "\0" in event.source + event.type:
            raise Unreadable("bad_name", f"source and type have at most {LONGEST_NAME} characters, and no NUL")
        strangers = record.topic.endswith("." + topics.INGEST.name)
        if strangers and (event.source.startswith(OUR_SOURCES) or event.type in OURS):
            raise Unreadable("reserved", "this source or type is Yeoul's own; strangers can't speak in its name")
        return event

    async def handle(self, connection: Any, parts: Sequence[Part]) -> None:
        """Add up in memory, then one upsert for the batch."""
        counts: Counter[Slot] = Counter()
        for part in parts:
            of_part: Counter[tuple[int, str, str]] = Counter()
            for record, event in zip(part.records, part.messages, strict=True):
                seconds = record.timestamp // 1000 if event.time is None else int(event.time.timestamp())
                of_part[(seconds // 3600, event.source, event.type)] += 1
            for (hour, source, kind), count in of_part.items():
                when = datetime.fromtimestamp(hour * 3600, UTC)
                counts[Slot(when, source, kind, part.key.topic, part.key.partition)] += count
        await add(connection, counts)


GROUP = ReaderGroup("analytics", (topics.EVENTS_ACCOUNTS, topics.EVENTS_RESOURCES, topics.INGEST), EventCounts)
