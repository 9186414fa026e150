"""LoRA's extras: what they change, and that a result needs nobody who knows of them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.events import read_events
from engine.files import read_json, sha256_of
from engine.loading import split
from engine.rundir import RunDirectory
from engine.worker.adapters import needs_config, write_as_plain_lora
from engine.worker.modeling import Built, build, load_tokenizer
from engine.worker.tasks.registry import task_of
from recommender.plan import Plan
from tests.conftest import make_plan
from tests.engine.worker.conftest import Here
from tests.engine.worker.writing import plan_of as writes


def built(plan: Plan) -> Built:
    tokenizer = load_tokenizer(plan.model.id)
    return build(task_of(plan, split(plan.data).labels, tokenizer.pad_token_id), plan.model.id)


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[2, 17, 305, 44, 3], [2, 9, 81, 3, 3]])
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return found


def test_the_scale_of_rslora_is_alpha_by_the_root_of_the_rank(tiny: Path) -> None:
    for rslora, scale in (False, 3.0), (True, 6.0):
        model = built(make_plan(tiny, "lora", rank=4, alpha=12, rslora=rslora)).model
        scales = {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")}
        assert scales == {scale}


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_dora_learns_the_length_of_each_weight_apart(tiny: Path, method: str) -> None:
    plain = built(make_plan(tiny, method))
    made = built(make_plan(tiny, method, dora=True))
    lengths = [p for n, p in made.model.named_parameters() if "magnitude" in n]
    assert lengths
    assert all(p.requires_grad for p in lengths)
    assert made.trained == plain.trained + sum(p.numel() for p in lengths)


def test_pissa_begins_as_the_base_and_ends_as_a_plain_adapter_of_it(tiny: Path, tmp_path: Path) -> None:
    plan = make_plan(tiny, "lora", pissa=True, rslora=True, dropout=0.0)
    torch.manual_seed(3)
    made = built(plan).model
    torch.manual_seed(3)
    base = built(make_plan(tiny, "lora", dropout=0.0)).model
    torch.testing.assert_close(logits(made), logits(base), rtol=1e-4, atol=1e-5)
    assert any(float(p.detach().abs().max()) > 0 for n, p in made.named_parameters() if "lora_B" in n)
    with torch.no_grad():
        for p in made.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn_like(p))
    expected = logits(made)
    assert float((expected - logits(base)).abs().max()) > 0.01

    made.save_pretrained(tmp_path)
    write_as_plain_lora(made, tmp_path)
    config = read_json(tmp_path / "adapter_config.json")
    assert (config["r"], config["lora_alpha"]) == (8, pytest.approx(8 * math.sqrt(2)))
    anybodys = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=6)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(anybodys, tmp_path)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("extra", [{}, {"rslora": True}, {"pissa": True}, {"dora": True}], ids=str)
def test_a_folders_name_alone_is_enough_where_all_of_the_adapter_is_loaded_by_it(
    tiny_chat: Path, tmp_path: Path, extra: dict[str, Any]
) -> None:
    """Where it is not, a `config.json` beside the adapter makes transformers refuse what it would load in part."""
    plan = writes(tiny_chat, "lora", **extra)
    task = task_of(plan, [], 0)
    made = build(task, str(tiny_chat)).model
    with torch.no_grad():
        for p in made.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn_like(p))
    made.save_pretrained(tmp_path)
    if plan.pissa:
        write_as_plain_lora(made, tmp_path)
    found = logits(AutoModelForCausalLM.from_pretrained(tmp_path))
    assert (float((found - logits(made)).abs().max()) > 1e-3) is needs_config(task)


def extras_plan(tiny: Path) -> Plan:
    return make_plan(tiny, "lora", epochs=0.5, evaluations=1, pissa=True, dropout=0.0, lora_plus_ratio=16.0)


def test_the_extras_train_and_their_result_is_a_plain_adapter(tiny: Path, run_here: Here) -> None:
    plan = extras_plan(tiny)
    run = run_here(plan)
    assert json.loads((run.model / "adapter_config.json").read_text())["r"] == 8
    assert "PiSSA" in (run.model / "README.md").read_text()
    groups = torch.load(run.checkpoints / "step-6" / "optimizer.pt")["param_groups"]
    assert {g["initial_lr"] for g in groups} == {1e-3, 16e-3}
    fast = sum(len(g["params"]) for g in groups if g["initial_lr"] == 16e-3)
    assert fast == sum("lora_B" in n for n, p in built(plan).model.named_parameters() if p.requires_grad)


@pytest.mark.faults
def test_a_resumed_run_with_extras_is_the_same(tiny: Path, run_here: Here, begin: Callable[[Plan], RunDirectory]) -> None:
    plan = extras_plan(tiny)
    whole, parted = run_here(plan), begin(plan)
    (parted.control / "stop-at").write_text("3")
    run_here(plan, again=parted)
    (parted.control / "stop-at").unlink()
    run_here(plan, again=parted)
    assert [e["resumed_from"] for e in read_events(parted.events) if e["kind"] == "run"] == [None, 3]
    assert sha256_of(parted.model / "adapter_model.safetensors") == sha256_of(whole.model / "adapter_model.safetensors")
