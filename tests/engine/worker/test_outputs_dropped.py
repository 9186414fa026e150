"""What a model's forward pass gives back is gone before the backward pass, wherever the gradients do not need it.

Held until then, a writer's logits alone would cost two to four bytes each of them throughout the backward pass.
"""

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.worker.batches import LogicalBatch
from engine.worker.bf16_trial import _Given, _Side
from engine.worker.inner import body_of, inner_of
from engine.worker.packing import IGNORED
from engine.worker.tasks.registry import task_of
from engine.worker.trainer import LogicalBatchTrainer
from tests.engine.worker.test_bf16_trial import request as request_of


def pairs(ids: list[list[int]]) -> list[Any]:
    half = len(ids[0]) // 2
    labels = [[IGNORED, *row[1:half], IGNORED, *row[half + 1 :]] for row in ids]
    return [{"labels": row, "chosen": half, "reference": [-9.0, -9.0]} for row in labels]


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize(
    ("model", "family", "task", "quick"),
    [
        ("tiny", "encoder", "classification", True),
        ("tiny", "encoder", "classification", False),
        ("tiny", "encoder", "multi_label", True),
        ("tiny", "encoder", "regression", True),
        ("tiny", "encoder", "token_classification", True),
        ("tiny_llama", "decoder", "classification", True),
        ("tiny_chat", "decoder", "chat", True),
        ("tiny_chat", "decoder", "chat", False),
        ("tiny_chat", "decoder", "preference", True),
        ("tiny_t5", "encoder-decoder", "seq2seq", True),
        ("tiny_t5", "encoder-decoder", "seq2seq", False),
    ],
)
def test_outputs_are_let_go_before_backward(
    request: pytest.FixtureRequest, model: str, family: str, task: str, quick: bool, precision: str
) -> None:
    """`quick` is the way without padding, or with chunked logits; the other is that of models which cannot have it."""
    folder: Path = request.getfixturevalue(model)
    side = _Side(_Given(request_of(folder, task, "full", family=family)), "full", {}, precision)
    ids, targets = side.rows
    if task == "preference":
        plan = side.task.plan.model_copy(update={"task": "preference"})
        side.task, targets = task_of(plan, [], side.task.pad), pairs(ids)
    inner = inner_of(side.model)
    body = inner.get_decoder() if family == "encoder-decoder" else body_of(side.model)
    if not quick:
        inner.set_attn_implementation("sdpa")
        body.__dict__.pop("forward", None)
        side.task.chunked = False  # type: ignore[attr-defined]
    seen: list[weakref.ref[Any]] = []

    def note(_: Any, __: Any, output: Any) -> None:
        seen.append(weakref.ref(output))
        if getattr(output, "logits", None) is not None and task != "multi_label":  # whose loss keeps what it is given
            seen.append(weakref.ref(output.logits))

    hooks = [part.register_forward_hook(note) for part in (inner, body)]
    alive: list[int] = []

    def backward(loss: torch.Tensor) -> None:
        alive.append(sum(ref() is not None for ref in seen))
        loss.backward()

    trainer: Any = SimpleNamespace(
        _task=side.task, args=SimpleNamespace(device=torch.device("cpu")), accelerator=SimpleNamespace(backward=backward)
    )
    batch = LogicalBatch(ids, targets)
    LogicalBatchTrainer._micro_step(trainer, side.model, batch, list(range(len(ids))), side.task.weight(targets))
    for hook in hooks:
        hook.remove()
    assert len(seen) >= 1
    assert alive == [0]
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in side.trained)
