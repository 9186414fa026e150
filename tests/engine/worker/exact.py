"""What the tests of equality share: the step of a cut batch beside the one of the uncut batch, by the largest difference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from engine.worker.modeling import keep_trainable

Gradients = dict[str, torch.Tensor]


def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """One row of the tensor a row, filled at the end."""
    return nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=fill)


def uncut(rows: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """All rows at once, as transformers' own loss takes them."""
    mask = padded([[1] * len(r) for r in rows], 0)
    return {"input_ids": padded(rows, 0), "attention_mask": mask, "labels": padded(labels, -100)}


def build(config: Any, auto: str = "AutoModelForCausalLM") -> Any:
    model = getattr(transformers, auto).from_config(config)
    with torch.no_grad():  # initial weights are so small that neighbours hardly matter
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def in_4_bit(model: Any, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """The model, quantised as it is read from that folder, with what trains in fp32."""
    model.save_pretrained(folder)
    nf4 = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True, **options
    )
    read = type(model).from_pretrained(folder, quantization_config=nf4, device_map={"": "cpu"}, dtype=dtype)
    assert any(type(m).__name__ == "Linear4bit" for m in read.modules())
    keep_trainable(read)
    return read


def stir(model: Any) -> Any:
    """The model with adapters that are not at zero, where half of the gradients would be zero too."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.1)
    return model


def gradients(model: Any) -> Gradients:
    """Those that the model holds now; it holds none afterwards."""
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def cut_step(task: Any, model: Any, rows: Any, budget: int) -> float:
    """Forward and backward of the rows in several micro-batches of `budget` tokens; the loss of all."""
    pieces = task.cut([len(r) for r in rows.input_ids], budget, "cpu")
    assert len(pieces) > 2
    loss = 0.0
    for piece in pieces:
        total = task.total(model, [rows.input_ids[i] for i in piece], [rows.targets[i] for i in piece])
        share = total / task.weight(rows.targets)
        share.backward()
        loss += float(share.detach())
    return loss


def assert_same(found: Gradients, expected: Gradients, relative: float, absolute: float = 0.0) -> None:
    """No gradient differs by more than `relative` times its own largest number."""
    assert found.keys() == expected.keys()
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-3
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= relative * float(gradient.abs().max()) + absolute, name


def same_as_uncut(task: Any, model: Any, rows: Any, budget: int, expected: tuple[float, Gradients], relative: float) -> None:
    """The cut step has the loss and the gradients of the uncut one, and scoring the same rows says that loss too."""
    loss = cut_step(task, model, rows, budget)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert_same(gradients(model), expected[1], relative)
    with torch.no_grad():
        said = task.answers(model, rows.input_ids, rows.targets)
    assert sum(a.loss * a.weight for a in said) / sum(a.weight for a in said) == pytest.approx(loss, rel=1e-5)
