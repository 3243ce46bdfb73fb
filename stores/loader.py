"""Reads of one moment become one question: many callers, one round trip.

A caller never joins a question that was already sent, for the answer might be older than the caller's own write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Loader(Generic[K, V]):
    """Gathers `get` calls while at most `lanes` questions are under way, `most` keys each."""

    def __init__(
        self, fetch: Callable[[list[K]], Awaitable[Mapping[K, V]]], *, lanes: int = 2, most: int = 500
    ) -> None:
        self._fetch = fetch
        self._lanes = lanes
        self._most = most
        # A future for each caller: one who is cancelled must not cancel the others' answer.
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def get(self, key: K) -> asyncio.Future[V | None]:
        """The value of `key`, or None; raises what `fetch` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V | None] = loop.create_future()
        callers = self._waiting.get(key)
        if callers is not None:
            callers.append(future)
            return future
        self._waiting[key] = [future]
        if not self._scheduled and len(self._running) < self._lanes:
            self._scheduled = True
            loop.call_soon(self._start)
        return future

    def _start(self) -> None:
        self._scheduled = False
        if not self._waiting:
            return
        if len(self._waiting) <= self._most:
            chosen, self._waiting = self._waiting, {}
        else:
            chosen = {key: self._waiting.pop(key) for key in list(self._waiting)[: self._most]}
        task = asyncio.get_running_loop().create_task(self._answer(chosen))
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if self._waiting and not self._scheduled:
            self._start()

    async def _answer(self, chosen: dict[K, list["asyncio.Future[V | None]"]]) -> None:
        try:
            found = await self._fetch(list(chosen))
        except BaseException as error:
            for callers in chosen.values():
                for future in callers:
                    if not future.done():
                        future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                        future.exception()  # a caller that went away must not leave a warning behind
            if not isinstance(error, Exception):
                raise
            return
        for key, callers in chosen.items():
            value = found.get(key)
            for future in callers:
                if not future.done():
                    future.set_result(value)
