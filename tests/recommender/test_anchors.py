"""The memory formula against measurements that others published (docs/method-guide.md, E10, E21, E23, E24, E31)."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from recommender.facts import Facts
from recommender.footprint import BESIDE_CHECKPOINT, SCORE_BYTES_CPU, Step, checkpoint_bytes, score_bytes, states, wide_moments
from recommender.memory import LIBRARIES_ON_CPU, PROBE_ON_CPU, SLACK_HELD_APART, SLACK_ON_CPU, compared, place
from recommender.shape import Shape, shape_of
from recommender.traced import as_facts
from tests.recommender.test_recommend import BERT, LLAMA_1B, LLAMA_8B, LLAMA_70B

GB, GIB = 10**9, 1024**3
DISTILBERT = BERT | {"id": "distilbert-base-uncased", "parameters": 66_362_880, "layers": 6}
LLAMA_3B = LLAMA_1B | {
    "parameters": 3_212_749_824, "embedding_parameters": 394_002_432, "layers": 28, "hidden_size": 3072, "attention_heads": 24,
}  # fmt: skip
LLAMA_2_7B = LLAMA_8B | {
    "parameters": 6_738_415_616, "embedding_parameters": 262_144_000, "intermediate_size": 11_008, "kv_heads": 32,
    "vocabulary_size": 32_000,
}  # fmt: skip


def situation(model: dict[str, Any], task: str = "instruction", **machine: Any) -> tuple[Facts, Shape]:
    devices = machine.pop("devices", [{"memory_free": 80 * GB}])
    content = {"machine": {"backend": "cuda", "devices": devices}, "model": model, "data": {"task": task, "rows": 5000}}
    facts = Facts.model_validate(content)
    return facts, shape_of(facts.model, facts.data.task)


def peak(model: dict[str, Any], step: Step, task: str = "instruction") -> int:
    facts, shape = situation(model, task)
    return compared(facts, shape, step)[0]


@pytest.mark.parametrize(
    ("precision", "measured"),
    [("bf16-mixed", 4.46 * GB), ("fp32", 5.37 * GB), ("bf16", 2.87 * GB)],
    ids=["mixed", "fp32", "bf16"],
)
def test_distilbert_on_12_rows_of_512_tokens(precision: Any, measured: float) -> None:
    """E31; measured in 2023, when its attention was not fused."""
    eager = DISTILBERT | {"config": {"_attn_implementation": "eager"}}
    step = Step("full", precision, micro_tokens=12 * 512, length=512)
    assert peak(eager, step, "classification") == pytest.approx(measured, rel=0.3)
    assert peak(eager, step, "classification") > 0.95 * measured


def test_a_3b_model_with_lora_and_in_full() -> None:
    """E10: batches of 4 rows of up to 768 tokens. LoRA in autocast-free bf16 sits on two maps of each layer there."""
    lora = peak(LLAMA_3B, Step("lora", "bf16-mixed", rank=32, micro_tokens=4 * 768, length=768))
    full = peak(LLAMA_3B, Step("full", "bf16", micro_tokens=4 * 768, length=768))
    assert lora == pytest.approx(20.8 * GIB, rel=0.3)
    assert full == pytest.approx(36.2 * GIB, rel=0.25)
    assert 0.4 < lora / full < 0.75  # measured: 0.57


@pytest.mark.parametrize(("method", "measured"), [("lora", 16.2 * GIB), ("qlora", 7.4 * GIB)])
def test_an_8b_model_on_two_rows_of_2048_tokens(method: Any, measured: float) -> None:
    """E23: compiled, with checkpointing, and a loss in smaller chunks than ours."""
    whole = peak(LLAMA_8B, Step(method, "bf16-mixed", rank=8, micro_tokens=4096, length=2048, gradient_checkpointing=True))
    assert whole == pytest.approx(measured, rel=0.55)
    assert whole >= measured


@pytest.mark.parametrize(
    ("rows", "checkpointing", "measured"),
    [(4, False, 46.37 * GB), (1, False, 25.24 * GB), (4, True, 22.14 * GB), (1, True, 19.02 * GB)],
)
def test_an_8b_model_as_this_engine_trains_it_on_an_h100(rows: int, checkpointing: bool, measured: float) -> None:
    """LoRA of rank 16, rows of 1,024 tokens; memory of the device as NVML saw it (benchmarks/results/gpu-memory.json)."""
    step = Step("lora", "bf16-mixed", rank=16, micro_tokens=rows * 1024, length=1024, gradient_checkpointing=checkpointing)
    assert measured <= peak(LLAMA_8B, step) <= 1.15 * measured


def test_4_bit_saves_a_third_at_7b_and_little_below() -> None:
    """E21: QLoRA's peak over LoRA's was 0.57 to 0.69 at 7B and 0.92 to 1.20 for most models of 1 to 3.8B."""

    def ratio(model: dict[str, Any]) -> float:
        qlora, lora = (peak(model, Step(m, "bf16-mixed", rank=8, micro_tokens=512, length=512)) for m in ("qlora", "lora"))
        return qlora / lora

    assert 0.45 < ratio(LLAMA_2_7B) < 0.72
    assert ratio(LLAMA_1B) > 0.65, "embeddings in 16 bit save some there, which k-bit preparation made fp32"
    assert ratio(LLAMA_2_7B) < ratio(LLAMA_1B)


def test_70b_in_4_bit_needs_more_than_one_24_gb_card_and_less_than_one_of_80() -> None:
    """E22, E24: 37 GB for the weights alone; two 24 GB cards only with offloading, which is not counted on."""
    step = Step("qlora", "bf16-mixed", rank=16, micro_tokens=2048, length=2048, gradient_checkpointing=True)
    for devices, fits in ((1, False), (2, False)):
        facts, shape = situation(LLAMA_70B, devices=[{"memory_free": 25 * GB}] * devices)
        assert place(facts, shape, step).fits is fits
    facts, shape = situation(LLAMA_70B, devices=[{"memory_free": 84 * GB}])
    assert place(facts, shape, step).fits


def test_bert_base_batches_on_12_gb() -> None:
    """E31: in fp32 12 GB held 32 rows of 128 tokens and 6 of 512."""
    for rows, length in ((32, 128), (6, 512)):
        assert peak(BERT, Step("full", "fp32", micro_tokens=rows * length, length=length), "classification") < 12 * GB


@pytest.mark.parametrize(
    ("model", "wide"),
    [(LLAMA_1B, 128_256 * 2048), (LLAMA_8B, 128_256 * 4096), (LLAMA_8B | {"tied_embeddings": True}, 1_050_673_152)],
    ids=["tied", "untied", "two tables"],
)
def test_8_bit_adamw_keeps_the_moments_of_embeddings_in_fp32(model: dict[str, Any], wide: int) -> None:
    """As transformers' Trainer asks of bitsandbytes for every nn.Embedding; an output layer of its own is none."""
    facts, shape = situation(model)

    def moments(method: Any = "full", **step: Any) -> int:
        return states(facts, shape, Step(method, "bf16-mixed", rank=8, optimizer="adamw_8bit", **step))["optimizer"]

    assert moments() == 2 * (shape.parameters - wide) + 8 * wide
    eight: Any = SimpleNamespace(trained="all", optimizer="adamw_8bit", precision="bf16-mixed")
    on_disk = checkpoint_bytes(shape, "full", shape.parameters, eight)
    assert on_disk == 4 * shape.parameters + moments() + BESIDE_CHECKPOINT
    assert moments(trained="no_embeddings") == 2 * shape.linear_parameters
    assert moments("lora") == 2 * 8 * shape.adapter_parameters_per_rank
    assert wide_moments(shape, "full", "all", "adamw") == wide_moments(shape, "lora", "all", "adamw_8bit") == 0


def test_states_are_divided_among_devices_and_activations_are_not() -> None:
    one, many = (situation(LLAMA_8B, devices=[{"memory_free": 80 * GB}] * n) for n in (1, 8))
    step = Step("full", "bf16-mixed", micro_tokens=2048, length=2048, gradient_checkpointing=True)
    alone, shared = place(*one, step), place(*many, step)
    assert not alone.fits
    assert shared.fits
    assert (shared.devices, shared.sharded) == (8, True)
    for name in ("weights", "gradients", "optimizer"):
        assert shared.parts[name] == alone.parts[name] // 8
    assert shared.parts["activations"] == alone.parts["activations"]


def test_a_copy_on_each_device_is_preferred_where_one_fits() -> None:
    facts, shape = situation(LLAMA_1B, devices=[{"memory_free": 80 * GB}] * 3 + [{"memory_free": GB}])
    placed = place(facts, shape, Step("lora", "bf16-mixed", rank=16, micro_tokens=2048, length=2048))
    assert (placed.devices, placed.sharded, placed.available) == (3, False, 80 * GB)
    full = Step("full", "bf16-mixed", micro_tokens=2048, length=2048)
    alone = place(*situation(LLAMA_1B, devices=[{"memory_free": 80 * GB}]), full)
    copied = place(facts, shape, full)
    assert (copied.devices, copied.peak - alone.peak) == (3, 4 * shape.parameters), "and the buckets its gradients travel in"


def test_what_bitsandbytes_imports_on_a_cpu_is_held_beside_the_counted_tensors() -> None:
    """MiniLM in full took 1.28 GB with 8-bit moments and 1.22 without, though its tensors take less; QLoRA imports the same."""
    usual = Step("full", "fp32", micro_tokens=1712, length=112)
    steps = [usual, replace(usual, optimizer="adamw_8bit"), replace(usual, method="qlora"), replace(usual, method="lora")]
    profile = {"steps": [as_facts(step, 500_000_000, {"weights": 500_000_000}) for step in steps]}
    facts, shape = situation(BERT, "classification", devices=[])
    machine = facts.machine.model_copy(update={"backend": "cpu"})
    measured = facts.measured.model_copy(update={"memory_profile": profile})
    plain, eight, four, apart = compared(facts.model_copy(update={"machine": machine, "measured": measured}), shape, *steps)
    assert eight - apart == four - apart == 45_000_000
    # Attention of BERT keeps its scores: with adapters the heap comes apart, and five runs in full lay below what was said so.
    assert apart - plain == int(SLACK_HELD_APART[0] * 500_000_000) - int(SLACK_ON_CPU[0] * 500_000_000)


def test_attention_keeps_its_scores_on_a_cpu_where_it_has_dropout() -> None:
    def kept(model: dict[str, Any], **config: float) -> int:
        facts, shape = situation(model | {"config": config}, devices=[])
        cpu = facts.machine.model_copy(update={"backend": "cpu"})
        return score_bytes(facts.model_copy(update={"machine": cpu}), shape, "fp32")

    assert [kept(BERT), kept(BERT, attention_probs_dropout_prob=0.0)] == [SCORE_BYTES_CPU, 0]
    assert [kept(LLAMA_1B), kept(LLAMA_1B, attention_dropout=0.1)] == [0, SCORE_BYTES_CPU]


def on_a_cpu(task: str, **counted: Any) -> int:
    """The peak of a step of BERT in full of which a trace has counted half a gigabyte."""
    step = Step("full", "fp32", micro_tokens=1712, length=112)
    profile = {"steps": [as_facts(step, 500_000_000, {"weights": 440_000_000}, **counted)]}
    facts, shape = situation(BERT | {"weights_bytes": 440_000_000}, task, devices=[])
    machine = facts.machine.model_copy(update={"backend": "cpu"})
    measured = facts.measured.model_copy(update={"memory_profile": profile})
    return compared(facts.model_copy(update={"machine": machine, "measured": measured}), shape, step)[0]


def test_libraries_take_on_a_cpu_what_was_measured_where_a_step_was_counted() -> None:
    assert on_a_cpu("classification", libraries=700_000_000) - on_a_cpu("classification") == 700_000_000 - LIBRARIES_ON_CPU


def test_the_peak_on_a_cpu_may_come_when_the_result_is_loaded_or_the_probe_is_fitted() -> None:
    """The file that weights are read from is mapped beside them; scikit-learn is imported last."""
    small = on_a_cpu("token_classification")
    loaded = on_a_cpu("token_classification", phases={"load": {"weights": 440_000_000}})
    assert loaded - small == 2 * 440_000_000 - int((1 + SLACK_ON_CPU[0]) * 500_000_000)
    read = {"weights": 440_000_000, "temporaries": 300_000_000, "optimizer": 50_000_000}
    probed = on_a_cpu("classification", phases={"evaluation": read})
    assert probed - small == 740_000_000 + PROBE_ON_CPU - int((1 + SLACK_ON_CPU[0]) * 500_000_000)
    assert on_a_cpu("token_classification", phases={"evaluation": read}) == small
