"""torch.compile only where its saving exceeds its cost, Liger's kernels only where they can compute, and why."""

from typing import Any

import pytest

from recommender import kernels
from recommender.decide import recommend
from recommender.edits import edited, reasons_of
from recommender.facts import Facts
from recommender.lints import lint_for
from recommender.plan import DataChoice, ModelChoice, Plan
from recommender.recommendation import Candidate
from recommender.shape import shape_of

SMALL = {"family": "decoder", "parameters": 135_000_000, "layers": 30, "hidden_size": 576, "max_positions": 2048,
         "config": {"model_type": "llama"}}  # fmt: skip
CPU = {"backend": "cpu", "cpu_cores": 2, "ram_available": 64 * 10**9, "disk_free": 10**12}
CARD = {"backend": "cuda", "devices": [{"name": "NVIDIA L4", "memory_total": 24 * 10**9, "memory_free": 23 * 10**9}],
        "disk_free": 10**12}  # fmt: skip


@pytest.fixture(autouse=True)
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which compiling saves something."""
    monkeypatch.setitem(kernels.MEASURED, ("decoder", "adapters", "fp32"), kernels.Compiled(0.027, 40.0))


def facts(rows: int = 5_000, machine: dict[str, Any] = CPU, model: dict[str, Any] = SMALL, **more: Any) -> Facts:
    data = {"task": "chat", "rows": rows, "unique_rows": rows, "tokens_p50": 200, "tokens_p95": 350, "tokens_p99": 400,
            "tokens_max": 500}  # fmt: skip
    return Facts.model_validate({"machine": machine, "model": {"id": "m"} | model, "data": data, **more})


def lora(known: Facts) -> Candidate:
    return recommend(known).candidate("lora")


def why(known: Facts, setting: str) -> str:
    return reasons_of(known, lora(known))[setting].text


def plan(**more: Any) -> Plan:
    usual = {"learning_rate": 2e-4, "epochs": 1.0, "effective_batch": 16, "max_length": 400, "rank": 16, "alpha": 32}
    content = {"model": ModelChoice(id="m"), "data": DataChoice(train="d"), "task": "chat", "method": "lora", "metric": "loss"}
    return Plan.model_validate(content | usual | more)


def test_a_plan_says_whether_rows_are_padded() -> None:
    assert why(facts(), "padding").startswith("No padding: rows lie end to end")
    both = facts(model=SMALL | {"family": "encoder-decoder"})
    assert "padded together" in why(both, "padding")


def test_a_short_run_is_not_compiled_and_says_what_it_would_save_and_cost() -> None:
    known = facts(rows=60)
    assert not lora(known).settings.compile
    assert "would save about" in why(known, "compile")
    assert "another machine" in why(known, "compile")


def test_a_long_run_is_compiled_with_its_figures_its_time_and_a_wider_memory() -> None:
    known, found = facts(), lora(facts())
    assert found.settings.compile
    assert "saves about" in why(known, "compile")
    assert "not counted" in why(known, "compile")
    off = edited(known, found, plan(**own(found) | {"compile": False})).candidate
    assert off.hours.predicted > found.hours.predicted
    cost = kernels.compiled(known, shape_of(known.model), "lora", found.settings.precision)
    assert cost is not None
    (usual, others), (quicker, more) = (
        (h.training or 0.0, h.predicted - (h.training or 0.0)) for h in (off.hours, found.hours)
    )
    assert (quicker, 3600 * (more - others)) == pytest.approx(((1 - cost.saved) * usual, cost.seconds))
    assert off.memory.predicted == found.memory.predicted
    assert off.memory.high < found.memory.high
    assert off.memory.low > found.memory.low


def own(candidate: Candidate) -> dict[str, Any]:
    settings = candidate.settings
    return {name: getattr(settings, name) for name in Plan.model_fields if name in type(settings).model_fields}


def test_no_run_however_long_is_compiled_where_that_made_steps_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels.MEASURED, ("decoder", "adapters", "fp32"), kernels.Compiled(-0.44, 27.5))
    known = facts(rows=50_000)
    assert not lora(known).settings.compile
    assert why(known, "compile") == "No torch.compile: it saved no time on such a step where it was measured, on another machine."


def test_nothing_is_compiled_where_its_memory_might_not_fit() -> None:
    sizes = (facts(machine=CPU | {"ram_available": int(tenths * 1e8)}) for tenths in range(1, 100))
    tight = next(known for known in sizes if lora(known).fits)
    assert not lora(tight).settings.compile
    assert "little room" in why(tight, "compile")


@pytest.mark.parametrize("machine", [CARD, CPU])
def test_what_was_not_measured_stays_off_and_is_said(machine: dict[str, Any]) -> None:
    model = SMALL if machine is CARD else SMALL | {"family": "encoder-decoder"}
    known = facts(rows=500_000, machine=machine, model=model)
    assert not any(c.settings.compile for c in recommend(known).candidates)
    assert "not measured" in why(known, "compile")


def test_compiling_by_hand_gets_a_word_where_it_does_not_pay() -> None:
    asked = {"method": "lora", "compile": True, "epochs": 1.0, "max_length": 400}
    codes = {rows: [c.code for c in lint_for(asked, facts(rows=rows))] for rows in (60, 50_000)}
    assert "compile_short" in codes[60]
    assert not any(code.startswith("compile") for code in codes[50_000])
    assert "compile_unmeasured" in [c.code for c in lint_for({"method": "lora", "torch_compile": True}, facts(machine=CARD))]
    assert "liger_no_gpu" in [c.code for c in lint_for({"method": "lora", "use_liger_kernel": True}, facts())]


@pytest.mark.parametrize(
    ("machine", "model", "taken", "said"),
    [
        (CARD | {"liger": "0.8.5"}, SMALL, "liger", "agrees with torch's own"),
        (CARD, SMALL, "torch", "not installed"),
        (CARD | {"liger": "0.8.5"}, SMALL | {"config": {"model_type": "gpt2"}}, "torch", "gpt2"),
        (CARD | {"liger": "0.8.5"}, SMALL | {"config": None}, "torch", "unknown"),
        (CPU | {"liger": "0.8.5"}, SMALL, "torch", "NVIDIA GPU"),
    ],
)
def test_ligers_kernels_compute_where_they_can(machine: dict[str, Any], model: dict[str, Any], taken: str, said: str) -> None:
    known = facts(machine=machine, model=model)
    assert {c.settings.kernels for c in recommend(known).candidates} == {taken}
    assert said in why(known, "kernels")


def test_the_allocator_is_told_with_who_measured_it() -> None:
    assert "1.02 times as fast, in a tenth less memory, where Loracle's authors measured it" in why(facts(), "allocator")


def test_settings_of_ones_own_are_told_as_such() -> None:
    known = facts(rows=60)
    found = edited(known, lora(known), plan(**own(lora(known)) | {"compile": True}))
    assert "as you wish" in reasons_of(known, found.candidate)["compile"].text
    assert [c.code for c in found.cautions] == ["compile_short"]


def test_8_bit_moments_on_a_processor_are_told_to_save_nothing() -> None:
    """MiniLM in full on a CPU: 1.3 GB with them, 1.0 GB without."""
    brought = {"method": "full", "optimizer": "adamw_8bit_paged"}
    assert "eight_bits_on_cpu" in [c.code for c in lint_for(brought, facts())]
    assert "eight_bits_on_cpu" not in [c.code for c in lint_for(brought | {"optimizer": "adamw"}, facts())]
