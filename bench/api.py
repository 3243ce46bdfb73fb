"""api.*: gets, lists, searches and creates beside three others, in one run; a front's memory; a flood of logins.

Nothing of the product is switched off for it: every shield, limit, metric and log line is as `up` has them, the limits
as high as they are in the environment local. A side that can't be had here is left out, with the reason.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench import api_strain, rivals
from bench.api_pocketbase import PocketBase
from bench.api_rows import PAGE, Rows
from bench.api_sides import Api, Direct, Requests, Searched, Template, Yeoul
from bench.figures import API_FLOOD, API_MEMORY, Figure
from bench.fronts import rounds
from bench.records import Record, Sample, compare
from bench.rivals import Program, Unavailable
from bench.stage import Stage

OURS, DIRECT, POCKETBASE, TEMPLATE = "yeoul", "direct", "pocketbase", "template"
WITHOUT_TOTAL = "PocketBase without its total"
OTHERS: Mapping[str, tuple[Callable[[Stage], Awaitable[Program]], Callable[[Stage, Program], Api]]] = {
    POCKETBASE: (rivals.pocketbase, PocketBase),
    TEMPLATE: (rivals.fastapi_template, Template),
}
"""Sides that may not be had: how to get the program, and what runs it."""


@dataclass(frozen=True)
class Operation:
    """What is asked of every side: figures whose ids begin with `begins`; `items`: rows of an answer."""

    begins: str
    requests: Callable[[Api], Requests]
    items: int = 1
    searched: bool = False


def _finds(side: Api) -> Requests:
    assert isinstance(side, Searched)  # no figure of finding is about another
    return side.finds()


OPERATIONS = (
    Operation("api.get.", lambda side: side.gets()),
    Operation("api.list.", lambda side: side.lists(), PAGE),
    Operation("api.find.", _finds, PAGE, searched=True),
    Operation("api.create32.", lambda side: side.creates()),
    Operation("api.create256.", lambda side: side.creates()),
)
"""In this order: creates come last, so that the others have the rows that they say."""


@dataclass
class Field:
    """The sides that run, by name, and why others don't."""

    stage: Stage
    sides: dict[str, Api]
    missing: dict[str, str]

    async def fill(self, total: int) -> None:
        """All of them have `total` rows, and answer rightly."""
        self.stage.say(f"{total:,} rows for each")
        for side in self.sides.values():
            if len(side.ids) < total:
                await side.fill(total)
            await side.check()
        self.stage.say("their answers are right")


@asynccontextmanager
async def opened(stage: Stage, wanted: Sequence[Figure]) -> AsyncIterator[Field]:
    """Start the sides that the wanted figures need."""
    needed = {figure.id.rpartition(".")[2] for figure in wanted}
    field = Field(stage, {OURS: Yeoul(stage)}, {})
    if needed & {DIRECT, "p99"}:
        field.sides[DIRECT] = Direct(stage)
    for name, (get, make) in OTHERS.items():
        if name in needed:
            try:
                field.sides[name] = make(stage, await get(stage))
            except Unavailable as reason:
                field.missing[name] = f"left out: {reason}"
                stage.say(field.missing[name])
    rows = Rows(stage.options.searched)
    try:
        for side in field.sides.values():
            side.prepared(rows)
            await side.start()
        yield field
    finally:
        await asyncio.gather(*(side.stop() for side in field.sides.values()))


async def measure(stage: Stage, wanted: Sequence[Figure]) -> list[Record]:
    """Measure the wanted figures, one operation after the other."""
    records: list[Record] = []
    async with opened(stage, wanted) as field:
        await field.fill(min(stage.options.rows, stage.options.searched))
        for operation in OPERATIONS:
            figures = [figure for figure in wanted if figure.id.startswith(operation.begins)]
            if figures:
                if operation.searched:
                    await field.fill(field.sides[OURS].rows.total)
                records += await _measured(field, operation, figures)
        yeoul = field.sides[OURS]
        assert isinstance(yeoul, Yeoul)
        if API_FLOOD in wanted:
            records.append(await api_strain.flood(stage, yeoul))
        if API_MEMORY in wanted:
            records.append(await api_strain.memory(stage, yeoul))
    return records


async def _measured(field: Field, operation: Operation, figures: Sequence[Figure]) -> list[Record]:
    """Rounds of one operation, of every side that its figures compare."""
    asked: dict[str, tuple[Api, Requests]] = {}
    for name in (OURS, DIRECT, POCKETBASE, TEMPLATE):
        if name in field.sides and (name in (OURS, DIRECT) or any(it.id.endswith(name) for it in figures)):
            asked[name] = field.sides[name], operation.requests(field.sides[name])
    if operation.begins == "api.list." and POCKETBASE in asked:
        pocketbase = field.sides[POCKETBASE]
        assert isinstance(pocketbase, PocketBase)
        asked[WITHOUT_TOTAL] = pocketbase, pocketbase.untotalled()
    samples = await rounds(field.stage, figures[0], asked, operation.items)
    return [_record(field, figure, samples) for figure in figures]


def _record(field: Field, figure: Figure, samples: Mapping[str, list[Sample]]) -> Record:
    name = figure.id.rpartition(".")[2]
    ours, theirs = samples[OURS], samples.get(DIRECT if name == "p99" else name, [])
    if name == "p99":
        return compare(figure, {"yeoul": _p99(ours), "baseline": _p99(theirs)})
    if name != DIRECT:
        # What else there is to say of our side stands at the direct front's figure.
        ours = [Sample(value=each.value) for each in ours]
    sides = {"yeoul": ours, "baseline": theirs}
    if name == POCKETBASE and WITHOUT_TOTAL in samples:
        sides[WITHOUT_TOTAL] = samples[WITHOUT_TOTAL]
    return compare(figure, sides, note=field.missing.get(name, ""))


def _p99(samples: Sequence[Sample]) -> list[Sample]:
    return [Sample(value=each.p99_ms or 0.0) for each in samples]
