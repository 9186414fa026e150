"""fp16 with its scale, as on a GPU without bf16: shown on a processor, where accelerate has it for GPUs only."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.events import read_events
from engine.worker.schedule import Schedule
from tests.conftest import make_plan
from tests.engine.worker.test_trainer import Bench

STEPS = 6
MakeScaled = Callable[..., Bench]


@pytest.fixture
def scaled(tiny_still: Path, tmp_path: Path) -> Iterator[MakeScaled]:
    """Makes trainers that compute in fp16 and scale the loss, from `scale` on."""
    made: list[Bench] = []

    def make(scale: float = 2.0**10, saves: frozenset[int] = frozenset()) -> Bench:
        folder = tmp_path / f"bench-{len(made)}"
        folder.mkdir()
        b = Bench(make_plan(tiny_still, epochs=1.0, token_budget=10**6), folder)
        b.task.plan = b.plan.model_copy(update={"precision": "fp16-mixed"})
        accelerator: Any = b.trainer.accelerator
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
        accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
        quiet = SimpleNamespace(stop=False, stop_at=STEPS, take_save=lambda: False)
        b.trainer.add_callback(Schedule(saves, quiet, scores=False))  # type: ignore[arg-type]
        made.append(b)
        return b

    yield make
    for b in made:
        b.events.close()
        b.trainer.accelerator.state._mixed_precision = "no"


def curve(b: Bench) -> list[tuple[Any, ...]]:
    """Step, loss, rate and norm of the gradient; None where that overflowed."""
    names = ("step", "loss", "learning_rate", "grad_norm")
    return [tuple(e[name] for name in names) for e in read_events(b.log) if e["kind"] == "step"]


def same(one: Bench, other: Bench) -> None:
    """Weights and scale, to the bit."""
    assert one.trainer.accelerator.scaler.state_dict() == other.trainer.accelerator.scaler.state_dict()
    for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_step_that_ran_out_of_memory_is_repeated_under_the_same_scale(scaled: MakeScaled) -> None:
    disturbed, undisturbed = scaled(), scaled()
    passes = iter(range(1000))

    def some_fail(*given: Any) -> None:
        if next(passes) in (2, 5, 6):
            raise torch.OutOfMemoryError("CUDA out of memory")

    disturbed.model.classifier.weight.register_hook(some_fail)  # on the way back
    disturbed.trainer._budget.shrink = lambda error, **size: None  # type: ignore[method-assign]  # the same cut
    for b in (disturbed, undisturbed):
        b.trainer.train()
    assert next(passes) > 7, "all three times"
    assert curve(disturbed) == curve(undisturbed)
    same(disturbed, undisturbed)


def test_steps_that_overflow_are_passed_over_until_the_scale_fits(scaled: MakeScaled) -> None:
    b = scaled(scale=2.0**40)
    before = [p.detach().clone() for p in b.model.parameters()]
    b.trainer.train()
    told = curve(b)
    assert [norm for *_, norm in told] == [None] * STEPS
    assert all(torch.equal(p, q) for p, q in zip(b.model.parameters(), before, strict=True))
    assert b.trainer.accelerator.scaler.get_scale() == 2.0 ** (40 - STEPS)
    lower = scaled(scale=2.0**19)
    lower.trainer.train()
    norms = [norm for *_, norm in curve(lower)]
    assert norms[0] is None
    assert any(norms)
    assert all(norm < 100 for norm in norms if norm), "told, and clipped, as they are without the scale"


def test_a_resumed_run_goes_on_with_the_scale_it_had_come_to(scaled: MakeScaled) -> None:
    whole, resumed = scaled(scale=2.0**18, saves=frozenset({4})), scaled(scale=2.0**18)
    whole.trainer.train()
    assert 0 < sum(norm is None for *_, norm in curve(whole)) < 4
    resumed.trainer.train(resume_from_checkpoint=str(whole.log.parent / "checkpoints" / "step-4"))
    assert curve(resumed) == curve(whole)[4:]
    same(resumed, whole)
