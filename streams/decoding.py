"""Records of a batch into messages; what can't be read into dead letters."""

import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from stores.dead_letters import Letter
from stores.progress import Mismatch
from streams.batches import Batch
from streams.envelope import Unreadable, check_written_by, subject_of
from streams.progress import Owned
from streams.work import Handler, Part, Work
from topics import Repeats

log = logging.getLogger("yeoul.streams.decoding")

MOST_ERROR_TEXT = 2000


class Decoder:
    """How a group reads its records: its handler's way, and what holds for every reader of such a topic."""

    def __init__(self, group: str, handler: Handler) -> None:
        self._group = group
        self._handler = handler

    def work(self, batch: Batch, owned: Mapping[TopicPartition, Owned]) -> Work:
        """Everything of a batch that is to be settled. Raises Mismatch if a partition is not owned."""
        parts: list[Part] = []
        letters: list[Letter] = []
        for key, span in batch.spans.items():
            if key not in owned:
                raise Mismatch(f"{key} is not ours")
            part = Part(key, owned[key], span, [], [])
            records = batch.records.get(key, [])
            if records and records[0].offset < span.begin:
                records = [record for record in records if record.offset >= span.begin]
            messages = self._together(part.owned, records)
            if messages is not None:
                part.records, part.messages = records, messages
                parts.append(part)
                continue
            for record in records:
                try:
                    message = self.read(part.owned, record)
                except Unreadable as error:
                    letters.append(self.letter(part.owned, record, error.code, str(error), 1))
                    continue
                except Exception as error:  # a defect of ours: still no reason to hold the others up
                    log.exception("%s/%d@%d can't be decoded", record.topic, record.partition, record.offset)
                    letters.append(self.letter(part.owned, record, "handler_failed", text_of(error), 1))
                    continue
                part.records.append(record)
                part.messages.append(message)
            parts.append(part)
        return Work(parts, letters)

    def _together(self, owned: Owned, records: list[ConsumerRecord]) -> list[Any] | None:
        """The messages of records that are all well, read at once; else None, to go one by one."""
        messages = self._handler.decode_all(records) if records else []
        if messages is not None and owned.topic.repeats is Repeats.SEQUENCE:
            try:
                for message in messages:
                    check_written_by(owned.topic.owner, message)
            except Unreadable:
                return None
        return messages

    def read(self, owned: Owned, record: ConsumerRecord) -> Any:
        """The message, or None for a type that is not known here. Raises Unreadable."""
        message = self._handler.decode(record)
        if message is not None and owned.topic.repeats is Repeats.SEQUENCE:
            check_written_by(owned.topic.owner, message)
        return message

    def letter(self, owned: Owned, record: ConsumerRecord, code: str, error: str, attempts: int) -> Letter:
        """The record as a dead letter."""
        return Letter(
            group=self._group, topic=record.topic, topic_id=owned.topic_id, partition=record.partition,
            offset=record.offset, key=record.key, value=record.value, headers=tuple(record.headers),
            produced_at=record.timestamp, code=code, error=error[:MOST_ERROR_TEXT], handler=self._handler.name,
            attempts=attempts,
            subject=subject_of(record.value) if owned.topic.repeats is Repeats.SEQUENCE else None,
        )  # fmt: skip


def text_of(error: Exception) -> str:
    """What a dead letter says of a failure."""
    return f"{type(error).__name__}: {error}"[:MOST_ERROR_TEXT]
