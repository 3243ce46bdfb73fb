"""Time zones by their names, from the machine's list or that of the `tzdata` package."""

import re
from functools import lru_cache
from zoneinfo import ZoneInfo

_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo | None:
    """The zone of this name, such as `Asia/Seoul`; None if there is none."""
    if not _NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones, such as `Europe`
        return None
