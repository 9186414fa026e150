"""Training a part of the model: what is frozen stays as it was, and costs no gradients."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine import runs
from engine.files import read_json, sha256_of
from engine.rundir import RunDirectory
from engine.worker.arguments import check_supported
from engine.worker.freezing import layers_of
from engine.worker.modeling import build
from engine.worker.tasks.registry import task_of
from recommender.errors import InputError, Refused
from recommender.plan import Plan
from tests.conftest import make_plan
from tests.engine.worker.conftest import Here


def moved(run: RunDirectory, base: Path) -> set[str]:
    """Names of tensors of the pretrained body that the run has changed."""
    before, after = load_file(base / "model.safetensors"), load_file(run.model / "model.safetensors")
    return {n for n, w in after.items() if (old := before.get(n.split(".", 1)[1])) is not None and not torch.equal(w, old)}


def test_frozen_embeddings_stay_as_they_were(tiny: Path, run_here: Here) -> None:
    run = run_here(make_plan(tiny, trained="no_embeddings", epochs=0.4))
    changed = moved(run, tiny)
    assert not [n for n in changed if "_embeddings.weight" in n]
    assert any("layer.0." in n for n in changed)
    report = run.report() or {}
    embeddings = sum(w.numel() for n, w in load_file(tiny / "model.safetensors").items() if n.endswith("_embeddings.weight"))
    assert report["parameters"] - report["trained_parameters"] == embeddings
    assert report["trained"] == "no_embeddings"


def test_the_last_layer_alone_is_trained_and_a_paused_run_goes_on_to_the_same_model(
    tiny: Path, run_here: Here, begin: Callable[[Plan], RunDirectory]
) -> None:
    plan = make_plan(tiny, trained="last_layers", last_layers=1, epochs=0.6, optimizer="adamw_8bit")
    whole, run = run_here(plan), begin(plan)
    changed = moved(whole, tiny)
    assert changed
    assert all("encoder.layer.1." in n or "pooler." in n for n in changed), changed
    saved = load_file(whole.model / "model.safetensors")
    trained = sum(w.numel() for n, w in saved.items() if any(p in n for p in ("encoder.layer.1.", "pooler.", "classifier.")))
    assert (whole.report() or {})["trained_parameters"] == trained
    runs.clear_requests(run, stop_at=4)
    run_here(plan, again=run)
    runs.clear_requests(run)
    run_here(plan, again=run)
    assert sha256_of(run.model / "model.safetensors") == sha256_of(whole.model / "model.safetensors")
    assert read_json(run.scores / "after.json") == read_json(whole.scores / "after.json")


@pytest.mark.parametrize(
    ("family", "shape", "trained"),
    [
        ("distilbert", {"dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 2},
         ("layer.2.", "pre_classifier.", "classifier.")),
        ("deberta-v2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
                        "position_biased_input": False, "type_vocab_size": 0}, ("layer.2.", "pooler.", "classifier.")),
        ("modernbert", {}, ("layers.2.", "final_norm.", "head.", "classifier.")),
        ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 2}, ("h.2.", "ln_f.", "score.")),
        ("llama", {}, ("layers.2.", "model.norm.", "score.")),
        ("roberta", {}, ("layer.2.", "classifier.")),
        ("bart", {"d_model": 32, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 2,
                  "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
         ("decoder.layers.2.", "classification_head.")),
    ],
)  # fmt: skip
def test_the_last_layer_is_found_in_any_family(
    tmp_path: Path, family: str, shape: dict[str, Any], trained: tuple[str, ...]
) -> None:
    from transformers import AutoConfig, AutoModel

    usual = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    named = {} if family in ("distilbert", "gpt2", "bart") else usual
    config = AutoConfig.for_model(family, vocab_size=40, **ends, **named, **shape)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    plan = make_plan(tmp_path, trained="last_layers", last_layers=1)
    built = build(task_of(plan, ["a", "b"]), str(tmp_path))
    open_to_change = {n for n, p in built.model.named_parameters() if p.requires_grad}
    assert open_to_change
    assert all(any(part in n for part in trained) for n in open_to_change), sorted(open_to_change)
    assert all(any(part in n for n in open_to_change) for part in trained), sorted(open_to_change)
    assert built.trained == sum(p.numel() for p in built.model.parameters() if p.requires_grad)


def test_more_layers_than_there_are_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"last_layers is 3, and .* has 2 layers"):
        build(task_of(make_plan(tiny, trained="last_layers", last_layers=3), ["a", "b"]), str(tiny))


def test_lists_inside_layers_are_no_stack() -> None:
    layer = torch.nn.ModuleDict({"parts": torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(5))})
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([layer, layer])})
    assert len(layers_of(model)) == 2
    with pytest.raises(InputError, match="cannot be told apart"):
        layers_of(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "adamw_8bit_paged"])
def test_an_8_bit_optimizer_that_does_not_run_here_is_refused_with_a_sentence(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    plan = make_plan(tiny, optimizer=optimizer)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(Refused, match=f"optimizer {optimizer} does not run on this machine"):
        check_supported(plan)
