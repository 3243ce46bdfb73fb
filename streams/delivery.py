"""The same way for every batch, whatever its handler.

    decode → drop repeats → fence, handle and commit in one transaction → answer and publish → acknowledge

What can go wrong, and what then: a record that can't be read becomes a dead letter at once. A handler that fails gets
its batch in halves until the failing record is alone; that one becomes a dead letter, the others pass. The database
away, or not as it has to be: the same batch again, without limit. Nearly nothing but dead letters: the partition stops.
Another owner: everything is thrown away and read again from where PostgreSQL says.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, perf_counter, thread_time
from typing import Any
from uuid import UUID

from stores import StoresAway
from stores.dead_letters import DeadLetters, Letter, Parked
from stores.progress import Mismatch, Move
from streams.batches import Batch
from streams.decoding import Decoder, text_of
from streams.envelope import Command, command_fields
from streams.poison import Poison
from streams.progress import Owned, Progress
from streams.readers import Reader, record_of
from streams.repeats import fresh
from streams.work import Handler, Part, Work, key_of, refuses, waits_for
from telemetry import metrics
from telemetry.tracecontext import fields, of_headers

log = logging.getLogger("yeoul.streams.delivery")

ATTEMPTS = 3
"""Times a record that is alone may fail before it is parked."""
MOST_TAKEN = 100
"""Dead letters that a group takes again before it rests for a moment."""


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
        self._decoder = Decoder(group, handler)
        self._progress = progress
        self._letters = letters
        self._published = published
        self._copy = copy
        self._poison = Poison()
        self._turn = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    async def settled(self) -> bool:
        """Wait until what follows the last commit was done; False if it failed, which is told once."""
        following, self._following = self._following, None
        if following is None:
            return True
        try:
            await following
        except Exception:
            log.exception("%s: what follows a commit failed", self.group)
            return False
        return True

    async def deliver(self, batch: Batch) -> None:
        """One batch, to its end: finished, or thrown away to be read again."""
        async with self._turn:
            started = perf_counter()
            try:
                work = self._decoder.work(batch, self._progress.owned)
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
            batch.consumer.finish(batch)

    # -- handle and commit -------------------------------------------------------------------------------------------

    async def _settle(self, batch: Batch, work: Work) -> bool:
        """Commit the work, in pieces if a record fails; False when it must be let go first. Raises Mismatch."""
        failures = 0
        blamed: Exception | None = None
        ids: dict[str, str] = {}
        while True:
            chosen = fresh(work)
            try:
                committed = await self._commit(batch, chosen)
            except (Mismatch, asyncio.CancelledError):
                raise
            except Exception as error:
                if work.count > 1:
                    log.warning(
                        "a record of %d fails (%s); the batch is halved", work.count, str(error) or type(error).__name__
                    )
                    first, rest = work.split()
                    return await self._settle(batch, first) and await self._settle(batch, rest)
                if chosen.count == 0:
                    raise
                failures += 1
                if failures >= ATTEMPTS:
                    work, blamed, ids = self._park_the_only(chosen, error, failures), error, _ids(chosen)
            else:
                if committed is None:
                    return False
                # Out of the try: what fails from here on is a defect of ours, and no record's.
                result, busy_s = committed
                batch.consumer.progressed_at = monotonic()
                batch.consumer.pace.took(chosen.count, busy_s)
                self._remember(chosen)
                return await self._follow(chosen, result, blamed, ids)

    async def _follow(self, work: Work, result: Any, blamed: Exception | None, ids: dict[str, str]) -> bool:
        """What comes after the commit; False when what is left of the batch must be read again.

        `blamed`: why a record was parked, `ids` those of its command.
        """
        if blamed is not None:
            last = work.letters[-1]
            log.error(
                "parked %s/%d@%d",
                last.topic,
                last.partition,
                last.offset,
                exc_info=blamed,
                extra={"fields": ids | fields(of_headers(last.headers))},
            )
        if work.letters and self._copy is not None:
            await self._copy(work.letters)
        if result is not None:
            # While the next batch is decided; but in order, and never more than one behind.
            if not await self.settled():
                return False  # its events may be missing: looking the positions up publishes them before these
            self._following = asyncio.create_task(self._handler.after(result))
        return not await self._stop_poisoned(work)

    def _park_the_only(self, work: Work, error: Exception, attempts: int) -> Work:
        parts = []
        letters = list(work.letters)
        for part in work.parts:
            letters += [
                self._decoder.letter(part.owned, record, "handler_failed", text_of(error), attempts)
                for record in part.records
            ]
            parked = Part(part.key, part.owned, part.span, [], [])
            parked.sequence = part.sequence  # it is passed by; what was sighted in it is not
            parts.append(parked)
        return Work(parts, letters)

    async def _stop_poisoned(self, work: Work) -> bool:
        stopped = False
        for key, reason in self._poison.note(work).items():
            try:
                await self._progress.stop_partition(key, reason)
            except StoresAway as error:
                log.warning("%s/%d could not be stopped yet: %s", key.topic, key.partition, error)
            else:
                self._poison.forget(key)
                stopped = True
        return stopped

    async def _commit(self, batch: Batch, work: Work) -> tuple[Any, float] | None:
        """Until it is committed: its result, and the CPU that took in seconds.

        None when it must be let go while the stores are away.
        """
        delay = 0.05
        consumer = batch.consumer
        while True:
            try:
                moves = self._moves(work)
                if not moves:
                    return None, 0.0
                begun = thread_time()
                result = await self._handler.commit(work, moves)
            except Exception as error:
                what = waits_for(error)
                if what is None:
                    raise
                if consumer.backing_off != what:
                    if refuses(error):
                        log.error("%s waits for %s (are the tables up to date? ./yeoul migrate)", self.group, what)
                    else:
                        log.warning("%s waits: %s", self.group, error)
                metrics.STORE_WAITS.labels(self.group).inc()
                consumer.backing_off = what
                if not batch.live:
                    return None
                await asyncio.sleep(delay * random.uniform(0.7, 1.3))  # jitter, not a secret
                delay = min(delay * 2, 1.0)
                continue
            if consumer.backing_off:
                log.info("%s goes on", self.group)
                consumer.backing_off = ""
            return result, thread_time() - begun

    def _moves(self, work: Work) -> list[Move]:
        moves = []
        for part in work.parts:
            owned = part.owned
            if self._progress.owned.get(part.key) is not owned or owned.next_offset != part.span.begin:
                raise Mismatch(f"{part.key} stands elsewhere")
            if part.span.begin == part.span.end:
                continue
            published = self._published(owned.topic_id, part.key.partition)
            moves.append(
                Move(owned.topic_id, part.key.partition, part.span.begin, part.span.end, published, part.sequence)
            )
        return moves

    def _remember(self, work: Work) -> None:
        """The memory of repeats follows the commit, never goes ahead of it."""
        for part in work.parts:
            owned = part.owned
            owned.next_offset = part.span.end
            owned.sequence = part.sequence
            if owned.recent is not None:
                owned.recent.remember_all(part.sighted)
        for outcome, count in (
            ("handled", work.count),
            ("repeat", sum(part.repeats for part in work.parts)),
            ("unknown", sum(part.unknown for part in work.parts)),
            ("parked", len(work.letters)),
        ):
            if count:
                metrics.RECORDS.labels(self.group, outcome).inc(count)

    # -- replay ------------------------------------------------------------------------------------------------------

    async def replay_requested(self) -> int:
        """Take dead letters again that an operator asked for; returns how many. Raises StoresAway."""
        taken = after = 0
        while isinstance(self._handler, Reader) and taken < MOST_TAKEN:
            keys = list(self._progress.owned)
            letters = await self._letters.requested(
                self.group, [key.topic for key in keys], [key.partition for key in keys], after
            )
            if not letters:
                break
            for letter in letters:
                await self._take(self._handler, letter)
            taken, after = taken + len(letters), letters[-1].id
        return taken

    async def _take(self, reader: Reader, letter: Parked) -> None:
        async with self._turn:
            owned = self._progress.owned.get(key_of(letter))
            if owned is None:
                return  # somebody else's by now
            try:
                why = await self._replay(reader, letter, owned)
            except StoresAway:
                raise
            except Mismatch:
                await reader.prepare()  # the letter is still requested: the next round takes it
                return
            except Exception as error:
                why = text_of(error)
            if why is not None:
                log.warning("dead letter %d is parked again: %s", letter.id, why)
                await self._letters.settle(letter.id, "parked", was=("requested",), error=why)

    async def _replay(self, reader: Reader, letter: Parked, owned: Owned) -> str | None:
        message = self._decoder.read(owned, record_of(letter))
        if message is None:
            return "this version does not know its type and skips it"
        await reader.replay(letter, owned, message)
        if owned.recent is not None and letter.topic_id == owned.topic_id:
            owned.recent.remember(message.source, message.id, letter.offset)
        return None


def _ids(work: Work) -> dict[str, str]:
    """What a line of a log says of the only record, if it is a command that a front has signed."""
    for part in work.parts:
        for message in part.messages:
            envelope = getattr(message, "envelope", None)
            if isinstance(envelope, Command):
                return command_fields(envelope)
    return {}
