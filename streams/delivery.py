"""The same way for every batch, whatever its handler.

    decode → drop repeats → fence, handle and commit in one transaction → answer and publish → acknowledge

What can go wrong, and what then: a record that can't be read becomes a dead letter at once. A handler that fails gets
its batch in halves until the failing record is alone; that one becomes a dead letter, the others pass. The database
away: the same batch again, without limit. Another owner: everything is thrown away and read again from where
PostgreSQL says.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, perf_counter
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from stores import StoresAway
from stores.dead_letters import DeadLetters, Letter
from stores.progress import Mismatch, Move
from streams.batches import Batch
from streams.envelope import Unreadable, check_written_by
from streams.progress import Owned, Progress
from streams.readers import Reader, record_of
from streams.work import Handler, Part, Work, key_of
from telemetry import metrics
from topics import Repeats

log = logging.getLogger("yeoul.streams.delivery")

ATTEMPTS = 3
"""Times a record that is alone may fail before it is parked."""
POISON_WINDOW = 1000
POISON_SHARE = 0.95
"""When this share of a window of records was parked, the partition stops instead of draining into dead letters."""
MOST_ERROR_TEXT = 2000


class Delivery:
    """The pipeline of one group."""

    def __init__(
        self,
        group: str,
        handler: Handler,
        progress: Progress,
        letters: DeadLetters,
        published: Callable[[UUID, int], int | None] = lambda _topic_id, _partition: None,
        copy: Callable[[Sequence[Letter]], Awaitable[None]] | None = None,
    ) -> None:
        """`published`: the published offset that a commit takes along. `copy`: what follows a parked letter."""
        self.group = group
        self._handler = handler
        self._progress = progress
        self._letters = letters
        self._published = published
        self._copy = copy
        self._poison: dict[TopicPartition, list[int]] = {}
        self._turn = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    async def settled(self) -> None:
        """Wait until what follows the last commit was done."""
        if self._following is not None:
            await self._following

    async def deliver(self, batch: Batch) -> None:
        """One batch, to its end: finished, or thrown away to be read again."""
        async with self._turn:
            started = perf_counter()
            try:
                work = self._decode(batch)
                done = await self._settle(batch, work)
            except Mismatch as error:
                metrics.FENCE_MISMATCHES.labels(self.group).inc()
                log.warning("another worker moved a partition; reading again from where it stands (%s)", error)
                batch.consumer.rewind(batch)
                return
            if not done:
                batch.consumer.rewind(batch)
                return
            metrics.BATCH_RECORDS.labels(self.group).observe(batch.count)
            metrics.BATCH_SECONDS.labels(self.group).observe(perf_counter() - started)
            await self._watch_poison(batch, work)
            batch.consumer.finish(batch)

    # -- decode ------------------------------------------------------------------------------------------------------

    def _decode(self, batch: Batch) -> Work:
        parts: list[Part] = []
        letters: list[Letter] = []
        repeats = unknown = 0
        for key, span in batch.spans.items():
            owned = self._progress.owned.get(key)
            if owned is None:
                raise Mismatch(f"{key} is not ours")
            records: list[ConsumerRecord] = []
            messages: list[Any] = []
            staged: dict[tuple[str, str], int] = {}
            highest = owned.sequence
            rule, recent = owned.topic.repeats, owned.recent
            for record in batch.records.get(key, ()):
                if record.offset < span.begin:
                    continue
                try:
                    message = self._read(owned, record)
                except Unreadable as error:
                    letters.append(self._letter(owned, record, error.code, str(error), 1))
                    continue
                except Exception as error:  # a defect of ours: still no reason to hold the others up
                    log.exception("%s/%d@%d can't be decoded", record.topic, record.partition, record.offset)
                    letters.append(self._letter(owned, record, "handler_failed", _text(error), 1))
                    continue
                if message is None:
                    unknown += 1
                    continue
                if rule is Repeats.SEQUENCE:
                    if message.sequence <= highest:
                        repeats += 1
                        continue
                    highest = message.sequence
                elif rule is Repeats.RECENT and recent is not None:
                    identity = (message.source, message.id)
                    if identity in staged or recent.seen(message.source, message.id, record.offset):
                        repeats += 1
                        staged[identity] = record.offset
                        continue
                    staged[identity] = record.offset
                records.append(record)
                messages.append(message)
            parts.append(Part(key, owned, span, records, messages))
        if repeats:
            metrics.RECORDS.labels(self.group, "repeat").inc(repeats)
        if unknown:
            metrics.RECORDS.labels(self.group, "unknown").inc(unknown)
        return Work(parts, letters)

    def _read(self, owned: Owned, record: ConsumerRecord) -> Any:
        message = self._handler.decode(record)
        if message is not None and owned.topic.repeats is Repeats.SEQUENCE:
            check_written_by(owned.topic.owner, message)
        return message

    def _letter(self, owned: Owned, record: ConsumerRecord, code: str, error: str, attempts: int) -> Letter:
        return Letter(
            group=self.group, topic=record.topic, topic_id=owned.topic_id, partition=record.partition,
            offset=record.offset, key=record.key, value=record.value, headers=tuple(record.headers),
            produced_at=record.timestamp, code=code, error=error[:MOST_ERROR_TEXT], handler=self._handler.name,
            attempts=attempts,
        )  # fmt: skip

    # -- handle and commit -------------------------------------------------------------------------------------------

    async def _settle(self, batch: Batch, work: Work) -> bool:
        """Commit the work, in pieces if a record fails; False when it must be let go first. Raises Mismatch."""
        failures = 0
        while True:
            try:
                done, result = await self._commit(batch, work)
            except (Mismatch, asyncio.CancelledError):
                raise
            except Exception as error:
                if work.count > 1:
                    log.warning(
                        "a record of %d fails (%s); the batch is halved", work.count, str(error) or type(error).__name__
                    )
                    first, rest = work.split()
                    return await self._settle(batch, first) and await self._settle(batch, rest)
                if work.count == 0:
                    raise
                failures += 1
                if failures >= ATTEMPTS:
                    work = self._park_the_only(work, error, failures)
            else:
                if done and work.letters and self._copy is not None:
                    await self._copy(work.letters)
                if done and result is not None:
                    # While the next batch is decided; but in order, and never more than one behind.
                    await self.settled()
                    self._following = asyncio.create_task(self._handler.after(result))
                return done

    def _park_the_only(self, work: Work, error: Exception, attempts: int) -> Work:
        parts = []
        letters = list(work.letters)
        for part in work.parts:
            for record in part.records:
                log.error("parked %s/%d@%d", record.topic, record.partition, record.offset, exc_info=error)
                letters.append(self._letter(part.owned, record, "handler_failed", _text(error), attempts))
            parts.append(Part(part.key, part.owned, part.span, [], []))
        return Work(parts, letters)

    async def _commit(self, batch: Batch, work: Work) -> tuple[bool, Any]:
        """Until it is committed; (False, None) when it must be let go while the stores are away."""
        delay = 0.05
        consumer = batch.consumer
        while True:
            try:
                moves = self._moves(work)
                if not moves:
                    return True, None
                result = await self._handler.commit(work, moves)
            except StoresAway as error:
                if not consumer.backing_off:
                    log.warning("%s waits: %s", self.group, error)
                metrics.STORE_WAITS.labels(self.group).inc()
                consumer.backing_off = True
                if not batch.live:
                    return False, None
                await asyncio.sleep(delay * random.uniform(0.7, 1.3))  # jitter, not a secret
                delay = min(delay * 2, 1.0)
                continue
            if consumer.backing_off:
                log.info("%s goes on", self.group)
                consumer.backing_off = False
                consumer.progressed_at = monotonic()
            self._remember(work)
            return True, result

    def _moves(self, work: Work) -> list[Move]:
        moves = []
        for part in work.parts:
            owned = part.owned
            if self._progress.owned.get(part.key) is not owned or owned.next_offset != part.span.begin:
                raise Mismatch(f"{part.key} stands elsewhere")
            if part.span.begin == part.span.end:
                continue
            sequence = ""
            if owned.topic.repeats is Repeats.SEQUENCE and part.messages:
                sequence = part.messages[-1].sequence
            published = self._published(owned.topic_id, part.key.partition)
            moves.append(Move(owned.topic_id, part.key.partition, part.span.begin, part.span.end, published, sequence))
        return moves

    def _remember(self, work: Work) -> None:
        """The memory of repeats follows the commit, never goes ahead of it."""
        count = 0
        for part in work.parts:
            owned = part.owned
            owned.next_offset = part.span.end
            count += len(part.records)
            if owned.topic.repeats is Repeats.SEQUENCE and part.messages:
                owned.sequence = max(owned.sequence, part.messages[-1].sequence)
            elif owned.recent is not None:
                for record, message in zip(part.records, part.messages, strict=True):
                    owned.recent.remember(message.source, message.id, record.offset)
        metrics.RECORDS.labels(self.group, "handled").inc(count)
        if work.letters:
            metrics.RECORDS.labels(self.group, "parked").inc(len(work.letters))

    # -- poison ------------------------------------------------------------------------------------------------------

    async def _watch_poison(self, batch: Batch, work: Work) -> None:
        for key, records in batch.records.items():
            seen = self._poison.setdefault(key, [0, 0])
            seen[0] += len(records)
            seen[1] += sum(1 for letter in work.letters if key_of(letter) == key)
            if seen[0] >= POISON_WINDOW:
                if seen[1] >= POISON_SHARE * seen[0]:
                    try:
                        await self._progress.stop_partition(key, f"{seen[1]} of the last {seen[0]} records were poison")
                    except StoresAway as error:
                        log.warning("the partition could not be stopped: %s", error)
                    batch.consumer.forget([key])
                self._poison[key] = [0, 0]

    # -- replay ------------------------------------------------------------------------------------------------------

    async def replay_requested(self) -> int:
        """Take dead letters again that an operator asked for; returns how many. Raises StoresAway."""
        if not isinstance(self._handler, Reader):
            return 0
        owned = dict(self._progress.owned)
        letters = await self._letters.requested(
            self.group, [key.topic for key in owned], [key.partition for key in owned]
        )
        for letter in letters:
            async with self._turn:
                try:
                    message = self._read(owned[key_of(letter)], record_of(letter))
                    if message is not None:
                        await self._handler.replay(letter, owned[key_of(letter)], message)
                except StoresAway:
                    raise
                except Exception as error:
                    log.warning("dead letter %d fails again: %s", letter.id, error)
                    await self._letters.settle(letter.id, "parked", was=("requested",))
        return len(letters)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
