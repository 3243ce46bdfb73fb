"""What people ask of a metric: which windows, time and groups. Checked alike for the API and the command line."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import ceil
from zoneinfo import ZoneInfo

import msgspec

from domain import windows
from domain.local import Local, has_local_days, localized
from domain.metrics import Kept, Metric
from domain.refusals import Detail, Problem
from domain.reports import Frame
from domain.tables import EARLIEST, FUTURE_S, LATEST
from domain.text import problem
from domain.values import spell

DEFAULT_WINDOWS = 60
MOST_LINES = 10_000
"""Windows times groups of one answer."""
ZONE_UTC = ZoneInfo("UTC")
_UTC_NAMES = ("UTC", "Etc/UTC")
_ZONES = "UTC, Asia/Seoul, Europe/Berlin, …"


class Question(msgspec.Struct, frozen=True):
    """The windows that begin from `since` (included) to `until` (excluded), seconds, of what is kept of them.

    `where`: for a place in `group_by`, the values wanted there as JSON. `zone`: in which times are shown.
    """

    frame: Frame
    since: int
    until: int
    where: dict[int, tuple[str, ...]]
    fill: bool
    zone: ZoneInfo


def parameters(metric: Metric) -> frozenset[str]:
    """The names of what may be asked of a metric."""
    return frozenset({"window", "from", "to", "tz", "fill", *(f"group[{path}]" for path in metric.group_by)})


def question(
    metric: Metric, asked: Mapping[str, str], now: int, zone_of: Callable[[str], ZoneInfo | None]
) -> Question | tuple[Detail, ...]:
    """What is asked, or everything that is wrong with it. `now`: seconds; `zone_of`: a zone by its name."""
    wrong: list[Detail] = []
    kept = metric.window(asked["window"]) if "window" in asked else metric.windows[0]
    if kept is None:
        wrong.append(Detail("window", Problem.CHOICE, ", ".join(each.window.name for each in metric.windows)))
    zone = zone_of(asked["tz"]) if "tz" in asked else ZONE_UTC
    if zone is None:
        wrong.append(Detail("tz", Problem.CHOICE, _ZONES))
    times: dict[str, int] = {}
    for name in ("from", "to"):
        if name in asked:
            found = moment(asked[name], zone or ZONE_UTC)
            if isinstance(found, int):
                times[name] = found
            else:
                wrong.append(msgspec.structs.replace(found, field=name))
    until = times.get("to", now + 1)
    if times.get("from", until) > until:
        wrong.append(Detail("from", Problem.RANGE, f"…–{_text(until)}"))
    where = {}
    for place, path in enumerate(metric.group_by):
        name = f"group[{path}]"
        if name in asked:
            bad = problem(asked[name])
            if bad is None:
                where[place] = spellings(asked[name])
            else:
                wrong.append(Detail(name, bad))
    fill = asked.get("fill", "false")
    if fill not in ("true", "false"):
        wrong.append(Detail("fill", Problem.CHOICE, "true, false"))
    if kept is not None and zone is not None and not wrong:
        frame, since, until = _framed(metric, kept, zone, times.get("from"), until, now)
        if frame is not None:
            return Question(frame, since, until, where, fill == "true", zone)
        wrong.append(Detail("tz", Problem.NO_LOCAL_DAYS))
    return tuple(wrong)


def _framed(
    metric: Metric, kept: Kept, zone: ZoneInfo, since: int | None, until: int, now: int
) -> tuple[Frame | None, int, int]:
    """How time is divided, and from when to when there is something; None if the metric can't make days of the zone."""
    window = kept.window
    local = has_local_days(window) and zone.key not in _UTC_NAMES
    if since is None:
        since = _earlier(Local(window, zone, windows.HOUR) if local else window, until)
    until = min(until, now + FUTURE_S)
    oldest = now - kept.keep
    if not local:
        # The window in which the time that is kept begins is still whole; of sliding ones panes are kept for longer.
        since = max(since, oldest if window.sliding else windows.floor(window.pane, oldest))
        return window, since, max(since, until)
    since = max(since, oldest)
    until = max(since, until)
    frame = localized(metric, window, zone, since, until)
    if frame is not None:
        # A day whose first panes are kept no longer would show too little.
        since = max(since, now - metric.panes()[frame.pane])
    return frame, since, max(since, until)


def _earlier(frame: Frame, until: int) -> int:
    """The beginning of the first of the last DEFAULT_WINDOWS windows that begin before `until`."""

    def floor(second: int) -> int:
        return frame.floor(second) if isinstance(frame, Local) else windows.floor(frame.pane, second)

    start = floor(until - 1)
    for _ in range(DEFAULT_WINDOWS - 1):
        start = floor(start - 1)
    return start


def moment(text: str, zone: ZoneInfo) -> int | Detail:
    """A time in seconds, rounded up: RFC 3339, or without an offset in `zone`; or what is wrong, of no field yet."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return Detail(
            "", Problem.PATTERN, "2026-01-31, 2026-01-31T12:00, 2026-01-31T12:00:00Z, 2026-01-31T12:00:00%2B09:00"
        )
    seconds = ceil((found if found.tzinfo is not None else found.replace(tzinfo=zone)).timestamp())
    if not EARLIEST <= seconds <= LATEST:
        return Detail("", Problem.RANGE, f"{_text(EARLIEST)}–{_text(LATEST)}")
    return seconds


def _text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


def spellings(text: str) -> tuple[str, ...]:
    """The JSON values that a text may mean in a group: itself, and the number, true, false or null that it spells.

    Each as it is stored, however it is written: 1.0 is 1.
    """
    found = [msgspec.json.encode(text)]
    try:
        written = bytes(msgspec.json.decode(text, type=msgspec.Raw)).strip()
    except msgspec.DecodeError:
        written = b""
    if written and written[:1] not in (b"{", b"["):
        found.append(spell(written))
    return tuple(dict.fromkeys(value.decode() for value in found))
