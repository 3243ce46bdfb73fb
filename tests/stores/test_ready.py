"""Each store answers for itself: one that is frozen says nothing about the other."""

import signal
import time

import psutil

import stores
from config import Settings
from embedded.stack import Stack


async def test_a_frozen_store_is_named_alone_and_within_its_time(settings: Settings, stack: Stack) -> None:
    async with stores.open(settings) as opened:
        assert await opened.ready() == {"postgres": "ok", "redis": "ok"}
        for part, name, other in (("postgres", "postgres", "redis"), ("valkey", "redis", "postgres")):
            root = psutil.Process(stack.pids[part])
            family = [root, *root.children(recursive=True)]
            for process in family:
                process.send_signal(signal.SIGSTOP)
            try:
                began = time.monotonic()
                found = await opened.ready()
                assert time.monotonic() - began < stores.READY_S + 1.0
            finally:
                for process in family:
                    process.send_signal(signal.SIGCONT)
            assert found[other] == "ok"
            assert found[name] not in ("ok", "", "TimeoutError")
