"""Rate limits: how often one address and one user may do what costs us something.

A limit counts by a sliding window, made of a fixed one and the share of the one before that still reaches into it. A
read must not wait for Redis: each process counts by itself, tells the others through Redis SHARE_S later what it has
counted, and learns what they have. So a limit may be overstepped by what comes within SHARE_S. Where that is too much,
for passwords, `exactly` asks Redis each time. With Redis away each process counts alone.
"""

import asyncio
from math import ceil
from typing import Protocol
from uuid import UUID

from config.shields import Limit
from stores.limits import Deeds
from stores.redis import RedisAway

SHARE_S = 0.1
AWAY_S = 1.0
"""How long what is to be shared waits while Redis is away."""
MOST_AT_ONCE = 500
"""Counts that are shared in one exchange."""
MOST_CALLERS = 50_000
"""Callers that are remembered of one limit; of more, the counts that are there longest are left to Redis."""


class SharedCounts(Protocol):
    """Where processes count together; see stores/limits.py."""

    async def add(self, deeds: list[Deeds]) -> list[tuple[int, int]]:
        """Raises RedisAway."""

    async def is_familiar(self, account: UUID, place: str) -> bool:
        """Never raises."""

    async def make_familiar(self, account: UUID, place: str) -> None:
        """Raises RedisAway."""


class Count:
    """What one caller did in one window: as all processes know it, here since, and in the window before.

    `told`: how much of `shared` this process has told.
    """

    __slots__ = ("before", "here", "refused", "shared", "told", "who", "window")

    def __init__(self, who: str | int, window: int, before: int) -> None:
        self.who = who
        self.window = window
        self.before = before
        self.shared = 0
        self.here = 0
        self.told = 0
        self.refused = False

    def leave(self) -> int:
        """What is here goes to the others, and counts as told; how much it is."""
        going, self.here = self.here, 0
        self.shared += going
        self.told += going
        return going

    def come_back(self, gone: int) -> None:
        """It did not get there."""
        self.here += gone
        self.shared -= gone
        self.told -= gone

    def learn(self, total: int, before: int) -> None:
        """What all of them know. Never less than was told from here: Redis may have lost it."""
        self.shared = max(total, self.told)
        self.before = max(self.before, before)


class Spent(Exception):
    """A limit is used up; in `wait` seconds what was asked for is free. `first`: of this caller in this window."""

    def __init__(self, meter: "Meter", wait: int, first: bool) -> None:
        super().__init__(meter.name)
        self.meter = meter
        self.wait = wait
        self.first = first


class Meter:
    """One limit in this process, over all callers."""

    def __init__(self, name: str, limit: Limit, sharing: "Sharing") -> None:
        self.name = name
        self.quota, self.window = limit
        self.policy = f'"{name}";q={self.quota};w={self.window}'
        """As it stands in `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
        self._head = f'"{name}";r='
        self._sharing = sharing
        self.number = -1
        """Of the window that is counted in: how many of its length there were since 1970."""
        self._begins = self._ends = 0.0
        self._counts: dict[str | int, Count] = {}
        self._old: dict[str | int, Count] = {}

    def take(self, who: str | int, now: float, deeds: int = 1) -> int:
        """Counts deeds; how many are left. `now`: Unix seconds. Raises Spent, and then nothing was counted."""
        if not self._begins <= now < self._ends:
            now = self._turned(now)
        count = self._counts.get(who) or self._new(who)
        used = count.shared + count.here + deeds
        if count.before:
            used += ceil(count.before * (self._ends - now) / self.window)
        if used > self.quota:
            raise self._spent(count, now, deeds)
        count.here += deeds
        if count.here == deeds:
            self._sharing.soon(self, count)
        return self.quota - used

    async def exactly(self, who: str | int, now: float) -> int:
        """As `take`, and what other processes counted until now is counted in."""
        left = self.take(who, now)
        count = self.count(who, now)
        await self._sharing.now(self, count)  # meanwhile the window may turn: it is the count of then that is told
        used = count.shared + count.here + ceil(count.before * self._remains(count, now) / self.window)
        if used > self.quota:
            self._lessen(count, 1)
            raise self._spent(count, now, 1)
        return min(left, self.quota - used)

    def give_back(self, who: str | int, now: float, deeds: int = 1) -> None:
        """So many deeds less, for they were none that count."""
        self._lessen(self.count(who, now), deeds)

    def shown(self, left: int, now: float) -> str:
        """As it stands in `RateLimit`: how many are left, and in how many seconds the window ends."""
        return f"{self._head}{left};t={int(self._ends - now) + 1}"

    def count(self, who: str | int, now: float) -> Count:
        """The count of a caller in the window of `now`."""
        if not self._begins <= now < self._ends:
            self._turned(now)
        return self._counts.get(who) or self._new(who)

    def _new(self, who: str | int) -> Count:
        old = self._old.get(who)
        before = 0 if old is None else max(old.shared + old.here, 0)
        count = self._counts[who] = Count(who, self.number, before)
        if len(self._counts) > MOST_CALLERS:
            del self._counts[next(iter(self._counts))]
        return count

    def _lessen(self, count: Count, deeds: int) -> None:
        count.here -= deeds
        self._sharing.soon(self, count)

    def _turned(self, now: float) -> float:
        """Begins the window of `now`; who took the time and waited since, counts at the beginning of the present one.

        Back is only gone with a clock that was set back.
        """
        if self._begins - self.window <= now < self._begins:
            return self._begins
        number = int(now // self.window)
        self._old = self._counts if number == self.number + 1 else {}
        self._counts = {}
        self.number = number
        self._begins = number * self.window
        self._ends = self._begins + self.window
        return now

    def _remains(self, count: Count, now: float) -> float:
        """Seconds until the window of a count ends, all of it for who took the time before it began."""
        return min(max((count.window + 1) * self.window - now, 0), self.window)

    def _spent(self, count: Count, now: float, deeds: int) -> Spent:
        first, count.refused = not count.refused, True
        return Spent(self, self._wait(count, now, deeds), first)

    def _wait(self, count: Count, now: float, deeds: int) -> int:
        """In how many seconds there is room for so many more if nothing else comes."""
        used = count.shared + count.here
        if used <= self.quota - deeds:
            # Room comes as the window before moves out: before * share <= quota - used - deeds.
            share = (self.quota - used - deeds) / count.before if count.before else 1.0
            seconds = self._remains(count, now) - share * self.window
        else:
            # Nothing in this window; in the next one as this one moves out.
            seconds = self._remains(count, now) + self.window * (1 - (self.quota - deeds) / max(used, 1))
        return max(ceil(seconds), 1)


class Sharing:
    """Tells the other processes, through Redis, what was counted here, and learns what they counted."""

    def __init__(self, shared: SharedCounts) -> None:
        self.shared = shared
        self._waiting: dict[Count, Meter] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def soon(self, meter: Meter, count: Count) -> None:
        """This count is to be told within SHARE_S."""
        self._waiting[count] = meter
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SHARE_S, self._begin)

    async def now(self, meter: Meter, count: Count) -> None:
        """Tells and learns at once. Never raises."""
        self._waiting.pop(count, None)
        await self._exchange([(count, meter)])

    async def close(self) -> None:
        """Tells what is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        await self._flush()
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._timer = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._flush())
        else:  # Redis is slow: what waits goes with the next
            self._timer = asyncio.get_running_loop().call_later(SHARE_S, self._begin)

    async def _flush(self) -> None:
        waiting, self._waiting = list(self._waiting.items()), {}
        for start in range(0, len(waiting), MOST_AT_ONCE):
            if not await self._exchange(waiting[start : start + MOST_AT_ONCE]):
                for count, meter in waiting[start + MOST_AT_ONCE :]:
                    self._waiting.setdefault(count, meter)
                break

    async def _exchange(self, counts: list[tuple[Count, Meter]]) -> bool:
        """Tells these; False if Redis is away, and then what still matters waits for another time."""
        going = [count.leave() for count, _ in counts]
        deeds = [
            Deeds(meter.name, str(count.who), count.window, meter.window, gone)
            for (count, meter), gone in zip(counts, going, strict=True)
        ]
        try:
            found = await self.shared.add(deeds)
        except RedisAway:
            for (count, meter), gone in zip(counts, going, strict=True):
                count.come_back(gone)
                if count.window == meter.number:
                    self._waiting[count] = meter
            if self._timer is None and self._waiting:
                self._timer = asyncio.get_running_loop().call_later(AWAY_S, self._begin)
            return False
        for (count, _), (total, before) in zip(counts, found, strict=True):
            count.learn(total, before)
        return True
