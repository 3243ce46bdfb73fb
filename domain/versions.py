"""The version that a change expects."""

Expected = int | tuple[int, ...] | None
"""The version, one of these, or None where any will do."""


def is_stale(expected: Expected, version: int) -> bool:
    """True if a change that expects this must not be made to something of this version."""
    if expected is None:
        return False
    return version not in expected if isinstance(expected, tuple) else version != expected
