"""One optimizer step is one logical batch, however memory cuts it, and the Trainer adds nothing of its own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from engine.events import EventWriter, read_events
from engine.loading import split
from engine.worker import arguments
from engine.worker.arguments import training_arguments
from engine.worker.batches import EpochPermutation, LogicalBatch, collate, padded
from engine.worker.budget import TokenBudget
from engine.worker.health import Step
from engine.worker.modeling import build, load_tokenizer
from engine.worker.schedule import Schedule
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded
from engine.worker.tasks.classification import Classification
from engine.worker.trainer import LogicalBatchTrainer, seed_everything
from recommender.errors import TrainingFailed
from recommender.footprint import BESIDE_CHECKPOINT
from recommender.plan import Plan
from tests.conftest import make_plan

WEIGHTS = [0.4, 1.0, 2.5, 0.7, 1.3, 0.9]


class Bench:
    """A trainer with its rows, and what happens in it."""

    def __init__(self, plan: Plan, folder: Path, weights: list[float] | None = None) -> None:
        self.plan = plan
        parts = split(plan.data)
        tokenizer = load_tokenizer(plan.model.id)
        seed_everything(plan.seed)
        self.task = task = Classification(plan, parts.labels, tokenizer.pad_token_id)
        self.built = build(task, plan.model.id)
        self.model = self.built.model
        self.rows: Encoded = task.encode(tokenizer, parts.train)
        task.prepare(self.rows, torch.device("cpu"))
        self.steps = plan.total_steps(len(self.rows))
        self.weights = weights
        if weights is not None:
            task.class_weights = torch.tensor(weights)
        self.recovered: list[tuple[int, int]] = []
        self.log = folder / "events.jsonl"
        self.events = EventWriter(self.log)
        (folder / "checkpoints").mkdir()
        self.trainer = LogicalBatchTrainer(
            self.model,
            training_arguments(plan, folder / "checkpoints", self.steps, scored=False),
            self.rows,
            None,
            task=task,
            budget=TokenBudget(plan.token_budget, lambda before, after: self.recovered.append((before, after))),
            evaluate_rows=lambda model, step: {},
            events=self.events,
            checkpoint_note={},
            interrupt=lambda: None,
        )
        self.pad = tokenizer.pad_token_id

    def batch(self, indices: list[int]) -> LogicalBatch:
        return collate([self.rows[i] for i in indices])

    def whole_loss(self, batch: LogicalBatch) -> torch.Tensor:
        """The mean over the uncut batch, in plain torch."""
        logits = self.model(**padded(batch.input_ids, self.pad, "cpu")).logits
        weight = torch.tensor(self.weights) if self.weights else None
        smoothing = self.plan.label_smoothing
        return functional.cross_entropy(logits, torch.tensor(batch.targets), weight=weight, label_smoothing=smoothing)

    def gradients(self) -> dict[str, torch.Tensor]:
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(tiny_still: Path, tmp_path: Path) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(method: str = "full", *, weights: list[float] | None = None, model: Path = tiny_still, **fields: Any) -> Bench:
        folder = tmp_path / f"bench-{len(made)}"
        folder.mkdir()
        adapter = {} if method == "full" else {"dropout": 0.0}
        made.append(Bench(make_plan(model, method, **(adapter | fields)), folder, weights))
        return made[-1]

    yield make
    for one in made:
        one.events.close()


@pytest.mark.parametrize("budget", [1, 64, *(pytest.param(b, marks=pytest.mark.faults) for b in (256, 10**8))])
@pytest.mark.parametrize(
    ("method", "weights", "smoothing"),
    [
        ("full", None, 0.0),
        ("lora", None, 0.0),
        ("qlora", None, 0.0),
        ("full", WEIGHTS, 0.0),
        ("lora", WEIGHTS, 0.1),
        ("full", None, 0.1),
    ],
)
def test_the_gradient_of_a_cut_batch_is_that_of_the_whole(
    bench: MakeBench, method: str, weights: list[float] | None, smoothing: float, budget: int
) -> None:
    b = bench(method, weights=weights, token_budget=budget, label_smoothing=smoothing)
    batch = b.batch(list(range(16)))
    assert len(set(map(len, batch.input_ids))) > 5
    expected_loss = b.whole_loss(batch)
    expected_loss.backward()
    expected = b.gradients()
    assert any(g.abs().max() > 1e-4 for g in expected.values())
    # Without weights and smoothing the padding-free step has its test in test_heads.
    for packed in (False, True) if budget == 64 and (weights or smoothing) else (False,):
        if packed:
            b.task.adopt(b.model)
        assert b.task.packed is packed
        b.model.zero_grad()
        loss = b.trainer.training_step(b.model, batch)
        found = b.gradients()
        torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-5, atol=1e-6)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=f"{name}, packed: {packed}")


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_decoders_gradient_does_not_depend_on_the_cut_either(bench: MakeBench, tiny_llama: Path, method: str) -> None:
    b = bench(method, model=tiny_llama, token_budget=64)
    batch = b.batch(list(range(12)))
    expected_loss = b.whole_loss(batch)
    expected_loss.backward()
    expected = b.gradients()
    b.model.zero_grad()
    b.trainer.training_step(b.model, batch)
    for name, gradient in b.gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("method", "schedule"), [("full", "linear"), ("lora", "constant")])
def test_a_whole_training_is_what_a_hand_written_loop_does(bench: MakeBench, method: str, schedule: str) -> None:
    """Catches the Trainer's inflated loss (transformers #47688), wrong clipping, decay, schedule and order of rows."""
    rows = {"train_rows": 70, "validation_rows": 24}
    fields = {"data": rows, "warmup_steps": 3, "weight_decay": 0.1, "max_grad_norm": 0.3, "token_budget": 64}
    b, by_hand = (bench(method, schedule=schedule, **fields) for _ in range(2))
    b.trainer.add_callback(Schedule(frozenset(), _NoRequests(), scores=False))  # type: ignore[arg-type]
    seen: list[Step] = []
    b.trainer.watch = SimpleNamespace(step=seen.append)  # type: ignore[assignment]
    b.trainer.train()

    losses, norms = _hand_written_loop(by_hand)
    steps = [e for e in read_events(b.log) if e["kind"] == "step"]
    assert [s["step"] for s in steps] == list(range(1, b.steps + 1))
    assert [s["loss"] for s in steps] == pytest.approx(losses, rel=1e-4)
    assert [s["grad_norm"] for s in steps] == pytest.approx(norms, rel=1e-3)
    assert [s.grad_norm for s in seen] == pytest.approx(norms, rel=1e-3)
    assert [s.loss for s in seen] == pytest.approx(losses, rel=1e-4)
    assert steps[-1]["epoch"] == b.plan.epochs
    assert all(0 < s["seconds"] < 600 and s["memory"] > 10**7 for s in steps)
    found, expected = dict(b.model.named_parameters()), dict(by_hand.model.named_parameters())
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=2e-5, msg=name)
    assert sum(s["rows"] for s in steps) == 2 * len(b.rows)


def _hand_written_loop(b: Bench) -> tuple[list[float], list[float]]:
    plan, model = b.plan, b.model
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate)
    losses, norms = [], []
    order = EpochPermutation(len(b.rows), plan.seed)
    step = 0
    for epoch in range(int(plan.epochs)):
        order.epoch = epoch
        rows = list(order)
        for start in range(0, len(rows), plan.effective_batch):
            rising, falling = step / plan.warmup_steps, (b.steps - step) / (b.steps - plan.warmup_steps)
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * min(rising, 1 if plan.schedule == "constant" else falling)
            optimizer.zero_grad()
            loss = b.whole_loss(b.batch(rows[start : start + plan.effective_batch]))
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(trained, plan.max_grad_norm)))
            losses.append(float(loss.detach()))
            optimizer.step()
            step += 1
    return losses, norms


class _NoRequests:
    stop = False
    stop_at = None

    def take_save(self) -> bool:
        return False


def _fails_above(model: Any, tokens: int, error: Callable[[], BaseException]) -> None:
    """Micro-batches of more than `tokens` padded tokens run out of memory when training."""

    def before(module: Any, args: Any, kwargs: Any) -> None:
        if module.training and kwargs["input_ids"].numel() > tokens:
            raise error()

    model.register_forward_pre_hook(before, with_kwargs=True)


@pytest.mark.parametrize(
    "error",
    [
        lambda: RuntimeError("CUDA error: out of memory"),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        lambda: RuntimeError("could not create a primitive"),
        MemoryError,
    ],
    ids=["runtime", "cpu", "cuda", "onednn", "python"],
)
def test_running_out_of_memory_repeats_the_step_with_smaller_pieces(
    bench: MakeBench, tiny: Path, error: Callable[[], BaseException]
) -> None:
    b = bench(model=tiny, token_budget=10**6)  # with dropout: masks must not depend on the failed attempt either
    _fails_above(b.model, 150, error)
    batch = b.batch(list(range(16)))
    loss = b.trainer.training_step(b.model, batch)
    assert b.recovered[0][0] == 10**6
    assert len(b.recovered) <= 3, "halved from what the rows fill, not from what was allowed"
    small = b.recovered[-1][1]
    assert small <= 150

    begun_small = bench(model=tiny, token_budget=small)
    assert float(begun_small.trainer.training_step(begun_small.model, batch)) == float(loss)
    for name, gradient in begun_small.gradients().items():
        assert torch.equal(gradient, b.gradients()[name]), name


def test_without_padding_the_budget_is_halved_from_the_tokens_that_were_there(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(token_budget=10**6)
    b.task.adopt(b.model)
    batch, total, fails = b.batch(list(range(16))), b.task.total, iter([True])

    def first_fails(*given: Any) -> torch.Tensor:
        if next(fails, False):
            raise MemoryError
        return total(*given)

    monkeypatch.setattr(b.task, "total", first_fails)
    b.trainer.training_step(b.model, batch)
    assert b.recovered == [(10**6, batch.tokens // 2)]


def test_what_was_done_of_a_step_before_memory_ran_out_does_not_count_twice(bench: MakeBench, tiny: Path) -> None:
    """Gradients of the first pieces are thrown away, and dropout draws the same masks again."""
    b, undisturbed = (bench(model=tiny, token_budget=64) for _ in range(2))
    batch = b.batch(list(range(16)))
    expected = undisturbed.trainer.training_step(undisturbed.model, batch)
    passes = iter(range(1000))

    def third_fails(module: Any, args: Any, output: Any) -> None:
        if next(passes) == 2:
            raise RuntimeError("out of memory")

    b.model.register_forward_hook(third_fails)
    b.trainer._budget.shrink = lambda error, **size: None  # type: ignore[method-assign]
    loss = b.trainer.training_step(b.model, batch)
    assert next(passes) > 6
    assert float(loss) == float(expected)
    for name, gradient in undisturbed.gradients().items():
        assert torch.equal(gradient, b.gradients()[name]), name
    undisturbed.trainer.state.global_step = 1
    assert float(undisturbed.trainer.training_step(undisturbed.model, batch)) != float(expected), "each step has its own masks"


def test_a_row_that_is_tried_again_now_and_then_is_no_lack_of_memory(bench: MakeBench) -> None:
    b = bench(token_budget=1)
    fails = iter([True, False] * 8)

    def first_fails(module: Any, args: Any) -> None:
        if next(fails):
            raise RuntimeError("out of memory")

    b.model.register_forward_pre_hook(first_fails)
    reader = Reader(b.task, b.trainer._budget, lambda: None)
    for _ in range(4):
        b.trainer.training_step(b.model, b.batch([0]))
    for _ in range(4):
        assert len(reader.score(b.model, b.rows.take([0])).answers.predicted) == 1


def test_what_gives_way_in_which_order() -> None:
    told: list[tuple[int, int]] = []
    relieved = iter([True, False])
    budget = TokenBudget(100_000, lambda before, after: told.append((before, after)), relief=lambda: next(relieved))

    def short(*, rows: int = 1, training: bool = True) -> None:
        budget.shrink(MemoryError(), longest=40, rows=rows, training=training)

    short(rows=8)
    assert told == [(100_000, 160)]
    short(training=False)
    short(training=False)
    with pytest.raises(TrainingFailed, match="even one row of 40 tokens"):
        short(training=False)  # checkpointing would not help where nothing is kept for the way back
    budget.worked()
    for _ in range(5):  # three tries, checkpointing, and the first of three more
        short()
    with pytest.raises(TrainingFailed, match="even one row of 40 tokens"):
        short()


def test_memory_too_small_for_one_row_says_what_to_do(bench: MakeBench) -> None:
    b = bench(token_budget=256)
    _fails_above(b.model, 4, lambda: RuntimeError("out of memory"))
    with pytest.raises(TrainingFailed, match=r"even one row of \d+ tokens.*max_length"):
        b.trainer.training_step(b.model, b.batch(list(range(8))))


def test_another_error_is_not_taken_for_lack_of_memory(bench: MakeBench) -> None:
    b = bench()
    _fails_above(b.model, 4, lambda: RuntimeError("index out of range in self"))
    with pytest.raises(RuntimeError, match="index out of range"):
        b.trainer.training_step(b.model, b.batch(list(range(8))))
    assert not b.recovered


@pytest.mark.parametrize(("device", "there"), [("cpu", False), ("mps", True), ("xpu", True), ("cuda", True)])
def test_the_trainer_leaves_the_model_on_the_device_that_it_was_put_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, there: bool
) -> None:
    monkeypatch.setattr(arguments, "device_name", lambda: device)
    made = training_arguments(make_plan(tiny, schedule="cosine"), tmp_path, 5, scored=False)
    assert made.use_cpu is not there
    assert made.lr_scheduler_type == "cosine"


def test_a_loss_that_is_no_number_ends_the_training(bench: MakeBench) -> None:
    b = bench()
    b.model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed, match=r"no longer a number at step 1\. Lower learning_rate"):
        b.trainer.training_step(b.model, b.batch(list(range(8))))


def test_a_gradient_that_is_no_number_never_reaches_the_weights(bench: MakeBench) -> None:
    b = bench()
    b.trainer.add_callback(Schedule(frozenset(), _NoRequests(), scores=False))  # type: ignore[arg-type]
    before = {n: p.detach().clone() for n, p in b.model.named_parameters()}
    b.model.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingFailed, match="gradient is no longer a number at step 1"):
        b.trainer.train()
    assert all(torch.equal(p, before[n]) for n, p in b.model.named_parameters())


def test_a_rehearsal_does_not_scale_gradients_as_fp16_begins_with(bench: MakeBench) -> None:
    b = bench()
    batch = b.batch(list(range(8)))
    found: list[dict[str, torch.Tensor]] = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**40)):
        b.trainer.accelerator.scaler = scaler
        b.trainer.rehearse(batch)
        found.append(b.gradients())
        b.model.zero_grad()
    assert all(torch.equal(found[0][name], g) for name, g in found[1].items())


@pytest.mark.filterwarnings("ignore:Paged optimizers")
def test_paged_moments_are_paged_again_in_a_resumed_run(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes loads them as any tensors, which then stay on the GPU; here a list stands for the pages."""
    from bitsandbytes.optim.optimizer import GlobalOptimManager, Optimizer8bit

    first = bench(epochs=1, optimizer="adamw_8bit_paged")
    first.trainer.add_callback(Schedule(frozenset(), _NoRequests(), scores=False))  # type: ignore[arg-type]
    first.trainer.train()
    pages: list[torch.Tensor] = []
    usual = Optimizer8bit.get_state_buffer

    def paged(self: Any, p: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        pages.append(usual(self, p, dtype))  # type: ignore[no-untyped-call]
        return pages[-1]

    monkeypatch.setattr(Optimizer8bit, "get_state_buffer", paged)
    second = bench(epochs=1, optimizer="adamw_8bit_paged")
    second.trainer.create_optimizer_and_scheduler(second.steps)
    second.trainer._load_optimizer_and_scheduler(str(first.log.parent / "checkpoints" / f"step-{first.steps}"))
    kept = first.log.parent / "checkpoints" / f"step-{first.steps}"
    written = sum(file.stat().st_size for file in (*kept.glob("*.safetensors"), kept / "optimizer.pt"))
    assert first.trainer.expected_bytes() - BESIDE_CHECKPOINT == pytest.approx(written, rel=0.1)
    before, after = (
        [one.trainer.optimizer.state[p] for _, p in one.model.named_parameters() if p in one.trainer.optimizer.state]
        for one in (first, second)
    )
    assert len(before) == len(after) > 1
    for one, other in zip(before, after, strict=True):
        for name in ("state1", "state2"):
            assert torch.equal(one[name], other[name])
            assert any(other[name] is page for page in pages)
    second.trainer.let_go()
    held = GlobalOptimManager.get_instance().module_weight_config_triple  # type: ignore[no-untyped-call]
    assert held == [], "embeddings would stay on the GPU beside the result that is loaded"


def test_a_checkpoint_remembers_the_smaller_budget(bench: MakeBench) -> None:
    b = bench(token_budget=10**6, epochs=1)
    _fails_above(b.model, 150, lambda: RuntimeError("out of memory"))
    b.trainer.add_callback(Schedule(frozenset(), _NoRequests(), scores=False))  # type: ignore[arg-type]
    (b.log.parent / "checkpoints").rmdir()  # by somebody who needed room
    b.trainer.train()
    newest = b.log.parent / "checkpoints" / f"step-{b.steps}" / "loracle.json"
    assert json.loads(newest.read_text())["token_budget"] == b.recovered[-1][1]
