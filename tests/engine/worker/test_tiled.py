"""Causal attention tile by tile says what plain attention says, there and back."""

import pytest
import torch
import transformers
from torch.nn import functional

from engine.worker import attention, causal, tiled
from engine.worker.packing import pack
from recommender import tiles
from recommender.tiles import KEPT, QUERIES
from tests.engine.worker.exact import assert_same, gradients, uncut


@pytest.mark.parametrize("length", [1, 40, QUERIES, 2 * QUERIES + 3, KEPT, KEPT + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_length_agrees_with_plain_attention(length: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(tiled, "TILE", 4 * 2 * QUERIES * length)  # more matrices than are worked on together
    shapes = [(3, 4, length, 16), (3, 2, length, 16), (3, 2, length, 8)]
    given = [torch.randn(s).to(dtype).requires_grad_() for s in shapes]
    outside = torch.randn(3, 4, length, 8).to(dtype)
    plain = [t.detach().double().requires_grad_() for t in given]
    q, k, v = plain
    expected = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    right = (expected.detach(), *torch.autograd.grad(expected, plain, outside.double()))
    with torch.autocast("cpu", torch.bfloat16):  # products are in fp32 whatever the run's precision is
        found = tiled.attend(given[0], given[1], given[2], 0.3)
        kept = sum(t.numel() for t in found.grad_fn.saved_tensors[3:])
        got = (found.detach(), *torch.autograd.grad(found, given, outside))
    assert kept == tiles.scores(3 * 2, 2, length, narrow=True)[0], "what is counted before a run is what it keeps"
    rounding = 1e-5 if dtype == torch.float32 else 2e-2
    for mine, wanted in zip(got, right, strict=True):
        assert mine.dtype == dtype
        assert float((mine.double() - wanted).abs().max()) <= rounding * max(float(wanted.abs().max()), 1.0)


def test_a_packed_step_of_long_rows_learns_what_the_padded_batch_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    ids = [torch.randint(5, 97, (n,)).tolist() for n in (150, 131, 9)]
    model(**uncut(ids, ids)).loss.backward()
    expected = gradients(model)
    assert causal.prepare(model) is None
    calls: list[int] = []
    usual = tiled.attend

    def counted(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        calls.append(query.shape[2])
        return usual(query, key, value, scale)

    monkeypatch.setattr(tiled, "attend", counted)
    causal.packed_loss(model, pack(ids, ids)).div(sum(map(len, ids)) - 3).backward()
    assert set(calls) == {150}  # the two long ones together; nine tokens are left to torch's own kernel
    assert_same(gradients(model), expected, 2e-5)
    assert model.config._attn_implementation == attention.NAME
