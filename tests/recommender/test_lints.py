"""What is said about settings that a person brings, under the names that people really use."""

import json
from typing import Any

import pytest

from recommender.brought import canonical
from recommender.decide import recommend
from recommender.facts import DataFacts, Facts
from recommender.lints import lint
from recommender.recommendation import Caution
from tests.recommender.test_recommend import BERT, IMDB, INSTRUCTIONS, LLAMA_8B, gpu

SHORT = IMDB | {"tokens_p50": 25, "tokens_p95": 40, "tokens_p99": 60, "tokens_max": 100}
GEMMA = LLAMA_8B | {"id": "gemma-2-9b", "architecture": "Gemma2ForCausalLM"}


def about_the_plan(
    plan: dict[str, Any], model: dict[str, Any] = BERT, data: dict[str, Any] = IMDB, **machine: Any
) -> dict[str, Caution]:
    content = {"machine": gpu(77, **machine), "model": model, "data": data, "plan": plan}
    advice = recommend(Facts.model_validate_json(json.dumps(content)))
    return {w.code: w for w in advice.warnings if w.about == "plan"}


BACKGROUND = [
    {"batch_size": 8, "epochs": 3, "warmup_steps": 500},
    {"per_device_train_batch_size": 8, "num_train_epochs": 3, "warmup_steps": 500},
    {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "num_train_epochs": 3.0, "warmup_steps": 500},
    {"training": {"per_device_train_batch_size": 8, "num_train_epochs": 3, "warmup_steps": 500}},
    {"effective_batch": 8, "epochs": "3", "warmup_steps": "500"},
    {"max_steps": 375, "warmup_steps": 500},
    {"max_steps": -1, "batch_size": 8, "num_epochs": 3, "num_warmup_steps": 500},
]


@pytest.mark.parametrize("plan", BACKGROUND, ids=str)
def test_the_often_copied_recipe_is_caught_with_its_figures_whatever_its_names(plan: dict[str, Any]) -> None:
    said = about_the_plan(plan)["warmup_longer_than_run"]
    assert said.facts == {"warmup_steps": 500, "total_steps": 375, "reached": 0.75}
    for figure in ("500 steps", "375 steps", "75%"):
        assert figure in said.text


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ({"warmup_ratio": 0.5}, "long_warmup"),
        ({"batch_size": 8, "epochs": 3, "warmup_steps": 75}, "long_warmup"),
        ({"batch_size": 32, "epochs": 3}, "few_steps"),
        ({"epochs": 31}, "many_epochs"),
        ({"finetuning_type": "lora", "lr": "2e-5"}, "low_lora_rate"),
        ({"adapter": "lora", "lr": 5e-3}, "high_lora_rate"),
        ({"use_peft": True, "learning_rate": 1e-5}, "low_lora_rate"),
        ({"method": "full", "lr": 5e-4}, "high_full_rate"),
        ({"lora_r": 8, "lora_alpha": 64, "lr": 5e-4}, "alpha_without_rate"),
        ({"lora_r": 8, "lora_alpha": 64, "lr": 2e-5}, "alpha_without_rate"),  # of the rate that is advised instead
        ({"lora_r": 8, "lora_alpha": 4, "lr": 2e-4}, "alpha_without_rate"),
        ({"lora_r": 8, "micro_batch_size": 4, "gradient_accumulation_steps": 64}, "large_batch_lora"),
        ({"precision": "fp16"}, "pure_fp16"),
        ({"method": "full", "torch_dtype": "torch.float16"}, "pure_fp16"),
        ({"fp16": True}, "fp16_where_bf16_works"),
        ({"max_seq_length": 128}, "truncates"),
        ({"max_length": 1024}, "longer_than_model"),
        ({"correct_bias": False}, "no_bias_correction"),
        ({"lora_r": 8, "train_head": False}, "untrained_head"),
        ({"lora_r": 8, "modules_to_save": []}, "untrained_head"),
        ({"method": "qlora"}, "brought_method"),
    ],
    ids=str,
)
def test_each_is_caught(plan: dict[str, Any], code: str) -> None:
    assert code in about_the_plan(plan)


def test_one_step_is_not_said_in_the_plural() -> None:
    assert about_the_plan({"max_steps": 1})["few_steps"].text.startswith("Only one optimizer step; aim for 100")


def test_a_thousand_is_written_out() -> None:
    for epochs in (1000, 999.7):
        assert "1 000 epochs" in about_the_plan({"epochs": epochs})["many_epochs"].text


def test_rows_that_too_few_steps_never_reach_are_counted() -> None:
    said = about_the_plan({"max_steps": 60, "batch_size": 8})["rows_unseen"].facts
    assert (said["seen"], said["needed"]) == (480, -(-said["rows"] // 8))


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"method": "full", "learning_rate": 2e-5, "batch_size": 16, "epochs": 4, "warmup_ratio": 0.06, "max_length": 512},
        {"warmup_steps": 20, "batch_size": 8, "epochs": 3},
        {"epochs": 40, "early_stopping_patience": 3},
        {"lora_r": 8, "lora_alpha": 64, "lr": 1e-4, "modules_to_save": ["classifier"]},
        {"lora_r": 8, "lora_alpha": 4, "lr": 2e-3},
        {"lora_r": 8, "lora_alpha": 6, "lr": 5e-4, "use_rslora": True},
        {"method": "lora", "rank": 64, "alpha": 16, "learning_rate": 5e-4, "rslora": True},
        {"seeds": [1, 2, 3], "seed": None},
        {"padding": "longest", "max_length": 512},
        {"epochs": "many", "lr": None, "batch_size": [8], "warmup_steps": {"a": 1}, "lora_alpha": True},
    ],
    ids=str,
)
def test_what_is_sound_or_not_understood_is_left_alone(plan: dict[str, Any]) -> None:
    assert not set(about_the_plan(plan)) - {"brought_method"}


def test_rslora_weighs_adapters_by_the_root_of_their_rank() -> None:
    said = about_the_plan({"lora_r": 16, "lora_alpha": 32, "lr": 5e-4, "use_rslora": True})
    assert said["rslora"].facts == {"alpha": 32, "learning_rate": 5e-4, "times": 4, "acts": 2e-3, "usual": 8}
    assert not about_the_plan({"lora_r": 16, "lora_alpha": 8, "lr": 5e-4, "use_rslora": True}).keys() - {"brought_method"}
    low = about_the_plan({"lora_r": 16, "lora_alpha": 1, "lr": 5e-4, "use_rslora": True})["alpha_without_rate"]
    assert low.facts["usual"] == 8, "what is named instead is not warned of in its turn"


def test_padding_to_a_length_that_hardly_any_text_reaches() -> None:
    assert "padded_to_maximum" in about_the_plan({"padding": "max_length", "max_length": 512}, data=SHORT)
    assert "padded_to_maximum" in about_the_plan({"pad_to_max_length": True, "max_length": 512}, data=SHORT)
    assert "padded_to_maximum" not in about_the_plan({"padding": "max_length", "max_length": 64}, data=SHORT)


def test_one_seed_on_few_rows() -> None:
    few = IMDB | {"rows": 900, "unique_rows": 900, "label_counts": [450, 450]}
    assert about_the_plan({"seed": 42}, data=few)["one_seed"].facts["seeds"] == 5
    assert "one_seed" not in about_the_plan({"seed": 42}, data=IMDB)


def test_a_large_models_plan() -> None:
    said = about_the_plan(
        {"lora_r": 64, "lora_alpha": 128, "lr": 2e-4, "lora_target_modules": ["q_proj", "v_proj"]}, LLAMA_8B, INSTRUCTIONS
    )
    assert set(said) == {"alpha_without_rate", "attention_only"}
    assert said["alpha_without_rate"].facts["times"] == 4
    assert not about_the_plan(
        {"lora_r": 16, "lora_alpha": 32, "lr": 2e-4, "target_modules": "all-linear"}, LLAMA_8B, INSTRUCTIONS
    )
    assert "high_full_rate" in about_the_plan({"method": "full", "lr": 2e-4}, LLAMA_8B, INSTRUCTIONS)
    told = [about_the_plan({"method": "lora", "lr": rate}, LLAMA_8B, INSTRUCTIONS) for rate in (1.5e-3, 2.5e-3)]
    assert ["high_lora_rate" in codes for codes in told] == [False, True], "the larger a model, the lower"


def test_preferences_want_other_rates() -> None:
    pairs = INSTRUCTIONS | {"task": "preference"}
    assert not about_the_plan({"method": "lora", "lr": 5e-6}, LLAMA_8B, pairs)
    assert "high_preference_rate" in about_the_plan({"method": "lora", "lr": 2e-4}, LLAMA_8B, pairs)


def test_families_that_overflow_in_fp16() -> None:
    assert "fp16_overflows" in about_the_plan({"fp16": True}, GEMMA, INSTRUCTIONS)


@pytest.mark.parametrize(
    ("written", "method", "batch"),
    [
        ({"adapter": "lora", "load_in_4bit": True, "micro_batch_size": 2, "gradient_accumulation_steps": 4}, "qlora", 8),
        ({"adapter": "qlora", "batch_size": 16}, "qlora", 16),
        ({"lora": {"r": 8}, "train_batch_size": 32}, "lora", 32),
        ({"per_device_train_batch_size": 4, "num_gpus": 2}, None, 8),
        ({"effective_batch": 64, "gradient_accumulation_steps": 8}, None, 64),
    ],
)
def test_methods_and_batches_are_understood(written: dict[str, Any], method: str | None, batch: int) -> None:
    read = canonical(written)
    assert (read.get("method"), read["effective_batch"]) == (method, batch)


@pytest.mark.parametrize(
    ("plan", "rows"),
    [
        ({"global_batch_size": 64, "micro_batch_size": 2, "gradient_accumulation_steps": 4}, 64),
        ({"total_batch_size": 64, "gradient_accumulation_steps": 4}, 64),
        ({"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 8}, 16),
        ({"batch_size": 2, "grad_accum": 8}, 16),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "world_size": 2}, 32),
    ],
    ids=str,
)
def test_a_name_for_all_rows_of_a_step_is_not_multiplied(plan: dict[str, Any], rows: int) -> None:
    assert canonical(plan)["effective_batch"] == rows


@pytest.mark.parametrize(("said", "meant"), [("fp16", "fp16-mixed"), ("bf16", "bf16-mixed"), ("no", "fp32")])
def test_what_accelerate_calls_mixed_is_mixed(said: str, meant: str) -> None:
    assert canonical({"mixed_precision": said})["precision"] == meant
    assert "pure_fp16" not in {c.code for c in lint({"mixed_precision": said, "method": "full"}, DataFacts())}
    assert "pure_fp16" in {c.code for c in lint({"precision": "fp16"}, DataFacts())}


def test_warm_up_steps_below_one_are_a_share_of_the_run() -> None:
    assert canonical({"warmup_steps": 0.3})["warmup_ratio"] == 0.3
    assert "long_warmup" in {c.code for c in lint({"warmup_steps": 0.3}, DataFacts())}


def test_settings_that_nothing_here_looks_at_are_named() -> None:
    brought = {"method": "full", "rank": 8, "alpha": 16, "class_weights": True, "preference_beta": 0.2}
    brought |= {"label_smoothing_factor": 0.1}
    told = [c.text for c in lint(brought, DataFacts(task="chat")) if c.code == "without_effect"]
    assert [text.split(" changes nothing")[0] for text in told[:3]] == ["class_weights", "label_smoothing", "preference_beta"]
    assert told[3] == "rank, alpha: without effect, because full fine-tuning has no adapters."
    heard = {"classification": ("class_weights", "label_smoothing"), "preference": ("label_smoothing", "preference_beta")}
    for task, names in heard.items():
        plan = {"method": "lora", "rank": 8, **{name: brought.get(name, 0.1) for name in names}}
        assert "without_effect" not in {c.code for c in lint(plan, DataFacts.model_validate({"task": task}))}


def test_of_raw_text_the_steps_go_through_blocks_and_not_through_documents() -> None:
    books = {"task": "continued_pretraining", "rows": 40, "unique_rows": 40, "tokens_total": 8_000_000, "tokens_p50": 100_000}
    plan = {"method": "lora", "effective_batch": 16, "epochs": 1, "max_length": 2048, "warmup_steps": 5}
    assert not {"few_steps", "warmup_longer_than_run", "long_warmup"} & about_the_plan(plan, LLAMA_8B, books).keys()
    assert "few_steps" in about_the_plan(plan | {"effective_batch": 256}, LLAMA_8B, books)
