"""The archive that makes the broker's start quicker: made once, used, and never needed."""

from __future__ import annotations

import fcntl
from pathlib import Path

import psutil

from embedded import java
from embedded.kafka import JVM
from embedded.stack import Stack
from tests.embedded.conftest import Make


async def test_the_archive_is_made_at_the_first_start_and_used(stack: Stack, cache_dir: Path) -> None:
    classes = java.archive(cache_dir, JVM)
    assert classes.stat().st_size > 1024 * 1024
    assert not list(classes.parent.glob("training-*"))
    await stack.stop("kafka")
    await stack.start("kafka")
    assert f"-XX:AOTCache={classes}" in psutil.Process(stack.pids["kafka"]).cmdline()


async def test_while_another_makes_it_one_starts_without(
    make: Make, stack: Stack, cache_dir: Path, tmp_path: Path
) -> None:
    (source,) = {jar.parent for jar in java.cached_jars(cache_dir)}
    folder = tmp_path / "cache" / source.name
    folder.mkdir(parents=True)
    for jar in source.glob("*.jar"):
        (folder / jar.name).symlink_to(jar)
    (folder / "complete").touch()
    with (folder / "training.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with make("kafka", cache=tmp_path / "cache") as running:
            assert not any("AOTCache" in word for word in psutil.Process(running.pids["kafka"]).cmdline())
    assert not java.archive(tmp_path / "cache", JVM).exists()
