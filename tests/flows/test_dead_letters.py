"""Dead letters from the command line, on a whole installation: sent again, left, handed to their group, dropped."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from stores.dead_letters import Letter, park
from tests.cli.harness import Finished, yeoul
from tests.flows.harness import System, until
from topics import COMMANDS_RESOURCES, INGEST


async def _dead_letters(installation: System, *arguments: str) -> Finished:
    settings = installation.settings
    return await asyncio.to_thread(yeoul, settings.state_dir, settings.environ(), "dead-letters", *arguments)


async def _letters(installation: System, group: str, state: str, count: int) -> list[int]:
    """Their ids, oldest first, once there are as many."""

    async def there() -> Any:
        return len(await _rows(installation, group, state)) == count

    await until(there, 60, f"{count} letters of {group} are {state}")
    return await _rows(installation, group, state)


async def _rows(installation: System, group: str, state: str) -> list[int]:
    rows = await installation.stores.database.fetch(
        "SELECT id FROM dead_letters WHERE consumer_group = $1 AND state = $2 ORDER BY id",
        f"{installation.settings.topic_prefix}.{group}",
        state,
    )
    return [row["id"] for row in rows]


async def _park_one_too_large(installation: System) -> int:
    """It was sent compressed: larger than any producer of ours may send."""
    prefix = installation.settings.topic_prefix
    letter = Letter(
        group=f"{prefix}.resources", topic=COMMANDS_RESOURCES.full_name(prefix), topic_id=uuid4(), partition=0,
        offset=0, key=b"k", value=b"x" * (9 << 20), headers=(), produced_at=None, code="unsigned", error="",
        handler="commands.resources", attempts=1,
    )  # fmt: skip
    async with installation.stores.database.connection() as connection:
        await park(connection, [letter])
    row = await installation.stores.database.fetchrow("SELECT max(id) AS id FROM dead_letters")
    return int(row["id"])


async def test_an_operator_mends_what_was_parked(installation: System) -> None:
    settings = installation.settings
    worker = installation.worker("resources", "analytics")
    # As after a deployment with a wrong key: no signature of a front is good.
    worker.more(YEOUL_COMMAND_KEY=base64.b64encode(secrets.token_bytes(32)).decode())
    await worker.start()
    orders = [installation.create(number) for number in range(4)]
    for count, order in enumerate(orders[:2], start=1):
        await installation.send([order])
        parked = await _letters(installation, "resources", "parked", count)
    large = await _park_one_too_large(installation)
    for count, order in enumerate(orders[2:], start=4):
        await installation.send([order])
        parked = await _letters(installation, "resources", "parked", count)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_url)
    await producer.start()
    try:
        await producer.send_and_wait(INGEST.full_name(settings.topic_prefix), b"no event")
    finally:
        await producer.stop()
    (event,) = await _letters(installation, "analytics", "parked", 1)
    await worker.stop()
    worker.more(YEOUL_COMMAND_KEY=settings.environ()["YEOUL_COMMAND_KEY"])
    await worker.start()

    first, dropped, same_large, *rest = parked
    assert same_large == large
    replayed = await _dead_letters(installation, "replay", str(first))
    assert (replayed.code, replayed.out[:13], replayed.err) == (0, "1 sent again,", "")
    await installation.until_done(1, 60)

    assert (await _dead_letters(installation, "drop", str(dropped))).out == "1 dropped\n"
    again = await _dead_letters(installation, "drop", str(dropped), str(first), "999999")
    assert (again.code, again.out) == (1, "0 dropped\n")
    assert again.err.splitlines() == [
        f"yeoul: not parked any more: {first}, {dropped}",
        "yeoul: there is no dead letter 999999",
    ]

    listed = await _dead_letters(installation, "list", "--group", "resources", "--limit", "2")
    assert [line.split()[0] for line in listed.out.splitlines()[:2]] == [str(large), str(rest[0])]
    assert f"{9 << 20} bytes" in listed.out
    assert listed.out.splitlines()[2:] == [f"more: --after {rest[0]}"]

    everything = await _dead_letters(installation, "replay", "--all")
    assert (everything.code, everything.out[:13]) == (1, "3 sent again,")
    assert everything.err.startswith("yeoul: Kafka does not take it: ")
    assert everything.err.endswith(f": {large}; ./yeoul dead-letters drop {large} gives it up\n")
    await installation.until_done(3, 60)
    assert await _letters(installation, "resources", "replayed", 3) == [first, *rest]
    assert await _letters(installation, "resources", "parked", 1) == [large]

    # Its group has taken it from its row, and it is no event yet.
    async def parked_again() -> Any:
        return await _letters(installation, "analytics", "parked", 1) == [event]

    await until(parked_again, 60, "what is still no event is parked again")
    rows = await installation.stores.database.fetch("SELECT id FROM resources")
    assert {row["id"] for row in rows} == {order.aggregate_id for order in (orders[0], *orders[2:])}
