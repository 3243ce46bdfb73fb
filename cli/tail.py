"""`tail`: each event as it happens. A plain consumer without a group: it takes part in nothing and disturbs nobody."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import sys
from datetime import UTC, datetime
from typing import Any

from cli.arguments import OFFSETS, whole
from cli.connection import settings
from cli.reach import reason

HELP = "print each event as it happens; --type and --subject filter, --all shows every topic"

DIM, BOLD, END = "\x1b[2m", "\x1b[1m", "\x1b[0m"
GREEN, YELLOW, RED, BLUE, CYAN = (f"\x1b[{code}m" for code in (32, 33, 31, 34, 36))
_BY_ENDING = {"created": GREEN, "updated": YELLOW, "deleted": RED, "parked": RED}
SHOWN_DATA = 160
WATCH_EVERY_S = 1.0


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
        await asyncio.wait_for(consumer.start(), 10.0)
    except (KafkaError, OSError, TimeoutError) as error:
        await consumer.stop()
        raise KafkaConnectionError(str(error) or "no answer within 10 s") from None
    left = options.count
    colour = sys.stdout.isatty()
    if colour:
        print(f"{DIM}following {', '.join(wanted)} on {known.kafka_url}; Ctrl-C ends{END}", flush=True)
    watching = asyncio.create_task(_watch(known.kafka_url))
    try:
        async for record in consumer:
            if shown(record, options):
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


def attributes(record: Any) -> dict[str, Any]:
    """The CloudEvents attributes of a record in either mode; what can't be read is shown by its size."""
    import orjson

    found: dict[str, Any] = {
        name[3:]: (value or b"").decode(errors="replace") for name, value in record.headers if name.startswith("ce_")
    }
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return found | {"data": f"<{len(record.value or b'')} bytes that are no JSON>"}
    if found:
        return found | {"data": value}
    return value if isinstance(value, dict) else {"data": value}


def shown(record: Any, options: argparse.Namespace) -> bool:
    """True if the filters let it through."""
    event = attributes(record)
    return _matches(event.get("type"), options.type) and _matches(event.get("subject"), options.subject)


def _matches(value: Any, patterns: list[str] | None) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(str(value), pattern) for pattern in patterns)


def describe(record: Any, colour: bool) -> str:
    """One line: time, type, subject, version, where it stands, and the beginning of its data."""
    import orjson

    event = attributes(record)
    time = datetime.fromtimestamp(record.timestamp / 1000, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    kind = str(event.get("type", "?"))
    data = orjson.dumps(event.get("data")).decode()
    data = data if len(data) <= SHOWN_DATA else data[: SHOWN_DATA - 1] + "…"
    version = f" v{event['aggregateversion']}" if "aggregateversion" in event else ""
    place = f"{record.topic.split('.', 1)[-1]}/{record.partition}@{record.offset}"
    # Control characters of strangers' text must not steer the terminal.
    parts = [
        "".join(c if c.isprintable() else "�" for c in part) for part in (kind, str(event.get("subject", "-")), data)
    ]
    if not colour:
        return f"{time} {parts[0]} {parts[1]}{version} {place} {parts[2]}"
    paint = _BY_ENDING.get(kind.rsplit(".", 1)[-1], BLUE)
    return f"{DIM}{time}{END} {BOLD}{paint}{parts[0]}{END} {CYAN}{parts[1]}{END}{version} {DIM}{place}{END} {parts[2]}"
