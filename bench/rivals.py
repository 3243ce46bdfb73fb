"""The programs that streams.* and api.* measure beside, each in an environment of its own, made once for this machine.

An environment is made in the cache folder from a lock with hashes. A program that can't be had here (this Python, this
system, no network) is left out, with the reason: that is no error of the bench.
"""

import asyncio
import hashlib
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.stage import Stage
from embedded.errors import EmbeddedError
from embedded.java import cached_jars, jars, java

BASELINES = Path(__file__).with_name("baselines")
STREAMS_LOCK = BASELINES / "kafka_streams.lock"
SOURCE = BASELINES / "KafkaStreamsWindows.java"
POCKETBASE = BASELINES / "pocketbase"
MODULE = "github.com/pocketbase/pocketbase"
WARN_ONLY = "-Dlog4j2.level=WARN"
INSTALL_S = 600.0


class Unavailable(Exception):
    """Why a program can't be run here: one sentence."""


@dataclass(frozen=True)
class Program:
    """What to start: a program with its first arguments."""

    program: tuple[str, ...]
    arguments: tuple[str, ...]


def ours(module: str) -> Program:
    """A module of the bench, with the packages of Yeoul."""
    return Program((sys.executable, "-m"), (module,))


async def quix(stage: Stage) -> Program:
    """Quix Streams. Raises `Unavailable`."""
    return await _python(stage, "quix_windows", "Quix Streams")


async def bytewax(stage: Stage) -> Program:
    """Bytewax. Raises `Unavailable`."""
    if sys.version_info[:2] > (3, 12):
        raise Unavailable(f"Bytewax 0.21.1 has wheels for Python 3.11 and 3.12, and this is {_python_version()}")
    return await _python(stage, "bytewax_windows", "Bytewax")


async def kafka_streams(stage: Stage) -> Program:
    """Kafka Streams, compiled once. Raises `Unavailable`."""
    if sys.platform != "linux":
        raise Unavailable(f"the lock has the RocksDB of Kafka Streams for Linux, and this is {sys.platform}")
    try:
        found = [
            *await jars(stage.cache_dir, stage.say),
            *await jars(stage.cache_dir, stage.say, STREAMS_LOCK),
        ]
    except EmbeddedError as error:
        raise Unavailable(str(error)) from None
    compiler = next(jar for jar in cached_jars(stage.cache_dir, STREAMS_LOCK) if jar.name.startswith("ecj-"))
    libraries = [jar for jar in found if jar != compiler]
    classpath = os.pathsep.join(map(str, libraries))
    classes = stage.cache_dir / f"bench-kafka-streams-{_digest(SOURCE, STREAMS_LOCK)}"
    if not (classes / "complete").exists():
        stage.say("kafka streams: compiling its program (once for this machine)")
        options = ["-source", "17", "-target", "17", "-nowarn", "-cp", classpath, "-d", str(classes), str(SOURCE)]
        await _run([str(java()), "-jar", str(compiler), *options], "Kafka Streams' program could not be compiled")
        (classes / "complete").touch()
    arguments = (WARN_ONLY, "-cp", os.pathsep.join((classpath, str(classes))), SOURCE.stem)
    return Program((str(java()),), arguments)


async def fastapi_template(stage: Stage) -> Program:
    """The full-stack FastAPI template, rebuilt. Raises `Unavailable`."""
    return await _python(stage, "fastapi_template", "FastAPI template")


async def pocketbase(stage: Stage) -> Program:
    """PocketBase, built once from its Go module. Raises `Unavailable`."""
    go = shutil.which("go")
    if go is None:
        raise Unavailable("PocketBase is built from its Go module, and there is no go on this machine")
    sources = sorted(POCKETBASE.iterdir())
    folder = stage.cache_dir / f"bench-pocketbase-{_digest(*sources)}"
    binary = folder / "pocketbase"
    if not (folder / "complete").exists():
        stage.say("PocketBase: building it from its module (once for this machine; some minutes)")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(POCKETBASE, folder)
        failure = "PocketBase could not be built"
        # Its archive is held against our go.sum, and has a go.sum itself: so ours need not name all that it is made of.
        await _run([go, "-C", str(folder), "mod", "download", MODULE], failure)
        unpacked = await _run([go, "-C", str(folder), "list", "-m", "-f", "{{.Dir}}", MODULE], failure)
        with (folder / "go.sum").open("ab") as sums:
            sums.write(Path(unpacked.strip(), "go.sum").read_bytes())
        await _run(
            [go, "-C", str(folder), "build", "-trimpath", "-mod=mod", "-ldflags=-s -w", "-o", str(binary)], failure
        )
        (folder / "complete").touch()
    return Program((str(binary),), ())


async def _python(stage: Stage, module: str, title: str) -> Program:
    """A module of bench/baselines with the packages of its lock."""
    lock = BASELINES / f"{module}.lock"
    folder = stage.cache_dir / f"bench-{module}-{_python_version()}-{_digest(lock)}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        stage.say(f"{title}: installing {lock.name} (once for this machine; a minute or so)")
        shutil.rmtree(folder, ignore_errors=True)
        base = getattr(sys, "_base_executable", None) or sys.executable
        failure = f"{title} can't be installed on Python {_python_version()}, {sys.platform} {platform.machine()}"
        await _run([base, "-m", "venv", str(folder)], failure)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        pip += ["--only-binary", ":all:", "--require-hashes", "--no-deps", "--progress-bar", "off", "-r", str(lock)]
        await _run(pip, failure)
        (folder / "complete").touch()
    return Program((str(python), "-m"), (f"bench.baselines.{module}",))


def _python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


async def _run(command: list[str], failure: str) -> str:
    """Run to its end; what it printed. Raises `Unavailable` with the last line of that."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(INSTALL_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{failure}: not finished after {INSTALL_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode(errors="replace")
    if process.returncode:
        lines = said.strip().splitlines()
        raise Unavailable(f"{failure}: {lines[-1] if lines else f'exit code {process.returncode}'}")
    return said
