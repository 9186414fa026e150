"""Models by hub id: what is fetched, what facts cost, and what a hub may refuse."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from engine import inspect as subject
from recommender.errors import InputError, Refused
from tests.engine.away import NOWHERE, complaint, no_hub  # noqa: F401  # pytest takes fixtures by their names

EXAMPLES = Path(__file__).parents[2] / "examples"


class Hub(BaseHTTPRequestHandler):
    """A model hub, as far as a download needs one."""

    commit = "c" * 40
    files: ClassVar[dict[str, bytes]] = {}
    before: ClassVar[dict[str, dict[str, bytes]]] = {}
    """Earlier commits, with the files that they had."""
    asked: ClassVar[list[str]] = []
    ranges: ClassVar[list[tuple[str, str | None]]] = []
    """Weight files asked for, each with the bytes of it that were wanted."""
    keeps_ranges = True
    sizes: ClassVar[dict[str, int]] = {}
    """What the hub says of files that are longer than what it holds here."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.asked.append(path)
        commit, files = self.meant()
        if path in ("api/models/org/tiny", *(f"api/models/org/tiny/revision/{name}" for name in ("main", commit))):
            self.reply(json.dumps({"id": "org/tiny", "sha": commit, "siblings": self.siblings()}).encode())
        elif path.startswith("api/models/org/tiny/revision/"):
            self.reply(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("api/models/org/tiny/tree/"):
            entries = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()]
            self.reply(json.dumps(entries).encode())
        elif path.startswith("org/tiny/resolve/") and path.rpartition("/")[2] in files:
            self.part(path.rpartition("/")[2])
        elif path.startswith("api/models/org/pickled"):
            siblings = [{"rfilename": "config.json"}, {"rfilename": "pytorch_model.bin"}]
            self.reply(json.dumps({"id": "org/pickled", "sha": self.commit, "siblings": siblings}).encode())
        elif path.startswith("api/models/org/huge"):
            huge = [{"rfilename": "config.json"}, {"rfilename": "model.safetensors", "size": 10**16}]
            self.reply(json.dumps({"id": "org/huge", "sha": self.commit, "siblings": huge}).encode())
        elif path.startswith("api/models/org/gated"):
            self.reply(b"{}", 403, {"X-Error-Code": "GatedRepo"})
        elif path.startswith("api/models/org/down"):
            self.reply(b"{}", 500)
        else:
            self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    def meant(self) -> tuple[str, dict[str, bytes]]:
        """The commit that is asked for, and its files."""
        named = self.path.partition("?")[0].split("/")
        return next(((part, self.before[part]) for part in named if part in self.before), (self.commit, self.files))

    def part(self, name: str) -> None:
        """The file, or the part of it that was asked for."""
        content, wanted = self.meant()[1][name], self.headers["Range"]
        if name.endswith(".safetensors"):
            self.ranges.append((name, wanted))
        if wanted is None or not self.keeps_ranges:
            self.reply(content)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = min(int(last) + 1, len(content))
        extra = {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
        self.reply(content[int(first) : end], 206, extra)

    def siblings(self) -> list[dict[str, object]]:
        return [{"rfilename": name, "size": self.sizes.get(name, len(content))} for name, content in self.meant()[1].items()]

    def reply(self, body: bytes, code: int = 200, extra: dict[str, str] | None = None) -> None:
        self.send_response(code)
        named = {"X-Repo-Commit": self.meant()[0], "ETag": f'"{hash(body) & 0xFFFFFFFF:040x}"'}
        for name, value in ({"Content-Length": str(len(body))} | named | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    Hub.files = {
        "config.json": b'{"model_type": "bert", "num_hidden_layers": 1}',
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(16),
        "pytorch_model.bin": b"evil",
        "README.md": b"---\nlicense: mit\n---\n",
    }
    Hub.before, Hub.asked, Hub.ranges, Hub.keeps_ranges, Hub.sizes = {}, [], [], True, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_model_is_downloaded_once_and_then_found_without_a_network(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    first = subject.inspect_model("org/tiny")
    assert first.revision == hub.commit
    assert (first.facts.id, first.facts.parameters, first.facts.license) == ("org/tiny", 4, "mit")
    assert not (Path(first.path) / "pytorch_model.bin").exists()
    assert not any(path.endswith(".bin") for path in hub.asked)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    assert subject.inspect_model("org/tiny") == first


@pytest.mark.parametrize("weights", [True, False])
def test_the_commit_that_a_plan_names_is_taken_and_not_the_newest(hub: type[Hub], weights: bool) -> None:
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}}).encode()
    earlier = "b" * 40
    hub.before = {earlier: hub.files | {"model.safetensors": len(header).to_bytes(8, "little") + header + bytes(36)}}
    newest = subject.inspect_model("org/tiny")
    found = subject.inspect_model("org/tiny", weights=weights, revision=earlier)
    assert (found.revision, found.facts.parameters) == (earlier, 9)
    assert (Path(found.path) / "model.safetensors").exists() is weights
    assert subject.inspect_model("org/tiny") == newest, "what the name alone means stays"
    with pytest.raises(InputError, match="hub model org/tiny has no revision nonsense"):
        subject.inspect_model("org/tiny", weights=weights, revision="nonsense")


def shards(hub: type[Hub], padding: int = 0) -> None:
    """The model in two files, the second with a description `padding` bytes longer."""
    for place, name in enumerate(("a.w", "b.w")):
        entry = {name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
        header = json.dumps(entry | {"__metadata__": {"x": "x" * padding * place}}).encode()
        hub.files[f"model-0000{place + 1}-of-00002.safetensors"] = len(header).to_bytes(8, "little") + header + bytes(16)
    del hub.files["model.safetensors"]
    names = {n: f"model-0000{i + 1}-of-00002.safetensors" for i, n in enumerate(("a.w", "b.w"))}
    hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": names}).encode()


@pytest.mark.parametrize("keeps_ranges", [True, False])
def test_facts_of_a_hub_model_take_no_weights(hub: type[Hub], keeps_ranges: bool) -> None:
    hub.keeps_ranges = keeps_ranges
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [5_000_002, 2, 1], "data_offsets": [0, 40_000_016]}}).encode()
    hub.files["model.safetensors"] = len(header).to_bytes(8, "little") + header + bytes(40_000_016)
    facts = subject.inspect_model("org/tiny", weights=False)
    assert (facts.revision, facts.weights_here) == (hub.commit, False)
    assert (facts.facts.id, facts.facts.parameters, facts.facts.license) == ("org/tiny", 10_000_004, "mit")
    assert facts.facts.weights_bytes == len(hub.files["model.safetensors"])
    assert [wanted for _, wanted in hub.ranges] == ["bytes=0-99999"]
    assert not list(Path(facts.path).glob("*.safetensors"))
    assert (Path(facts.path) / "config.json").is_file()
    whole = subject.inspect_model("org/tiny")
    assert (whole.fingerprint, whole.weights_here, whole.revision) == (facts.fingerprint, True, facts.revision)
    assert whole.facts == facts.facts
    again = subject.inspect_model("org/tiny", weights=False)
    assert (again.fingerprint, again.weights_here) == (whole.fingerprint, True)


def test_facts_of_a_hub_model_in_several_files(hub: type[Hub]) -> None:
    shards(hub, padding=200_000)
    facts = subject.inspect_model("org/tiny", weights=False)
    assert facts.facts.parameters == 8
    assert sorted(name for name, _ in hub.ranges) == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2, 2)]
    assert subject.inspect_model("org/tiny").fingerprint == facts.fingerprint


def test_a_cache_that_holds_some_of_the_files_is_filled(hub: type[Hub]) -> None:
    shards(hub)
    folder = Path(subject.inspect_model("org/tiny").path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert subject.inspect_model("org/tiny").facts.parameters == 8


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no header"),
        ((10**9).to_bytes(8, "little") + b"{}", "header is longer than the file"),
        ((2).to_bytes(8, "little") + b"{}", "holds no tensors"),
        ((6).to_bytes(8, "little") + b"broken", "its header is not JSON"),
    ],
)
def test_a_damaged_file_on_the_hub_is_one_sentence(hub: type[Hub], content: bytes, said: str) -> None:
    hub.files["model.safetensors"] = content
    with pytest.raises(InputError) as caught:
        subject.inspect_model("org/tiny", weights=False)
    assert "hub model org/tiny" in caught.value.message
    assert said in caught.value.message


def test_a_file_that_the_hub_does_not_have_is_named(hub: type[Hub]) -> None:
    shards(hub)
    del hub.files["model-00002-of-00002.safetensors"]
    with pytest.raises(InputError, match="1 of 2 weight files are missing, first model-00002-of-00002"):
        subject.inspect_model("org/tiny", weights=False)


def test_a_model_too_large_for_the_disk_still_has_facts(hub: type[Hub]) -> None:
    entry = {"embeddings.w": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}
    header = json.dumps(entry).encode()
    hub.files["model.safetensors"] = len(header).to_bytes(8, "little") + header
    hub.sizes = {"model.safetensors": 8 + len(header) + 4 * 10**15}
    assert subject.inspect_model("org/tiny", weights=False).facts.parameters == 10**15
    with pytest.raises(Refused, match=r"org/tiny takes .* of disk"):
        subject.inspect_model("org/tiny")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/unknown", "there is no model org/unknown on the hub"),
        ("org/gated", "hub model org/gated is gated: accept its terms"),
        ("org/pickled", "hub model org/pickled has no model.safetensors"),
        ("org/down", "answered with HTTP 500"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses(name: str, said: str) -> None:
    assert said in complaint(name)
    with pytest.raises(InputError) as caught:
        subject.inspect_model(name, weights=False)
    assert said in caught.value.message


@pytest.mark.usefixtures("hub")
def test_a_download_that_the_disk_cannot_hold_is_refused() -> None:
    with pytest.raises(Refused, match=r"org/huge takes .* of disk and .* are free"):
        subject.inspect_model("org/huge")
