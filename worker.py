"""The workers' table of contents: which agents run in which consumer group, and which groups share a process."""

import asyncio
import ctypes
import gc
import logging
import signal

import uvloop

from agents import (
    accounts,
    analytics,
    api_keys,
    erasures,
    kinds,
    mail,
    resources,
    revocations,
    second_factors,
    sessions,
)
from config import Settings
from config.metrics import load
from stores import StoresAway
from stores.aggregates import Operations
from stores.api_keys import ApiKeyStore
from stores.indexing import Indexing
from stores.mails import Mails
from stores.retention import Retention
from stores.sessions import SessionStore
from streams.groups import Connections, Group
from streams.health import Health
from streams.runtime import Running
from streams.watchdog import Watchdog
from telemetry import logs, reports, tracing
from telemetry.serving import PortTaken

log = logging.getLogger("yeoul.worker")

HOUSEKEEPING_S = 600.0
INDEX_AGAIN_S = 5.0
MEMORY_EVERY_S = 60.0
CLOSE_S = 2.5
"""How long the connections may take to close at the end, seconds; with what groups take it is less than 20 in all."""

GROUPS: dict[str, Group] = {
    "accounts": accounts.GROUP,
    "resources": resources.GROUP,
    "kinds": kinds.GROUP,
    "sessions": sessions.GROUP,
    "api_keys": api_keys.GROUP,
    "second_factors": second_factors.GROUP,
    "revocations": revocations.GROUP,
    "analytics": analytics.GROUP,
    "erasures": erasures.GROUP,
    "mail": mail.GROUP,
}

PROCESSES: dict[str, tuple[str, ...]] = {
    # The owners of the tables apart from the readers, so that a flood of events doesn't slow writes.
    # Those that read what accounts do, which is little, must not wait behind a flood either.
    "commands": (
        "accounts",
        "resources",
        "kinds",
        "sessions",
        "api_keys",
        "second_factors",
        "revocations",
        "erasures",
        "mail",
    ),
    "readers": ("analytics",),
}


def run(settings: Settings, groups: list[str]) -> int:
    """Run these groups (all if none is named) until SIGTERM or SIGINT; returns the exit status.

    Raises SettingsError for a wrong file of metrics.
    """
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        log.error("no group %s; there are: %s", ", ".join(unknown), ", ".join(GROUPS))
        return 2
    load(settings.metrics_file)  # a wrong one ends the start here, before anything runs
    logs.configure(settings, "worker")
    reports.configure(settings, "worker")
    tracing.configure(settings, "worker")
    # What start-up made stays: it need not be looked through again with every collection.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, groups or list(GROUPS)))
    except PortTaken as error:
        log.error("%s", error)
        return 1
    finally:
        tracing.close()
        reports.close()


async def _housekeeping(connections: Connections) -> None:
    """Forget operations older than the answers to their keys are promised for, and what else nobody asks for any more.

    That is what no metric keeps, expired sessions and API keys, and which mails were sent long ago.
    Look for what erasures have not reached yet.
    Any worker may, at any time.
    """
    operations = Operations(connections.database)
    retention = Retention(connections.database)
    sessions = SessionStore(connections.database)
    keys = ApiKeyStore(connections.database)
    mails = Mails(connections.database)
    erased = erasures.Sweeper(connections)
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        for what, sweep in (
            ("operations", operations.forget),
            ("parts of the metrics", retention.sweep),
            ("sessions", sessions.sweep),
            ("API keys", keys.sweep),
            ("mails", mails.sweep),
            ("resources of erased accounts", erased.accounts),
            ("events of erased resources", erased.resources),
        ):
            try:
                await sweep()
            except StoresAway as error:
                log.info("old %s stay a little longer: %s", what, error)
            except Exception:
                # Whatever it was: nobody looks at this task, and without it the tables grow for ever.
                log.exception("old %s stay until the next try, in %.0f s", what, HOUSEKEEPING_S)


async def _index(connections: Connections) -> None:
    """Let resources that an older version wrote be found, too."""
    while True:
        try:
            if filled := await Indexing(connections.database).run():
                log.info("%d resources of an older version are found now", filled)
            return
        except StoresAway:
            pass  # whoever handles records says so
        except Exception:
            log.exception("resources of an older version are found later")
        await asyncio.sleep(INDEX_AGAIN_S)


async def _give_memory_back() -> None:
    """Batches come and go in pieces of all sizes, and what glibc keeps of them grew by 40 bytes a command, for ever."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc only; others give back by themselves
    while True:
        await asyncio.sleep(MEMORY_EVERY_S)
        gc.collect()
        if trim is not None:
            trim(0)


async def _run(settings: Settings, names: list[str]) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections = Connections(settings, "worker")
    running = [Running(connections, GROUPS[name]) for name in names]
    watchdog = Watchdog(running)
    health = Health(settings, connections, running)
    await health.start()  # first: if its port is taken, nothing else has begun
    await connections.broker.start()
    for group in running:
        group.start()
    watchdog.start()
    chores = [asyncio.create_task(_housekeeping(connections)), asyncio.create_task(_give_memory_back())]
    if "resources" in names:
        chores.append(asyncio.create_task(_index(connections)))
    log.info("worker started: %s", ", ".join(names))
    await stop.wait()
    log.info("worker stops")
    watchdog.stop()
    for chore in chores:
        chore.cancel()
    await asyncio.gather(*(group.stop() for group in running))
    try:
        async with asyncio.timeout(CLOSE_S):
            await asyncio.gather(health.stop(), connections.close())
    except TimeoutError:
        log.warning("connections did not close within %.1f s; they end with the process", CLOSE_S)
    return 0
