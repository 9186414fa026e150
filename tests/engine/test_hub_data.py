"""Data sets by hub id: which files serve for what, fetched once, and never a script."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.inspect import DataInspection, inspect_data
from engine.inspection.hub_data import chosen_files
from recommender.errors import InputError, Refused
from tests.engine.away import NOWHERE, fetches_here, no_hub  # noqa: F401  # pytest takes fixtures by their names
from tests.hub import Hub, Repository, serving

TRAIN = "text,label\n" + "".join(f"a text number {i},{'ab'[i % 2]}\n" for i in range(30))
TEST = "text,label\nanother text,a\nyet another,b\n"


@pytest.fixture
def far_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Which children ask."""
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "rows.py": b"raise SystemExit('a loading script was run')",
        "data/train-00000-of-00002.csv": TRAIN.encode(),
        "data/train-00001-of-00002.csv": TRAIN.replace("number", "of number").encode(),
        "data/test-00000-of-00001.csv": TEST.encode(),
    }
    sets = {"org/rows": Repository(files, commit="d" * 40), "org/gated": Repository(refusal=(403, "GatedRepo"))}
    with serving(Hub(datasets=sets)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def hub(far_hub: Hub, fetches_here: None) -> Hub:  # noqa: F811
    """Which is asked in this very process."""
    return far_hub


def rows(hub: Hub) -> Repository:
    return hub.datasets["org/rows"]


def looked(name: str = "org/rows", **options: Any) -> DataInspection:
    return inspect_data(name, **options)


def test_a_data_set_is_fetched_once_and_then_found_without_a_network(far_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = looked()
    assert (first.facts.rows, first.facts.eval_rows, first.facts.format) == (60, 2, "csv")
    assert Path(first.path).name == "train-0000*-of-00002.csv"
    assert set(first.splits) == {"train", "test"}
    assert not any("rows.py" in path for path in far_hub.asked)
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


def test_the_cards_configurations(hub: Hub) -> None:
    configs = "configs:\n- config_name: short\n  data_files:\n  - split: train\n    path: data/test-*\n- config_name: long\n"
    rows(hub).files["README.md"] = f"---\n{configs}  data_files: data/train-*\n---\n".encode()
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


def test_a_script_alone_is_refused(hub: Hub) -> None:
    rows(hub).files = {name: content for name, content in rows(hub).files.items() if not name.endswith(".csv")}
    with pytest.raises(InputError, match="has no csv, json or parquet files; a loading script, if it has one, is never run"):
        looked()


def test_a_download_that_the_disk_cannot_hold_is_refused(hub: Hub) -> None:
    rows(hub).sizes = {"data/test-00000-of-00001.csv": 10**16}
    with pytest.raises(Refused, match=r"data set org/rows takes .* of disk and .* is free"):
        looked()


@pytest.mark.usefixtures("fetches_here")
def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file or folder, and the hub cannot be reached"):
        looked("org/rows")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        looked("org/rows")


@pytest.mark.usefixtures("fetches_here")
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
