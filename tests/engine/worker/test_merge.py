"""An adapter merged into its base says what the adapter says, and appears whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from engine import merging
from engine.events import EventWriter
from engine.files import read_json
from engine.loading import split
from engine.rundir import RunDirectory
from engine.worker import export, merge
from engine.worker.budget import TokenBudget
from engine.worker.modeling import load_config, load_tokenizer
from engine.worker.scoring import Reader
from engine.worker.tasks.registry import task_of
from engine.worker.token_rows import Records
from recommender.errors import InputError, Refused
from recommender.facts import Family
from tests.conftest import make_plan
from tests.engine.worker.conftest import Here
from tests.engine.worker.works import plan_of
from tui.merge_words import merged_words

pytestmark = pytest.mark.usefixtures("short_answers")
VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"dora": True},
    "pissa": {"pissa": True, "rslora": True, "rank": 4, "alpha": 4, "dropout": 0.0},
}


def merged(run: RunDirectory, target: Path) -> dict[str, Any]:
    return merge.merge(run, target, lambda doing: None)


@pytest.mark.parametrize("method", ["lora", "qlora", "pissa", pytest.param("dora", marks=pytest.mark.faults)])
def test_the_merged_model_says_what_the_adapter_says_and_needs_no_peft(
    tiny: Path, run_here: Here, finished: Callable[[str], RunDirectory], tmp_path: Path, method: str
) -> None:
    extra = VARIANTS.get(method)
    run = finished(method) if extra is None else run_here(make_plan(tiny, "lora", epochs=0.4, **extra))
    facts = merged(run, tmp_path / "whole")
    assert facts["rows"] > 0
    assert facts["difference"] < 1e-4 < facts["largest_output"]
    assert facts["alike"] == [facts["rows"]] * 2
    assert (facts["difference_in_4_bit"] is not None) == (method == "qlora")
    assert facts["alike_in_4_bit"] is None or 0.7 * facts["rows"] <= facts["alike_in_4_bit"][0] <= facts["alike_in_4_bit"][1]

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    held_out = split(run.plan().data).held_out
    kept = read_json(run.scores / "after.json")["predicted"]
    with torch.inference_mode():
        said = [int(model(**tokenizer(t, truncation=True, return_tensors="pt")).logits.argmax()) for t in held_out.texts]
    alike = sum(a == b for a, b in zip(said, kept, strict=True))
    assert alike == len(kept) or (method == "qlora" and alike >= 0.7 * len(kept)), "4 bit rounds the base"
    assert sorted(model.config.label2id) == sorted(split(run.plan().data).labels)
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "PeftModel" not in card
    assert "library_name: transformers" in card
    assert ("4 bit" in card) == (method == "qlora")
    assert "The scores are the adapter's" in card
    told: Any = ModelCard(card).data
    assert not told.eval_results, "a program would take them for its own"
    assert told.tags[:2] == ["loracle", "merged"]
    assert not [p.name for p in tmp_path.iterdir() if p.name != "whole"]


def test_a_gpu_full_of_another_run_keeps_no_4_bit_adapter_from_its_merge(
    finished: Callable[[str], RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished("qlora")

    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(export, "load", full)
    facts = merged(run, tmp_path / "whole")
    assert facts["alike"] == [facts["rows"]] * 2
    assert "4-bit" not in merged_words(facts), "nothing was compared with it"


FAMILIES: dict[str, Family] = {
    "tiny": "encoder", "tiny_roberta": "encoder", "tiny_llama": "decoder", "tiny_chat": "decoder", "tiny_t5": "encoder-decoder",
}  # fmt: skip
OF_MODELS = [("pairs", "tiny", "lora"), ("chat", "tiny_chat", "qlora"), ("seq2seq", "tiny_t5", "lora")]
MORE = [
    *((task, "tiny", method) for task in ("multi_label", "regression", "token_classification") for method in ("lora", "qlora")),
    *((task, "tiny_llama", method) for task in ("regression", "token_classification") for method in ("lora", "qlora")),
    *((task, "tiny_chat", method) for task in ("continued_pretraining", "preference", "seq2seq") for method in ("lora", "qlora")),
    ("pairs", "tiny", "qlora"), ("pairs", "tiny_llama", "lora"), ("pairs", "tiny_llama", "qlora"), ("chat", "tiny_chat", "lora"),
    ("seq2seq", "tiny_t5", "qlora"), ("pairs", "tiny_roberta", "lora"), ("pairs", "tiny_roberta", "qlora"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("work", "model", "method"), [*OF_MODELS, *(pytest.param(*one, marks=pytest.mark.faults) for one in MORE)]
)
def test_a_merged_model_of_any_work_scores_as_the_report_says(
    run_here: Here, tmp_path: Path, request: pytest.FixtureRequest, work: str, model: str, method: str
) -> None:
    plan = plan_of(tmp_path / "rows.jsonl", work, request.getfixturevalue(model), method)
    run = run_here(plan)
    facts = merged(run, tmp_path / "whole")
    assert facts["rows"] > 0
    assert facts["difference"] < 1e-3 * facts["largest_output"]
    if work == "regression":
        assert facts["alike"] is None
    else:
        same, every = facts["alike"]
        assert 0.95 * every <= same <= every, "of a tiny model's outputs, some of which are nearly alike"

    tokenizer = load_tokenizer(str(tmp_path / "whole"), words=work == "token_classification")
    parts = split(plan.data, plan.task)
    known = task_of(plan, parts.labels, tokenizer.pad_token_id, FAMILIES[model])
    load_config(str(tmp_path / "whole"), known)
    whole = known.model_class().from_pretrained(tmp_path / "whole")
    known.prepare(known.encode(tokenizer, parts.train), torch.device("cpu"))
    rows = known.encode(tokenizer, parts.held_out)
    reader = Reader(known, TokenBudget(500, lambda before, after: None), lambda: None)
    if known.has_reference:
        assert isinstance(rows.targets, Records)
        rows.targets.fields["reference"] = read_json(run.scores / "reference.json")["held_out"]
    wanted = read_json(run.scores / "after.json")["score"]["loss"]
    assert reader.score(whole, rows).loss == pytest.approx(wanted, rel=1e-3 if method == "lora" else 0.2)
    if work == "chat":
        assert tokenizer.chat_template
        ends = whole.generation_config.eos_token_id
        assert tokenizer.convert_tokens_to_ids("<|im_end|>") in ends, "it stops where an answer ends, without being told"


def test_weights_stored_in_16_bit_are_rounded_once_and_what_that_changes_is_told(
    tiny: Path, run_here: Here, tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "narrow")
    for file in (tmp_path / "narrow").glob("*.safetensors"):
        save_file({name: t.bfloat16() for name, t in load_file(file).items()}, file, {"format": "pt"})
    run = run_here(make_plan(tmp_path / "narrow", "lora", epochs=0.4))
    facts = merged(run, tmp_path / "whole")
    assert facts["dtype"] == "bfloat16"
    assert 0 < facts["difference"] < 0.05 * facts["largest_output"]
    assert "rounding the weights to bfloat16" in merged_words(facts)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}

    # An adapter whose weights fit into fp32 and bf16, but not into fp16.
    for folder, scale, kind in ((tmp_path / "narrow", 1.0, torch.float16), (run.model, 1e5, torch.float32)):
        for file in folder.glob("*.safetensors"):
            save_file({name: (scale * t.float()).to(kind) for name, t in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(Refused, match="rounded to float16, as the base is stored, the model's outputs are not numbers"):
        merged(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_outputs_that_are_no_numbers_are_never_the_same(tmp_path: Path) -> None:
    broken, sound = [[torch.ones(2), torch.tensor([1.0, last])] for last in (torch.nan, 1.0)]
    for pair in ((broken, sound), (sound, broken), (broken, broken)):
        with pytest.raises(Refused, match="more than rounding explains"):
            merge._check_same(*pair, RunDirectory(tmp_path))


def test_what_cannot_be_merged_is_refused_and_nothing_is_left(
    finished: Callable[[str], RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished("lora")
    events = EventWriter(run.events)
    events.write("end", status="done", code=0, cause=None, cure=None, checkpoint=None)
    events.close()
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match=r"there exists already; name another folder with --to"):
        merging.target_of(run, tmp_path / "there")
    shutil.copytree(finished("full").path, tmp_path / "full")
    shutil.copy(run.events, tmp_path / "full" / "events.jsonl")
    with pytest.raises(InputError, match="already the whole model"):
        merging.target_of(RunDirectory(tmp_path / "full"))
    with pytest.raises(InputError, match="is not done"):
        merging.target_of(finished("qlora"))

    for name, room, told in (("memory_available", 1000, "of main memory"), ("_largest", 0.0, "more than rounding explains")):
        with monkeypatch.context() as patch:
            patch.setattr(merge, name, lambda *given, room=room: room)
            if name == "_largest":
                patch.setattr(merge, "_difference", lambda *given: 1.0)
            with pytest.raises(Refused, match=told):
                merged(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        with pytest.raises(Refused, match=r"of disk, and .* is free. Use --to"):
            merged(run, tmp_path / "whole")
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=r"whole: the merged model cannot be written \(Not a directory; .* is free\)"):
        merged(run, tmp_path / "file" / "beneath" / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full", "there"]
