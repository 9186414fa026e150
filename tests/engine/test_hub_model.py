"""Models by hub id: what is fetched, what facts cost, and what a hub may refuse."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import inspect as subject
from recommender.errors import InputError, Refused
from recommender.plan import ModelChoice
from tests.engine.away import NOWHERE, complaint, fetches_here, no_hub  # noqa: F401  # pytest takes fixtures by their names
from tests.hub import Hub, Repository, serving

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def far_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Which children ask."""
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    tiny = {
        "config.json": b'{"model_type": "bert", "num_hidden_layers": 1}',
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(16),
        "vocab.txt": b"[UNK]\n",
        "pytorch_model.bin": b"evil",
        ".gitattributes": b"*.bin filter=lfs",
        "README.md": b"---\nlicense: mit\n---\n",
    }
    models = {
        "org/tiny": Repository(tiny),
        "org/pickled": Repository({"config.json": b"{}", "pytorch_model.bin": b""}),
        "org/adapter": Repository({"adapter_config.json": b"{}", "adapter_model.safetensors": b"", "tokenizer.json": b"{}"}),
        "org/huge": Repository(
            {"config.json": b"{}", "model.safetensors": b"", "vocab.txt": b""}, sizes={"model.safetensors": 10**16}
        ),
        "org/gated": Repository(refusal=(403, "GatedRepo")),
        "org/private": Repository(refusal=(401, "")),
        "org/down": Repository(refusal=(500, "")),
        "org/asked-too-often": Repository(refusal=(429, "")),
    }
    with serving(Hub(models)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def hub(far_hub: Hub, fetches_here: None) -> Hub:  # noqa: F811
    """Which is asked in this very process."""
    return far_hub


def tiny(hub: Hub) -> Repository:
    return hub.models["org/tiny"]


def test_a_hub_model_is_downloaded_once_and_then_found_without_a_network(
    far_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[int, int, str]] = []
    first = subject.inspect_model("org/tiny", progress=lambda *told: heard.append(told))
    fetched = sum(len(tiny(far_hub).files[name]) for name in ("config.json", "model.safetensors", "vocab.txt", "README.md"))
    assert heard[-1] == (fetched, fetched, "bytes to download")
    assert first.revision == tiny(far_hub).commit
    assert (first.facts.id, first.facts.parameters, first.facts.license) == ("org/tiny", 4, "mit")
    assert not (Path(first.path) / "pytorch_model.bin").exists()
    assert not any(path.endswith(".bin") for path in far_hub.asked)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    assert subject.inspect_model("org/tiny") == first
    from engine.worker.modeling import model_folder  # what trains finds it too, though not every file of it was fetched

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub" / "hub"))
    assert model_folder(ModelChoice(id="org/tiny", revision=first.revision)) == first.path
    with pytest.raises(InputError, match="`hf download org/tiny --revision bbb"):
        model_folder(ModelChoice(id="org/tiny", revision="b" * 40))


@pytest.mark.parametrize("weights", [True, False])
def test_the_commit_that_a_plan_names_is_taken_and_not_the_newest(hub: Hub, weights: bool) -> None:
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}}).encode()
    earlier = "b" * 40
    tiny(hub).before = {earlier: tiny(hub).files | {"model.safetensors": len(header).to_bytes(8, "little") + header + bytes(36)}}
    newest = subject.inspect_model("org/tiny")
    found = subject.inspect_model("org/tiny", weights=weights, revision=earlier)
    assert (found.revision, found.facts.parameters) == (earlier, 9)
    assert (Path(found.path) / "model.safetensors").exists() is weights
    assert subject.inspect_model("org/tiny") == newest, "what the name alone means stays"
    with pytest.raises(InputError, match="hub model org/tiny has no revision nonsense"):
        subject.inspect_model("org/tiny", weights=weights, revision="nonsense")


def shards(hub: Hub, padding: int = 0) -> None:
    """The model in two files, the second with a description `padding` bytes longer."""
    for place, name in enumerate(("a.w", "b.w")):
        entry = {name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
        header = json.dumps(entry | {"__metadata__": {"x": "x" * padding * place}}).encode()
        tiny(hub).files[f"model-0000{place + 1}-of-00002.safetensors"] = len(header).to_bytes(8, "little") + header + bytes(16)
    del tiny(hub).files["model.safetensors"]
    names = {n: f"model-0000{i + 1}-of-00002.safetensors" for i, n in enumerate(("a.w", "b.w"))}
    tiny(hub).files["model.safetensors.index.json"] = json.dumps({"weight_map": names}).encode()


def test_a_model_without_a_tokenizer_is_refused_before_its_weights_are_downloaded(hub: Hub) -> None:
    vocabulary = tiny(hub).files.pop("vocab.txt")
    for weights in (False, True):  # a plan that somebody wrote is run without a look at the facts
        with pytest.raises(InputError, match=r"org/tiny has no tokenizer\.json and no vocabulary"):
            subject.inspect_model("org/tiny", weights=weights)
    assert all(part for _, part in hub.ranges)
    tiny(hub).files["source.spm"], tiny(hub).commit = vocabulary, "e" * 40
    assert (Path(subject.inspect_model("org/tiny", weights=False).path) / "source.spm").is_file()


@pytest.mark.parametrize("keeps_ranges", [True, False])
def test_facts_of_a_hub_model_take_no_weights(hub: Hub, keeps_ranges: bool) -> None:
    hub.keeps_ranges = keeps_ranges
    header = json.dumps({"embeddings.w": {"dtype": "F32", "shape": [5_000_002, 2, 1], "data_offsets": [0, 40_000_016]}}).encode()
    tiny(hub).files["model.safetensors"] = len(header).to_bytes(8, "little") + header + bytes(40_000_016)
    facts = subject.inspect_model("org/tiny", weights=False)
    assert (facts.revision, facts.weights_here) == (tiny(hub).commit, False)
    assert (facts.facts.id, facts.facts.parameters, facts.facts.license) == ("org/tiny", 10_000_004, "mit")
    assert facts.facts.weights_bytes == len(tiny(hub).files["model.safetensors"])
    assert [wanted for _, wanted in hub.ranges] == ["bytes=0-99999"]
    assert not list(Path(facts.path).glob("*.safetensors"))
    assert (Path(facts.path) / "config.json").is_file()
    whole = subject.inspect_model("org/tiny")
    assert (whole.fingerprint, whole.weights_here, whole.revision) == (facts.fingerprint, True, facts.revision)
    assert whole.facts == facts.facts
    again = subject.inspect_model("org/tiny", weights=False)
    assert (again.fingerprint, again.weights_here) == (whole.fingerprint, True)


def test_facts_of_a_hub_model_in_several_files(hub: Hub) -> None:
    shards(hub, padding=200_000)
    facts = subject.inspect_model("org/tiny", weights=False)
    assert facts.facts.parameters == 8
    assert sorted(name for name, _ in hub.ranges) == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2, 2)]
    assert subject.inspect_model("org/tiny").fingerprint == facts.fingerprint


def test_a_cache_that_holds_some_of_the_files_is_filled(hub: Hub) -> None:
    shards(hub)
    folder = Path(subject.inspect_model("org/tiny").path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert subject.inspect_model("org/tiny").facts.parameters == 8


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no header"),
        ((10**9).to_bytes(8, "little") + b"{}", "header is longer than the file"),
    ],
)
def test_a_damaged_file_on_the_hub_is_one_sentence(hub: Hub, content: bytes, said: str) -> None:
    tiny(hub).files["model.safetensors"] = content
    with pytest.raises(InputError) as caught:
        subject.inspect_model("org/tiny", weights=False)
    assert "hub model org/tiny" in caught.value.message
    assert said in caught.value.message


def test_a_file_that_the_hub_does_not_have_is_named(hub: Hub) -> None:
    shards(hub)
    del tiny(hub).files["model-00002-of-00002.safetensors"]
    with pytest.raises(InputError, match="1 of 2 weight files are missing, first model-00002-of-00002"):
        subject.inspect_model("org/tiny", weights=False)


def test_a_model_too_large_for_the_disk_still_has_facts(hub: Hub) -> None:
    entry = {"embeddings.w": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}
    header = json.dumps(entry).encode()
    tiny(hub).files["model.safetensors"] = len(header).to_bytes(8, "little") + header
    tiny(hub).sizes = {"model.safetensors": 8 + len(header) + 4 * 10**15}
    assert subject.inspect_model("org/tiny", weights=False).facts.parameters == 10**15
    with pytest.raises(Refused, match=r"org/tiny takes .* of disk"):
        subject.inspect_model("org/tiny")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/unknown", "there is no model org/unknown on the hub"),
        ("org/gated", "hub model org/gated is gated: accept its terms"),
        ("org/pickled", "hub model org/pickled has no model.safetensors"),
        ("org/adapter", "org/adapter holds an adapter, not a model; give the base model"),
        ("org/private", "does not accept this machine's token; log in again"),
        ("org/down", "answered with HTTP 500"),
        ("org/asked-too-often", "answered with HTTP 429"),
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
    with pytest.raises(Refused, match=r"org/huge takes .* of disk and .* is free"):
        subject.inspect_model("org/huge")
