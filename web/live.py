"""Live tables over HTTP: `GET /analytics/{metric}/live` as Server-Sent Events (WHATWG HTML, 9.2).

    snapshot {"metric", "title", "window", "group_by", "measures", "since", "rows"}
    rows     {"rows"}: those that changed, whole, once a second at most
    too_slow, too_many_rows, changed, expired, closing {"message"}: the last event

Rows are absolute, so a snapshot is all that anybody needs after a disconnect, whatever `Last-Event-ID` says.
"""

import asyncio
import contextlib
from datetime import datetime
from math import ceil
from typing import Any

import orjson
from aiohttp import hdrs, web

from domain import boards, windows
from domain.access import may_see
from domain.boards import View
from domain.metrics import Metric
from domain.questions import spellings
from domain.refusals import Code, Problem
from domain.tables import EARLIEST
from domain.text import printable, problem
from web import sessions
from web.parts import ACTOR, PARTS, PAYLOAD
from web.refused import Wrong, invalid, refused
from web.streaming import abort, begun
from web.views import Watcher
from web.watchers import Full

DEFAULT_LAST = 60
MOST_LAST = 1440
"""Windows that may be watched."""
HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
STALL_S = 20.0
"""A reader that takes nothing for this long is cut."""
LINGER_S = 5.0
"""How long the last event may take to a reader that is slow."""
PIECE = 64 * 1024
MESSAGES = {
    "too_slow": "You read too slowly. Connect again; a later `since` or one group makes it less.",
    "too_many_rows": "There are more rows than can be watched. Ask for a later `since`, or for one group.",
    "changed": "This metric has another table now. Connect again.",
    "expired": "Your token is good no longer. Connect again with a new one.",
    "closing": "This process ends. Connect again.",
}


async def watch(request: web.Request) -> web.StreamResponse:
    """`GET /analytics/{metric}/live`: the last windows, then what changes in them."""
    parts = request.app[PARTS]
    table = (await parts.live.store.tables()).get(request.match_info["metric"])
    if table is None or not may_see(request[ACTOR], table.metric.public):
        raise refused(Code.NOT_FOUND)
    now = int(parts.live.clock())
    view, since = _asked(request, table.metric, now)
    response = _response(request)
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        async with parts.live.watch(table, view) as watcher:
            await response.prepare(request)
            if table.metric.public:
                await _stream(request, response, watcher, since)
            else:
                # What only an admin may see is not shown for longer than the token says that it is one.
                expiry = _expire_later(request, watcher, parts.live.clock())
                try:
                    with parts.stores.revoked.watch(sessions.ends_with(request), lambda: watcher.cut("expired")):
                        await _stream(request, response, watcher, since)
                finally:
                    expiry.cancel()
    except Full:
        raise refused(Code.TOO_BUSY, Retry_After="5") from None
    return response


def _response(request: web.Request) -> web.StreamResponse:
    response = begun(request, {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    response.force_close()
    return response


def _expire_later(request: web.Request, watcher: Watcher, now: float) -> asyncio.TimerHandle:
    left = float(request[PAYLOAD]["exp"]) - now
    return asyncio.get_running_loop().call_later(max(left, 0.0), watcher.cut, "expired")


async def _stream(request: web.Request, response: web.StreamResponse, watcher: Watcher, since: int) -> None:
    """Writes until the reader goes away or is cut."""
    left = b""
    with contextlib.suppress(ConnectionError):
        try:
            while not watcher.end:
                left = await _next(watcher, since)
                while left:
                    piece, left = left[:PIECE], left[PIECE:]
                    await _write(response, watcher, piece)
        except TimeoutError:
            watcher.cut("too_slow")
        # What is written is sent while the connection closes; to whom takes nothing, not for ever.
        asyncio.get_running_loop().call_later(LINGER_S, abort, request)
        last = _event(watcher.end, orjson.dumps({"message": MESSAGES[watcher.end]}), watcher)
        # An event that was broken off becomes part of the last one: nobody may take it for a whole one.
        await response.write(b"\n" + last if left else last)
        await response.write_eof()


async def _write(response: web.StreamResponse, watcher: Watcher, piece: bytes) -> None:
    """Raises TimeoutError if the reader takes nothing for STALL_S, or when it is cut meanwhile."""
    try:
        async with asyncio.timeout(STALL_S) as watcher.patience:
            await response.write(piece)
    finally:
        watcher.patience = None


async def _next(watcher: Watcher, since: int) -> bytes:
    """The next event, or a comment when nothing has changed for HEARTBEAT_S, or nothing at the end."""
    if not watcher.snapshot and not watcher.pending and not watcher.end:
        watcher.woken.clear()
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await watcher.woken.wait()
        except TimeoutError:
            return HEARTBEAT
    if watcher.end:
        return b""
    if watcher.snapshot:
        watcher.snapshot = False
        return _event("snapshot", _snapshot(watcher, since), watcher)
    rows, watcher.pending = watcher.pending, {}
    return _event("rows", b'{"rows":[%b]}' % b",".join(rows[key] for key in sorted(rows)), watcher)


def _snapshot(watcher: Watcher, since: int) -> bytes:
    seen = watcher.seen
    metric: Metric = seen.table.metric
    about: dict[str, Any] = {
        "metric": metric.name,
        "title": metric.title,
        "window": seen.board.view.window.name,
        "group_by": metric.group_by,
        "measures": [{"name": measure.name, "kind": measure.kind.value} for measure in metric.all_measures],
        "since": boards.moment(max(since, seen.board.since)),
    }
    rows = b",".join(row for (start, _), row in seen.everything() if start >= since)
    return orjson.dumps(about)[:-1] + b',"rows":[%b]}' % rows


def _event(name: str, data: bytes, watcher: Watcher) -> bytes:
    watcher.sent += 1
    return b"id: %d.%d\nevent: %b\ndata: %b\n\n" % (watcher.seen.table.id, watcher.sent, name.encode(), data)


def _asked(request: web.Request, metric: Metric, now: int) -> tuple[View, int]:
    """What is to be watched, and from which beginning of a window on (seconds). Raises Refused."""
    wrong = Wrong()
    groups = {f"group[{path}]": place for place, path in enumerate(metric.group_by)}
    asked: dict[str, str] = {}
    for name in dict.fromkeys(request.query):
        with wrong:
            if name not in groups and name not in ("window", "since"):
                raise invalid(printable(name), Problem.UNKNOWN)
            if len(request.query.getall(name)) > 1:
                raise invalid(name, Problem.TWICE)
            if (bad := problem(request.query[name])) is not None:
                raise invalid(name, bad)
            asked[name] = request.query[name]
    kept = metric.window(asked["window"]) if "window" in asked else metric.windows[0]
    if kept is None:
        with wrong:
            raise invalid("window", Problem.CHOICE, ", ".join(each.window.name for each in metric.windows))
    wrong.refuse()
    assert kept is not None
    wanted = tuple((groups[name], spellings(text)) for name, text in sorted(asked.items()) if name in groups)
    if "since" not in asked:
        view = View(kept.window, DEFAULT_LAST, wanted)
        return view, view.since(now)
    since = _moment(asked["since"])
    step = kept.window.step
    since = min(max(since, now - kept.keep), now)
    last = ceil((windows.floor(step, now) - since) / (31 * windows.DAY if step == windows.MONTH else step)) + 1
    if last > MOST_LAST:
        raise invalid("since", Problem.RANGE, f"{boards.moment(View(kept.window, MOST_LAST).since(now))}–")
    return View(kept.window, last, wanted), since


def _moment(text: str) -> int:
    """A time with its offset, in seconds, rounded up. Raises Refused."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid("since", Problem.PATTERN, "2026-01-31T12:00:00Z, 2026-01-31T12:00:00%2B09:00")
    try:
        seconds = ceil(found.timestamp())
    except (OverflowError, ValueError):
        seconds = 0
    if seconds < EARLIEST:
        raise invalid("since", Problem.RANGE, f"{boards.moment(EARLIEST)}–")
    return seconds
