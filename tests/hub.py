"""A hub of models and data sets on 127.0.0.1, as far as searching, looking and downloading need one, with what a hub may do."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 65_536


@dataclass
class Repository:
    """A model or a data set. `refusal` is a status and the hub's own word for it: what it answers in place of all else."""

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = "c" * 40
    before: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Earlier commits, with the files that they had."""
    sizes: dict[str, int] = field(default_factory=dict)
    """What the hub says of files that are longer than what it holds here."""
    refusal: tuple[int, str] | None = None

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of that revision."""
        if revision in self.before:
            return revision, self.before[revision]
        return (self.commit, self.files) if revision in ("", "main", self.commit) else None


@dataclass
class Hub:
    """What it holds, what it was asked, and how badly it answers."""

    models: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Paths, and the words of each search."""
    ranges: list[tuple[str, str | None]] = field(default_factory=list)
    """Weight files asked for, each with the bytes of it that were wanted."""
    keeps_ranges: bool = True
    search: tuple[int, bytes] | None = None
    """Status and body in place of what a search would find."""
    breaks: dict[str, int] = field(default_factory=dict)
    """Files that end after so many bytes, when they are asked for whole: once."""
    dies: bool = False
    """It is down from such a break on."""
    down: bool = False
    """Every connection ends without an answer."""
    seconds_a_megabyte: float = 0.0
    address: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, answering at its `address`."""

    class Answer(_Answer):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answer(BaseHTTPRequestHandler):
    of: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, url = self.of, urlsplit(self.path)
        path = unquote(url.path).strip("/")
        hub.asked.append(f"{path}?{url.query}" if "search=" in url.query else path)
        if hub.down:
            self.close_connection = True
            return
        if path == "api/models":
            self._found(parse_qs(url.query).get("search", [""])[0])
            return
        api, data = path.startswith("api/"), path.startswith(("api/datasets/", "datasets/"))
        parts = path.removeprefix("api/").removeprefix("models/").removeprefix("datasets/").split("/")
        repository = (hub.datasets if data else hub.models).get("/".join(parts[:2]))
        verb, rest = (parts[2:] or [""])[0], parts[3:]
        refusal = (404, "RepoNotFound") if repository is None else repository.refusal
        if refusal is not None or repository is None:
            status, code = refusal or (404, "")
            self._say(status, b"{}", {"X-Error-Code": code} if code else {})
            return
        found = repository.at(rest[0] if rest else "")
        if found is None:
            self._say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        commit, files = found
        if api and verb == "tree":
            entries = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()]
            self._say_json(entries)
        elif api:
            siblings = [{"rfilename": n, "size": repository.sizes.get(n, len(c))} for n, c in files.items()]
            self._say_json({"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings})
        elif verb == "resolve" and "/".join(rest[1:]) in files:
            self._file("/".join(rest[1:]), files, commit)
        else:
            self._say(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _found(self, text: str) -> None:
        if self.of.search is not None:
            self._say(*self.of.search)
        else:
            found = [name for name in self.of.models if text.lower() in name.lower()]
            self._say_json([{"id": name, "downloads": 12_000 // (place + 1)} for place, name in enumerate(found)])

    def _file(self, name: str, files: dict[str, bytes], commit: str) -> None:
        content, wanted = files[name], self.headers["Range"]
        if self.command == "GET" and name.endswith(".safetensors"):
            self.of.ranges.append((name, wanted))
        named = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if wanted is None or not self.of.keeps_ranges:
            self._say(200, content, named, until=self.of.breaks.pop(name, None) if self.command == "GET" else None)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = min(int(last or len(content) - 1) + 1, len(content))
        self._say(206, content[int(first) : end], named | {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"})

    def _say_json(self, answer: Any) -> None:
        self._say(200, json.dumps(answer).encode())

    def _say(self, status: int, body: bytes, extra: dict[str, str] | None = None, *, until: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "GET":
            return
        for start in range(0, len(body[:until]), PIECE):
            if self.of.down:
                break
            self.wfile.write(body[start : min(start + PIECE, until or len(body))])
            time.sleep(self.of.seconds_a_megabyte * PIECE / 1e6)
        if until is not None:
            self.close_connection, self.of.down = True, self.of.dies

    def log_message(self, *_: object) -> None:
        return
