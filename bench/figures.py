"""Every figure of the bench, as data: what it is called, what is to be reached, what is measured beside."""

from collections.abc import Sequence
from typing import Literal

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """What is to be reached: the `ratio` or `yeoul`'s own value, at least or at most `limit`."""

    limit: float
    of: Literal["ratio", "yeoul"] = "ratio"
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether `value` reaches it."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}{' ×' if self.of == 'ratio' else ''}"


class Figure(msgspec.Struct, frozen=True):
    """One row of the table of figures."""

    id: str
    unit: str
    goal: Goal
    baseline: str = ""
    """What is measured beside."""
    cpu_unit: str = ""
    callers: int = 0
    """Connections of the load generator."""


class Options(msgspec.Struct, frozen=True):
    """How long and how often is measured."""

    seconds: float = 10.0
    """Length of one HTTP run."""
    runs: int = 3
    events: int = 2_000_000
    """Events of `stream.batch` and `streams.*`: 200,000 fit into one prefetch and would tell nothing."""
    steady_s: float = 30.0
    """How long a slow stream is watched once it is steady."""
    commands: int = 1_000_000
    """Commands after which `worker.memory` is read the last time; the first is at a tenth of it."""
    rows: int = 10_000
    """Rows that `read.get32` and `api.get` choose from."""
    searched: int = 100_000
    """Rows that `api.find` searches."""
    requests: int = 100_000
    """Requests after which `api.memory` looks at the fronts."""


DIRECT = "aiohttp + asyncpg, two processes, inserts directly"
PER_1000 = "CPU seconds per 1,000 answers"
PER_MILLION = "CPU seconds per 1,000,000 events"

BATCH = Figure(
    "stream.batch",
    "events/s",
    Goal(40.0),
    "a stock Faust agent with a table, the same topic",
    PER_MILLION,
)
CREATE32 = Figure("write.create32", "creates/s", Goal(0.8), DIRECT, PER_1000, callers=32)
CREATE256 = Figure("write.create256", "creates/s", Goal(1.3), DIRECT, PER_1000, callers=256)
LATENCY1 = Figure("write.latency1", "ms, p50", Goal(4.0, "yeoul", at_most=True), DIRECT, PER_1000, callers=1)
GET32 = Figure("read.get32", "reads/s", Goal(2.5), "the direct front, PostgreSQL each time", PER_1000, callers=32)
START = Figure("worker.start", "s", Goal(3.0, "yeoul", at_most=True))
RECOVERY = Figure("worker.recovery", "s", Goal(5.0, "yeoul", at_most=True))
MEMORY = Figure("worker.memory", "MB resident", Goal(1.2, at_most=True), "the same worker after a tenth of them")

EVENTS = "events/s"
FAUST = Figure("streams.faust", EVENTS, Goal(40.0), "a stock Faust agent, tumbling table", PER_MILLION)
QUIX = Figure("streams.quix", EVENTS, Goal(5.0), "Quix Streams, exactly-once", PER_MILLION)
BYTEWAX = Figure("streams.bytewax", EVENTS, Goal(3.0), "Bytewax, nothing kept", PER_MILLION)
KAFKA_STREAMS = Figure("streams.kafka_streams", EVENTS, Goal(1.0), "Kafka Streams, exactly_once_v2", PER_MILLION)
PLAIN = Figure("streams.plain", EVENTS, Goal(0.45), "aiokafka, orjson and a Counter, nothing kept", PER_MILLION)
TWO = Figure("streams.two", EVENTS, Goal(1.3), "one worker", PER_MILLION)
TWO_CPU = Figure("streams.two_cpu", PER_MILLION, Goal(1.1, at_most=True), "one worker")
FRESH = Figure("streams.fresh", "ms, p50", Goal(1000.0, "yeoul", at_most=True), cpu_unit=PER_MILLION)
FRESH_P99 = Figure("streams.fresh_p99", "ms, p99", Goal(2000.0, "yeoul", at_most=True))

POCKETBASE = "PocketBase"
TEMPLATE = "the full-stack FastAPI template"


def _figures(name: str, unit: str, callers: int, direct: float, pocketbase: float, template: float) -> list[Figure]:
    """A row of api.*: beside each of the others (0: not compared), and the p99 beside the direct front's."""
    p99 = Figure(f"{name}.p99", "ms, p99", Goal(1.0, at_most=True), DIRECT, callers=callers)
    found = [Figure(f"{name}.direct", unit, Goal(direct), DIRECT, PER_1000, callers), p99]
    others = (("pocketbase", POCKETBASE, pocketbase), ("template", TEMPLATE, template))
    return found + [
        Figure(f"{name}.{end}", unit, Goal(goal), by, PER_1000, callers) for end, by, goal in others if goal
    ]


API = (
    *_figures("api.get", "gets/s", 32, 2.0, 2.5, 20.0),
    *_figures("api.list", "lists of 20/s", 32, 1.0, 2.5, 10.0),
    *_figures("api.find", "searches/s", 32, 1.0, 2.5, 0.0),
    *_figures("api.create32", "creates/s", 32, 0.8, 1.4, 10.0),
    *_figures("api.create256", "creates/s", 256, 1.3, 0.0, 0.0),
)
"""`api.find`: a list of 20 by filter and full text over `Options.searched` rows; the others over `Options.rows`."""
API_MEMORY = Figure("api.memory", "MB, one front", Goal(150.0, "yeoul", at_most=True), callers=32)
API_FLOOD = Figure(
    "api.flood", "ms, p99", Goal(3.0, at_most=True), "the same reads without a flood of logins", PER_1000, 32
)

FIGURES = (
    BATCH, CREATE32, CREATE256, LATENCY1, GET32, START, RECOVERY, MEMORY,
    FAUST, QUIX, BYTEWAX, KAFKA_STREAMS, PLAIN, TWO, TWO_CPU, FRESH, FRESH_P99,
    *API, API_MEMORY, API_FLOOD,
)  # fmt: skip


def selected(names: Sequence[str]) -> list[Figure]:
    """The figures whose ids begin with one of `names`; all without names. Raises `ValueError` for a name of none.

    A name that is the whole of what stands before the dot means just those: `stream` is not `streams`.
    """
    for name in names:
        if not any(_named(figure, name) for figure in FIGURES):
            raise ValueError(f"no figure begins with {name!r}; there are {', '.join(figure.id for figure in FIGURES)}")
    return [figure for figure in FIGURES if not names or any(_named(figure, name) for name in names)]


def _named(figure: Figure, name: str) -> bool:
    kinds = {each.id.partition(".")[0] for each in FIGURES}
    return figure.id.partition(".")[0] == name if name in kinds else figure.id.startswith(name)
