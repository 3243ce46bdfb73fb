"""api.memory and api.flood: a front process after very many requests, and reads during a flood of logins."""

import asyncio
from uuid import uuid4

import msgspec
import orjson
import psutil

from bench.api_sides import Requests, Yeoul
from bench.figures import API_FLOOD, API_MEMORY
from bench.fronts import drive, sample
from bench.load import Outcome, Plan
from bench.processes import MEGABYTE, tree
from bench.records import Record, Sample, compare
from bench.stage import Stage

ATTACKERS = 64
"""Callers of the flood: each tries the next password as soon as the last one was refused."""
BEFORE_S = 1.0
EVERY = 20
"""Among so many reads is a list, and a search."""
LONGEST_S = 300.0
"""Of one run of the generator: a token is good for 15 minutes."""


async def flood(stage: Stage, side: Yeoul) -> Record:
    """Rounds of gets: quiet, then with the flood."""
    figure, requests = API_FLOOD, side.gets()
    quiet, flooded, tried = [], [], 0
    for _ in range(stage.options.runs):
        quiet.append(_p99(await sample(stage, side, figure, requests, stage.options.seconds, 1)))
        attack = asyncio.create_task(drive(_attack(side, stage.options.seconds + 3 * BEFORE_S)))
        try:
            await asyncio.sleep(BEFORE_S)
            flooded.append(_p99(await sample(stage, side, figure, requests, stage.options.seconds, 1)))
        except BaseException:
            attack.cancel()
            raise
        outcome = await attack
        stage.say(f"{figure.id:16} {'flood':16} {outcome.rate:8,.0f}/s  {outcome.errors or ''}")
        if not outcome.count:
            raise SystemExit(f"{figure.id}: no password was checked: {outcome.errors}")
        tried += outcome.count
    return compare(figure, {"yeoul": flooded, "baseline": quiet}, note=f"{tried:,} passwords checked")


def _attack(side: Yeoul, seconds: float) -> Plan:
    """Wrong passwords, for the account that reads and for such as are not there."""
    addresses = [side.account["email"] if n % 2 else f"{uuid4().hex}@example.org" for n in range(200)]
    bodies = [orjson.dumps({"email": address, "password": uuid4().hex}).decode() for address in addresses]
    return Plan(
        port=side.port,
        connections=ATTACKERS,
        requests=[("POST", "/api/v1/auth/login", body) for body in bodies],
        headers={"Content-Type": "application/json"},
        expect=401,
        warmup_s=0.0,
        seconds=seconds,
    )


def _p99(of: Sample) -> Sample:
    return msgspec.structs.replace(of, value=of.p99_ms or 0.0)


async def memory(stage: Stage, side: Yeoul) -> Record:
    """Gets, lists, searches and creates through two front processes; the larger one is looked at."""
    total = stage.options.requests
    rows = {}
    for part in (total // 10, total - total // 10):
        creates = part // EVERY
        await _answered(side, side.creates(), creates, 201)
        await _answered(side, _mixed(side), part - creates, 200)
        rows[part] = front_mb(side)
        stage.say(f"{API_MEMORY.id:16} {'yeoul':16} {rows[part]:8,.0f} MB after {part:,} requests more")
    first, last = rows.values()
    note = f"after {total:,} requests to both; {first:.0f} MB after a tenth of them"
    return compare(API_MEMORY, {"yeoul": [Sample(value=last)]}, note=note)


def _mixed(side: Yeoul) -> Requests:
    gets, lists, finds = side.gets(), side.lists(), side.finds()
    mixed = list(gets)
    for at in range(0, len(mixed), EVERY):
        mixed[at] = lists[0]
    for at in range(EVERY // 2, len(mixed), EVERY):
        mixed[at] = finds[at // EVERY % len(finds)]
    return mixed


async def _answered(side: Yeoul, requests: Requests, count: int, status: int) -> None:
    """So many are answered, however long that takes. Raises `SystemExit` if any is answered otherwise."""
    left = count
    while left > 0:
        plan = Plan(
            port=side.port,
            connections=API_MEMORY.callers,
            requests=list(requests),
            headers=await side.headers(),
            expect=status,
            warmup_s=0.0,
            seconds=LONGEST_S,
            count=left,
        )
        outcome: Outcome = await drive(plan)
        if outcome.errors or not outcome.count:
            raise SystemExit(f"{API_MEMORY.id}: {outcome.count:,} answered {status}, errors {outcome.errors}")
        left -= outcome.count


def front_mb(side: Yeoul) -> float:
    """Resident megabytes of the largest front process."""
    found = []
    for process in tree(side.pids):
        try:
            if "web.child" in process.cmdline():
                found.append(process.memory_info().rss / MEGABYTE)
        except psutil.NoSuchProcess:
            continue
    return max(found)
