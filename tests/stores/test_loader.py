"""Reads of one moment become one question, and nobody is given an answer older than the asking."""

import asyncio
import gc
from collections.abc import Mapping

import pytest

from stores.loader import Loader


class Source:
    """Answers a question when it is let: each `answer()` answers the oldest one."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []
        self._open: list[asyncio.Future[Mapping[str, str]]] = []
        self._asked = asyncio.Condition()

    async def fetch(self, keys: list[str]) -> Mapping[str, str]:
        future: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self.questions.append(keys)
        self._open.append(future)
        async with self._asked:
            self._asked.notify_all()
        return await future

    async def asked(self, count: int) -> None:
        async with asyncio.timeout(5), self._asked:
            await self._asked.wait_for(lambda: len(self.questions) >= count)

    def answer(self, values: Mapping[str, str] | Exception) -> None:
        future = self._open.pop(0)
        if isinstance(values, Exception):
            future.set_exception(values)
        else:
            future.set_result(values)


async def ask(loader: Loader[str, str], key: str) -> str | None:
    return await loader.get(key)


async def test_callers_of_one_moment_share_one_question() -> None:
    source = Source()
    loader = Loader(source.fetch)
    callers = [asyncio.create_task(ask(loader, key)) for key in ("a", "b", "a", "missing")]
    await source.asked(1)
    source.answer({"a": "1", "b": "2"})
    assert await asyncio.gather(*callers) == ["1", "2", "1", None]
    assert source.questions == [["a", "b", "missing"]]


async def test_nobody_joins_a_question_that_was_sent() -> None:
    source = Source()
    loader = Loader(source.fetch)
    early = asyncio.create_task(ask(loader, "a"))
    await source.asked(1)
    late = asyncio.create_task(ask(loader, "a"))
    await source.asked(2)
    source.answer({"a": "old"})
    assert await early == "old"
    assert not late.done()
    source.answer({"a": "new"})
    assert await late == "new"


async def test_with_all_lanes_taken_callers_gather_and_then_go_together() -> None:
    source = Source()
    loader = Loader(source.fetch, lanes=2)
    callers = []
    for number in range(2):
        callers.append(asyncio.create_task(ask(loader, f"lane {number}")))
        await source.asked(number + 1)
    callers += [asyncio.create_task(ask(loader, key)) for key in ("x", "y", "x")]
    await asyncio.wait(callers, timeout=0.01)
    assert len(source.questions) == 2
    source.answer({"lane 0": "0"})
    await source.asked(3)
    assert source.questions[2] == ["x", "y"]
    source.answer({"lane 1": "1"})
    source.answer({"x": "x"})
    assert await asyncio.gather(*callers) == ["0", "1", "x", None, "x"]


async def test_a_question_has_at_most_so_many_keys_and_all_are_asked() -> None:
    source = Source()
    loader = Loader(source.fetch, lanes=1, most=10)
    callers = [asyncio.create_task(ask(loader, str(number))) for number in range(25)]
    for count in range(1, 4):
        await source.asked(count)
        source.answer({key: key for key in source.questions[count - 1]})
    assert await asyncio.gather(*callers) == [str(number) for number in range(25)]
    assert [len(question) for question in source.questions] == [10, 10, 5]


@pytest.mark.parametrize("leaver", [0, 1])
@pytest.mark.parametrize("sent", [False, True])
async def test_one_who_goes_away_takes_nobody_along(leaver: int, sent: bool) -> None:
    source = Source()
    loader = Loader(source.fetch)
    callers = [asyncio.create_task(ask(loader, "a")) for _ in range(3)]
    if sent:
        await source.asked(1)
    else:
        await asyncio.wait(callers, timeout=0)
    callers[leaver].cancel()
    await source.asked(1)
    source.answer({"a": "1"})
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results.pop(leaver), asyncio.CancelledError)
    assert results == ["1", "1"]


async def test_a_failure_reaches_every_caller_and_the_next_question_is_asked() -> None:
    source = Source()
    loader = Loader(source.fetch, lanes=1)
    callers = [asyncio.create_task(ask(loader, key)) for key in ("a", "a", "b")]
    await source.asked(1)
    later = asyncio.create_task(ask(loader, "c"))
    source.answer(OSError("gone"))
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(result) for result in results] == ["gone"] * 3
    await source.asked(2)
    source.answer({"c": "3"})
    assert await later == "3"


async def test_a_failure_that_nobody_waits_for_any_more_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()  # asyncio tells of what nobody looked at when it is thrown away: of other tests' before this one
    caplog.clear()
    source = Source()
    loader = Loader(source.fetch)
    caller = asyncio.create_task(ask(loader, "a"))
    await source.asked(1)
    caller.cancel()
    await asyncio.wait([caller])
    source.answer(OSError("nobody waits for this"))
    other = asyncio.create_task(ask(loader, "b"))
    await source.asked(2)
    source.answer({"b": "2"})
    assert await other == "2"
    gc.collect()
    assert [line for line in caplog.messages if "Loader" in line or "nobody waits for this" in line] == []
