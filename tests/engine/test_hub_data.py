"""Data sets by hub id: which files serve for what, fetched once, and never a script."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from engine.inspect import DataInspection, inspect_data
from engine.inspection.hub_data import chosen_files
from recommender.errors import InputError, Refused

NOWHERE = "http://127.0.0.1:9"
TRAIN = "text,label\n" + "".join(f"a text number {i},{'ab'[i % 2]}\n" for i in range(30))
TEST = "text,label\nanother text,a\nyet another,b\n"


class Hub(BaseHTTPRequestHandler):
    """A hub, as far as a data set needs one."""

    commit = "d" * 40
    files: ClassVar[dict[str, bytes]] = {}
    sizes: ClassVar[dict[str, int]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.asked.append(path)
        if path in (
            "api/datasets/org/rows",
            f"api/datasets/org/rows/revision/{self.commit}",
            "api/datasets/org/rows/revision/main",
        ):
            siblings = [{"rfilename": n, "size": self.sizes.get(n, len(c))} for n, c in self.files.items()]
            self.reply(json.dumps({"id": "org/rows", "sha": self.commit, "siblings": siblings}).encode())
        elif path.startswith("api/datasets/org/rows/tree/"):
            entries = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in self.files.items()]
            self.reply(json.dumps(entries).encode())
        elif path.startswith("datasets/org/rows/resolve/"):
            self.reply(self.files[path.split("/", 5)[5]])
        elif path.startswith("api/datasets/org/gated"):
            self.reply(b"{}", 403, {"X-Error-Code": "GatedRepo"})
        else:
            self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    def reply(self, body: bytes, code: int = 200, extra: dict[str, str] | None = None) -> None:
        self.send_response(code)
        headers = {"Content-Length": str(len(body)), "X-Repo-Commit": self.commit, "ETag": f'"{hash(body) & 0xFFFFFFFF:040x}"'}
        for name, value in (headers | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and a hub that cannot be reached."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "rows.py": b"raise SystemExit('a loading script was run')",
        "data/train-00000-of-00002.csv": TRAIN.encode(),
        "data/train-00001-of-00002.csv": TRAIN.replace("number", "of number").encode(),
        "data/test-00000-of-00001.csv": TEST.encode(),
    }
    Hub.sizes = {}
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def looked(name: str = "org/rows", **options: Any) -> DataInspection:
    return inspect_data(name, **options)


def test_a_data_set_is_fetched_once_and_then_found_without_a_network(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    first = looked()
    assert (first.facts.rows, first.facts.eval_rows, first.facts.format) == (60, 2, "csv")
    assert Path(first.path).name == "train-0000*-of-00002.csv"
    assert set(first.splits) == {"train", "test"}
    assert not any("rows.py" in path for path in hub.asked)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    assert looked() == first
    assert looked(first.path, eval=first.eval_path).facts == first.facts


@pytest.mark.usefixtures("hub")
def test_a_cache_that_lacks_a_shard_is_not_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    first = looked()
    (Path(first.path).parent / "train-00001-of-00002.csv").unlink()
    assert looked().facts.rows == 60
    (Path(first.path).parent / "train-00001-of-00002.csv").unlink()
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    with pytest.raises(InputError, match="the hub cannot be reached"):
        looked()


def test_the_cards_configurations(hub: type[Hub]) -> None:
    configs = "configs:\n- config_name: short\n  data_files:\n  - split: train\n    path: data/test-*\n- config_name: long\n"
    Hub.files["README.md"] = f"---\n{configs}  data_files: data/train-*\n---\n".encode()
    with pytest.raises(InputError, match="org/rows comes as long, short; name one, like org/rows:long"):
        looked()
    assert looked("org/rows:long").facts.rows == 60
    with pytest.raises(InputError, match="comes as long, short"):
        looked("org/rows:middle")


@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses() -> None:
    with pytest.raises(InputError, match="no data set of that name on the hub"):
        looked("org/unknown")
    with pytest.raises(InputError, match="hub data set org/gated is gated"):
        looked("org/gated")


def test_a_script_alone_is_refused(hub: type[Hub]) -> None:
    Hub.files = {name: content for name, content in hub.files.items() if not name.endswith(".csv")}
    with pytest.raises(InputError, match="has no csv, json or parquet files; a loading script, if it has one, is never run"):
        looked()


def test_a_download_that_the_disk_cannot_hold_is_refused(hub: type[Hub]) -> None:
    hub.sizes = {"data/test-00000-of-00001.csv": 10**16}
    with pytest.raises(Refused, match=r"data set org/rows takes .* of disk and .* are free"):
        looked()


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file or folder, and the hub cannot be reached"):
        looked("org/rows")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        looked("org/rows")


def test_what_looks_like_a_path_is_never_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "data/rows", "./a/b"):
        with pytest.raises(InputError, match="there is no such file"):
            looked(name)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["train.csv", "test.csv"], {"train": ["train.csv"], "test": ["test.csv"]}),
        (["rows.jsonl"], {"train": ["rows.jsonl"]}),
        (["labels.json", "train.csv", "schema.json"], {"train": ["train.csv"]}),
        (
            ["data/train-0-of-1.parquet", "data/validation-0-of-1.parquet", "train.csv", "dataset_infos.json"],
            {"train": ["data/train-0-of-1.parquet"], "validation": ["data/validation-0-of-1.parquet"]},
        ),
        (["dev.tsv", "training.tsv"], {"validation": ["dev.tsv"], "train": ["training.tsv"]}),
        (["default/train/0000.parquet", "other/train/0000.parquet"], {"train": ["default/train/0000.parquet"]}),
    ],
)
def test_files_are_sorted_by_what_they_are_called(files: list[str], chosen: dict[str, list[str]]) -> None:
    assert chosen_files("org/rows", files, {}, "") == chosen
