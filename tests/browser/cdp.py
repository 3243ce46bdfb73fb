"""Chromium without a screen, driven by its DevTools protocol: as much of it as the tests of pages need."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from cli.browser import find

HANG_S = 30.0
"""Bounds a test that hangs; no test waits this long for anything that works, seconds."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Page:
    """A tab. What the page complains of gathers in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self._task = asyncio.create_task(self._read())

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and what it gives back."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters, "sessionId": self._session})
        async with asyncio.timeout(HANG_S):
            return await self._waiting[number]

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if told.get("id") in self._waiting:
                waiting = self._waiting.pop(told["id"])
                if "error" in told:
                    waiting.set_exception(AssertionError(told["error"]["message"]))
                else:
                    waiting.set_result(told["result"])
            elif told.get("method") == "Runtime.exceptionThrown":
                details = told["params"]["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            elif told.get("method") == "Log.entryAdded":
                entry = told["params"]["entry"]
                self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
            elif told.get("method") == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which may be a promise."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """The first truthy value of an expression; while it throws, or its page is left, it is not there yet."""
        value: Any = None
        try:
            async with asyncio.timeout(HANG_S):
                while True:
                    try:
                        if value := await self.evaluate(expression):
                            return value
                    except AssertionError as thrown:
                        value = thrown
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {expression}: {value!r}\n{self.complaints}\n{shown}") from None

    async def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Page]:
    """A tab of a new Chromium that knows nothing."""
    folder = Path(tempfile.mkdtemp(prefix="yeoul-chromium-"))
    process = await asyncio.create_subprocess_exec(
        find(), *FLAGS, f"--user-data-dir={folder}", "about:blank",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    reading = None
    try:
        async with asyncio.timeout(HANG_S):
            while b"listening on " not in (line := await process.stderr.readline()):
                assert line, "Chromium ended before it was ready"
        # What it goes on to say is read, for a full pipe would stop it.
        reading = asyncio.create_task(process.stderr.read())
        address = line.decode().split("listening on ")[1].strip()
        async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket, await _attached(socket))
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.call(f"{domain}.enable")
            try:
                yield page
            finally:
                await page.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading
        shutil.rmtree(folder, ignore_errors=True)


async def _attached(socket: aiohttp.ClientWebSocketResponse) -> str:
    """The session of the tab that is open."""

    async def ask(number: int, method: str, **parameters: Any) -> Any:
        await socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(HANG_S):
            while (told := await socket.receive_json()).get("id") != number:
                pass
        return told["result"]

    target = await ask(1, "Target.createTarget", url="about:blank")
    attached = await ask(2, "Target.attachToTarget", targetId=target["targetId"], flatten=True)
    session: str = attached["sessionId"]
    return session
