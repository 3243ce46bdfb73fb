"""What can't be added up as a number: distinct values, percentiles, the most frequent values.

Each is a pure function of what went in, whatever the order and however it was divided: the same events give the same
bytes. That is why HyperLogLog is kept as its bare registers (libraries add an estimator that depends on the order), and
DDSketch as its bins. A `top` is exact as long as there is room; which values found room depends on the order, so it is
kept for each partition, where the order is the log's.

HyperLogLog: Flajolet et al. 2007, with 64-bit hashes; estimate by Ertl, arXiv 1702.01284. DDSketch: Masson et al., VLDB
2019, with the mapping of the `ddsketch` package.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import xxhash
from ddsketch.mapping import CubicallyInterpolatedMapping

Array = Any

# -- distinct ----------------------------------------------------------------------------------------------------------

PRECISION = 12
REGISTERS = 1 << PRECISION
"""4,096 registers: 4 kB at most, standard error 1.6 %."""
MOST_SPARSE = 1_000
"""With more registers set than this, all of them are stored."""
_SPARSE, _DENSE = b"s", b"d"
_REST = 64 - PRECISION


def hashes(values: Sequence[bytes]) -> Array:
    """64-bit hashes of values, as an array of uint64."""
    hashed = xxhash.xxh3_64_intdigest
    return np.fromiter((hashed(value) for value in values), np.uint64, len(values))


def distinct(hashed: Array) -> bytes:
    """The sketch of these hashes."""
    index = (hashed >> np.uint64(_REST)).astype(np.int64)
    rest = hashed & np.uint64((1 << _REST) - 1)
    # Position of the first one bit: exact, since what is left has 52 bits and a double's mantissa 53.
    rank = (_REST + 1 - np.frexp(rest.astype(np.float64))[1]).astype(np.uint8)
    registers = np.zeros(REGISTERS, np.uint8)
    np.maximum.at(registers, index, rank)
    return _stored(registers)


def _stored(registers: Array) -> bytes:
    used = np.flatnonzero(registers)
    if len(used) > MOST_SPARSE:
        return b"".join((_DENSE, registers.tobytes()))
    return b"".join((_SPARSE, used.astype("<u2").tobytes(), registers[used].tobytes()))


def _registers(sketch: bytes) -> Array:
    if sketch[:1] == _DENSE:
        return np.frombuffer(sketch, np.uint8, offset=1)
    count = (len(sketch) - 1) // 3
    registers = np.zeros(REGISTERS, np.uint8)
    registers[np.frombuffer(sketch, "<u2", count, 1)] = np.frombuffer(sketch, np.uint8, count, 1 + 2 * count)
    return registers


def merge_distinct(sketches: Iterable[bytes]) -> bytes:
    """The sketch of all that went into any of these."""
    registers = np.zeros(REGISTERS, np.uint8)
    for sketch in sketches:
        np.maximum(registers, _registers(sketch), out=registers)
    return _stored(registers)


def estimate_distinct(sketch: bytes) -> int:
    """How many different values went in, within 1.6 % (standard error)."""
    counts = np.bincount(_registers(sketch), minlength=_REST + 2)
    z = REGISTERS * _tau(1.0 - counts[_REST + 1] / REGISTERS)
    for count in counts[_REST:0:-1]:
        z = 0.5 * (z + count)
    z += REGISTERS * _sigma(counts[0] / REGISTERS)
    return round(float(REGISTERS * REGISTERS / (2 * np.log(2)) / z)) if z else 0


def _sigma(x: float) -> float:
    if x == 1.0:
        return float("inf")
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1.0 - x
    while True:
        x = x**0.5
        before = z
        y *= 0.5
        z -= (1.0 - x) ** 2 * y
        if z == before:
            return z / 3.0


# -- percentiles -------------------------------------------------------------------------------------------------------

ACCURACY = 0.01
"""A percentile is within 1 % of a value that has this rank."""
MOST_BINS = 2_048
"""Bins of each sign; beyond that the ones nearest to zero are one."""
_mapping = CubicallyInterpolatedMapping(ACCURACY)


def percentiles(values: Array) -> bytes:
    """The sketch of these numbers (an array of finite doubles)."""
    zero = int(np.count_nonzero(np.abs(values) < _mapping.min_possible))
    return _packed(
        zero,
        _counted(_bins(values[values >= _mapping.min_possible])),
        _counted(_bins(-values[values <= -_mapping.min_possible])),
    )


def _bins(values: Array) -> Array:
    """The mapping's `key`, of many values at once."""
    fraction, exponent = np.frexp(values)
    s = 2 * fraction - 1
    m = _mapping
    return np.ceil((((m.A * s + m.B) * s + m.C) * s + (exponent - 1)) * m._multiplier).astype(np.int64)


def _counted(keys: Array, counts: Array | None = None) -> tuple[Array, Array]:
    """Bins in order with how many are in each, the lowest ones joined when there are too many."""
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    keys = np.maximum(keys, keys.max() - MOST_BINS + 1)
    unique, where = np.unique(keys, return_inverse=True)
    if counts is None:
        return unique, np.bincount(where, minlength=len(unique)).astype(np.int64)
    added = np.zeros(len(unique), np.int64)
    np.add.at(added, where, counts)
    return unique, added


def _packed(zero: int, high: tuple[Array, Array], low: tuple[Array, Array]) -> bytes:
    head = np.array([zero, len(high[0]), len(low[0])], "<i8").tobytes()
    return head + b"".join(part.astype("<i8").tobytes() for part in (*high, *low))


def _unpacked(sketch: bytes) -> tuple[int, tuple[Array, Array], tuple[Array, Array]]:
    numbers = np.frombuffer(sketch, "<i8")
    zero, high, low = (int(number) for number in numbers[:3])
    at = np.split(numbers[3:], [high, 2 * high, 2 * high + low])
    return zero, (at[0], at[1]), (at[2], at[3])


def merge_percentiles(sketches: Iterable[bytes]) -> bytes:
    """The sketch of all that went into any of these."""
    parts = [_unpacked(sketch) for sketch in sketches]
    sides = []
    for side in (1, 2):
        keys = np.concatenate([np.zeros(0, np.int64), *(part[side][0] for part in parts)])  # type: ignore[index]
        counts = np.concatenate([np.zeros(0, np.int64), *(part[side][1] for part in parts)])  # type: ignore[index]
        sides.append(_counted(keys, counts))
    return _packed(sum(part[0] for part in parts), sides[0], sides[1])


def estimate_percentiles(sketch: bytes, at: Sequence[float]) -> list[float | None]:
    """The values at these percentiles (0 to 100), each within 1 %; None of nothing."""
    zero, high, low = _unpacked(sketch)
    values = [-_mapping.value(int(key)) for key in low[0][::-1]] + [0.0] + [_mapping.value(int(k)) for k in high[0]]
    until = np.cumsum(np.concatenate([low[1][::-1], [zero], high[1]]))
    total = int(until[-1])
    if not total:
        return [None] * len(at)
    return [float(values[int(np.searchsorted(until, percent / 100 * (total - 1), side="right"))]) for percent in at]


# -- top ---------------------------------------------------------------------------------------------------------------

ROOM = 1_000
"""Different values that a `top` counts exactly in a window of one partition; what comes after is counted together."""


ROOM_TEXT = 65_536
"""Characters that those values may come to, for strangers choose how long they are."""


class Top(msgspec.Struct):
    """Counts by value (JSON text), and of what found no room."""

    counts: dict[str, int] = {}
    others: int = 0

    def add(self, counts: dict[str, int]) -> None:
        """Add these, in the order in which they first came."""
        left = ROOM_TEXT - sum(map(len, self.counts))
        for value, count in counts.items():
            if value in self.counts:
                self.counts[value] += count
            elif len(self.counts) < ROOM and len(value) <= left:
                self.counts[value] = count
                left -= len(value)
            else:
                self.others += count


_encode_top = msgspec.json.Encoder(order="deterministic").encode
_decode_top = msgspec.json.Decoder(Top).decode


def top(counts: dict[str, int], before: bytes | None = None) -> bytes:
    """The sketch of what `before` has and of these, in the order in which they first came."""
    found = Top() if before is None else _decode_top(before)
    found.add(counts)
    return _encode_top(found)


def merge_top(sketches: Iterable[bytes]) -> Top:
    """All of them together, of several partitions or panes."""
    whole = Top()
    for sketch in sketches:
        part = _decode_top(sketch)
        for value, count in part.counts.items():
            whole.counts[value] = whole.counts.get(value, 0) + count
        whole.others += part.others
    return whole
