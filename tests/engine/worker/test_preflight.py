"""Before the first step: the worst batches are tried, nothing is changed by it, and what cannot fit is refused."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine import checkpoints
from engine.events import read_events
from engine.files import sha256_of
from engine.installed import own_code
from engine.rundir import RunDirectory
from engine.worker import preflight, room, session
from engine.worker.batches import cut
from engine.worker.budget import what_helps
from engine.worker.modeling import build
from engine.worker.packing import cut_packed
from engine.worker.preflight import Preflight, heaviest, padded, windows
from engine.worker.trainer import LogicalBatchTrainer
from recommender.facts import Facts
from recommender.footprint import BESIDE_CHECKPOINT, disk_needed
from recommender.largest import largest_micro_batch
from recommender.recommendation import Method
from recommender.variants import step_of
from tests.conftest import make_plan
from tests.engine.worker.conftest import Begin, Here
from tests.engine.worker.inside import events, work

BUDGET = 150
SETTINGS = {
    "precision": "fp32", "rank": None, "max_length": 512, "gradient_checkpointing": False, "optimizer": "adamw", "trained": "all",
    "last_layers": None, "dropout": None, "adapter_dtype": "fp32", "target_modules": None, "dora": False,
}  # fmt: skip


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=60), budget=st.integers(1, 600), batch=st.integers(1, 40))
def test_the_longest_row_and_an_almost_full_micro_batch_are_among_the_worst(lengths: list[int], budget: int, batch: int) -> None:
    around = windows(lengths, batch)
    pieces = [heaviest([[w[i] for i in p] for p in cut([lengths[i] for i in w], budget)], lengths, padded) for w in around]
    assert max(lengths) in {lengths[i] for i in around[0]}
    tokens = max(len(p) * max(lengths[i] for i in p) for p in pieces)
    assert tokens >= max(lengths)
    assert tokens <= max(budget, max(lengths))


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=60), budget=st.integers(1, 3000), batch=st.integers(1, 40))
def test_a_packed_batch_that_fits_is_planned_as_preflight_tries_it(lengths: list[int], budget: int, batch: int) -> None:
    """No batch of these rows holds more, and both are as many tokens up to rounding, with as much attention."""
    longest = sorted(lengths, reverse=True)
    counted = {"task": "chat", "rows": len(lengths), "tokens_max": longest[0], "longest_rows": longest}
    facts = Facts.model_validate({"data": counted})
    settings: Any = SimpleNamespace(**SETTINGS | {"effective_batch": batch, "token_budget": budget})
    planned = largest_micro_batch(facts, step_of(facts, "full", settings), packed=True)
    tried = heaviest([[w[i] for i in p] for w in windows(lengths, batch) for p in cut_packed([lengths[i] for i in w], budget)],
                     lengths, sum)  # fmt: skip
    tokens = sum(lengths[i] for i in tried)
    if not planned.accumulates:
        assert 0 <= planned.rows * planned.length - tokens < planned.rows
        assert planned.rows * planned.length**2 >= (1 - 1 / planned.rows) * sum(lengths[i] ** 2 for i in tried)
        assert planned.length <= longest[0]
    else:
        assert sum(longest[:batch]) > budget


def assert_equal(one: Any, other: Any) -> None:
    """An optimizer's state: tensors in mappings, which the 8-bit one nests, beside numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    else:
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("full", {}),
        pytest.param("lora", {"dora": True, "lora_plus_ratio": 4.0}, marks=pytest.mark.faults),
        pytest.param("qlora", {}, marks=pytest.mark.faults),
        pytest.param("full", {"weight_decay": 0.3, "optimizer": "adamw_8bit"}, marks=pytest.mark.faults),
    ],
)
def test_a_run_with_preflight_is_to_the_bit_the_run_without(
    tiny: Path, begin: Begin, run_here: Here, monkeypatch: pytest.MonkeyPatch, method: str, fields: dict[str, Any]
) -> None:  # fmt: skip
    """With dropout, so that one random number drawn too many would show; stopped after five steps, which is enough."""
    plan = make_plan(tiny, method, epochs=0.4, evaluations=2, early_stopping=True, **fields)
    with_it, without = begin(plan), begin(plan)
    run_here(plan, again=with_it)
    monkeypatch.setattr(Preflight, "go", lambda self, trainer, built, predicted: None)
    run_here(plan, again=without)
    assert len(events(with_it, "preflight")) == 1
    assert events(without, "preflight") == []
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (with_it.model / name).exists():
            assert sha256_of(with_it.model / name) == sha256_of(without.model / name)
    for step in (2, 5):
        one, other = (torch.load(r.checkpoints / f"step-{step}" / "optimizer.pt") for r in (with_it, without))
        assert one["param_groups"] == other["param_groups"]
        assert_equal(one["state"], other["state"])
    assert [e["loss"] for e in events(with_it, "step")] == [e["loss"] for e in events(without, "step")]
    assert with_it.state().scores("after") is not None


@pytest.mark.parametrize(("budget", "cut"), [(2048, False), (32, True)])
def test_weights_buffers_gradients_and_random_states_come_back(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch, budget: int, cut: bool
) -> None:
    """Gradients of other micro-batches are there meanwhile only where a step has several."""
    seen: list[tuple[Any, ...]] = []
    there: list[bool] = []
    rehearse = LogicalBatchTrainer.rehearse

    def rehearsed(self: Any, batch: Any) -> torch.Tensor:
        there.append(any(p.grad is not None for p in self.model.parameters()))
        return rehearse(self, batch)

    monkeypatch.setattr(LogicalBatchTrainer, "rehearse", rehearsed)
    go = Preflight.go

    def state(trainer: Any) -> tuple[Any, ...]:
        model = trainer.model
        tensors = {n: t.detach().clone() for n, t in [*model.named_parameters(), *model.named_buffers()]}
        states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
        return tensors, *states, trainer.optimizer, trainer._task.once

    def spy(self: Any, trainer: Any, built: Any, predicted: Any) -> None:
        trainer._task.once = True
        seen.append(state(trainer))
        go(self, trainer, built, predicted)
        seen.append(state(trainer))
        assert all(p.grad is None for p in trainer.model.parameters())

    monkeypatch.setattr(Preflight, "go", spy)
    run_here(make_plan(tiny, epochs=0.1, evaluations=1, token_budget=budget))
    assert set(there) == {cut}
    before, after = seen
    assert all(torch.equal(t, after[0][n]) for n, t in before[0].items())
    assert torch.equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert after[4] is None


def test_where_a_step_in_one_piece_does_not_fit_the_smaller_ones_are_tried_beside_all_gradients(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    rehearse = LogicalBatchTrainer.rehearse

    def rehearsed(self: Any, batch: Any) -> torch.Tensor:
        there.append(all(p.grad is not None for p in self.model.parameters() if p.requires_grad))
        if len(there) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rehearse(self, batch)

    monkeypatch.setattr(LogicalBatchTrainer, "rehearse", rehearsed)
    run_here(make_plan(tiny, epochs=0.1, evaluations=1, token_budget=2048))
    assert there[0] is False
    assert all(there[1:])


def test_no_micro_batch_of_the_run_is_fuller_than_those_that_were_tried(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own batches: of neighbours by length the longest are cut in two, and others do not fill the budget."""
    seen: list[tuple[list[int], int, int]] = []
    right = LogicalBatchTrainer.batches

    def noted(self: Any, most: int) -> list[list[int]]:
        lengths, found = [len(row["input_ids"]) for row in self.train_dataset], right(self, most)
        around = windows(lengths, self.args.per_device_train_batch_size)
        held = [[sum(lengths[w[i]] for i in p) for w in some for p in cut_packed([lengths[i] for i in w], BUDGET)]
                for some in (around, found)]  # fmt: skip
        seen.append(([sum(lengths[i] for i in batch) for batch in found], max(held[0]), max(held[1])))
        return found

    monkeypatch.setattr(LogicalBatchTrainer, "batches", noted)
    run = run_here(make_plan(tiny, epochs=1.2, evaluations=1, effective_batch=4, token_budget=BUDGET))
    (tokens, around, own), *_ = seen
    assert [e["tokens"] for e in events(run, "step")] == tokens
    tried = max(b["tokens"] for b in events(run, "preflight")[0]["batches"] if b["use"] == "train")
    assert around < own == tried <= BUDGET


def test_batches_leave_no_trace_in_a_model_that_counts_them() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    with preflight.untouched(model):
        model.train()
        model(torch.randn(8, 4)).sum().backward()
        random.random()
        np.random.random()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert (random.getstate(), str(np.random.get_state())) == drawn[1:]


def test_room_is_asked_for_what_is_not_there_yet(tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tiny, "lora")
    run = begin(plan)
    warned: list[str] = []
    quiet = SimpleNamespace(warn=lambda code, *_, **__: warned.append(code))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    monkeypatch.setattr(room, "memory_available", lambda: 10**12)
    trainer = SimpleNamespace(expected_bytes=lambda: 1000, saved_bytes=lambda: 10)
    built = SimpleNamespace(parameters=10**9)

    def disk() -> dict[str, int]:
        found: dict[str, int] = room.room_for_files(run, plan, quiet, trainer, built)["disk"]  # type: ignore[arg-type]
        return found

    empty = disk()
    assert empty["result"] < built.parameters, "an adapter is saved, and not its base"
    (run.checkpoints / "step-1").mkdir()
    (run.checkpoints / "step-1" / "optimizer.pt").write_bytes(bytes(2500))
    begun = disk()
    assert begun["needed"] == empty["needed"] - 2500
    run.model.mkdir()
    assert disk()["needed"] == begun["needed"] - empty["result"]
    assert not warned
    monkeypatch.setattr(room, "memory_available", lambda: 10**9)
    disk()
    assert warned == ["merge_does_not_fit"], "a billion parameters are merged in more memory"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_asks_for_the_disk_that_its_plan_was_told_of(finished: Callable[[str], RunDirectory], method: Method) -> None:
    """A plan that counted a checkpoint less was recommended, and refused once its model was loaded."""
    run = finished(method)
    (begun,), (found,) = events(run, "run"), events(run, "preflight")
    shape: Any = SimpleNamespace(parameters=begun["parameters"], table_parameters=0)
    assert disk_needed(shape, method, begun["trained_parameters"], run.plan()) == found["disk"]["needed"]
    newest, _ = checkpoints.newest_sound(run.checkpoints)
    assert newest is not None
    written = sum(file.stat().st_size for file in [*newest.glob("*.safetensors"), newest / "optimizer.pt"])
    assert found["disk"]["checkpoint"] - BESIDE_CHECKPOINT == pytest.approx(written, rel=0.1, abs=30_000)


def test_what_was_found_is_told_and_stands_in_the_report(finished: Callable[[str], RunDirectory]) -> None:
    run = finished("full")
    (found,) = events(run, "preflight")
    assert found["probed"] > 50_000_000
    assert found["available"] > found["probed"]
    assert found["disk"]["needed"] == 4 * found["disk"]["checkpoint"] + found["disk"]["result"]
    written = events(run, "checkpoint")[0]["bytes"]
    assert found["disk"]["checkpoint"] - 1_000_000 == pytest.approx(written, rel=0.05), "and a megabyte for what is beside"
    assert {b["use"] for b in found["batches"]} == {"train", "validation", "held_out"}
    assert max(b["tokens"] for b in found["batches"]) <= run.plan().token_budget
    kinds = [e["kind"] for e in read_events(run.events)]
    assert kinds.index("preflight") < kinds.index("step")
    report = run.report() or {}
    assert report["memory"]["probed"] == found["probed"] <= report["memory"]["peak"]
    assert report["predictor"] == own_code(), "else calibrate learns nothing of it"
    assert run.state().preflight["disk"] == found["disk"]


def _too_little(monkeypatch: pytest.MonkeyPatch, most: int, *, recomputing: int | None = None) -> None:
    """Micro-batches of more than `most` padded tokens run out of memory; of more than `recomputing` once that is on."""

    def limited(*args: Any) -> Any:
        built = build(*args)

        def before(module: Any, positional: Any, kwargs: Any) -> None:
            limit = recomputing if recomputing is not None and module.is_gradient_checkpointing else most
            if module.training and kwargs["input_ids"].numel() > limit:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        built.model.register_forward_pre_hook(before, with_kwargs=True)
        return built

    monkeypatch.setattr(session, "build", limited)


def test_a_budget_that_does_not_fit_is_lowered_before_the_first_step(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _too_little(monkeypatch, 150)
    run = run_here(make_plan(tiny, token_budget=100_000, epochs=0.2, evaluations=1))
    kinds = [e["kind"] for e in read_events(run.events) if e["kind"] in ("recovery", "preflight", "step")]
    assert kinds[0] == "recovery"
    assert kinds[-2:] == ["step", "step"]
    assert "recovery" not in kinds[kinds.index("preflight") :]
    (found,) = events(run, "preflight")
    assert found["token_budget"] == events(run, "recovery")[-1]["after"]["token_budget"] <= 150


def test_checkpointing_is_the_second_thing_that_is_tried(
    tiny: Path, run_here: Here, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a resumed worker begins with it."""
    plan = make_plan(tiny, epochs=0.4, evaluations=1, token_budget=256)
    undisturbed = run_here(plan.model_copy(update={"token_budget": 1}))
    _too_little(monkeypatch, 4, recomputing=60)
    run = begin(plan)
    (run.control / "stop-at").write_text("2")
    run_here(plan, again=run)
    (run.control / "stop-at").unlink()
    run_here(plan, again=run)
    last = events(run, "recovery")[-1]
    assert last["after"] == {"gradient_checkpointing": True}
    assert "The result does not change" in last["text"]
    found = events(run, "preflight")
    assert [f["gradient_checkpointing"] for f in found] == [True, True]
    assert len([e for e in events(run, "recovery") if "gradient_checkpointing" in e["after"]]) == 1
    assert [e["loss"] for e in events(run, "step")] == pytest.approx([e["loss"] for e in events(undisturbed, "step")], rel=0.2)


def test_what_fits_by_no_means_is_refused_with_what_would_help(tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    _too_little(monkeypatch, 4)
    run = begin(make_plan(tiny))
    end = work(run)
    assert (end["status"], end["code"], end["checkpoint"]) == ("refused", 3, None)
    for words in ("before the first step", "even one row", "max_length (it is 48)", "LoRA or QLoRA"):
        assert words in end["cause"]
    assert events(run, "step") == []
    assert events(run, "recovery")[-1]["after"] == {"gradient_checkpointing": True}


def test_an_optimizer_whose_state_does_not_fit_is_refused(tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    end = work(begin(make_plan(tiny)))
    assert (end["status"], end["code"]) == ("refused", 3)
    assert "memory cannot hold the optimizer's states" in end["cause"]
    assert "choose LoRA or QLoRA" in end["cause"]


def test_8_bit_moments_are_advised_where_they_save_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU bitsandbytes' AdamW takes more than torch's: 1.3 GB instead of 1.0 for MiniLM."""
    plan = make_plan(tiny)
    for cuda in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert ("adamw_8bit" in what_helps(plan)) is cuda


@pytest.mark.parametrize(("method", "cure"), [("full", "with --runs; LoRA saves less."), ("lora", "with --runs.")])
def test_a_disk_that_is_too_small_is_refused_before_anything_is_trained(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch, method: str, cure: str
) -> None:
    usage = shutil.disk_usage("/")
    run = begin(make_plan(tiny, method))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000 if path == run.path else 10**15))
    end = work(run)
    assert (end["status"], end["code"]) == ("refused", 3)
    assert "of disk, and 5.0 MB is free" in end["cause"]
    assert end["cause"].endswith(cure)
    (run.path.parent / "group.json").touch()
    assert "--runs" not in work(run)["cause"], "a comparison's runs stay together"


def test_main_memory_that_cannot_hold_the_result_while_it_is_saved_is_a_refusal(
    tiny: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "host_room", lambda: 1_000_000)
    end = work(begin(make_plan(tiny)))
    assert (end["status"], end["code"]) == ("refused", 3)
    assert "Saving the result takes" in end["cause"]


def test_an_adapter_that_could_not_be_merged_here_is_trained_and_told(
    tiny: Path, finished: Callable[[str], RunDirectory], run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    (disk,) = (e["disk"] for e in events(finished("lora"), "preflight"))
    assert disk["merged"] == 4 * (finished("lora").report() or {})["parameters"]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=disk["needed"] + disk["merged"] - 1))
    run = run_here(make_plan(tiny, "lora", epochs=0.1, evaluations=1))
    assert "merge_does_not_fit" in [e.get("code") for e in read_events(run.events)]
    assert run.report() is not None
    assert not [e for e in read_events(finished("lora").events) if e.get("code") == "merge_does_not_fit"]


def test_where_the_system_lends_what_it_does_not_have_the_peak_decides(
    tiny: Path, begin: Begin, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "memory_available", lambda: 1_000_000)
    end = work(begin(make_plan(tiny, token_budget=48)))
    assert (end["status"], end["code"]) == ("refused", 3)


def test_without_padding_the_budget_is_halved_from_what_was_really_held(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = iter([False, True])
    monkeypatch.setattr(preflight, "_was_there", lambda *_: next(enough))
    held: list[int] = []
    rehearse = LogicalBatchTrainer.rehearse

    def rehearsed(self: Any, batch: Any) -> torch.Tensor:
        held.append(sum(map(len, batch.input_ids)))
        return rehearse(self, batch)

    monkeypatch.setattr(LogicalBatchTrainer, "rehearse", rehearsed)
    unscored = {"eval": None, "eval_rows": None, "held_out_rows": 0, "validation_rows": 0}
    run = run_here(make_plan(tiny, epochs=0.1, evaluations=1, token_budget=100_000, max_length=128, data=unscored))
    (lowered,) = events(run, "recovery")
    assert lowered["after"]["token_budget"] == max(held) // 2


@pytest.mark.parametrize(("device", "taken"), [("cuda", 0), ("cpu", 1)])
def test_a_rehearsal_leaves_no_pages_behind(device: str, taken: int) -> None:
    """bitsandbytes never frees them; on a CPU there are none."""
    steps: list[int] = []
    model = torch.nn.Linear(2, 2)
    optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}], is_paged=True, step=lambda: steps.append(1))
    arguments = SimpleNamespace(device=torch.device(device))
    trainer: Any = SimpleNamespace(model=model, args=arguments, optimizer=None, create_optimizer=lambda: optimizer)
    with preflight._rehearsal(trainer):
        assert all(p.grad is not None for p in model.parameters())
    assert len(steps) == taken


def test_rows_among_the_longest_that_have_no_number_are_named_before_anything_is_trained(
    tiny: Path, begin: Begin, tmp_path: Path
) -> None:
    """Places in the text that the scored rows do not reach: the training would end at the first such row, hours later perhaps."""
    folder = tmp_path / "damaged"
    shutil.copytree(tiny, folder)
    held = load_file(folder / "model.safetensors")
    held["embeddings.position_embeddings.weight"][30:].fill_(float("inf"))
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    long = "the parcel with the lamp is late, " * 8
    rows = ["text,label", *(f"number {i} is {'ab'[i % 2]},{'ab'[i % 2]}" for i in range(60)), f'"{long}",a']
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    (tmp_path / "held-out.csv").write_text("text,label\nit is a,a\nit is b,b\n")
    data: dict[str, Any] = {"train": str(tmp_path / "rows.csv"), "eval": str(tmp_path / "held-out.csv"), "labels": ["a", "b"]}
    data |= {"train_rows": None, "eval_rows": None, "validation_rows": 0}
    run = begin(make_plan(folder, data=data, effective_batch=4, early_stopping=False))
    end = work(run)
    assert (end["status"], end["code"]) == ("refused", 3)
    assert 'the loss of 1 is not a number; the first of these begins "the parcel with the lamp' in end["cause"]
    assert end["cause"].endswith('".')
    assert end["cure"].startswith("Leave such rows out, or download the model again")
    assert not events(run, "step")
