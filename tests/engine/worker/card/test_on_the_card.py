"""Whole runs through the branches that only CUDA takes, with real values: `make test-card`, all with `CARD_TESTS=`."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import checkpoints, runs
from engine.rundir import RunDirectory
from engine.worker import export
from engine.worker.trainer import LogicalBatchTrainer
from recommender.plan import Plan
from tests.engine.worker.card.pretend import CARD
from tests.engine.worker.conftest import Begin
from tests.engine.worker.inside import events, work
from tests.engine.worker.works import ROWS, plan_of

PlanFor = Callable[..., Plan]
MODELS = {"seq2seq": "tiny_t5", **dict.fromkeys(("chat", "continued_pretraining", "preference"), "tiny_chat")}
OFTEN = {
    ("pairs", "full"), ("token_classification", "lora"), ("chat", "full"), ("chat", "qlora"), ("preference", "lora"),
    ("seq2seq", "lora"),
}  # fmt: skip
FP16 = {"precision": "fp16-mixed"}
EIGHT_BITS = {"precision": "bf16", "optimizer": "adamw_8bit"}
PAGED = {"optimizer": "adamw_8bit_paged"}
MODEL = 200_000
"""Fewer bytes than the smallest of these models has."""


def rarely(*cases: Any) -> list[Any]:
    return [pytest.param(*case, marks=pytest.mark.faults) for case in cases]


@pytest.fixture
def plan_for(request: pytest.FixtureRequest, tmp_path: Path, short_answers: None) -> PlanFor:
    def made(kind: str, method: str, **fields: Any) -> Plan:
        model = request.getfixturevalue(MODELS.get(kind, "tiny"))
        return plan_of(tmp_path / "rows.jsonl", kind, model, method, **{"precision": "bf16-mixed", **fields})

    return made


def losses(run: RunDirectory) -> list[float]:
    return [e["loss"] for e in events(run, "step")]


@pytest.mark.parametrize(
    ("kind", "method", "fields"),
    [
        *((kind, method, {}) for kind, method in sorted(OFTEN)),
        ("chat", "full", EIGHT_BITS),
        ("chat", "lora", FP16 | {"gradient_checkpointing": True}),
        *rarely(
            *((kind, method, {}) for kind in ROWS for method in ("full", "lora", "qlora") if (kind, method) not in OFTEN),
            *(("pairs", "full", more) for more in (FP16, {"precision": "fp32"}, {"gradient_checkpointing": True})),
            *(("chat", "full", more) for more in (FP16, PAGED, FP16 | {"optimizer": "adamw_8bit"})),
            *(("chat", "lora", more) for more in ({"dora": True}, {"adapter_dtype": "bf16"}, {"precision": "fp32"})),
            *(("chat", "qlora", more) for more in (FP16, {"dora": True}, {"gradient_checkpointing": True})),
            *((kind, "lora", FP16) for kind in ("preference", "seq2seq")),
        ),
    ],
    ids=str,
)
def test_a_run_computes_on_the_card_and_leaves_nothing_on_it(
    card: Any, kind: str, method: str, fields: dict[str, Any], plan_for: PlanFor, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, load, held = card.memory()[0], export.load, []

    def loaded(*args: Any, **options: Any) -> Any:
        held.append(card.memory()[0] - before)
        return load(*args, **options)

    monkeypatch.setattr(export, "load", loaded)
    run = begin(plan_for(kind, method, **fields))
    end = work(run)
    assert end["status"] == "done", end
    assert [e["device"] for e in events(run, "run")] == [CARD.name]
    assert all(e["memory"] > MODEL for e in events(run, "step"))
    assert losses(run)[-1] < 2 * losses(run)[0]
    said = [e["text"] for kind in ("warning", "recovery") for e in events(run, kind)]
    assert [text for text in said if not text.startswith(("learning_rate", "Too many rows share"))] == []
    assert max(held) < MODEL / 10, "the result is loaded beside what the training held"


@pytest.mark.parametrize(
    ("kind", "method", "fields"),
    [
        ("chat", "lora", FP16),
        ("chat", "full", PAGED),
        *rarely(
            ("chat", "qlora", {}), ("chat", "full", {"optimizer": "adamw_8bit"}), ("chat", "full", {"precision": "bf16"}),
            ("chat", "lora", {"adapter_dtype": "bf16"}), ("pairs", "full", {}), ("pairs", "lora", {"dropout": 0.1}),
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_paused_run_goes_on_as_if_it_never_had(
    card: Any, kind: str, method: str, fields: dict[str, Any], plan_for: PlanFor, begin: Begin
) -> None:
    """Its chance and its optimizer's states come back to the card."""
    plan = plan_for(kind, method, **fields)
    whole, run = begin(plan), begin(plan)
    assert work(whole)["status"] == "done"
    runs.clear_requests(run, stop_at=2)
    work(run)
    runs.clear_requests(run, stop_at=None)
    assert work(run)["status"] == "done"
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
    if plan.precision == "fp16-mixed":  # what the loss is multiplied by, and for how many steps it has gone well: no loss tells
        ends = [torch.load(checkpoints.sealed(each.checkpoints)[0] / "scaler.pt") for each in (run, whole)]
        assert ends[0] == ends[1]


@pytest.mark.parametrize("when", ["before the first step", "in the middle"])
@pytest.mark.parametrize(
    ("kind", "method", "fields"),
    [
        ("chat", "lora", {}),
        *rarely(("chat", "full", {}), ("chat", "qlora", {}), ("chat", "lora", FP16), ("preference", "lora", {})),
    ],
    ids=str,
)
def test_memory_that_runs_out_changes_nothing_but_the_cut_of_micro_batches(
    card: Any, kind: str, method: str, fields: dict[str, Any], when: str, plan_for: PlanFor, begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    still = {} if method == "full" else {"dropout": 0.0}
    plan = plan_for(kind, method, token_budget=4096, **(still | fields))
    step, room, held, most = LogicalBatchTrainer.training_step, CARD.total_memory, [], []

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        held.append(card.memory()[0])
        card.reset_peak()
        loss = step(self, *args, **options)
        most.append(card.memory()[1])
        return loss

    monkeypatch.setattr(LogicalBatchTrainer, "training_step", counted)
    free = begin(plan)
    before = card.memory()[0]
    assert work(free)["status"] == "done"
    gc.collect()
    low, drift = min(held[1:]), card.memory()[0] - before
    tight = int(low + drift + (max(most) - low) * 0.6)

    def narrow(self: Any, *args: Any, **options: Any) -> Any:
        if self.state.global_step:
            card.limit(tight)
        try:
            return step(self, *args, **options)
        finally:
            card.limit(room)

    monkeypatch.setattr(LogicalBatchTrainer, "training_step", narrow if when == "in the middle" else step)
    card.empty_cache()
    if when == "before the first step":
        card.limit(tight)
    run = begin(plan)
    end = work(run)
    assert end["status"] == "done", end
    assert any(e["text"].startswith("Memory ran out; micro-batches now hold") for e in events(run, "recovery"))
    assert losses(run) == pytest.approx(losses(free), abs=1e-3)


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_card_without_room_for_the_weights_is_told_as_that(card: Any, method: str, plan_for: PlanFor, begin: Begin) -> None:
    run = begin(plan_for("chat", method))
    card.limit(card.memory()[0] + 20_000)
    end = work(run)
    assert end["code"] == 4, end
    assert end["cause"].startswith("Memory ran out while the model was loaded"), end
