"""JSON merge patch (RFC 7396) of attributes."""

from typing import Any

from domain.refusals import Detail, Problem
from domain.text import LIMITS, join, printable, problems

MOST_MEMBERS = 256
"""Members of attributes."""


def merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """`target` with `patch` applied: null removes a member, an object is merged, anything else replaces.

    Both are at most 64 levels deep. Neither is changed.
    """
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            there = result.get(name)
            result[name] = merged(there if isinstance(there, dict) else {}, value)
        else:
            result[name] = value
    return result


def too_much(attributes: dict[str, Any]) -> tuple[Detail, ...]:
    """What is wrong with attributes that were merged of two that were right: they may be too many or too deep."""
    if len(attributes) > MOST_MEMBERS:
        return (Detail("attributes", Problem.TOO_LONG, str(MOST_MEMBERS)),)
    return tuple(
        Detail(printable(join("attributes", at)) if at else "attributes", problem, LIMITS.get(problem, ""))
        for at, problem in problems(attributes)
    )
