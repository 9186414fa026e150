"""`loracle estimate`: what is refused at once, and in one sentence."""

import json
import threading
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

from engine import installed
from engine.inspection.cache import remember
from engine.inspection.machine import only_device
from engine.prediction import ask, calibration
from engine.prediction.allocator import Unpooled
from engine.prediction.ask import estimate, traced
from engine.prediction.calibration import learn, measure, remembered
from engine.prediction.cards import Known, known_of, reached_of, wide_reached_of
from engine.prediction.configured import Cannot, checked
from engine.prediction.resolve import Resolved, resolved
from engine.prediction.stream import Event, Segment, held_of, peaks
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import Device, Facts, Machine, ModelFacts
from recommender.sharing import on_each
from recommender.step import PEFTS_OWN, WORDS, TrainingStep
from recommender.timing import LEARNED
from tests.conftest import Command

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 1000,
    "intermediate_size": 128,
}  # fmt: skip
OURS = {"predictor": installed.own_code()}
"""What a report of a run says whose predictions came from this code."""
STEP = {"method": "lora", "micro_batch_rows": 2, "length": 32, "rank": 8, "head": "causal_lm"}


@pytest.mark.parametrize(
    ("model", "step", "code", "words"),
    [
        ({"num_hidden_layers": 10**9}, {}, "absurd_number", "num_hidden_layers is 1000000000"),
        ({"vocab_size": "many"}, {}, "absurd_number", "vocab_size is 'many'"),
        ({"model_type": "frobnicator"}, {}, "unknown_architecture", "no model of type 'frobnicator'"),
        ({"model_type": ""}, {}, "unknown_architecture", "no model without a model_type"),
        ({"model_type": ["llama"], "max_position_embeddings": 64}, {}, "unknown_architecture", "no model of type ['llama']"),
        ({"rope_theta": float("inf")}, {}, "absurd_number", "rope_theta is inf; a number above 0"),
        ({"auto_map": {"AutoModel": "x.Y"}}, {}, "custom_code", "code of its own"),
        ({"model_type": "mamba"}, {}, "unknown_kernels", "by a recurrence"),
        ({"model_type": "vit", "vocab_size": None}, {}, "no_head", "type vit have no head for text"),
        ({"model_type": "longformer"}, {"head": "masked_lm"}, "unknown_kernels", "some tokens of a text attend to all others"),
        ({"model_type": "whisper"}, {}, "no_head", "type whisper read sound"),
        ({"model_type": "albert"}, {"head": "masked_lm", "gradient_checkpointing": "layer"}, "contradiction", "albert have none"),
        ({"model_type": "t5"}, {"head": "masked_lm"}, "no_head", "type t5 have no masked_lm head"),
        ({"model_type": "gpt2", "n_positions": 16}, {}, "contradiction", "positions for 16 tokens"),
        ({"model_type": "openai-gpt", "n_positions": 16}, {}, "contradiction", "positions for 16 tokens"),
        ({}, {"target_modules": ["query", "value"]}, "contradiction", "named query or value; their maps are gate_proj"),
        ({}, {"target_modules": "(["}, "contradiction", "target_modules: '([' is no pattern (unterminated"),
        ({"rope_scaling": {"type": "spiral"}}, {}, "unusable", "the kind 'spiral', which transformers does not know"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, {}, "unusable", "needs low_freq_factor, which is missing"),
        ({"rope_parameters": {"full": {"rope_type": "linear", "factor": "8"}}}, {}, "unusable", "needs factor, which is '8'"),
        ({"model_type": "deberta"}, {"head": "masked_lm"}, "contradiction", "code mixes bfloat16 with another type"),
        ({"hidden_act": "swiglue"}, {}, "unusable", "hidden_act is 'swiglue', which is no activation"),
        ({"hidden_act": 10**30}, {}, "unusable", "hidden_act is 1000000"),
        ({"attention_dropout": 7}, {}, "absurd_number", "attention_dropout is 7; between 0 and 1"),
        ({"tie_word_embeddings": "no"}, {}, "unusable", "tie_word_embeddings is 'no'; true or false"),
        ({"rms_norm_eps": "small"}, {}, "absurd_number", "rms_norm_eps is 'small'"),
        ({"pad_token_id": 1000}, {}, "contradiction", "pad_token_id is 1000, and the vocabulary has 1000 words"),
        ({"rope_scaling": "linear"}, {}, "unusable", "rope_scaling is 'linear', and has to be an object"),
        ({"hidden_size": None}, {}, "absurd_number", "hidden_size is None"),
        ({"intermediate_size": -5}, {}, "absurd_number", "intermediate_size is -5"),
        ({"intermediate_size": [128, "wide"]}, {}, "absurd_number", "intermediate_size is 'wide'"),
        ({"num_attention_heads": 7}, {}, "contradiction", "no multiple of num_attention_heads, 7"),
        ({"num_key_value_heads": 3}, {}, "contradiction", "num_key_value_heads is 3"),
        ({"layer_types": ["full_attention"] * 99}, {}, "contradiction", "layer_types names 99 layers, and num_hidden_layers"),
        ({"layer_types": ["half_attention"] * 6}, {}, "unusable", "layer_types names 'half_attention', which transformers"),
        ({"layer_types": [["full_attention"]] * 6}, {}, "unusable", "layer_types names ['full_attention'], which"),
        ({"num_local_experts": 2, "num_experts_per_tok": 8}, {}, "contradiction", "num_experts_per_tok is 8, and num_local"),
        ({"num_labels": 10**12}, {"head": "classification"}, "absurd_number", "num_labels is 1000000000000"),
        ({"model_type": "albert", "num_hidden_groups": 10**9}, {"head": "masked_lm"}, "absurd_number", "num_hidden_groups is 10"),
        ({"sliding_window": -1}, {}, "absurd_number", "sliding_window is -1; between 0 and"),
        ({"id2label": ["a", "b"]}, {}, "unusable", "id2label is ['a', 'b'], and has to be an object"),
        ({"text_config": "llama"}, {}, "unusable", "text_config is 'llama', and has to be an object"),
        ({"num_hidden_layers": 2000, "hidden_size": 262144}, {}, "absurd_number", "5e+14 parameters"),
        ({}, {"method": "full"}, "contradiction", "rank is 8"),
        ({}, {"quantization": "8bit", "double_quantization": True}, "contradiction", "weights, and quantization int8 has none"),
        ({}, {"quantization": "nf4"}, "contradiction", "LoRA on a 4-bit base is method qlora"),
        ({}, {"double_quantization": True}, "contradiction", "divides the scales of 4-bit weights, and method lora has none"),
        ({}, {"method": "full", "rank": None, "dora": True}, "contradiction", "no adapters, and dora is True"),
        ({}, {"method": "full", "rank": None, "lora_dropout": 0.1}, "contradiction", "no adapters, and lora_dropout is 0.1"),
        ({}, {"optimizer_state_dtype": "uint8"}, "contradiction", "adamw keeps moments in 16 or 32 bit"),
        ({}, {"optimizer": "paged_adamw_8bit", "optimizer_implementation": "fused"}, "contradiction", "kernels of its own"),
        ({}, {"optimizer": "lion", "optimizer_implementation": "fused"}, "contradiction", "lion has kernels of its own"),
        ({}, {"optimizer": "sgd", "optimizer_implementation": "bitsandbytes"}, "contradiction", "not one of bitsandbytes'"),
        ({}, {"optimizer": "adamw_bf16", "optimizer_state_dtype": "float32"}, "contradiction", "keeps moments in bfloat16"),
        ({}, {"optimizer": "paged_lion", "optimizer_state_dtype": "bfloat16"}, "contradiction", "of paged_lion in float32"),
        ({}, {"method": "full", "rank": None, "trained": [" "]}, "contradiction", "trained is empty"),
        ({}, {"trained": ["lm_head", "."]}, "contradiction", "and every part has a name of letters"),
        ({}, {"trained": ["[zz"]}, "contradiction", "trained is ['[zz'], and every part has a name"),
        ({}, {"head": "tagging", "loss": "fused"}, "contradiction", "a vocabulary's logits, and head is tagging"),
        ({}, {"head": "masked_lm", "loss": "chunked_nll"}, "contradiction", "TRL's of the next token, and head is masked_lm"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, {"head": None, "trl": "1.16"}, "contradiction",
         "TRL's of the next token (trl is 1.16), and head is masked_lm"),
        ({}, {"loss": "chunked_nll", "kernels": "liger", "trl": "1.14"}, "contradiction", "refuses it with Liger's kernels"),
        ({}, {"expandable_segments": True}, "contradiction", "CUDA's allocator, and the machine is a CPU"),
        ({}, {"activation_offloading": True}, "contradiction", "to the host's memory, and the machine is a CPU"),
        ({}, {"momentum": 0.9}, "contradiction", "momentum is SGD's, and optimizer is adamw"),
        ({}, {"target_length": 8}, "contradiction", "length holds both"),
        ({}, {"micro_batch_rows": 10**6, "length": 10**6}, "absurd_number", "more than any device holds"),
        ({}, {"evaluation_rows": 10**6, "length": 10**6}, "absurd_number", "1,000,000 rows of 1,000,000 tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_said_at_once(model: dict[str, Any], step: dict[str, Any], code: str, words: str) -> None:
    """Without a child: no library is imported for it."""
    facts = Facts.model_validate({"model": {"config": CONFIG | model}, "step": STEP | step})
    with pytest.raises(Cannot) as caught:
        estimate(facts)
    assert caught.value.code == code
    assert words in caught.value.text
    assert "\n" not in caught.value.text


def test_a_step_that_takes_too_long_to_count_is_no_bad_input() -> None:
    with pytest.raises(Cannot, match=r"^cannot predict: counting this step took longer than 0 seconds; a real") as caught:
        traced("estimate", {}, about="the step", seconds=0.05)
    assert (caught.value.code, caught.value.exit_code) == ("too_slow", 3)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("NVIDIA A100-SXM4-80GB", 1.07), ("NVIDIA A100 80GB PCIe", 1.03), ("NVIDIA H100 NVL", 1.0), ("RTX A1000", 1.0),
        ("NVIDIA GeForce RTX 4090", 1.25), ("RTX 2080 Ti", 1.14), ("RTX 3080 Ti Laptop GPU", 1.0), ("RTX 4000 Ada", 1.0),
        ("NVIDIA L4", 0.575), ("NVIDIA L40S", 0.93), ("NVIDIA B200", 0.79), ("NVIDIA L40", 1.0), (None, 1.0),
    ],
)
def test_what_large_products_reach_beside_the_usual_share_of_the_data_sheet(name: str | None, beside: float) -> None:
    card = {"backend": "cuda", "devices": [{"name": name, "memory_total": 10**10}]}
    assert reached_of(Machine.model_validate(card)) == pytest.approx(beside, abs=0.005)


@pytest.mark.parametrize(("name", "beside"), [("RTX 3090", 0.825), ("NVIDIA L4", 0.825), ("A100-SXM4-80GB", 1), ("V100", 1)])
def test_lanes_that_do_integers_too_reach_less_in_fp32(name: str, beside: float) -> None:
    card = {"backend": "cuda", "devices": [{"name": name, "memory_total": 10**10}]}
    assert wide_reached_of(Machine.model_validate(card)) == pytest.approx(beside)


@pytest.mark.parametrize("backend", ["mps", "rocm", "xpu"])
def test_a_device_whose_kernels_nobody_has_looked_at_is_not_taken_for_nvidias(backend: str) -> None:
    machine = {"backend": backend, "devices": [{"name": "a GPU", "memory_total": 16 * 10**9}]}
    with pytest.raises(Cannot, match=f"allocator of the backend {backend} are not in the table") as caught:
        estimate(Facts.model_validate({"machine": machine, "model": {"config": CONFIG}, "step": STEP}))
    assert (caught.value.code, caught.value.exit_code) == ("unknown_device", 3)


def test_what_is_absent_is_named_with_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.prediction.ask.traced", lambda *_, **__: {"assumed": ["padded"]})
    found = estimate(Facts.model_validate({"model": {"config": CONFIG}, "step": {"method": "full", "length": 32, "loss": None}}))
    assert found["assumed"] == ["machine", "micro_batch_rows", "optimizer", "loss", "padded"]

    def taken(**config: Any) -> Resolved:
        return resolved(Facts.model_validate({"model": {"config": CONFIG | config}, "step": {"method": "lora", "devices": 2}}))

    whole = taken(model_type="bert")
    assert whole.step.head == "classification"
    assert {"head", "attention", "gradient_checkpointing", "sharding"} <= set(whole.assumed)
    assert whole.others["gradient_checkpointing"].checkpointed
    assert "head" not in taken(architectures=["BertForTokenClassification"]).assumed


def test_weights_and_targets_that_nobody_told_are_traced_both_ways() -> None:
    def others(dtype: str | None = None, **step: Any) -> dict[str, Any]:
        facts = {"model": {"config": CONFIG, "dtype": dtype}, "step": step}
        found = resolved(Facts.model_validate(facts)).others
        return {name: getattr(found[name], name) for name in ("base_dtype", "target_modules") if name in found}

    assert others(method="full") == {"base_dtype": "bfloat16"}
    assert others("float32", method="full") == others(method="full", autocast="bfloat16") == {}
    assert others(method="lora") == {"base_dtype": "float32", "target_modules": PEFTS_OWN}
    assert others("bfloat16", method="lora", target_modules="all-linear") == {}


GROUPS, T5, GPT2 = {"num_key_value_heads": 2}, {"model_type": "t5"}, {"model_type": "gpt2"}


@pytest.mark.parametrize(
    ("step", "config", "taken", "instead"),
    [
        ({}, GROUPS, {"keys_repeated": False}, {"keys_repeated": True}),
        ({}, {"text_config": GROUPS | {"num_attention_heads": 4}}, {"keys_repeated": False}, {"keys_repeated": True}),
        ({}, {"num_key_value_heads": 4}, {"keys_repeated": None}, {}),
        ({"padded": True}, GROUPS, {"keys_repeated": None}, {}),
        ({"attention": "flash"}, GROUPS, {"keys_repeated": None, "attention": "flash"}, {}),
        ({"attention": "flash", "padded": True}, {}, {"attention": "flash"}, {"attention": None}),
        ({"method": "qlora", "attention": "flash", "kbit_prepared": True, "base_dtype": "bfloat16"}, {}, {"attention": "flash"},
         {"attention": None}),
        ({"transformers": "4.53"}, GROUPS, {"keys_repeated": True}, {}),
        ({"transformers": "4.54.1"}, GROUPS, {"keys_repeated": False}, {}),
        ({}, GPT2, {"older_attention": False}, {"older_attention": True}),
        ({"loss": "chunked"}, GPT2, {"older_attention": False, "optimizer_implementation": "fused"},
         {"optimizer_implementation": "foreach"}),
        ({"transformers": "4.47"}, GPT2, {"older_attention": True}, {}),
        ({"transformers": "4.48"}, GPT2, {"older_attention": False}, {}),
        ({}, {}, {"optimizer_implementation": "single", "keys_repeated": None, "older_attention": None},
         {"optimizer_implementation": "fused"}),
        ({"optimizer": "adamw_8bit"}, {}, {"embeddings_in_fp32": False, "optimizer_state_dtype": None},
         {"embeddings_in_fp32": True}),
        ({"loss": "chunked_nll"}, {}, {"trl": "1.14", "outputs_held": None, "kernels": None}, {"trl": "1.12"}),
        ({"loss": "fused"}, {}, {"kernels": "usual", "outputs_held": True}, {"kernels": "liger", "outputs_held": False}),
        ({"loss": "fused", "kernels": "liger"}, {}, {"outputs_held": None}, {}),
        ({"loss": "plain"}, {}, {"outputs_rebound": False}, {"outputs_rebound": True}),
        ({"outputs_held": False}, {}, {"outputs_rebound": None, "use_cache": None}, {}),
        ({"outputs_rebound": False}, {}, {"use_cache": False}, {"use_cache": True}),
        ({"outputs_rebound": False, "gradient_checkpointing": "layer"}, {}, {"use_cache": None}, {}),
        ({"outputs_held": False, "gradient_checkpointing": "layer", "evaluation_rows": 8}, {}, {"use_cache": False},
         {"use_cache": True}),
        ({"outputs_rebound": False, "head": "classification", "evaluation_rows": 8}, {}, {"use_cache": None}, {}),
        ({}, T5, {"target_length": 16}, {}),  # a quarter of the tokens is written
        ({"target_length": 5}, T5, {"target_length": 5}, {}),
        ({"method": "qlora"}, {}, {"kbit_prepared": True, "double_quantization": True, "rank": 16, "fused_experts": None},
         {"kbit_prepared": False, "double_quantization": False}),
        ({"method": "qlora", "loss": "chunked"}, {}, {"kbit_prepared": False, "compute_dtype": "bfloat16"},
         {"kbit_prepared": True}),
        ({"method": "qlora"}, {}, {"compute_dtype": "bfloat16", "bitsandbytes": "0.50"}, {"compute_dtype": "float32"}),
        ({"method": "qlora", "base_dtype": "fp32"}, {}, {"compute_dtype": "float32"}, {}),
        ({"method": "qlora", "compute_dtype": "fp16"}, {}, {"compute_dtype": "float16"}, {}),
        ({"method": "qlora", "transformers": "4.54"}, {}, {"bitsandbytes": "0.46"}, {}),
        ({"method": "qlora", "transformers": "4.42"}, {}, {"bitsandbytes": "0.43"}, {}),
        ({"method": "qlora", "transformers": "4.55"}, {}, {"bitsandbytes": "0.50"}, {}),
        ({"method": "qlora", "transformers": "5.0"}, {}, {"fused_experts": True}, {}),
        ({"method": "qlora", "transformers": "5.0", "lora_dropout": 0.1}, {}, {"fused_experts": None}, {}),
        ({"method": "qlora", "transformers": "5.0", "fused_experts": False}, {}, {"fused_experts": False}, {}),
        ({"optimizer_implementation": "fused", "trained": ["lm_head"]}, {}, {"optimizer_implementation": "fused"}, {}),
        ({"method": "qlora", "transformers": "4.57"}, {}, {"fused_experts": False}, {}),
        ({"method": "qlora", "transformers": "4.57"}, {"model_type": "dbrx"}, {"fused_experts": None}, {}),
    ],
)  # fmt: skip
def test_what_a_step_leaves_open_is_taken_as_usual_and_traced_the_other_way_too(
    step: dict[str, Any], config: dict[str, Any], taken: dict[str, Any], instead: dict[str, Any]
) -> None:
    model, rows = {"config": CONFIG | config}, {"tokens_total": 1000, "trained_tokens": 250}
    found = resolved(Facts.model_validate({"model": model, "data": rows, "step": {"method": "full", "length": 64} | step}))
    others = {name: getattr(found.others[name], name) for name in taken if name in found.others}
    assert ({name: getattr(found.step, name) for name in taken}, others) == (taken, instead)
    ours = {"outputs_rebound", "embeddings_in_fp32", "use_cache", "keys_repeated", "older_attention", "bitsandbytes"}
    assert not {*ours, *(name for name, value in taken.items() if value is None)} & {*found.assumed}


def test_the_words_of_other_programs_arguments_are_understood() -> None:
    said = {"attention": "sdpa", "base_dtype": "bf16", "autocast": "no", "optimizer": "adamw_torch_fused", "method": "lora"}
    ours = {"base_dtype": "bfloat16", "optimizer": "adamw", "optimizer_implementation": "fused", "method": "lora"}
    assert TrainingStep.model_validate(said) == TrainingStep.model_validate(ours)
    for name, words in WORDS.items():
        for word, meant in words.items():
            assert getattr(TrainingStep.model_validate({"method": "full", name: word}), name) == meant
    written = {"method": "QLoRA", "base_dtype": "torch.bfloat16", "sharding": "ZeRO-3", "optimizer": "AdamW"}
    meant = {"method": "qlora", "base_dtype": "bfloat16", "sharding": "zero3", "optimizer": "adamw"}
    assert TrainingStep.model_validate(written) == TrainingStep.model_validate(meant)
    whole = {"method": "lora", "target_modules": "all-linear"}
    for targets in ("ALL-LINEAR", "all_linear", ["all-linear"]):
        assert TrainingStep.model_validate(whole | {"target_modules": targets}) == TrainingStep.model_validate(whole)
    for word, kernels, expected in (("liger", None, "liger"), ("liger", "usual", "usual"), ("fused", None, None)):
        step = TrainingStep.model_validate({"method": "full", "loss": word, "kernels": kernels})
        assert (step.loss, step.kernels) == ("fused", expected), "the loss's name says whose kernels run, where nothing else does"
    with pytest.raises(ValidationError, match="attention"):
        TrainingStep.model_validate({"method": "full", "attention": "quick"})


@pytest.mark.parametrize(
    ("version", "said", "does"),
    [
        ("0.18.2", {}, {"loss": "plain", "outputs_held": False, "autocast": None, "gradient_checkpointing": None}),
        ("0.19.1", {}, {"autocast": "bfloat16", "gradient_checkpointing": None}),
        ("0.22.0", {}, {"gradient_checkpointing": "layer", "loss": "plain"}),
        ("0.26.1", {"method": "qlora"}, {"kbit_prepared": False, "adapter_dtype": "bfloat16"}),
        ("0.25.1", {"method": "qlora"}, {"kbit_prepared": None, "adapter_dtype": None}),
        ("1.6.0", {"method": "lora"}, {"loss": "plain", "adapter_dtype": None}),
        ("1.7.0", {}, {"loss": "chunked_nll"}),
        ("1.14.2", {"loss": "nll"}, {"loss": "plain"}),
        ("1.14.2", {"kernels": "liger"}, {"loss": "fused"}),
        ("1.15.0", {"loss": "nll"}, {"loss": "chunked_nll"}),
        ("1.16.0", {"kernels": "liger"}, {"loss": "chunked_nll"}),
        ("1.16.0", {"label_smoothing": 0.1}, {"loss": "plain"}),
        ("1.16.0", {"autocast": None, "gradient_checkpointing": "none", "outputs_held": True},
         {"autocast": None, "gradient_checkpointing": "none", "outputs_held": True}),
        ("1.16.0", {"method": "qlora", "gradient_checkpointing": None, "kbit_prepared": None},
         {"gradient_checkpointing": "layer", "kbit_prepared": False}),
        ("1.16.0", {"head": "classification"}, {"loss": "plain", "autocast": None}),
        (None, {}, {"loss": "plain", "autocast": None, "outputs_held": None}),
    ],
)  # fmt: skip
def test_what_a_step_of_trl_s_leaves_out_is_what_its_version_does(
    version: str | None, said: dict[str, Any], does: dict[str, Any]
) -> None:
    step = TrainingStep.model_validate({"method": "full", "trl": version} | said)
    assert {name: getattr(step, name) for name in does} == does
    assert TrainingStep.model_validate(step.model_dump(mode="json")) == step, "as the child that traces reads it"


def test_trl_reads_a_model_in_fp32_that_is_only_named() -> None:
    def others(**step: Any) -> bool:
        facts = {"model": {"config": CONFIG, "dtype": "bfloat16"}, "step": step}
        return "base_dtype" in resolved(Facts.model_validate(facts)).others

    assert others(method="lora", trl="1.16")
    assert others(method="full", trl="1.16"), "though it has autocast, which scripts have for weights in fp32"
    assert others(method="qlora", trl="0.27"), "of which all that is not in 4 bit is then in fp32"
    assert not others(method="qlora", trl="0.26")
    assert not others(method="lora")
    assert not others(method="lora", trl="1.16", base_dtype="bfloat16")


def test_a_card_is_known_however_it_is_written() -> None:
    for name in ("NVIDIA GeForce RTX 4090", "rtx4090", "4090"):
        known, named = known_of(Machine.model_validate({"devices": [{"name": name}]}))
        assert (named, known.capability) == (True, (8, 9))
    known, named = known_of(Machine.model_validate({"devices": [{"name": "NVIDIA GeForce RTX 4070 Laptop GPU"}]}))
    assert (named, known) == (True, Known((8, 9), 36, 0.256e12))
    for told in ([7, 5], 7.5, "7.5"):
        device = {"name": "a card of next year", "compute_capability": told}
        assert known_of(Machine.model_validate({"devices": [device]}))[0].capability == (7, 5)


def test_an_encoder_reads_as_many_tokens_as_it_has_positions() -> None:
    def step(length: int) -> Resolved:
        model = {"family": "encoder", "max_positions": 512, "config": CONFIG | {"model_type": "bert"}}
        return resolved(Facts.model_validate({"model": model, "step": {"method": "full", "length": length}}))

    assert step(512).step.length == 512
    with pytest.raises(InputError, match="length is 513, and the model reads 512 tokens at most"):
        step(513)


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ({"memory_total": 24}, "memory_total is 24, and sizes are bytes"),
        ({"memory_total": 0}, "memory_total is 0, and sizes are bytes"),
        ({"memory_total": 24 << 30, "memory_free": 25 << 30}, "memory_free is 26,843,545,600, and memory_total only 25,7"),
    ],
)
def test_memory_that_no_card_has_is_refused(memory: dict[str, int], words: str) -> None:
    facts = {"machine": {"devices": [{"name": "RTX 4090", **memory}]}, "model": {"config": CONFIG}, "step": STEP}
    with pytest.raises(Cannot, match=words):
        estimate(Facts.model_validate(facts))


def test_a_full_card_is_not_taken_for_an_empty_one() -> None:
    full, half = {"memory_total": 80 << 30, "memory_free": 0}, {"memory_total": 24 << 30, "memory_free": 12 << 30}
    several = Machine.model_validate({"backend": "cuda", "devices": [full, half]})
    assert several.device == several.devices[1]


def test_padding_behind_the_vocabulary_is_no_error_of_models_that_embed_none() -> None:
    """GPT-2 whose tokenizer was given a padding token, and whose embeddings were not made longer for it."""
    config = {"model_type": "gpt2", "vocab_size": 1000, "n_embd": 64, "n_layer": 2, "n_head": 4, "pad_token_id": 1000}
    assert checked(ModelFacts(config=config)).config is not None
    nameless = Facts.model_validate({"model": {"config": config | {"architectures": 5}}, "step": STEP})
    assert resolved(nameless).step.head == "causal_lm"


def test_what_is_said_and_cannot_be_counted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.prediction.ask.traced", lambda *_, **__: {"assumed": []})
    step = {"method": "full", "length": 32, "packing": True, "adapter_dtype": "float32", "seed": None, "optimizer": "adamw_8bit"}
    facts = Facts.model_validate({"model": {"config": CONFIG}, "step": step | {"optimizer_state_dtype": "float32"}})
    assert estimate(facts)["ignored"] == ["packing", "adapter_dtype"]
    maps = Facts.model_validate({"model": {"config": CONFIG}, "step": STEP | {"compute_dtype": "fp32", "bitsandbytes": "0.46"}})
    assert estimate(maps)["ignored"] == ["compute_dtype", "bitsandbytes"], "of 4-bit maps, and there are none"
    counted = STEP | {"evaluation_rows": 64, "optimizer": "sgd"}
    assert "ignored" not in estimate(Facts.model_validate({"model": {"config": CONFIG}, "step": counted}))
    pairs = {"model": {"config": CONFIG}, "step": STEP, "data": {"task": "preference"}}
    assert estimate(Facts.model_validate(pairs))["ignored"] == ["data.task"], "a step of DPO reads two answers, and mostly twice"
    kept = {"model": {"config": CONFIG | {"quantization_config": {"quant_method": "gptq", "bits": 4}}}, "step": STEP}
    assert estimate(Facts.model_validate(kept))["ignored"] == ["model.config.quantization_config"], "counted whole"
    others = {"evaluation_rows": 64, "set_to_none": False, "loss": "chunked"}
    card = {"machine": {"backend": "cuda", "devices": [{"name": "A100"}]}, "model": {"config": CONFIG}}
    own = Facts.model_validate(card | {"step": STEP | others | {"activation_offloading": True, "use_reentrant": True}})
    own_ways = ["evaluation_rows", "set_to_none", "activation_offloading", "use_reentrant"]
    assert estimate(own)["ignored"] == own_ways, "Loracle's has its own ways"
    for again, passed in (("none", ["use_reentrant"]), ("layer", None), (None, None)):
        how = Facts.model_validate(card | {"step": STEP | {"use_reentrant": False, "gradient_checkpointing": again}})
        assert estimate(how).get("ignored") == passed, "it is a way of checkpointing"
    unused = {"labels": 5, "label_smoothing": 0.1, "loss": "chunked_nll", "frozen_kept": True, "older_attention": True}
    names = ["labels", "label_smoothing", "frozen_kept", "older_attention"]
    assert estimate(Facts.model_validate(card | {"step": STEP | unused}))["ignored"] == names
    assert resolved(Facts.model_validate(card | {"step": STEP | unused})).step.older_attention is False, "a Llama's never was"
    sgd = STEP | {"optimizer": "sgd", "momentum": 0.9, "optimizer_state_dtype": "uint8"}
    assert estimate(Facts.model_validate(card | {"step": sgd}))["ignored"] == ["optimizer_state_dtype"], "they are as the weights"
    assert resolved(facts).step.optimizer_state_dtype is None, "8-bit moments have scales in fp32, and small ones are"
    assert "optimizer_state_dtype" in resolved(facts).assumed


def test_a_number_that_the_configuration_lacks_is_taken_from_the_facts() -> None:
    config = {k: v for k, v in CONFIG.items() if k != "num_hidden_layers"}
    with pytest.raises(Cannot, match="num_hidden_layers is missing"):
        checked(ModelFacts(config=config))
    found = checked(ModelFacts(config=config, layers=9)).config
    assert found is not None
    assert found["num_hidden_layers"] == 9


@pytest.mark.parametrize(
    ("architecture", "wanted"),
    [
        ("GPT2LMHeadModel", {"model_type": "gpt2", "n_inner": 2048, "n_positions": 128}),  # another type borrows the class
        ("OPTForCausalLM", {"model_type": "opt", "ffn_dim": 2048}),
        ("BartForConditionalGeneration", {"decoder_layers": 6, "decoder_ffn_dim": 2048, "encoder_attention_heads": 8}),
        ("XLMForSequenceClassification", {"emb_dim": 512, "n_heads": 8}),
        ("XGLMForCausalLM", {"d_model": 512, "attention_heads": 8}),
        ("DebertaV2ForSequenceClassification", {"relative_attention": True, "position_buckets": 256}),
    ],
)
def test_a_configuration_that_is_not_at_hand_follows_from_the_architecture(architecture: str, wanted: dict[str, Any]) -> None:
    sizes = {"layers": 6, "hidden_size": 512, "attention_heads": 8, "intermediate_size": 2048, "max_positions": 128}
    found = checked(ModelFacts(architecture=architecture, vocabulary_size=1000, **sizes)).config
    assert found is not None
    assert {name: found.get(name) for name in wanted} == wanted


def test_a_model_whose_code_transformers_has_by_now_needs_none_of_its_own() -> None:
    """Phi-3's file still names the code that came with it first."""
    named = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    assert checked(ModelFacts(config=CONFIG | {"model_type": "phi3", "auto_map": named})).config is not None


def test_the_command_refuses_in_json_too(loracle_here: Command, tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"model": {"config": CONFIG | {"model_type": "nothing-like-it"}}, "step": STEP}))
    done = loracle_here("estimate", "--facts", file, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["cannot"]["code"] == "unknown_architecture"
    file.write_text(json.dumps({"step": STEP | {"optimizer": "galore"}}))
    done = loracle_here("estimate", "--facts", file)
    assert done.returncode == 2
    assert "step.optimizer" in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_are_believed_only_when_three_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how far apart others are is told."""
    machine = Machine.model_validate({"backend": "cpu", "cpu_cores": 2})

    def said(*ratios: float, method: str = "full") -> list[tuple[str, dict[str, Any]]]:
        memory = [{"predicted": 100, "peak": 100 * ratio} for ratio in ratios]
        return [(f"{n}", OURS | {"method": method, "memory": told}) for n, told in enumerate(memory)]

    def learnt(*past: tuple[str, dict[str, Any]]) -> tuple[Any, Any]:
        monkeypatch.setenv("LORACLE_STATE", str(tmp_path / str(len(list(tmp_path.iterdir())))))
        _, now, apart = learn(machine, list(past))["runs"]
        return now, apart

    assert learnt(*said(1.10, 1.11)) == ({}, {})
    assert learnt(*said(1.00, 1.10, 1.50, 1.11)) == ({}, {"full": pytest.approx(0.4 / 1.11)})
    assert learnt(*said(0.90, 1.10, 1.11, 1.12), *said(2.0, method="lora")) == ({"full": pytest.approx(1.11)}, {})


def test_what_runs_have_shown_is_kept_once_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    machine = Machine.model_validate({"backend": "cpu", "cpu_cores": 2, "ram_available": 8 * 10**9})
    runs: list[tuple[str, dict[str, Any]]] = [
        (f"2026112{n}-run", OURS | {"method": "full", "memory": {"predicted": 100, "peak": 120 + n}}) for n in range(3)
    ]
    assert learn(machine, runs)["runs"] == ({}, {"full": 1.21}, {})
    assert learn(machine, runs)["runs"] == ({"full": 1.21}, {"full": 1.21}, {})  # the same three runs say nothing new
    other = [(f"2026112{n}-run", OURS | {"method": "lora", "memory": {"predicted": 100, "peak": 110}}) for n in range(3)]
    assert learn(machine, [*runs, *other])["runs"].now == {"full": 1.21, "lora": 1.1}, "older runs of another method count still"
    assert learn(machine, [*runs, *other])["runs"].now == {"full": 1.21, "lora": 1.1}
    card = Machine.model_validate({"backend": "cuda", "devices": [{"name": "a card"}]})
    for by, factors in (("process", {}), ("allocator", {"full": 1.21})):  # with and without a context: no two of a kind
        there = [(name, report | {"memory": report["memory"] | {"by": by}}) for name, report in runs]
        assert learn(card, there)["runs"].now == factors
    slow = [(f"2026112{n}-slow", OURS | {"method": "full", "precision": "fp32", "step": step}) for n, step in enumerate((
        {"predicted": 1.0, "computed": 1.3, "measured": 9.0},  # of a machine that others used as well
        {"predicted": 2.0, "computed": 2.8, "measured": 3.0},
        {"predicted": None, "computed": 1.0, "measured": 1.1},
        {"predicted": 1.0, "computed": 1.35, "measured": 1.4},
    ))]  # fmt: skip
    assert learn(machine, slow[:3])["pace"].now == {}
    assert learn(machine, slow)["pace"] == ({}, {"full fp32": 1.35}, {})

    def further(day: int, method: str, **step: float) -> dict[str, float]:
        told = OURS | {"method": method, "precision": "fp32", "step": {"predicted": 1.0} | step}
        return learn(machine, [(f"202612{day}{n}-run", told) for n in range(3)])["pace"].now

    assert further(1, "lora", computed=0.6, measured=1.3)["lora fp32"] == 1.0, "either a busy machine or a thread that is alone"
    assert further(1, "qlora", computed=0.4, measured=0.8)["qlora fp32"] == 0.8
    assert further(2, "qlora", computed=9.0, measured=9.0)["qlora fp32"] == LEARNED[1]
    assert further(3, "qlora", computed=3.0, measured=3.0)["qlora fp32"] == LEARNED[1], "no more is believed, none is piled up"
    assert learn(card, slow)["pace"].now == {}, "a GPU's steps are told by the clock"
    waits = OURS | {"method": "lora", "precision": "bf16-mixed", "memory": {"by": "allocator"}}
    waited = [(f"2027010{n}-run", waits | {"step": {"predicted": 1.0, "measured": 1.8}}) for n in range(6)]
    for new in (True, False):
        assert learn(card, waited[:3], host_is_new=new)["pace"].now == {}, "timed without the host, which was measured since"
    assert learn(card, waited)["pace"].now == {"lora bf16-mixed": 1.8}
    assert learn(card, waited, host_is_new=True)["pace"] == ({}, {}, {}), "what was learned is of then, too"
    known = remembered(machine)
    assert known is not None
    model = {"parameters": 10**8, "layers": 12, "hidden_size": 768, "attention_heads": 12, "vocabulary_size": 30_000}
    data = {"task": "classification", "rows": 1000, "tokens_max": 100}
    content = {"machine": machine.model_dump(), "model": model, "data": data}
    usual = recommend(Facts.model_validate(content)).candidate("full")
    profile = {"memory_profile": {"runs": known["runs"]}}
    learnt = recommend(Facts.model_validate(content | {"measured": profile})).candidate("full")
    assert learnt.settings == usual.settings
    assert learnt.memory.predicted == pytest.approx(1.21 * usual.memory.predicted, rel=1e-6)
    paced = recommend(Facts.model_validate(content | {"measured": {"pace": known["pace"]}})).candidate("full")
    assert paced.settings.precision == "fp32"
    assert paced.hours.training == pytest.approx(1.35 * (usual.hours.training or 0.0))


def test_runs_that_older_code_predicted_say_nothing_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five runs were told 10% too high, and the next version told 6% less: what they had shown would have counted twice."""
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    machine = Machine.model_validate({"backend": "cpu", "cpu_cores": 2})
    told: dict[str, Any] = {"method": "full", "memory": {"predicted": 100, "peak": 91}}
    runs = [(f"2026112{n}-run", OURS | told) for n in range(3)]
    before: list[dict[str, Any]] = [{}, {"predictor": None}, {"predictor": "of older code"}]
    older = [(f"2026112{n}-run", told | more) for n, more in enumerate(before)]
    assert learn(machine, older)["runs"] == ({}, {}, {})
    assert learn(machine, runs)["runs"].now == {"full": 0.91}
    calibration._keep(machine, {"bandwidth": 1e10})
    monkeypatch.setattr(calibration, "own_code", lambda: "newer")
    assert remembered(machine) == {"bandwidth": 1e10}, "what was learned goes with the code, what was measured stays"
    assert learn(machine, runs)["runs"] == ({}, {}, {})


def test_states_are_divided_and_copies_are_not() -> None:
    events = [Event(1, 4000, "empty|weights"), Event(2, 8000, "zeros|optimizer"), Event(3, 4000, "mm|gradients")]
    segments = [Segment("load", events[:2]), Segment("backward", events[2:])]

    held = held_of(segments)

    def more(devices: int, sharding: str | None) -> int:
        return on_each(held, held, devices, sharding, layers=4)

    assert more(1, None) == 0
    assert more(4, "ddp") == 4000
    assert more(4, "zero1") == -6000 + 4000
    assert more(4, "fsdp") == -6000 - 3000 - 3000 + 2000 + 1000
    beside = on_each({"temporaries": 4000}, held, 4, "zero1", layers=4, updates=True)
    assert beside == -3000 + 4000, "what foreach makes beside its share"
    # A phase that makes nothing, as that of a fused optimizer, holds and divides what was there when it began.
    found = peaks([*segments, Segment("optimizer")], Unpooled())["phases"]
    assert found["optimizer"] == {"allocated": 16_000, "reserved": 16_000, "parts": held}
    assert [phase["reserved"] for phase in found.values()] == [12_000, 16_000, 16_000]


def test_the_card_that_would_train_is_the_one_that_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the threads that a run has; kept for as long as torch is the same."""
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    cards = [{"name": n, "uuid": f"GPU-{n}", "memory_free": free * 10**9} for n, free in (("full", 1), ("free", 20))]
    machine = Machine.model_validate({"backend": "cuda", "devices": cards})
    asked: dict[str, Any] = {}

    def ask(kind: str, request: dict[str, Any], *, extra: dict[str, str], **_: Any) -> dict[str, Any]:
        asked.update(request | extra)
        return {"busy": False, "torch": version, "matmul_flops": {"fp32": 1e12}, "launch": 2e-5, "context": 5 * 10**8}

    monkeypatch.setattr(calibration, "ask", ask)
    version = metadata.version("torch").partition("+")[0] + "+of another build"
    found = measure(machine)
    assert asked["backend"] == "cuda"
    assert asked["CUDA_VISIBLE_DEVICES"] == asked["uuid"] == "GPU-free"
    assert "OMP_NUM_THREADS" in asked
    assert remembered(machine) == found
    assert only_device(Machine(backend="cpu"))["CUDA_VISIBLE_DEVICES"] == "-1"
    version = "1.0"
    measure(machine)
    assert remembered(machine) == {}  # what another torch did says nothing of this one


def test_a_damaged_or_closed_state_folder_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    machine = Machine(backend="cpu", cpu_cores=2)
    calibration._keep(machine, {"matmul_flops": {"fp32": 1e11}, "context": 10**9, "bandwidth": 1e10})
    file = tmp_path / "devices.json"
    file.write_text(file.read_text().replace("100000000000.0", '"fast"').replace("1000000000,", "-1,"))
    assert remembered(machine) == {"bandwidth": 1e10}
    monkeypatch.setenv("LORACLE_STATE", str(file / "below a file"))
    with pytest.raises(InputError, match=r"devices\.json cannot be written \(Not a directory\)\.$"):
        calibration._keep(machine, {"runs": {"full": 1.2}})


def test_what_was_learned_of_runs_that_multiplied_otherwise_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They took twice as long on some processors as a run does since."""
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    known = OURS | {"matmul_flops": {"fp32": 2e11}, "pace": {"lora fp32": 1.6}, "runs": {"lora": 1.3}}
    (tmp_path / "devices.json").write_text(json.dumps({'["cpu", "cpu Zen 4"]': known, '["cuda", "A100"]': known}))
    assert remembered(Machine(backend="cpu", cpu_name="Zen", cpu_cores=4)) is None
    assert remembered(Machine(backend="cuda", devices=(Device(name="A100"),))) == known


def test_readings_that_are_kept_at_once_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    machines = [Machine(backend="cpu", cpu_cores=n) for n in range(1, 9)]
    begin = threading.Barrier(len(machines))

    def keep(machine: Machine) -> None:
        begin.wait()
        calibration._keep(machine, {"bandwidth": 1.1})

    threads = [threading.Thread(target=keep, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [remembered(machine) for machine in machines] == [{"bandwidth": 1.1}] * len(machines)


@pytest.mark.parametrize(("took", "left"), [(5.0, {"qlora"}), (120.0, {"lora", "qlora"})])
def test_a_child_that_is_ended_loses_nothing_that_it_has_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: float, left: set[str]
) -> None:
    """On a machine with a load of eight all steps of a plan were called untraceable. One that crashes it is."""
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    clock = Mock(monotonic=Mock(side_effect=[0.0, took]))
    monkeypatch.setattr(ask, "time", clock)
    asked: dict[str, Any] = {}

    def child(_: str, request: dict[str, Any], **__: object) -> dict[str, Any]:
        asked.update(request["asked"])
        remember(asked["plans"][0]["key"], {"step": {"peak": 1}}, ask.TRACES)
        raise InputError("it did not answer within 120 seconds.")

    monkeypatch.setattr(ask, "ask", child)
    plans = [{"name": name, "method": name, "beside": name == "qlora"} for name in ("full", "lora", "qlora")]
    assert ask.each({}, plans, about="it", seconds=120, within=5, cancel=None) == ({"full": {"peak": 1}}, left)
    assert (asked["within"], asked["beside_within"]) == (60, 5), "what begins later may not come to its end"


def test_what_was_not_traced_for_lack_of_memory_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path))
    answers: list[dict[str, Any]] = [
        {"steps": {"full": {"peak": 1}}, "short_of_memory": True, "left": []},
        {"steps": {"lora": {"peak": 2}}, "short_of_memory": False, "left": ["qlora"]},
        {"steps": {}, "short_of_memory": False, "left": []},
    ]
    asked: list[list[str]] = []

    def child(_: str, request: dict[str, Any], **__: object) -> dict[str, Any]:
        asked.append([plan["name"] for plan in request["asked"]["plans"]])
        for plan in request["asked"]["plans"]:
            if (step := answers[0]["steps"].get(plan["name"])) is not None:
                remember(plan["key"], {"step": step}, ask.TRACES)
        return answers.pop(0)

    monkeypatch.setattr(ask, "ask", child)
    plans = [{"name": name, "method": name} for name in ("full", "lora", "qlora")]
    told = [ask.each({}, plans, about="it", seconds=9, within=9, cancel=None) for _ in range(4)]
    assert asked == [["full", "lora", "qlora"], ["lora", "qlora"], ["qlora"]]  # what is known is not asked for again
    assert told[1] == ({"full": {"peak": 1}, "lora": {"peak": 2}}, {"qlora"})
    assert told[2] == told[3] == ({"full": {"peak": 1}, "lora": {"peak": 2}}, set())
