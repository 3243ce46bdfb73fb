"""Apache Kafka as one KRaft node on loopback, broker and controller in one JVM."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import struct
from collections.abc import Sequence
from pathlib import Path

from embedded.errors import PartFailed, explain
from embedded.java import archive, cached_jars, jars, java
from embedded.parts import Say
from embedded.processes import Command, run_to_end, tail
from embedded.state import State

API_VERSIONS_KEY = 18

# Memory is bounded (330 MB resident) and the start is quick: a serial collector, and the first compiler only.
JVM = (
    "-Xmx256m",
    "-Xms128m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    # Of the archive of classes (training.py) only the classes are used: Java 25 warns about machine code in it.
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:-AOTAdapterCaching",
    "-XX:-AOTStubCaching",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
)
LOGGING = f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.xml')}"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
# Relative: Java reads this file as Latin-1, and splits the value at commas.
log.dirs=data
# Topics are made by `topics.py`'s declarations alone.
auto.create.topics.enable=false
num.partitions=4
# One node keeps one copy.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# A group of one machine need not wait for more members.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Others may send records that are too large for us; they have to reach our dead letters.
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
# After kill -9 the controller waits for the session of the broker that died: 9 s by default, a long time for one node.
broker.session.timeout.ms=2500
broker.heartbeat.interval.ms=500
# Small threads and buffers: the cleaner alone would take 128 MB.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.io.buffer.size=262144
# An idle laptop's disk is left alone.
metadata.max.idle.interval.ms=5000
"""


class Kafka:
    """The broker of one state folder. `url` is its bootstrap server."""

    name = "kafka"
    stop_signal = signal.SIGTERM
    start_timeout_s = 60.0
    stop_timeout_s = 20.0
    may_wait = False

    def __init__(self, state: State, cache_dir: Path, environ: dict[str, str], record: Path | None = None) -> None:
        """`environ`: what the JVM inherits. `record`: where it writes down its classes when it ends."""
        self._record = record
        self._state = state
        self._cache_dir = cache_dir
        # Java takes the names of files for what the locale says: ASCII, where none is set.
        self._environ = environ | {"LC_ALL": "C.UTF-8"}
        self._data = state.folder / "kafka"
        self._config = self._data / "server.properties"
        self._port = 0

    @property
    def url(self) -> str:
        """`host:port`, known after `reserve`."""
        return f"127.0.0.1:{self._port}"

    def reserve(self) -> None:
        """Takes the ports. Raises `PortBusy`."""
        self._port = self._state.port("kafka")
        self._controller = self._state.port("kafka controller")

    async def prepare(self, say: Say) -> None:
        """Downloads the broker when it is missing, and formats an empty data folder."""
        await jars(self._cache_dir, say)
        self._data.mkdir(exist_ok=True)
        # What people wrote is in the segments.
        self._data.chmod(0o700)
        log_dir = self._data / "data"
        self._config.write_text(PROPERTIES.format(port=self._port, controller=self._controller), encoding="utf-8")
        if not (log_dir / "meta.properties").exists():
            # Without that file nothing was ever stored: what is there is left of an interrupted attempt.
            shutil.rmtree(log_dir, ignore_errors=True)
            await self._format()

    async def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        # Written with "=": an id may begin with a dash.
        arguments = ["format", f"--cluster-id={cluster}", f"--config={self._config.name}"]
        command = Command(self._java("kafka.tools.StorageTool", *arguments), self._environ, self._data)
        log = self._state.logs / "kafka.log"
        if await run_to_end("kafka format", command, self._state, log):
            raise PartFailed(
                self.name, "could not prepare its data folder", log, explain(tail(log), self._state.folder)
            )

    def command(self) -> Command:
        """The JVM with the broker in it."""
        classes = archive(self._cache_dir, JVM)
        options = [f"-XX:AOTCache={classes}"] if classes.exists() else []
        if self._record is not None:
            options = [f"-XX:AOTCacheOutput={self._record}"]
        return Command(self._java("kafka.Kafka", self._config.name, options=options), self._environ, self._data)

    def _java(self, main_class: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        classpath = os.pathsep.join(str(jar) for jar in cached_jars(self._cache_dir))
        return [str(java()), *JVM, LOGGING, *options, "-cp", classpath, main_class, *arguments]

    async def check(self) -> None:
        """Asks for the API versions: the broker answers once it has joined its cluster."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            # Request header v1: api key, api version 0, correlation id, client id. The body is empty.
            request = struct.pack(">hhih", API_VERSIONS_KEY, 0, 1, 5) + b"yeoul"
            writer.write(struct.pack(">i", len(request)) + request)
            length, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
            if correlation != 1 or error or length < 6:
                raise ConnectionError("the broker is not ready")
        finally:
            writer.close()
