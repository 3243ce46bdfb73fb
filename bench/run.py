"""The bench's table of contents: which figures there are, and how the wanted ones are measured in one run."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from bench import fronts, streams, workers
from bench.records import Figure, Record
from bench.stage import Options, Stage, opened
from bench.table import table

Measure = Callable[[Stage, Sequence[Figure]], Awaitable[list[Record]]]
GROUPS: tuple[tuple[tuple[Figure, ...], Measure], ...] = (
    (streams.FIGURES, streams.measure),
    (fronts.FIGURES, fronts.measure),
    (workers.FIGURES, workers.measure),
)
FIGURES = tuple(figure for figures, _ in GROUPS for figure in figures)


def selected(names: Sequence[str]) -> list[Figure]:
    """The figures whose ids begin with one of `names`; all without names. Raises `ValueError` for a name of none."""
    for name in names:
        if not any(figure.id.startswith(name) for figure in FIGURES):
            raise ValueError(f"no figure begins with {name!r}; there are {', '.join(figure.id for figure in FIGURES)}")
    return [figure for figure in FIGURES if not names or any(figure.id.startswith(name) for name in names)]


def save(records: Sequence[Record], path: Path) -> None:
    """Write the records as a JSON array."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(records)) + b"\n")


async def measured(names: Sequence[str], options: Options, json: Path | None) -> list[Record]:
    """Measure, print the table, write the JSON. What was measured before an error is still printed and written."""
    wanted = selected(names)
    records: list[Record] = []
    try:
        async with opened(options) as stage:
            for figures, measure in GROUPS:
                of_group = [figure for figure in figures if figure in wanted]
                if of_group:
                    records += await measure(stage, of_group)
    finally:
        if records:
            print(table(records))
            if json is not None:
                save(records, json)
    return records
