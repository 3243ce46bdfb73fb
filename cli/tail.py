"""`tail`: each event as it happens. A plain consumer without a group: it takes part in nothing and disturbs nobody."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from cli.arguments import OFFSETS, whole
from cli.connection import settings
from cli.describe import DIM, END, describe, matches
from cli.reach import reason

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

HELP = "print each event as it happens; --type and --subject filter, --all shows every topic"

WATCH_EVERY_S = 1.0
WAIT_S = 0.5
"""How long it waits for records before it looks again which partitions there are."""
MOST = 500
"""Records of a partition that are taken at a time."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to show, and since when."""
    parser.add_argument(
        "--type", action="append", metavar="PATTERN", help="event types, such as 'resource.*'; repeatable"
    )
    parser.add_argument("--subject", action="append", metavar="PATTERN", help="subjects (ids); repeatable")
    parser.add_argument(
        "--topic", action="append", metavar="NAME", help="topics without the prefix (default: events.*)"
    )
    parser.add_argument("--all", action="store_true", help="every topic of this installation, commands too")
    parser.add_argument("--from-beginning", action="store_true", help="what the topics still have, first")
    parser.add_argument(
        "--repeats", action="store_true", help="also what a kill had sent again: the same id and sequence once more"
    )
    parser.add_argument("--count", type=whole(1, OFFSETS), metavar="N", help="end after N events")
    parser.add_argument("--json", action="store_true", help="the records' values as they are, a line each")


def run(options: argparse.Namespace) -> int:
    """Until Ctrl-C, or --count events."""
    try:
        return asyncio.run(_tail(options))
    except KeyboardInterrupt:
        return 0


async def _tail(options: argparse.Namespace) -> int:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaConnectionError, KafkaError

    known = settings("kafka")
    wanted = topic_names(options, known.topic_prefix)
    consumer = AIOKafkaConsumer(
        *wanted,
        bootstrap_servers=known.kafka_url.split(","),
        auto_offset_reset="earliest" if options.from_beginning else "latest",
        enable_auto_commit=False,
        fetch_max_wait_ms=200,
    )
    try:
        async with asyncio.timeout(10.0):
            await consumer.start()
    except (KafkaError, OSError, TimeoutError) as error:
        await consumer.stop()
        raise KafkaConnectionError(str(error) or "no answer within 10 s") from None
    left = options.count
    repeats = Repeated(known.topic_prefix)
    colour = sys.stdout.isatty()
    if colour:
        print(f"{DIM}following {', '.join(wanted)} on {known.kafka_url}; Ctrl-C ends{END}", flush=True)
    watching = asyncio.create_task(_watch(known.kafka_url))
    try:
        async with contextlib.aclosing(_records(consumer)) as records:
            async for record in records:
                repeated = repeats.seen(record) and not options.repeats
                if not repeated and matches(record, options.type, options.subject):
                    line = (record.value or b"").decode(errors="replace") if options.json else describe(record, colour)
                    print(line, flush=True)
                    if left is not None:
                        left -= 1
                        if left <= 0:
                            return 0
    finally:
        watching.cancel()
        await consumer.stop()
    return 0


class Repeated:
    """Knows the events of ours that were sent again, as every reader of them does: by `sequence`, in each partition."""

    def __init__(self, prefix: str) -> None:
        """`prefix`: of the topics' names."""
        import topics

        self._named = {
            topic.full_name(prefix): topic.owner for topic in topics.TOPICS if topic.repeats is topics.Repeats.SEQUENCE
        }
        self._highest: dict[tuple[str, int], str] = {}

    def seen(self, record: ConsumerRecord) -> bool:
        """True if it is not above the highest of its partition. What is not as its topic's owner writes it is none."""
        from streams.envelope import Unreadable, check_written_by, read_foreign

        owner = self._named.get(record.topic)
        if owner is None:
            return False
        try:
            event = read_foreign(record)
            check_written_by(owner, event)
        except Unreadable:
            return False
        assert event.sequence is not None  # what was checked has one
        place = record.topic, record.partition
        if event.sequence <= self._highest.get(place, ""):
            return True
        self._highest[place] = event.sequence
        return False


async def _records(consumer: AIOKafkaConsumer) -> AsyncGenerator[ConsumerRecord]:
    """All records, without end; it says which bytes Kafka's client can't take apart, and goes on behind them.

    Raises KafkaError.
    """
    from aiokafka.errors import CorruptRecordException, KafkaError, UnsupportedCodecError

    from streams.protocol import end_of_broken

    careful = set()  # read one record at a time, up to what can't be taken apart
    while True:
        count = 0
        for partition in consumer.assignment():
            try:
                most = 1 if partition in careful else MOST
                polled = await consumer.getmany(partition, timeout_ms=0, max_records=most)
            except Exception as error:  # whatever the parser says of bytes that it can't take apart
                if isinstance(error, KafkaError) and not isinstance(
                    error, CorruptRecordException | UnsupportedCodecError
                ):
                    raise
                position = await consumer.position(partition)
                count += 1
                if partition not in careful:
                    # What it had taken apart before them is lost with them: again, one by one up to there.
                    careful.add(partition)
                    consumer.seek(partition, position)
                    continue
                careful.discard(partition)
                end = await end_of_broken(consumer._client, partition, position)
                if end is not None:
                    place = f"{partition.topic.split('.', 1)[-1]}/{partition.partition}@{position}"
                    print(
                        f"yeoul: {place} to {end - 1}: Kafka's client can't take these bytes apart; passed by",
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
                consumer.seek(partition, position if end is None else end)
                continue
            for record in polled.get(partition, ()):
                count += 1
                yield record
        if not count:
            waiter = consumer._fetcher._create_fetch_waiter()
            await asyncio.wait([waiter], timeout=WAIT_S)
            waiter.cancel()


async def _watch(url: str) -> None:
    """Says once that Kafka is away, and once that it is back: its client waits for it in silence."""
    away = False
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        why = await reason("kafka", url)
        if bool(why) != away:
            away = bool(why)
            said = f"Kafka is away ({why}); waiting for it" if away else "Kafka is back"
            print(f"yeoul: {said}", file=sys.stderr, flush=True)


def topic_names(options: argparse.Namespace, prefix: str) -> list[str]:
    """The full names to follow. Exits with a sentence when one is not known."""
    import topics

    names = {topic.name: topic for topic in topics.TOPICS}
    if options.all:
        chosen = list(names)
    elif options.topic:
        unknown = [name for name in options.topic if name not in names]
        if unknown:
            raise SystemExit(f"no topic {', '.join(unknown)}; there are: {', '.join(names)}")
        chosen = options.topic
    else:
        chosen = [topic.name for topic in topics.EVENTS_OF.values()]
    return [names[name].full_name(prefix) for name in chosen]
