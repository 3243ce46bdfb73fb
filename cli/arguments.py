"""What the commands' arguments may be: a wrong one is a usage line and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from config.variables import Refused
from config.variables import whole as _whole

OFFSETS = 10**18 - 1
"""The highest id or offset that is taken: 18 digits, which PostgreSQL's bigint holds."""


def whole(low: int, high: int) -> Callable[[str], int]:
    """A type for argparse: a whole number from `low` to `high`."""
    parse = _whole(low, high)

    def number(text: str) -> int:
        try:
            return parse(text)
        except Refused as refusal:
            raise argparse.ArgumentTypeError(str(refusal)) from None

    return number
