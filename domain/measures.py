"""What the values of a measure are together: exact, or a sketch of domain/sketches.py, however they were divided."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, localcontext

import msgspec
import numpy as np

from domain import sketches
from domain.metrics import SKETCHED, Kind
from domain.values import NULL, number, scalar

EXACT = 200
"""Digits of sums: more than 10^60 of the longest numbers need, so no sum is ever rounded."""


class Numbers(msgspec.Struct):
    """What was added up of the values of a measure: how many there were, and what `sum`, `min` and `max` need."""

    n: int = 0
    total: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    sketch: bytes | None = None
    """What is added, of `distinct` and `percentiles`."""
    top: dict[str, int] | None = None
    """What is added of a `top`, in the order in which the values came."""
    first: dict[str, int] | None = None
    """Where in the batch each value of `top` came first."""


def added_up(kind: Kind, values: Sequence[tuple[int, bytes]]) -> Numbers | None:
    """What these JSON values, each with its place in the batch, are together; None if none can be measured so."""
    if kind in (Kind.DISTINCT, Kind.TOP):
        spelt = [(at, one) for at, value in values if (one := scalar(value)) != NULL]
        if not spelt:
            return None
        counts = Counter(value for _, value in spelt)
        if kind is Kind.DISTINCT:
            return Numbers(len(spelt), sketch=sketches.distinct(sketches.hashes(list(counts))))
        first: dict[str, int] = {}
        for at, value in spelt:
            first.setdefault(value.decode(), at)
        return Numbers(len(spelt), top={value.decode(): n for value, n in counts.items()}, first=first)
    numbers = [found for _, value in values if (found := number(value)) is not None]
    if not numbers:
        return None
    if kind is Kind.PERCENTILES:
        return Numbers(len(numbers), sketch=sketches.percentiles(np.array([float(found) for found in numbers])))
    return Numbers(len(numbers), sum(numbers, Decimal()), min(numbers), max(numbers))


def joined(kind: Kind, one: Numbers, other: Numbers) -> Numbers:
    """Both together, of one batch."""
    n = one.n + other.n
    if kind is Kind.TOP:
        return _joined_top(n, one, other)
    if kind in SKETCHED:
        merge = sketches.merge_distinct if kind is Kind.DISTINCT else sketches.merge_percentiles
        return Numbers(n, sketch=merge([part.sketch for part in (one, other) if part.sketch is not None]))
    parts = [part for part in (one, other) if part.total is not None]
    with localcontext(prec=EXACT):
        return Numbers(
            n,
            sum((part.total for part in parts if part.total is not None), Decimal()),
            min(part.low for part in parts if part.low is not None),
            max(part.high for part in parts if part.high is not None),
        )


def _joined_top(n: int, one: Numbers, other: Numbers) -> Numbers:
    # In the order of the events, which may alternate between the two: it decides which values find room.
    counts, first = dict(one.top or {}), dict(one.first or {})
    for value, count in (other.top or {}).items():
        counts[value] = counts.get(value, 0) + count
    for value, at in (other.first or {}).items():
        first[value] = min(at, first.get(value, at))
    ordered = sorted(first, key=first.__getitem__)
    return Numbers(n, top={value: counts[value] for value in ordered}, first=first)
