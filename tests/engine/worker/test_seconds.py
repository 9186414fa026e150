"""What a step's operations cost on a card, by what its kernels are known to do."""

import itertools
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.prediction.stream import peaks
from engine.worker.tracing import calibration
from engine.worker.tracing.estimate import estimate
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.live import Live
from engine.worker.tracing.recorded import Recorded
from engine.worker.tracing.shapes import flops_of
from engine.worker.tracing.steps import traced
from engine.worker.tracing.work import STEP, Speed, Work, work_of
from recommender.facts import Facts
from tests.engine.worker.test_tracing import GEMMA, LLAMA, step_of

WIDE: dict[str, Any] = LLAMA | {
    "hidden_size": 2048, "intermediate_size": 4096, "num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": 1,
    "max_position_embeddings": 8192,
}  # fmt: skip
FP32: dict[str, Any] = {"length": 512, "base_dtype": "float32"}
LONG: dict[str, Any] = {"length": 8192, "base_dtype": "bfloat16", "micro_batch_rows": 2}
FLASH = LONG | {"attention": "flash"}


def seconds(
    card: str, measured: dict[str, Any] | None = None, /, *, config: dict[str, Any] = WIDE, end: str = "predicted", **given: Any
) -> float:
    usual = {
        "method": "full", "padded": False, "head": "causal_lm", "micro_batch_rows": 4, "gradient_checkpointing": "none",
        "optimizer_implementation": "foreach", "outputs_held": True, "outputs_rebound": False,
    }  # fmt: skip
    machine = {"backend": "cuda", "devices": [{"name": card, "memory_total": 80 * 10**9}]}
    facts = {"machine": machine, "model": {"config": config}, "step": usual | given, "measured": measured or {}}
    found: float = estimate(Facts.model_validate(facts))["seconds_per_step"][end]
    return found


def test_products_of_fp32_are_as_fast_as_tf32_where_the_card_knows_it_and_the_step_asks_for_it() -> None:
    usual = seconds("NVIDIA A100-SXM4-80GB", **FP32)
    asked = seconds("NVIDIA A100-SXM4-80GB", **FP32, tf32=True)
    assert asked < 0.5 * usual
    assert seconds("NVIDIA A100-SXM4-80GB", **FP32, torch="1.11") == asked, "asked for by torch itself"
    assert seconds("NVIDIA A100-SXM4-80GB", **FP32, torch="1.11", tf32=False) == usual
    assert seconds("Tesla V100-SXM2-16GB", **FP32, tf32=True) == seconds("Tesla V100-SXM2-16GB", **FP32)


@pytest.mark.parametrize(("card", "slower"), [("NVIDIA A100-SXM4-80GB", 1), ("NVIDIA H100 80GB HBM3", 1.1), ("NVIDIA B200", 1.4)])
def test_attention_that_is_written_for_ampere_is_no_faster_on_what_came_after(card: str, slower: float) -> None:
    """Where nobody says which, torch takes cuDNN's on such cards since 2.11."""
    found = {name: seconds(card, **LONG, attention=name) for name in (None, "flash", "efficient")}
    assert found["efficient"] > 1.1 * found["flash"]
    assert found["flash"] / found[None] == pytest.approx(1.0, abs=0.03) if slower == 1 else found["flash"] > slower * found[None]
    assert seconds(card, **LONG, torch="2.10.0") == pytest.approx(found["flash"], rel=0.03)
    assert seconds(card, **LONG, torch="2.11.0") == found[None]
    wide: dict[str, Any] = {"config": WIDE | {"head_dim": 256}}
    assert seconds(card, **wide, **LONG) == pytest.approx(seconds(card, **wide, **FLASH)), "which cuDNN's is not taken for"


def test_a_model_whose_layers_have_heads_of_several_widths_is_timed() -> None:
    """Gemma 4's configuration has no one width that it tells."""
    config = GEMMA | {"model_type": "gemma4_text", "global_head_dim": 32, "hidden_size_per_layer_input": 0}
    assert seconds("NVIDIA H100 80GB HBM3", config=config, length=32, base_dtype="bfloat16") > 0


def test_the_kernel_that_computes_in_fp32_makes_three_products_in_tf32_of_one() -> None:
    """So it gained less from a Hopper than products in fp32 did, and cuDNN's takes no fp32."""
    told: dict[str, Any] = {"length": 8192, "base_dtype": "float32"}
    gained = {
        name: seconds("NVIDIA A100-SXM4-80GB", **told, attention=name) / seconds("NVIDIA H100 80GB HBM3", **told, attention=name)
        for name in ("efficient", None, "math")
    }
    assert gained["efficient"] == gained[None] < 0.9 * gained["math"]
    speed = Speed(narrow=8.0, wide=2.0, bandwidth=1.0, flash=0.5, efficient=0.25, precise=0.1)
    names = ("_scaled_dot_product_efficient_attention.default", "_varlen_attn.default", "mm.default")
    assert [speed.of(name, narrow=True) for name in names] == [1.0, 4.0, 8.0]
    assert [speed.of(name, narrow=False) for name in names] == [0.1, 2.0, 2.0]


def test_what_was_touched_a_moment_ago_is_in_the_cache_and_what_goes_soon_never_leaves_it() -> None:
    """Blocks of 400 bytes in a cache of 1,600."""
    live = Live(lambda *_: [], cache=1600)
    with live, torch.device("meta"):
        first = torch.empty(100) + 0
        second = first + 1
        del first
        third = second.expand(9, 100) * second
        del second
        fourth = third + 1
    told = zip(live.recorded.names, live.recorded.traffic, live.recorded.near, strict=True)
    assert [(traffic, near) for name, traffic, near in told if name.split(".")[0] in ("add", "mul")] == [
        (800, 800),  # read where it was made, and gone before the cache had to write it
        (800, 400),  # which it had to for the next result
        (9 * 400 + 400 + 9 * 400, 9 * 400 + 400),  # read once for all rows; its own result is more than the cache holds
        (2 * 9 * 400, 0),
    ]
    assert fourth.shape == (9, 100)
    speed = Speed(narrow=1e30, wide=1e30, bandwidth=1.0, cached=4.0)
    moving: dict[str, Any] = {"names": ["add"], "flops": [0], "traffic": [800], "near": [400], "narrow": [False]}
    assert work_of(Recorded(**moving, again=[False], hooked=[0], phases=[("forward", 0)]), speed).busy == 400 + 100


def test_a_card_of_an_unknown_name_may_be_as_fast_or_slow_as_any_that_is_known() -> None:
    long: dict[str, Any] = {"length": 512, "base_dtype": "bfloat16"}
    low, high = (seconds("Frob 9000", **long, end=end) for end in ("low", "high"))
    for card in ("NVIDIA B200", "NVIDIA RTX A2000"):
        assert low < seconds(card, **long) < high, card
    low, usual = (seconds("GTX 1060", **long, end=end) for end in ("low", "predicted"))
    assert low == pytest.approx(usual / 2), "whose arithmetic is known, if little else"


def test_what_no_token_sees_is_not_multiplied() -> None:
    heads = [torch.empty(1, 2, 64, 32, device="meta") for _ in range(3)]
    attention = torch.ops.aten._scaled_dot_product_flash_attention.default
    whole, causal = (flops_of(attention, (*heads, 0.0, told), {}, attention(*heads, 0.0, told)) for told in (False, True))
    assert causal == whole // 2 > 0


@pytest.mark.parametrize("window", [(-1, -1), (-1, 0), (9, 0), (99, 0), (9, 9), None])
def test_what_a_window_hides_is_not_multiplied(window: tuple[int, int] | None) -> None:
    """A run of the engine: of models with windows a text is told that it is causal only by them, however short it is."""
    import_module("torch.nn.attention.varlen")  # which registers them
    calls = torch.ops.torch_attn
    heads, ends = [torch.empty(80, 2, 32, device="meta") for _ in range(3)], torch.empty(3, device="meta", dtype=torch.int32)
    given = (*heads, ends, ends, 40, 40, window == (-1, 0), None, window and list(window))
    back = (heads[0], *heads, heads[0], ends, ends, ends, 40, 40, window == (-1, 0), ends, None, window and list(window))
    left, right = (40 if reach < 0 else reach for reach in window or (-1, -1))
    seen = sum(i - left <= j <= i + right for i in range(40) for j in range(40))
    assert flops_of(calls._varlen_attn.default, given, {}, None) == pytest.approx(2 * 2 * 64 * 2 * seen)
    assert flops_of(calls._varlen_attn_backward.default, back, {}, None) == pytest.approx(5 * 2 * 64 * 2 * seen)


def test_flash_attention_2_multiplies_no_more_than_its_window_on_the_way_there_and_back() -> None:
    """Every layer of Mistral's looks 256 tokens back; of Gemma's only some do, which two depths do not tell, and it is counted
    whole."""

    def multiplied(config: dict[str, Any], layers: int | None = None, **given: Any) -> dict[str, int]:
        step = step_of(base_dtype="bfloat16", length=1024, micro_batch_rows=1, padded=True, **given)
        recorded = traced(LLAMA | config, step, Card(), layers).recorded
        ran = list(zip(recorded.phase_of(), recorded.names, recorded.flops, strict=True))
        return {told: sum(n for phase, name, n in ran if phase == told and "flash" in name) for told in ("forward", "backward")}

    mistral = {"model_type": "mistral", "max_position_embeddings": 4096}
    whole, windowed = multiplied(mistral | {"sliding_window": None}), multiplied(mistral | {"sliding_window": 256})
    seen = sum(min(i + 1, 256) for i in range(1024)) / (1024 * 1024 / 2)
    for phase, flops in whole.items():
        assert windowed[phase] == pytest.approx(seen * flops, rel=0.01), phase
    again = multiplied(mistral | {"sliding_window": 256}, gradient_checkpointing="layer")
    assert again["backward"] == pytest.approx(windowed["backward"] + windowed["forward"], rel=0.01)
    gemma = GEMMA | {"sliding_window": 256, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]}
    assert multiplied(gemma, 3)["forward"] == pytest.approx(whole["forward"], rel=0.01)
    assert multiplied(gemma)["forward"] == pytest.approx((2 * windowed["forward"] + whole["forward"]) / 3, rel=0.01)


@pytest.mark.parametrize(
    ("optimizer", "kernels", "each"),
    [("sgd", None, 3 * 4), ("adamw_8bit", None, 3 * 4 + 2 * 2 * 1), ("adamw", "fused", 3 * 4 + 2 * 2 * 4)],
)
def test_an_update_reads_and_writes_what_it_changes(optimizer: str, kernels: str | None, each: int) -> None:
    """Weights read and written and gradients read; states, of a byte or four, read and written."""
    step = step_of(optimizer=optimizer, optimizer_implementation=kernels, head="causal_lm")
    found = traced(LLAMA, step, Card(), None)
    recorded = found.recorded
    moved = sum(t for phase, t in zip(recorded.phase_of(), recorded.traffic, strict=True) if phase == "optimizer")
    weights = peaks(found.segments)["parts"]["weights"] / 4
    assert moved == pytest.approx(each * weights, rel=0.05)


def test_checkpointing_costs_the_host_more_than_what_is_computed_again_unless_it_is_reentrant() -> None:
    waits: dict[str, Any] = {"length": 8, "base_dtype": "bfloat16"}
    again = {"gradient_checkpointing": "layer"}
    plain, hooked, reentrant, older, asked = (
        seconds("NVIDIA H100 80GB HBM3", **waits, **given)
        for given in (
            {}, again, again | {"transformers": "4.57"}, again | {"torch": "2.0"},
            again | {"transformers": "4.57", "use_reentrant": False},
        )
    )  # fmt: skip
    assert plain < reentrant == older < hooked == asked
    assert hooked - reentrant > reentrant - plain
    told = {"optimizer_implementation": "fused", "outputs_held": False, "length": 8}
    own: dict[str, Any] = again | told | {"loss": "chunked", "autocast": "bfloat16", "base_dtype": "float32"}
    hooked, own_ways = (seconds("NVIDIA H100 80GB HBM3", **own, use_reentrant=how) for how in (None, True))
    assert hooked == own_ways, "Loracle's are not"


def test_a_layer_that_is_computed_again_is_work_once_more_and_what_hooks_keep_is_most() -> None:
    """Autograd's own operations are less than those that go through Python, and so are looks."""
    speed = Speed(narrow=1e12, wide=1e12, bandwidth=1e12)
    plain, again = (
        traced(LLAMA, step_of(method="lora", gradient_checkpointing=told), Card(), None).recorded for told in ("none", "layer")
    )
    phases = again.phase_of()
    repeated = sum(again.again[i] for i, phase in enumerate(phases) if phase == "backward")
    assert 1.0 * phases.count("forward") < repeated < 1.3 * phases.count("forward"), "and what is kept is detached"
    assert not any(plain.again)
    ways = ((plain, True), (again, False), (again, True))
    of_three: dict[str, Any] = {"names": ["mm"] * 3, "flops": [1, 1, 0], "traffic": [1, 1, 0], "near": [0] * 3}
    backward = Recorded(**of_three, narrow=[True] * 3, again=[False, True, False], hooked=[0] * 3, phases=[("backward", 0)])
    assert work_of(backward, speed).started == pytest.approx(0.65 + 1.0 + 0.65 * 0.3), "a product, one again, and a look"
    once, reentrant, hooked = (work_of(recorded, replace(speed, hooks=hooks)).started for recorded, hooks in ways)
    assert once < 0.8 * sum(plain.phase_of().count(phase) for phase in STEP)
    assert 1.25 * once < reentrant < 1.5 * once
    kept = sum(n for phase, n in zip(phases, again.hooked, strict=True) if phase == "forward")
    assert hooked - reentrant == pytest.approx(1.8 * kept)
    assert kept > 50 * int(LLAMA["num_hidden_layers"])


def test_a_host_is_measured_by_the_operations_that_a_trace_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "TINY", calibration.TINY | {"attn_implementation": "eager"})
    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", map(float, itertools.count()).__next__)
        pace = calibration.host_pace(torch.device("cpu"))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **calibration.TINY)).train()
        ids = torch.zeros(1, 4, dtype=torch.long)
    live = Live(lambda *_: [])
    with live:
        model(input_ids=ids)
        live.phase("forward")  # in the first, what is there already seems to be made
        model(input_ids=ids)
    counted = work_of(live.recorded, Speed(1.0, 1.0, 1.0)).started
    assert 1 / pace == pytest.approx(counted, rel=0.02)


def test_how_fast_a_host_is_that_nobody_measured_is_told_by_whose_computer_the_card_is_in() -> None:
    waits: dict[str, Any] = {"length": 8, "base_dtype": "bfloat16", "attention": "eager", "config": LLAMA}
    cards = ("NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 2060")
    server, own, older = (seconds(card, **waits) for card in cards)
    assert own == pytest.approx(0.4 * server)
    assert older == pytest.approx(2 / 3 * server)
    slowest, slow = (seconds(card, **waits, end="high") for card in cards[:2])
    assert slowest == slow == pytest.approx(2.5 * server), "such a card may be rented in a server"
    assert seconds("NVIDIA RTX 6000 Ada Generation", **waits) == server
    assert seconds("NVIDIA H100 80GB HBM3", {"launch": 4.8e-5}, **waits) == pytest.approx(2 * server)
    done = Work(busy=1.0, started=50.0, busy_after=0.25, started_after=10.0)
    assert done.seconds(1.0, 0.01) == 1.0 + 0.25 + 0.1, "what the card waits for comes after what it does"
    assert done.seconds(1.0, 0.04) == 2.0 + 0.25 + 0.4


def test_what_is_measured_of_a_card_as_its_kind_is_known_to_be_changes_no_time() -> None:
    """Measured are large products and a copy, of which a step's kernels reach a part, as of a data sheet's."""
    measured = {"matmul_flops": {"bf16": 0.8 * 989e12, "fp32": 0.8 * 67e12}, "bandwidth": 0.9 * 3.35e12}
    for base in ("bfloat16", "float32"):
        step: dict[str, Any] = {"length": 4096, "base_dtype": base, "attention": "flash"}
        told, known = (seconds("NVIDIA H100 80GB HBM3", facts, **step) for facts in (measured, {}))
        assert told == pytest.approx(known, rel=0.01), base


def test_an_update_of_bitsandbytes_is_waited_for_tensor_by_tensor() -> None:
    """So that no product of the backward pass hides what it costs the host."""
    card, long = "NVIDIA A100-SXM4-80GB", dict[str, Any](length=4096, base_dtype="bfloat16")
    fused = dict[str, Any](optimizer_implementation="fused")
    narrow = dict[str, Any](optimizer="adamw_8bit", embeddings_in_fp32=False)
    assert seconds(card, {"launch": 1e-4}, **long, **fused) == seconds(card, **long, **fused)
    assert seconds(card, {"launch": 1e-4}, **long, **narrow) > 1.0005 * seconds(card, **long, **narrow)
