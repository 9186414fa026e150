"""The three methods' models: what is trained, what is quantised, what is refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.worker import budget, modeling
from engine.worker.modeling import Built, build, load_tokenizer
from engine.worker.saving import SavingTrainer
from engine.worker.stored import new_modules, stored_shapes
from engine.worker.tasks.registry import task_of
from recommender.errors import InputError
from recommender.plan import Plan
from tests.conftest import make_plan

SIX = ["account", "billing", "cancel", "delivery", "returns", "technical"]


def built(plan: Plan) -> Built:
    return build(task_of(plan, SIX, load_tokenizer(plan.model.id).pad_token_id), plan.model.id)


def head_weights(model: Any, names: list[str]) -> dict[str, Any]:
    """The trained copies of the head's weights."""
    found = {}
    for name, p in model.named_parameters():
        bare = name.replace("base_model.model.", "").replace("modules_to_save.default.", "")
        if "original_module" not in name and any(bare.startswith(f"{n}.") for n in names):
            found[bare] = p
    return found


def test_what_a_model_was_read_into_is_given_back(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[str] = []
    monkeypatch.setattr(budget, "trim_heap", lambda: trimmed.append("heap"))
    built(make_plan(tiny, "full"))
    assert trimmed == ["heap"]
    monkeypatch.setattr(modeling, "device_name", lambda: "meta")  # stands for a GPU
    assert next(built(make_plan(tiny, "full")).model.parameters()).device.type == "meta"
    assert trimmed == ["heap", "heap"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    budget.give_back()
    assert trimmed == ["heap", "heap", "heap"]


@pytest.mark.parametrize("pissa", [False, True])
def test_weights_are_taken_apart_where_that_is_quick(tiny: Path, monkeypatch: pytest.MonkeyPatch, pissa: bool) -> None:
    seen: list[str] = []

    def looked_at(model: Any, *given: Any) -> Any:
        seen.append(next(model.parameters()).device.type)
        raise InputError("enough")

    monkeypatch.setattr(modeling, "with_adapters", looked_at)
    monkeypatch.setattr(modeling, "device_name", lambda: "meta")  # stands for a GPU
    with pytest.raises(InputError, match="enough"):
        built(make_plan(tiny, "lora", pissa=pissa, dropout=0.0))
    assert seen == ["meta" if pissa else "cpu"]


def test_full_trains_every_weight(tiny: Path) -> None:
    made = built(make_plan(tiny, "full"))
    assert made.trained == made.parameters == sum(p.numel() for p in made.model.parameters())
    assert made.head == ["classifier"]
    assert all(p.dtype == torch.float32 for p in made.model.parameters())


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize(
    ("model", "head"),
    [
        ("tiny", {"classifier.weight": (6, 64), "classifier.bias": (6,)}),
        ("tiny_roberta", {"classifier.dense.weight": (64, 64), "classifier.out_proj.weight": (6, 64)}),
        ("tiny_llama", {"score.weight": (6, 64)}),
    ],
)
def test_a_new_head_is_trained_in_full_precision(
    request: pytest.FixtureRequest, model: str, head: dict[str, tuple[int, ...]], method: str
) -> None:
    made = built(make_plan(request.getfixturevalue(model), method))
    found = head_weights(made.model, made.head)
    for name, shape in head.items():
        assert found[name].dtype == torch.float32
        assert found[name].requires_grad
        assert tuple(found[name].shape) == shape
    trained = {n for n, p in made.model.named_parameters() if p.requires_grad}
    assert all("lora_" in n or "modules_to_save" in n for n in trained)
    assert made.trained < made.parameters / 2


@pytest.mark.parametrize("model", ["tiny", "tiny_roberta", "tiny_llama"])
def test_qlora_quantises_the_layers_and_nothing_new(request: pytest.FixtureRequest, model: str) -> None:
    made = built(make_plan(request.getfixturevalue(model), "qlora"))
    kinds = {n: type(p).__name__ for n, p in made.model.named_parameters()}
    quantised = [n for n, kind in kinds.items() if kind == "Params4bit"]
    assert len(quantised) >= 12
    held = [p.quant_state for p in made.model.parameters() if hasattr(p, "quant_state")]
    assert {(state.quant_type, state.nested) for state in held} == {("nf4", True)}, "NF4, its constants in 8 bits: E20"
    assert not [n for n in quantised if any(f".{h}." in n for h in made.head)]
    layers = {n for n, module in made.model.named_modules() if "4bit" in type(module).__name__}
    assert not [n for n in layers if any(f".{h}." in f"{n}." for h in made.head)]


def test_experts_that_are_stored_one_by_one_are_found_adapted_and_left_whole_by_4_bit_loading(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """In memory all experts of a layer are one weight. bitsandbytes quantises linear modules only, and peft adapts such weights
    without dropout."""
    from transformers import MixtralConfig, MixtralForCausalLM

    folder = tmp_path / "mixture"
    shutil.copytree(tiny_llama, folder)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0}
    MixtralForCausalLM(
        MixtralConfig(vocab_size=size, intermediate_size=128, num_local_experts=4, num_experts_per_tok=2, **shape)
    ).save_pretrained(folder)
    with pytest.raises(InputError, match="dropout: the experts of a layer are stored as one weight"):
        built(make_plan(folder, "qlora", dropout=0.1))
    made = built(make_plan(folder, "qlora", dropout=0.0))
    kinds = {n: type(p).__name__ for n, p in made.model.named_parameters()}
    assert {kind for n, kind in kinds.items() if "experts" in n} == {"Parameter"}
    assert [n for n, kind in kinds.items() if kind == "Params4bit" and "q_proj" in n]
    assert len([n for n, p in made.model.named_parameters() if "experts" in n and "lora_A" in n and p.requires_grad]) == 4
    assert made.head == ["score"]

    def nothing(*_: object) -> None: ...

    state = SimpleNamespace(stateful_callbacks={}, save_to_json=nothing)
    beside = dict.fromkeys(("_save_optimizer_and_scheduler", "_save_scaler"), nothing)
    trainer: Any = SimpleNamespace(model=built(make_plan(folder)).model, state=state, control=None, _note={}, **beside)
    trainer.callback_handler, trainer._memory_note = SimpleNamespace(callbacks=[]), dict
    SavingTrainer._write(trainer, tmp_path / "step-1")
    held = load_file(tmp_path / "step-1" / "model.safetensors")
    assert held.keys() == {n for n, _ in trainer.model.named_parameters()}, "a checkpoint is read back by the model's own names"


def test_a_4_bit_model_that_was_scored_still_has_its_gradients(tiny_still: Path) -> None:
    """Some CPUs take another kernel for layers that were once in evaluation mode, one that knows no backward pass."""
    plan = make_plan(tiny_still, "qlora", dropout=0.0)
    words = {"input_ids": torch.arange(5, 29).reshape(2, 12), "labels": torch.tensor([1, 4])}

    def gradients(scored: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        made = built(plan).model
        if scored:
            with torch.no_grad():
                made.eval()(**words)
        made.train()(**words).loss.backward()
        return {n: p.grad for n, p in made.named_parameters() if p.requires_grad}

    fresh, scored = gradients(False), gradients(True)
    assert any(float(g.abs().max()) > 0 for n, g in fresh.items() if "lora_B" in n)
    for name, wanted in fresh.items():
        assert torch.equal(scored[name], wanted), name


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_number_of_parameters_does_not_depend_on_how_they_are_stored(tiny_still: Path, method: str) -> None:
    plain = sum(w.numel() for w in load_file(tiny_still / "model.safetensors").values())
    assert built(make_plan(tiny_still, method)).parameters == plain + 6 * 64 + 6


def test_class_names_reach_the_configuration(tiny: Path) -> None:
    config = built(make_plan(tiny, "lora")).model.config
    assert [config.id2label[i] for i in range(6)] == SIX
    assert config.label2id["returns"] == SIX.index("returns")


def test_weights_of_another_model_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(tiny, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({f"other.{n}": w for n, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"do not match config\.json"):
        built(make_plan(folder))
    fewer = {n: w[:-1] for n, w in weights.items() if "word_embeddings" in n}
    save_file(weights | fewer, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"word_embeddings.weight is stored as \[\d+, 64\], and config\.json wants \["):
        built(make_plan(folder))


@pytest.mark.parametrize("said", ["CUDA out of memory", "CUDA error: unspecified launch failure", "strange"])
def test_a_gpu_that_is_full_or_fails_is_not_taken_for_a_damaged_model(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Weights of 4 bit are made on it while they are read."""

    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError(said)

    monkeypatch.setattr("transformers.AutoModelForSequenceClassification.from_pretrained", fails)
    with pytest.raises(InputError if said == "strange" else RuntimeError, match=said):
        built(make_plan(tiny, "qlora"))


def test_a_model_without_a_classifier_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="vit have no text classifier"):
        built(make_plan(folder))


def test_unknown_target_modules_are_said(tiny: Path) -> None:
    with pytest.raises(InputError, match="target_modules no_such"):
        built(make_plan(tiny, "lora", target_modules="no_such"))


def test_a_tokenizer_without_padding_pads_with_its_end_token(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "no-pad"
    shutil.copytree(tiny, folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name in [n for n in settings if n.endswith("_token")]:
        del settings[name]
    file.write_text(json.dumps(settings | {"eos_token": "[SEP]"}))
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.pad_token == "[SEP]"


@pytest.mark.parametrize(
    ("names", "labels", "rows", "told"),
    [
        (["a", "b", "c"], ["a", "b", "c"], [0, 1, 2], None),
        (["C", "A", "B"], ["a", "b", "c"], [1, 2, 0], None),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["0", "2", "1"], [0, 2, 1], None),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "b", "c"], [0, 1, 2], "its outputs have no names and are taken to be a, b, c."),
        (["toxic", "rude", "ok"], ["a", "b", "c"], None, "has the labels toxic, rude, ok, not a, b, c: a new one is trained."),
    ],
)
@pytest.mark.parametrize(("model", "method"), [("tiny", "full"), ("tiny_roberta", "lora"), ("tiny_llama", "qlora")])
def test_a_head_of_the_right_size_is_trained_further_only_for_its_own_labels(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, method: str, names: list[str], labels: list[str],
    rows: list[int] | None, told: str | None,
) -> None:  # fmt: skip
    from transformers import AutoModelForSequenceClassification

    folder = request.getfixturevalue(model)
    shutil.copytree(folder, tmp_path / "own")
    own = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, id2label=dict(enumerate(names)))
    own.save_pretrained(tmp_path / "own")
    plan = make_plan(tmp_path / "own", method)
    task = task_of(plan, labels, load_tokenizer(plan.model.id).pad_token_id)
    made = build(task, plan.model.id)
    outputs = {"tiny": "classifier", "tiny_roberta": "classifier.out_proj", "tiny_llama": "score"}[model]
    stored = own.get_submodule(outputs).weight
    (found,) = (p for name, p in head_weights(made.model, [outputs]).items() if name.endswith("weight"))
    assert found.requires_grad
    if rows is None:
        assert not any(torch.equal(row, other) for row in found for other in stored)
        assert 0 < found.std() < 0.03, "as new heads are"
    else:
        assert torch.equal(found, stored[rows])
    assert [told is not None and said.endswith(told) for said in task.remarks.values()] == [True] * (told is not None)


def test_queries_keys_and_values_that_are_stored_as_one_are_not_missing(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, NomicBertConfig, NomicBertForMaskedLM

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = NomicBertConfig(vocab_size=100, **shape)
    NomicBertForMaskedLM(config).save_pretrained(tmp_path)
    assert any("Wqkv" in name for name in stored_shapes(tmp_path))
    found = new_modules(config, str(tmp_path), AutoModelForSequenceClassification)
    assert found.new == ["classifier", "nomic_bert.pooler"]


def test_a_tokenizer_that_is_one_file_of_sentencepieces_is_read(tmp_path: Path) -> None:
    """DeBERTa-v3, mT5 and Pegasus are published without a tokenizer.json."""
    import sentencepiece

    words = (f"{a} {b}" for a in SIX for b in SIX)
    how: dict[str, Any] = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2, "hard_vocab_limit": False}
    with (tmp_path / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=words, model_writer=file, vocab_size=60, **how)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.decode(tokenizer("cancel billing")["input_ids"], skip_special_tokens=True) == "cancel billing"


def test_a_folder_without_a_tokenizer_is_refused(tiny: Path, tmp_path: Path) -> None:
    """transformers makes one that knows its special tokens alone, and a run would learn from nothing but unknown words."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny / name, tmp_path)
    with pytest.raises(InputError, match="its tokenizer cannot be loaded"):
        load_tokenizer(str(tmp_path))
