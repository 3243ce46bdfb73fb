"""What text and free JSON may hold: PostgreSQL keeps neither NUL nor lone surrogates, so nobody gets to send them."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from domain.refusals import Problem

INTEGERS = (-(2**63), 2**63 - 1)
"""The integers that every part keeps exactly: 64 bits, signed."""

DEPTH = 64
"""How deep a document may be nested, the document itself being the first level."""

MOST_VALUES = 10_000
"""How many values free JSON may hold in all: a megabyte of them would hold up whoever looks at each."""

LIMITS = {
    Problem.RANGE: f"{INTEGERS[0]}…{INTEGERS[1]}",
    Problem.FLOAT_RANGE: "-1.7976931348623157e308…1.7976931348623157e308",
    Problem.TOO_DEEP: str(DEPTH),
    Problem.TOO_LONG: str(MOST_VALUES),
}
"""What is allowed instead, for the problems that `problems` finds."""

Slug = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]*\Z", extra={"like": "a-z 0-9 _ . -"})
]
"""A short machine-readable name: lower-case letters, digits, `_`, `.`, `-`."""


def problem(text: str) -> Problem | None:
    """What forbids `text`, if anything."""
    if "\0" in text:
        return Problem.NUL
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return Problem.SURROGATE
    return None


def problems(value: Any, path: str = "") -> Iterator[tuple[str, Problem]]:
    """Every part of a JSON value that can't be kept, by its path below `path`. Depth counts from `value` as level 1."""
    stack: list[tuple[Any, str, int]] = [(value, path, 1)]
    seen = 0
    while stack:
        item, at, depth = stack.pop()
        seen += 1
        if seen + len(stack) > MOST_VALUES:
            yield path, Problem.TOO_LONG
            return
        if isinstance(item, str):
            if (found := problem(item)) is not None:
                yield at, found
        elif isinstance(item, bool) or item is None:
            continue
        elif isinstance(item, int):
            if not INTEGERS[0] <= item <= INTEGERS[1]:
                yield at, Problem.RANGE
        elif isinstance(item, float):
            if item - item != 0.0:  # true of the infinities and of NaN only
                yield at, Problem.FLOAT_RANGE
        elif depth > DEPTH:
            yield at, Problem.TOO_DEEP
        elif len(item) > MOST_VALUES:
            yield path, Problem.TOO_LONG
            return
        elif isinstance(item, dict):
            for key, inner in item.items():
                if (found := problem(key)) is not None:
                    yield printable(join(at, key)), found
                stack.append((inner, printable(join(at, key)), depth + 1))
        else:
            stack.extend((inner, f"{at}[{index}]", depth + 1) for index, inner in enumerate(item))


def join(path: str, key: str) -> str:
    """The path of member `key` of the object at `path`."""
    return f"{path}.{key}" if path else key


def printable(path: str) -> str:
    """`path` such that it can be written into an answer: what isn't text is escaped, what is endless is cut."""
    if len(path) > 200:
        path = path[:199] + "…"
    return path if problem(path) is None else path.encode("unicode_escape").decode()


def check(*texts: str) -> None:
    """Raises ValueError if one of `texts` can't be kept."""
    for text in texts:
        if ("\0" in text or not text.isascii()) and problem(text) is not None:
            raise ValueError("text holds NUL or half of a surrogate pair")


def check_json(value: Any) -> None:
    """Raises ValueError if something within `value` can't be kept."""
    for path, found in problems(value):
        raise ValueError(f"{path or 'value'}: is {found}: text without NUL and half surrogates, numbers in range")
