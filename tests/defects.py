"""What must never be found in a log: errors that no fault of a server causes, only a mistake in our code.

The product outlives many of its own mistakes: a batch is read again, a task begins anew. So a test passes, only later.
"""

from __future__ import annotations

import logging
import re

_DEFECT = re.compile(
    r"\b(?:AttributeError|NameError|UnboundLocalError|TypeError|AssertionError|RecursionError)\b"
    r"|object has no attribute|unexpected keyword argument|positional argument|was never awaited"
)


_LEFT = re.compile("was never retrieved|was destroyed but it is pending|^Unclosed ")


def is_left(record: logging.LogRecord) -> bool:
    """True for what is said when something is thrown away that nobody looked at: an earlier test may have left it."""
    return record.name == "asyncio" and _LEFT.search(record.getMessage()) is not None


def in_log(text: str) -> list[str]:
    """Lines of a log that tell of a mistake in our code."""
    return [line[:500] for line in text.splitlines() if _DEFECT.search(line)]
