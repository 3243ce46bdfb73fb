"""The two fronts that are compared: Yeoul (two front processes, one worker with every group) and the direct one."""

import abc
import asyncio
import itertools
from uuid import uuid4

import aiohttp

from bench.baselines import direct_front
from bench.processes import READY_S, Child, run
from bench.stage import Stage
from embedded.state import free_port

CREATE_BODY = (
    '{{"title": "Bench resource {n}", "kind": "note", "body": "{body}", "tags": ["bench", "t{n}"], '
    '"attributes": {{"n": {n}, "colour": "green"}}, "visibility": "private"}}'
)
BODIES = [CREATE_BODY.format(n=n, body="All rivers run into the sea. " * 5) for n in range(500)]
PRELOAD_CALLERS = 64
POLL_S = 0.05


class Side(abc.ABC):
    """A front under load: where it listens, who calls it, and which processes are its own."""

    name: str
    path: str
    created = 201
    """The status of a create."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.port = free_port(set())
        self.children: list[Child] = []

    @property
    def pids(self) -> list[int]:
        """Its own processes (their trees)."""
        return [child.pid for child in self.children]

    @abc.abstractmethod
    async def start(self) -> None:
        """Start it and wait until it answers."""

    @abc.abstractmethod
    async def token(self) -> str:
        """A bearer token that is good for the next minutes."""

    async def headers(self) -> dict[str, str]:
        """What every request of a run carries."""
        return {"Authorization": f"Bearer {await self.token()}", "Content-Type": "application/json"}

    def creates(self) -> list[tuple[str, str, str]]:
        """Requests that create, each with another body."""
        return [("POST", self.path, body) for body in BODIES]

    async def preload(self, rows: int) -> list[tuple[str, str, str]]:
        """Create `rows` resources through the API; returns the requests that read them."""
        headers, paths, bodies = await self.headers(), [], itertools.cycle(BODIES)

        async def create(session: aiohttp.ClientSession, number: int) -> None:
            for _ in range(number):
                async with session.post(self.path, data=next(bodies), headers=headers) as response:
                    answer = await response.json()
                    if response.status != 201:
                        raise SystemExit(f"{self.name} answers {response.status} to a create: {answer}")
                    paths.append(f"{self.path}/{answer['data']['id']}")

        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:
            shares = [rows // PRELOAD_CALLERS + (n < rows % PRELOAD_CALLERS) for n in range(PRELOAD_CALLERS)]
            await asyncio.gather(*(create(session, share) for share in shares))
        return [("GET", path, "") for path in paths]

    async def stop(self) -> None:
        """Stop its processes, side by side."""
        await asyncio.gather(*(child.stop() for child in self.children))
        self.children.clear()


class Direct(Side):
    """`baselines/direct_front.py`. `variant`: an option of it, `no-reset` or `bare`."""

    path = "/resources"

    def __init__(self, stage: Stage, variant: str = "") -> None:
        super().__init__(stage)
        self.name = f"direct-{variant}" if variant else "direct"
        self.options = [f"--{variant}"] if variant else []
        self.user = uuid4()

    async def start(self) -> None:
        """A database of its own, then the processes."""
        self.dsn = await self.stage.database(f"bench_{self.name.replace('-', '_')}")
        arguments = ["bench.baselines.direct_front", "--dsn", self.dsn, "--port", str(self.port)]
        child = await Child.start(self.name, arguments + self.options, {}, self.stage.logs)
        self.children.append(child)
        await ready(f"http://127.0.0.1:{self.port}/resources/{uuid4()}", child, status=401)

    async def token(self) -> str:
        """Signed with the baseline's own key."""
        return direct_front.token(self.user)


class Yeoul(Side):
    """The product, as `up` starts it (its access log in JSON lines too), but with one worker that runs every group."""

    name = "yeoul"
    path = "/api/v1/resources"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.metrics_port = free_port({self.port})
        self.account = {"email": f"bench-{uuid4().hex}@example.org", "password": uuid4().hex, "name": "Bench"}
        self.registered = False

    @property
    def environ(self) -> dict[str, str]:
        """Variables of its front processes."""
        return {
            **self.stage.environ,
            "YEOUL_WEB_PORT": str(self.port),
            "YEOUL_WEB_PROCESSES": "2",
        }

    async def start(self) -> None:
        """Tables, topics, one worker, two front processes."""
        await self.prepare()
        await self.start_worker()
        await self.start_front()

    async def prepare(self) -> None:
        """Tables and topics."""
        for command in ("migrate", "topics"):
            await run(command, ["cli", command], self.environ, self.stage.logs, READY_S)

    async def start_front(self) -> None:
        """Two front processes on one port; returns when they answer."""
        front = await Child.start("web", ["cli", "web"], self.environ, self.stage.logs)
        self.children.append(front)
        await ready(f"http://127.0.0.1:{self.port}/readyz", front)

    async def start_worker(self, *, wait: bool = True) -> Child:
        """One worker process with every group that ships."""
        environ = {**self.environ, "YEOUL_METRICS_PORT": str(self.metrics_port)}
        worker = await Child.start("worker", ["cli", "worker"], environ, self.stage.logs)
        self.children.append(worker)
        if wait:
            await ready(f"http://127.0.0.1:{self.metrics_port}/readyz", worker)
        return worker

    async def token(self) -> str:
        """A fresh access token, by login (they live 15 minutes)."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:
            if not self.registered:
                async with session.post("/api/v1/auth/register", json=self.account) as response:
                    if response.status not in (201, 202):
                        raise SystemExit(f"register answers {response.status}: {await response.text()}")
                self.registered = True
            login = {"email": self.account["email"], "password": self.account["password"]}
            async with session.post("/api/v1/auth/login", json=login) as response:
                if response.status != 200:
                    raise SystemExit(f"login answers {response.status}: {await response.text()}")
                token: str = (await response.json())["data"]["access_token"]
                return token


async def ready(url: str, child: Child, status: int = 200) -> None:
    """Ask `url` until it answers with `status`. Raises `ChildError` when `child` ends or takes too long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + READY_S
    answered = "nothing"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while child.process.returncode is None and loop.time() < until:
            try:
                async with session.get(url) as response:
                    if response.status == status:
                        return
                    answered = f"{response.status} {(await response.text())[:200]}"
            except (aiohttp.ClientError, TimeoutError) as reason:
                answered = str(reason) or type(reason).__name__
            await asyncio.sleep(POLL_S)
    if (code := child.process.returncode) is not None:
        raise child.failure(f"ended with {code} before it was ready")
    raise child.failure(f"not ready within {READY_S:.0f} s, {url} answers {answered}")
