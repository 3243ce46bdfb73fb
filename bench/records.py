"""What a figure is: samples of each side in alternating runs, and the record made of them."""

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from bench.figures import Figure


class Sample(msgspec.Struct, frozen=True):
    """One run of one side."""

    value: float
    """In the figure's unit."""
    cpu: float = 0.0
    """CPU seconds in the figure's `cpu_unit`, the servers' included, the generator's not."""
    resident_mb: float = 0.0
    """Resident megabytes of the side's own processes at the end of the run (the servers' not)."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    errors: dict[str, int] = {}


class Beside(msgspec.Struct, frozen=True):
    """A further side, shown beside: its median, and Yeoul's ratio to it."""

    value: float
    ratio: float


class Record(msgspec.Struct, frozen=True):
    """A figure as it was measured.

    `yeoul` and `baseline` are medians of `runs` rounds (a round is one run of each side, one right after the other);
    `ratio` is the median of the rounds' ratios, `spread` their lowest and highest (without a baseline: of the values).
    """

    id: str
    unit: str
    yeoul: float | None
    baseline: float | None
    ratio: float | None
    runs: int
    spread: tuple[float, float] | None
    goal: str
    met: bool | None
    beside: dict[str, Beside]
    samples: dict[str, list[float]]
    cpu_unit: str
    cpu: dict[str, float]
    resident_mb: dict[str, float]
    latency_ms: dict[str, dict[str, float]]
    errors: dict[str, dict[str, int]]
    note: str = ""


def compare(figure: Figure, sides: Mapping[str, Sequence[Sample]], note: str = "") -> Record:
    """The record of `figure` from the samples of `yeoul`, `baseline` (if there is one) and others, by round."""
    values = {side: [sample.value for sample in samples] for side, samples in sides.items() if samples}
    medians = {side: statistics.median(of_side) for side, of_side in values.items()}
    ours = values.get("yeoul", [])
    ratios = {side: _ratios(ours, of_side) for side, of_side in values.items() if side != "yeoul"}
    ratio = statistics.median(ratios["baseline"]) if ratios.get("baseline") else None
    spread_of = ratios.get("baseline") or ours
    judged = ratio if figure.goal.of == "ratio" else medians.get("yeoul")
    return Record(
        id=figure.id,
        unit=figure.unit,
        yeoul=medians.get("yeoul"),
        baseline=medians.get("baseline"),
        ratio=ratio,
        runs=len(ours),
        spread=(min(spread_of), max(spread_of)) if spread_of else None,
        goal=str(figure.goal),
        met=None if judged is None else figure.goal.met(judged),
        beside={
            side: Beside(medians[side], statistics.median(of_side))
            for side, of_side in ratios.items()
            if side != "baseline" and of_side
        },
        samples=values,
        cpu_unit=figure.cpu_unit,
        cpu=_medians(sides, "cpu"),
        resident_mb=_medians(sides, "resident_mb"),
        latency_ms=_latencies(sides),
        errors=_errors(sides),
        note=note,
    )


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=False) if their]


def _medians(sides: Mapping[str, Sequence[Sample]], field: str) -> dict[str, float]:
    found = {side: [value for s in samples if (value := getattr(s, field))] for side, samples in sides.items()}
    return {side: statistics.median(values) for side, values in found.items() if values}


def _latencies(sides: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, float]]:
    latencies = {}
    for side, samples in sides.items():
        p50 = [sample.p50_ms for sample in samples if sample.p50_ms is not None]
        p99 = [sample.p99_ms for sample in samples if sample.p99_ms is not None]
        if p50 and p99:
            latencies[side] = {"p50": statistics.median(p50), "p99": statistics.median(p99)}
    return latencies


def _errors(sides: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, int]]:
    errors: dict[str, dict[str, int]] = {}
    for side, samples in sides.items():
        for sample in samples:
            for kind, number in sample.errors.items():
                of_side = errors.setdefault(side, {})
                of_side[kind] = of_side.get(kind, 0) + number
    return errors
