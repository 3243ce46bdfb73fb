"""Live metrics over HTTP: which there are, and what they say."""

import asyncio
from time import time
from zoneinfo import ZoneInfo

import msgspec
import orjson
from aiohttp import web

from config.zones import zone
from domain import questions, renderings, windows
from domain.access import may_see
from domain.metrics import Metric
from domain.questions import MOST_LINES, Question
from domain.refusals import Code, Problem, Refusal
from domain.tables import Table
from stores.selecting import TooMany
from web import queries
from web.parts import ACTOR, PARTS
from web.presenters import Reply
from web.refused import Refused, Wrong, invalid, refused

FORMATS = ("json", *renderings.FORMS)
DEFAULT_LIMIT, MOST = 100, 1_000
PAGED = frozenset({"format", "limit", "cursor"})
NEXT = "X-Next-Cursor"
"""The header that a download has in place of `meta.next_cursor`."""
_CURSOR = b"cursor of a metric"
DROPPED_S = 7 * windows.DAY
"""How far back dropped events are told of by default, seconds."""


async def listing(request: web.Request) -> Reply:
    """`GET /analytics`: the metrics that the caller may see, by name."""
    tables = await request.app[PARTS].stores.reports.tables()
    metrics = [table.metric for table in tables.values() if may_see(request[ACTOR], table.metric.public)]
    return Reply(items=[renderings.described(metric) for metric in metrics])


async def read(request: web.Request) -> Reply:
    """`GET /analytics/{metric}`: its windows, page by page as JSON, or all that are asked for as a download."""
    parts = request.app[PARTS]
    table = await _seen(request)
    metric = table.metric
    wrong = Wrong()
    asked = queries.asked(request, wrong, questions.parameters(metric) | PAGED)
    form, limit, cursor = asked.pop("format", "json"), asked.pop("limit", None), asked.pop("cursor", None)
    with wrong:
        if form not in FORMATS:
            raise invalid("format", Problem.CHOICE, ", ".join(FORMATS))
    with wrong:
        most = queries.limit(limit, *((DEFAULT_LIMIT, MOST) if form == "json" else (MOST_LINES, MOST_LINES)))
    with wrong:
        marked = queries.marked(cursor, parts.settings.cursor_key, _CURSOR)
    with wrong:
        question = _question(metric, asked)
    wrong.refuse()
    # A cursor belongs to one question; what a question leaves to the clock, it keeps as it was for the first page.
    bound = [metric.name, sorted(asked.items())]
    after = None
    if marked is not None:
        of, since, until, *place = marked
        if of != orjson.loads(orjson.dumps(bound)):
            raise invalid("cursor", Problem.ANOTHER_LIST)
        question, after = msgspec.structs.replace(question, since=since, until=until), (place[0], place[1])
    lines = await parts.stores.reports.lines(table, question, most + 1, after)
    next_cursor = None
    if len(lines) > most:
        if form != "json" and limit is None:
            raise TooMany  # who takes a file away would not know that it is half of one
        lines = lines[:most]
        place = [lines[-1].start, lines[-1].group]
        mark = [bound, question.since, question.until, *place]
        next_cursor = queries.cursor(parts.settings.cursor_key, _CURSOR, mark)
    if form == "json":
        return Reply(items=[renderings.as_json(metric, line, question.zone) for line in lines], cursor=next_cursor)
    media_type, render = renderings.FORMS[form]
    body = await asyncio.to_thread(render, metric, lines, question.zone)
    name = f"{metric.name}-{asked.get('window', metric.windows[0].window.name).replace('/', '-')}.{form}"
    headers = {"Content-Type": media_type, "Content-Disposition": f'attachment; filename="{name}"'}
    if next_cursor is not None:
        headers[NEXT] = next_cursor
    return Reply(download=body, headers=headers)


async def dropped(request: web.Request) -> Reply:
    """`GET /analytics/{metric}/dropped`: events of its types that are in no window, by hour and reason."""
    table = await _seen(request)
    wrong = Wrong()
    asked = queries.asked(request, wrong, ("from", "to"))
    until = int(time()) + windows.HOUR
    times = {"from": until - DROPPED_S, "to": until}
    for name, text in asked.items():
        with wrong:
            found = questions.moment(text, ZoneInfo("UTC"))
            if not isinstance(found, int):
                raise invalid(name, found.problem, found.allowed)
            times[name] = found
    wrong.refuse()
    rows = await request.app[PARTS].stores.reports.dropped(table, times["from"], times["to"])
    return Reply(items=[renderings.dropped(row.start, row.reason, row.count) for row in rows])


async def _seen(request: web.Request) -> Table:
    """The table that is asked for. Raises Refused if there is none that the caller may see."""
    table = (await request.app[PARTS].stores.reports.tables()).get(request.match_info["metric"])
    if table is None or not may_see(request[ACTOR], table.metric.public):
        raise refused(Code.NOT_FOUND)
    return table


def _question(metric: Metric, asked: dict[str, str]) -> Question:
    found = questions.question(metric, asked, int(time()), zone)
    if isinstance(found, Question):
        return found
    raise Refused(Refusal(Code.VALIDATION_ERROR, found))
