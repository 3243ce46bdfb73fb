"""A copy of each dead letter on a topic, for whoever watches: after its row was written, and never instead of it."""

import asyncio
import base64
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from aiokafka.errors import KafkaError

from stores.dead_letters import Letter, storable
from streams.envelope import STRUCTURED_HEADERS
from streams.identity import uuid7
from streams.producer import Broker
from topics import DEAD_LETTER_PARKED

log = logging.getLogger("yeoul.streams.copies")

WAIT_S = 2.0
"""How long the copies of a batch may take to enter the producer, seconds: it would wait longer for a missing topic."""
MOST_BYTES = 65_536
"""A longer value is left out of the copy; the row has it."""


class Copies:
    """Tells the topic of dead letters. What can't be told is only logged: the row is the truth."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    async def tell(self, letters: Sequence[Letter]) -> None:
        """Send a copy of each; but none of a copy, or each that can't be read would make the next."""
        letters = [letter for letter in letters if letter.topic != self._topic]
        if not letters:
            return
        producer = self._broker.producer
        if producer is None:
            log.warning("%d dead letters have no copy on %s: the broker is away", len(letters), self._topic)
            return
        copied = 0
        try:
            async with asyncio.timeout(WAIT_S):
                for letter in letters:
                    await producer.send(self._topic, _event(letter), letter.group.encode(), headers=STRUCTURED_HEADERS)
                    copied += 1
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning(
                "%d dead letters have no copy on %s (if the topic does not exist, ./yeoul topics makes it): %s",
                len(letters) - copied, self._topic, str(error) or type(error).__name__,
            )  # fmt: skip


def _event(letter: Letter) -> bytes:
    value = letter.value if letter.value is not None and len(letter.value) <= MOST_BYTES else None
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid7()),
            "source": f"/yeoul/{letter.group}",
            "type": DEAD_LETTER_PARKED,
            "subject": f"{letter.topic}/{letter.partition}/{letter.offset}",
            "time": datetime.now(UTC),
            "datacontenttype": "application/json",
            "data": {
                "group": letter.group,
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "code": letter.code,
                "error": storable(letter.error),
                "handler": letter.handler,
                "attempts": letter.attempts,
                "value_bytes": None if letter.value is None else len(letter.value),
                "value_base64": None if value is None else base64.b64encode(value).decode(),
            },
        }
    )
