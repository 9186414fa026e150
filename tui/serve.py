"""`loracle serve`: the app in a browser on this machine. Every tab is a process of its own; closing it ends no run.

Bound to 127.0.0.1, only for pages that came from there (a page of another site may not talk to it, whatever name it found for
this machine), and only for who knows the key in the address: on a machine of many, everybody reaches 127.0.0.1, and the app reads
files and trains with the rights of whoever started it.
"""

import argparse
import os
import secrets
import shlex
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from engine.files import expanded
from recommender.errors import Exit, InputError
from tui.i18n import _

HOST = "127.0.0.1"
FOCUS = """<script>
const seeking = setInterval(() => {
  const terminal = document.querySelector(".xterm-helper-textarea");
  if (terminal) { terminal.focus(); clearInterval(seeking); }
}, 100);
</script>"""
"""Or every key is lost until somebody clicks."""
WATCH_SECONDS = 1.0
PATIENCE = 3.0
"""Seconds an app has to leave in good order once its server is gone."""


def serve(given: argparse.Namespace) -> int:
    """Serve the app until Ctrl-C.

    Raises:
        InputError: the extra is not installed, or the port is taken.
    """
    try:
        from textual_serve.server import Server  # noqa: F401 - only whether it is there
    except ImportError:
        raise InputError(_("serving needs an extra that is not installed; run pip install 'loracle[serve]'.")) from None
    _check_free(given.port)
    runs = ["--runs", str(expanded(given.runs).absolute())] if given.runs is not None else []
    # `exec` makes the app a child of the server itself, so that it notices when the server is gone.
    command = f"exec {shlex.join([sys.executable, '-P', '-m', 'tui.serve', *runs])}"
    _server(command, given.port).serve()
    return Exit.DONE


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port if port else -1))  # 0 would be any port, whose pages are not ours to know
        except (OSError, OverflowError):
            text = _("port {port} cannot be used here: it is taken, or not allowed; name another with --port.")
            raise InputError(text.format(port=port)) from None


def _server(command: str, port: int) -> Any:
    from aiohttp import web
    from textual_serve.server import Server

    url, ours = f"http://{HOST}:{port}", frozenset({f"{HOST}:{port}", f"localhost:{port}"})
    key, cookie = secrets.token_urlsafe(16), f"loracle-{port}"  # ports share a browser's cookies

    async def from_here(request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse requests that another site's page sends, that came under another name (DNS rebinding), or without the key."""
        origin = request.headers.get("Origin")
        if request.host not in ours or (origin is not None and origin.partition("//")[2] not in ours):
            raise web.HTTPForbidden(text="This page is for this machine only.")
        if request.path == "/" and not request.host.startswith(HOST):  # the cookie of one name is not sent to the other
            raise web.HTTPFound(f"{url}{request.path_qs}")
        known = request.query.get("key") or request.cookies.get(cookie, "")
        if not request.path.startswith("/static/") and not secrets.compare_digest(known.encode("utf-8", "replace"), key.encode()):
            raise web.HTTPForbidden(text=_("Open the address that loracle serve has printed, with its key."))
        response: web.StreamResponse = await handler(request)
        if request.path == "/" and isinstance(response, web.Response) and response.text:
            response.text = response.text.replace("</body>", f"{FOCUS}</body>")
            response.set_cookie(cookie, key, httponly=True, samesite="Strict")
        return response

    async def no_other_sites(request: web.Request, response: web.StreamResponse) -> None:
        """The page asks for nothing from elsewhere, a web font for instance."""
        sources = f"'self' 'unsafe-inline' 'unsafe-eval' data: blob: ws://{HOST}:{port} ws://localhost:{port}"
        response.headers["Content-Security-Policy"] = f"default-src {sources}"

    class LoracleServer(Server):  # type: ignore[misc]  # it has no types
        async def _make_app(self) -> web.Application:
            app: web.Application = await super()._make_app()
            app.middlewares.append(web.middleware(from_here))
            app.on_response_prepare.append(no_other_sites)
            return app

        async def on_startup(self, app: web.Application) -> None:
            said = _("Loracle is at {url} for who knows this address. ctrl+c ends the server; runs go on.")
            print(said.format(url=f"{url}/?key={key}"))
            sys.stdout.flush()

        def initialize_logging(self) -> None:
            """Nothing is logged to the terminal."""

    return LoracleServer(command, host=HOST, port=port, title="Loracle", public_url=url)


def tab(arguments: list[str]) -> int:
    """The app of one tab, in a process of its own: its terminal is the browser."""
    from tui import i18n, settings
    from tui.app import LoracleApp
    from tui.line_breaks import between_signs
    from tui.signals import end_children

    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path)
    given = parser.parse_args(arguments)
    settings.load()
    i18n.speak(i18n.chosen())
    between_signs()
    app = LoracleApp(runs=given.runs)
    threading.Thread(target=_leave_with_server, args=(app, os.getppid()), daemon=True).start()
    app.run()
    end_children()
    app.empty_trash()
    return app.return_code or 0


def _leave_with_server(app: Any, server: int) -> None:
    """A server that was killed leaves its apps reading from nowhere, at the cost of a quarter of a core each."""
    from tui.signals import end_children

    while os.getppid() == server:
        time.sleep(WATCH_SECONDS)
    app.leave(int(Exit.TERMINATED))
    time.sleep(PATIENCE)
    end_children()
    os._exit(int(Exit.TERMINATED))


if __name__ == "__main__":
    sys.exit(tab(sys.argv[1:]))
