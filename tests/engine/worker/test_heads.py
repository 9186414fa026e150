"""Several labels a row, a number a row, a tag a word: from a file to a report, a model and its card."""

import itertools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import pipeline

from engine.events import EventWriter, read_events
from engine.files import read_json, sha256_of
from engine.loading import split
from engine.rundir import RunDirectory
from engine.worker.arguments import training_arguments
from engine.worker.batches import LogicalBatch, padded
from engine.worker.budget import TokenBudget
from engine.worker.inner import inner_of
from engine.worker.modeling import build, load_tokenizer
from engine.worker.tasks.registry import task_of
from engine.worker.trainer import LogicalBatchTrainer, seed_everything
from tests.conftest import make_plan
from tests.engine.worker.conftest import Here, card_code, unfinished
from tests.engine.worker.labelled import PlanOf, plan_on


@pytest.fixture(scope="session")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> PlanOf:
    """`plan_of(task, model, method, **fields)`."""
    return partial(plan_on, tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def done(plan_of: PlanOf, tiny: Path, run_here: Here) -> Callable[[str, str], RunDirectory]:
    """A finished run of a task and a method. Not to be changed; copy it first."""
    runs: dict[tuple[str, str], RunDirectory] = {}

    def of(task: str, method: str) -> RunDirectory:
        if (task, method) not in runs:
            runs[task, method] = run_here(plan_of(task, tiny, method))
        return runs[task, method]

    return of


# One step


def whole_loss(task: str, model: Any, batch: LogicalBatch, pad: int, labels: int, numbers: list[float]) -> torch.Tensor:
    """The loss of the uncut batch in plain torch, as transformers' own heads compute it."""
    logits = model(**padded(batch.input_ids, pad, "cpu")).logits
    if task == "classification":
        return functional.cross_entropy(logits, torch.tensor(batch.targets))
    if task == "multi_label":
        truth = torch.tensor([[float(i in row) for i in range(labels)] for row in batch.targets])
        return functional.binary_cross_entropy_with_logits(logits, truth)
    if task == "regression":
        all_numbers = torch.tensor(numbers, dtype=torch.float64)
        truth = (torch.tensor(batch.targets, dtype=torch.float64) - all_numbers.mean()) / all_numbers.std(correction=0)
        return functional.mse_loss(logits[:, 0], truth.float())
    truth = torch.full(logits.shape[:2], -100)
    for i, target in enumerate(batch.targets):
        truth[i, target["places"]] = torch.tensor(target["tags"])
    return functional.cross_entropy(logits.flatten(0, 1), truth.flatten())


@pytest.mark.parametrize("rows", [2, 20])
def test_the_labels_of_a_micro_batch_come_to_a_gpu_in_one_piece(rows: int) -> None:
    """A row after the other took a copy each, which was waited for. The meta device stands for the GPU."""
    asked: list[str] = []

    class Asked(TorchDispatchMode):  # type: ignore[misc]  # mypy does not read torch here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            asked.extend([str(func)] if isinstance(out, torch.Tensor) and out.is_meta else [])
            return out

    labels = ["a", "b", "c"]
    task: Any = task_of(make_plan("demo", "full", task="multi_label"), labels, 0)
    targets = [[0], [1, 2]] * (rows // 2)
    with Asked():
        found = task._given(targets, torch.empty(rows, 3, device="meta"))
    assert found.shape == (rows, 3)
    assert len(asked) == 2  # those here, and theirs
    wanted = torch.tensor([[1.0, 0, 0], [0, 1, 1]] * (rows // 2))
    assert task._given(targets, torch.empty(rows, 3)).equal(wanted)


TASKS = ["multi_label", "regression", "token_classification"]
RUNS = [("multi_label", "full"), ("regression", "lora"), ("token_classification", "qlora")]


@pytest.mark.parametrize("task", [*TASKS, "pairs"])
@pytest.mark.parametrize(
    ("method", "decoder"),
    [
        ("full", False), ("lora", True), ("qlora", False),
        *(pytest.param(*one, marks=pytest.mark.faults) for one in (("full", True), ("lora", False), ("qlora", True))),
    ],
)  # fmt: skip
def test_the_gradient_of_a_cut_batch_is_that_of_the_whole_padded_or_not(
    plan_of: PlanOf, tiny_still: Path, tiny_llama: Path, tmp_path: Path, task: str, method: str, decoder: bool
) -> None:
    folder = tiny_llama if decoder else tiny_still
    plan = plan_of(task, folder, method, token_budget=60, **({} if method == "full" else {"dropout": 0.0}))
    parts = split(plan.data, plan.task)
    tokenizer = load_tokenizer(str(folder), words=task == "token_classification")
    seed_everything(1)
    work = task_of(plan, parts.labels, tokenizer.pad_token_id, "decoder" if decoder else "encoder")
    model = build(work, str(folder)).model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # decoders' heads for tokens have one of their own
    rows = work.encode(tokenizer, parts.train)
    work.prepare(rows, torch.device("cpu"))
    events = EventWriter(tmp_path / "events.jsonl")
    (tmp_path / "checkpoints").mkdir()
    trainer = LogicalBatchTrainer(
        model,
        training_arguments(plan, tmp_path / "checkpoints", 10, scored=False),
        rows,
        None,
        task=work,
        budget=TokenBudget(plan.token_budget, lambda before, after: None),
        evaluate_rows=lambda model, step: {},
        events=events,
        checkpoint_note={},
        interrupt=lambda: None,
    )
    batch = LogicalBatch(list(rows.input_ids[:16]), list(rows.targets[:16]))
    assert len(set(map(len, batch.input_ids))) > 5
    assert sum(map(len, batch.input_ids)) > 2 * plan.token_budget

    def gradients() -> dict[str, torch.Tensor]:
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected_loss = whole_loss(plan.task, model, batch, work.pad, len(parts.labels), list(rows.targets))
    expected_loss.backward()
    expected = gradients()
    assert any(g.abs().max() > 1e-4 for g in expected.values())
    for packed in (False, True):
        if packed:
            work.adopt(model)
            short = "forward" in vars(inner_of(model))
            assert short is (not decoder and task != "token_classification"), "its last layer is computed for first tokens"
        assert work.packed is packed
        model.zero_grad()
        loss = trainer.training_step(model, batch)
        found = gradients()
        torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-4, atol=1e-5)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=2e-5, msg=f"{name}, packed: {packed}")
    events.close()


# A whole run


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_run_learns_and_says_so_with_intervals(done: Callable[[str, str], RunDirectory], task: str, method: str) -> None:
    report = done(task, method).report() or {}
    first = done(task, method).plan().metric
    gains = report["gains"]["before"]
    assert set(report["scores"]["after"]) >= {first, "loss"}
    assert gains["loss"]["high"] < 0, "the loss on the held-out rows falls"
    sign = -1 if first == "rmse" else 1
    assert sign * gains[first]["gain"] > 0
    assert gains[first]["low"] <= gains[first]["gain"] <= gains[first]["high"]
    assert report["gains"]["majority"]
    assert any(s.startswith("Better") for s in report["statements"])
    best = {v["step"]: v[first] for v in report["validation"]}
    assert best[report["best_step"]] == (min if first == "rmse" else max)(best.values())
    if task != "regression":
        assert report["scores"]["after"]["per_class"]


def test_labels_come_in_sets(done: Callable[[str, str], RunDirectory]) -> None:
    run = done("multi_label", "full")
    parts = split(run.plan().data, "multi_label")
    kept = read_json(run.scores / "after.json")
    assert [[parts.labels[i] for i in row] for row in kept["truth"]] == parts.held_out.items
    assert [] in kept["truth"]
    assert any(len(row) > 1 for row in kept["predicted"])
    score = kept["score"]
    assert score["exact_match"] == sum(t == p for t, p in zip(kept["truth"], kept["predicted"], strict=True)) / 40
    assert set(read_json(run.scores / "probe.json")["score"]) >= {"micro_f1", "loss"}


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_run_cut_off_in_the_middle_goes_on_to_the_very_same_model(
    done: Callable[[str, str], RunDirectory], run_here: Here, tmp_path: Path, task: str, method: str
) -> None:
    run = done(task, method)
    again = run_here(run.plan(), again=unfinished(run, tmp_path, 1))
    begun = [e for e in read_events(again.events) if e["kind"] == "run"][-1]
    assert 0 < begun["resumed_from"] < begun["total_steps"]
    (weights,) = run.model.glob("*.safetensors")
    assert sha256_of(again.model / weights.name) == sha256_of(weights)
    for part in ("scores", "gains", "best_step"):
        assert (again.report() or {})[part] == (run.report() or {})[part]


SHOWN = 4


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_the_cards_own_code_gives_the_reports_predictions(
    done: Callable[[str, str], RunDirectory], task: str, method: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In the model's folder; that it needs nothing of Loracle shows in `test_export`."""
    run = done(task, method)
    parts = split(run.plan().data, run.plan().task)
    items = (parts.held_out.items or [])[:SHOWN]
    loading, use = card_code(run)
    if task == "token_classification":
        uses = [re.sub(r"re\.findall\(.*\)", repr(item["words"]).replace("\\", r"\\"), use) for item in items]
    else:
        uses = [use.replace('"a text"', repr(text)) for text in parts.held_out.texts[:SHOWN]]
    monkeypatch.chdir(run.model)
    capsys.readouterr()
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("\n".join([loading, *uses]), names)
    said = capsys.readouterr().out.splitlines()
    predicted = read_json(run.scores / "after.json")["predicted"][:SHOWN]
    if task == "multi_label":
        assert said == [str([parts.labels[i] for i in row]) for row in predicted]
    elif task == "regression":
        assert [float(x) for x in said] == pytest.approx(predicted, rel=1e-4)
        (piped,) = pipeline("text-classification", model=names["model"], tokenizer=names["tokenizer"])(parts.held_out.texts[0])
        counts = re.fullmatch(r"standard deviations of (\S+) above (\S+)", piped["label"])
        assert counts, "who has the output alone must see that it is not the number"
        assert piped["score"] * float(counts[1]) + float(counts[2]) == pytest.approx(predicted[0], rel=1e-4)
    else:
        tagged = zip(items, predicted, strict=True)
        pairs = itertools.chain.from_iterable(zip(i["words"], (parts.labels[t] for t in p), strict=True) for i, p in tagged)
        assert [tuple(line.split("\t")) for line in said] == list(pairs)
