"""Dead letters once more: a command is produced again as it was; a reader's group takes the row by itself."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

import topics
from config import Settings
from stores.dead_letters import NOT_PARKED, DeadLetters, Listed, Parked
from streams.producer import new
from topics import Repeats

_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError, CorruptRecordException, InvalidTimestampError)
"""What Kafka, or its client, says of a record that it won't take, now or later. All else is of Kafka's."""


async def replay(settings: Settings, letters: DeadLetters, chosen: Sequence[Listed]) -> dict[int, str]:
    """Send commands again, oldest first, and hand each other letter to its group.

    Returns by id why it was done with none but these; they are left as they are. Raises StoresAway, KafkaError.
    """
    commands = {topic.full_name(settings.topic_prefix) for topic in topics.TOPICS if topic.repeats is Repeats.OPERATION}
    left = {}
    for letter in chosen:
        if letter.topic not in commands and not await letters.settle(letter.id, "requested"):
            left[letter.id] = NOT_PARKED
    sending = sorted(letter.id for letter in chosen if letter.topic in commands)
    return left | await _send_all(settings, letters, sending) if sending else left


async def _send_all(settings: Settings, letters: DeadLetters, ids: list[int]) -> dict[int, str]:
    left = {}
    producer = await _started(settings)
    try:
        while ids and (piece := await letters.first(ids)):
            for letter in piece:
                if letter.state != "parked":
                    left[letter.id] = NOT_PARKED
                    continue
                try:
                    await _send(producer, letter)
                except _REFUSALS as error:
                    left[letter.id] = f"Kafka does not take it: {error}"
                    # It has counted the record, and the broker has not: the next ones would be refused for that.
                    await producer.stop()
                    producer = await _started(settings)
                    continue
                # Marked only after it was acknowledged: sent twice is harmless (the operation is known), lost is not.
                if not await letters.settle(letter.id, "replayed"):
                    left[letter.id] = NOT_PARKED
            ids = [id for id in ids if id > piece[-1].id]
    finally:
        await producer.stop()
    return left


async def _started(settings: Settings) -> AIOKafkaProducer:
    producer = new(settings, "replay")
    await producer.start()
    return producer


async def _send(producer: AIOKafkaProducer, letter: Parked) -> None:
    if letter.key is not None or letter.value is not None:
        await producer.send_and_wait(letter.topic, letter.value, letter.key, headers=list(letter.headers))
        return
    # Kafka takes a record of headers alone; aiokafka takes it only as a batch.
    batch = producer.create_batch()
    batch.append(key=None, value=None, timestamp=None, headers=list(letter.headers))
    await (await producer.send_batch(batch, letter.topic, partition=letter.partition))
