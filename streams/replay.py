"""Dead letters once more: a command is produced again as it was; a reader's group takes the row by itself."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

import topics
from config import Settings
from stores.dead_letters import DeadLetters, Parked
from streams.producer import new
from topics import Repeats


async def replay(settings: Settings, letters: DeadLetters, chosen: Sequence[Parked]) -> list[bool]:
    """For each letter: True if it was sent again or handed to its group. Raises StoresAway, KafkaError."""
    commands = {topic.full_name(settings.topic_prefix) for topic in topics.TOPICS if topic.repeats is Repeats.OPERATION}
    producer = new(settings, "replay")
    await producer.start()
    try:
        done = []
        for letter in chosen:
            if letter.topic not in commands:
                done.append(await letters.settle(letter.id, "requested"))
                continue
            # Marked only after it was acknowledged: sent twice is harmless (the operation is known), lost is not.
            if letter.state != "parked":
                done.append(False)
                continue
            await _send(producer, letter)
            done.append(await letters.settle(letter.id, "replayed"))
        return done
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, letter: Parked) -> None:
    if letter.key is not None or letter.value is not None:
        await producer.send_and_wait(letter.topic, letter.value, letter.key, headers=list(letter.headers))
        return
    # Kafka takes a record of headers alone; aiokafka takes it only as a batch.
    batch = producer.create_batch()
    batch.append(key=None, value=None, timestamp=None, headers=list(letter.headers))
    await (await producer.send_batch(batch, letter.topic, partition=letter.partition))
