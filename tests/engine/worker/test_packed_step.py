"""A packed, cut, chunked step learns what the plain padded batch learns."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from engine.worker import attention, causal, dropout, fused_lora
from engine.worker.budget import TokenBudget
from engine.worker.inner import inner_of
from engine.worker.packing import IGNORED, cut_packed, learned, pack
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.preference import Preference
from engine.worker.token_loss import Head, token_loss
from tests.engine.worker.exact import assert_same, build, cut_step, gradients, in_4_bit, same_as_uncut, stir, uncut
from tests.engine.worker.writing import plan_of

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DECODER = SMALL | {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
LENGTHS = [23, 3, 17, 9, 31, 2, 14]
ROUNDING = 2e-5
"""Of the largest gradient of a parameter; fp32 sums in another order."""


@pytest.fixture(autouse=True)
def _fixed() -> None:
    torch.manual_seed(0)


def rows(prompts: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Some begin alike, one of them is the beginning of another, and one is there twice."""
    ids = [torch.randint(5, 97, (n,)).tolist() for n in LENGTHS]
    ids[2][:12], ids[6][:9], ids[5], ids[3] = ids[0][:12], ids[0][:9], ids[4][:2], list(ids[0][:9])
    labels = [[IGNORED if prompts and i < len(row) // 2 else x for i, x in enumerate(row)] for row in ids]
    if prompts:
        labels[3] = [IGNORED] * len(labels[3])  # a row that teaches nothing
    return ids, labels


def adapted(model: Any, **more: Any) -> Any:
    adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", **more)
    return stir(get_peft_model(model, adapters))


def plain_step(model: Any, ids: list[list[int]], labels: list[list[int]]) -> float:
    loss = model(**uncut(ids, labels)).loss
    loss.backward()
    return float(loss.detach())


def packed_step(model: Any, ids: list[list[int]], labels: list[list[int]], budget: int = 70, *, once: bool = False) -> float:
    tokens = sum(map(learned, labels))
    total = 0.0
    for piece in cut_packed([len(i) for i in ids], budget):
        batch = pack([ids[i] for i in piece], [labels[i] for i in piece], once=once)
        share = causal.packed_loss(model, batch)
        (share / tokens).backward()
        total += float(share.detach()) / tokens
    return total


def worst(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert got.keys() == expected.keys()
    assert all(float(g.abs().max()) > 0 for g in expected.values())
    return max(float((got[n] - g).abs().max() / g.abs().max()) for n, g in expected.items())


def compare(model: Any, prompts: bool = True) -> float:
    ids, labels = rows(prompts)
    model.train()
    loss = plain_step(model, ids, labels)
    expected = gradients(model)
    assert causal.prepare(model) is None
    fused_lora.fuse(model)
    apart = []
    for once in (False, True):
        assert packed_step(model, ids, labels, once=once) == pytest.approx(loss, rel=1e-5)
        apart.append(worst(gradients(model), expected))
    return max(apart)


def test_common_beginnings_lie_in_the_row_once() -> None:
    a, b, c, d = [1, 2, 3, 4], [1, 2, 5], [6], [1, 2, 3, 4, 7]
    batch = pack([a, b, c, d], [a, b, c, d], once=True)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 7, 5, 6]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 0]]
    assert (batch.lengths, batch.shared) == ((4, 5, 3, 1), (0, 4, 2, 0))
    assert batch.predicting.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]  # in the order of the rows
    assert batch.targets.tolist() == [2, 3, 4, 2, 5, 2, 3, 4, 7]
    few = [[1, *range(10, 50)], [1, *range(60, 90)]]
    assert pack(few, few, once=True).shared is None  # taking them apart would cost more


def test_beginnings_are_read_by_each_row_where_something_is_dropped() -> None:
    model = build(transformers.LlamaConfig(**DECODER))
    assert not causal.reads_once(model)  # it is not packed
    assert causal.prepare(model) is None
    assert causal.reads_once(model)
    assert causal.reads_once(adapted(copy.deepcopy(model)))
    assert not causal.reads_once(adapted(copy.deepcopy(model), lora_dropout=0.1))
    model.config.attention_dropout = 0.1
    assert not causal.reads_once(model)


@pytest.mark.parametrize("prompts", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_full(prompts: bool, tied: bool) -> None:
    model = build(transformers.LlamaConfig(**DECODER, tie_word_embeddings=tied))
    assert compare(model, prompts) < ROUNDING


@pytest.mark.parametrize("prompts", [False, True])
def test_lora(prompts: bool) -> None:
    model = adapted(build(transformers.LlamaConfig(**DECODER, tie_word_embeddings=True)))
    assert fused_lora.fuse(copy.deepcopy(model)) == 14
    assert compare(model, prompts) < ROUNDING


@pytest.mark.parametrize("quantised", [False, True])
def test_lora_under_autocast_says_what_pefts_own_path_says(quantised: bool, tmp_path: Any) -> None:
    """As on a GPU: a frozen 16-bit (or 4-bit) base, adapters in fp32, and inputs of either type."""
    model = build(transformers.LlamaConfig(**DECODER | {"hidden_size": 64, "intermediate_size": 128}))
    model = adapted(in_4_bit(model, tmp_path, torch.bfloat16) if quantised else model.to(torch.bfloat16))
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    usual = layer.forward
    assert fused_lora.fuse(model) == 14
    assert layer.forward is not usual
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        given = torch.randn(2, 5, 64)
        for name, forward in (("fused", layer.forward), ("usual", usual)):
            x = given.to(dtype, copy=True).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                out = forward(x)
            model.zero_grad()
            out.float().square().sum().backward()
            assert x.grad is not None
            matrices = (layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad)
            assert {m.dtype for m in matrices} == {torch.float32}
            assert x.grad.dtype == dtype
            found[name] = [t.detach().float().clone() for t in (out, x.grad, *matrices)]
        for got, expected in zip(found["fused"], found["usual"], strict=True):
            assert float((got - expected).norm() / expected.norm()) < 1e-2


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("rank", [8, 16])
def test_an_adapter_that_drops_learns_what_pefts_own_path_learns(
    quantised: bool, device: str, rank: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same is dropped, drawn by torch where the device stands for CUDA; whoever only evaluates drops nothing."""
    monkeypatch.setattr(fused_lora, "kind_of", lambda _: device)
    monkeypatch.setattr(dropout, "kind_of", lambda _: device)
    model = build(transformers.LlamaConfig(**DECODER | {"hidden_size": 64, "intermediate_size": 128}))
    if quantised:
        model = in_4_bit(model, tmp_path)
    model = stir(get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", lora_dropout=0.2)))
    dropout.hasten(model)
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    usual = layer.forward
    assert fused_lora.fuse(model) == 14
    found = {}
    for name, forward in (("fused", layer.forward), ("usual", usual), ("other", usual)):
        x = torch.ones(2, 50, 64, requires_grad=True)
        torch.manual_seed(name == "other")
        out = forward(x).div_(2)  # in place, as Longformer does with its queries
        model.zero_grad()
        out.square().sum().backward()
        found[name] = [out.detach(), x.grad, layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad]
    for got, expected, other in zip(found["fused"], found["usual"], found["other"], strict=True):
        assert float((got - expected).norm() / expected.norm()) < ROUNDING
        assert float((got - other).norm() / other.norm()) > 10 * ROUNDING
    assert layer(x[:, :0]).shape == usual(x[:, :0]).shape, "an expert that no token chose reads nothing"
    model.eval()
    assert torch.allclose(layer(x), usual(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("more", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"use_rslora": True}])
def test_lora_of_other_kinds(more: dict[str, Any]) -> None:
    assert compare(adapted(build(transformers.LlamaConfig(**DECODER, tie_word_embeddings=False)), **more)) < ROUNDING


def test_lora_on_the_head_takes_the_recomputed_path() -> None:
    model = build(transformers.LlamaConfig(**DECODER, tie_word_embeddings=False))
    peft = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    assert compare(peft) < ROUNDING


def test_gradient_checkpointing() -> None:
    model = build(transformers.LlamaConfig(**DECODER, tie_word_embeddings=True))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert compare(model) < ROUNDING


def test_qlora(tmp_path: Any) -> None:
    config = transformers.LlamaConfig(**DECODER | {"hidden_size": 64, "intermediate_size": 128}, tie_word_embeddings=False)
    assert compare(adapted(in_4_bit(build(config), tmp_path))) < ROUNDING


@pytest.mark.parametrize(
    "config",
    [
        transformers.MistralConfig(**DECODER, sliding_window=6),
        transformers.Qwen2Config(
            **DECODER, sliding_window=5, use_sliding_window=True, layer_types=["sliding_attention", "full_attention"]
        ),
        transformers.Qwen3Config(**DECODER, head_dim=8),
        transformers.GemmaConfig(**DECODER, head_dim=8),
        transformers.Gemma3TextConfig(
            **DECODER,
            head_dim=8,
            sliding_window=5,
            final_logit_softcapping=3.0,
            layer_types=["sliding_attention", "full_attention"],
        ),
        transformers.PhiConfig(**DECODER),
        transformers.Phi3Config(**DECODER),
        transformers.SmolLM3Config(**DECODER),
        transformers.GraniteConfig(**DECODER, logits_scaling=3.0),
        transformers.CohereConfig(**DECODER, logit_scale=0.5),
        transformers.GPT2Config(
            vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        ),
        transformers.GPTNeoXConfig(**SMALL, hidden_dropout=0.0, attention_dropout=0.0, bos_token_id=1, eos_token_id=2),
    ],
    ids=lambda c: c.model_type,
)
def test_families(config: Any) -> None:
    assert compare(build(config)) < 1e-4


def test_a_model_whose_attention_wants_more_is_refused_and_left_as_it_was() -> None:
    model = build(transformers.Gemma2Config(**DECODER, head_dim=8))
    before = model.config._attn_implementation
    assert "softcap" in str(causal.prepare(model))
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    "config",
    [
        transformers.Gemma2Config(**DECODER, head_dim=8, final_logit_softcapping=3.0),
        transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0),
    ],
    ids=lambda c: c.model_type,
)
@pytest.mark.parametrize("adapters", [False, True])
def test_a_model_that_is_read_padded_puts_its_head_on_learned_tokens_only(config: Any, adapters: bool) -> None:
    model = adapted(build(config)) if adapters else build(config)
    ids, labels = (side[:3] + side[4:] for side in rows(prompts=True))  # without the row that teaches nothing
    model.train()
    expected = plain_step(model, ids, labels), gradients(model)
    task = Chat(plan_of(Path("any")), [], 0)
    task.adopt(model)
    assert (task.packed, task.chunked) == (False, True)
    seen: list[int] = []
    inner_of(model).lm_head.register_forward_hook(lambda head, read, said: seen.append(said[..., 0].numel()))
    same_as_uncut(task, model, Encoded(ids, labels, labels), 40, expected, ROUNDING)
    assert max(seen) <= sum(map(learned, labels))


def test_rows_that_a_model_reads_otherwise_for_their_length_are_not_read_beside_shorter_ones() -> None:
    """Phi's longrope has one set of frequencies up to so many tokens, and another for all rows of a pass with a longer one."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    model = build(transformers.Phi3Config(**DECODER, original_max_position_embeddings=16, rope_parameters=rope))
    ids, labels = (side[:3] + side[4:] for side in rows(prompts=True))
    tokens, loss = sum(map(learned, labels)), 0.0
    for row, label in zip(ids, labels, strict=True):
        own = model(**uncut([row], [label])).loss * learned(label) / tokens
        own.backward()
        loss += float(own.detach())
    expected = gradients(model)
    task = Chat(plan_of(Path("any")), [], 0)
    task.adopt(model)
    assert (task.packed, task.turn) == (True, 16)
    encoded = Encoded(ids, labels, labels)
    assert cut_step(task, model, encoded, 40) == pytest.approx(loss, rel=1e-5)
    assert_same(gradients(model), expected, ROUNDING)
    reader = Reader(task, TokenBudget(1000, lambda *_: None), lambda: None)
    assert reader.score(model, encoded).loss == pytest.approx(loss, rel=1e-5)
    pairs = Preference(plan_of(Path("any")), [], 0)
    pairs.adopt(model)
    sides = [ids[1] + ids[0], ids[2] + ids[1]]
    said = [{"labels": labels[1] + labels[0], "chosen": len(ids[1])}, {"labels": labels[2] + labels[1], "chosen": len(ids[2])}]
    with torch.no_grad():
        apart = [[-float(pairs.token_losses(model, [ids[i]], [labels[i]]).sum()) for i in pair] for pair in ((1, 0), (2, 1))]
        torch.testing.assert_close(pairs.likelihoods(model, sides, said), torch.tensor(apart), rtol=1e-5, atol=0)


def test_generation_after_preparing_is_unchanged(tmp_path: Any) -> None:
    model = build(transformers.LlamaConfig(**DECODER))
    prompt = {
        "input_ids": torch.tensor([[0, 0, 7, 8], [5, 6, 7, 8]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
    }
    expected = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert causal.prepare(model) is None
    assert torch.equal(model.generate(**prompt, max_new_tokens=8, do_sample=False), expected)
    model.save_pretrained(tmp_path)
    assert "loracle" not in (tmp_path / "config.json").read_text()


def test_gradients_of_many_alike_tokens_do_not_overflow_in_fp16() -> None:
    head, targets = Head(nn.Linear(4, 8, bias=False)), torch.zeros(2048, dtype=torch.long)
    hidden = torch.full((2048, 4), 50.0)
    nn.init.normal_(head.module.weight, std=0.001)
    expected = torch.autograd.grad(token_loss(hidden, head, targets), head.module.weight)[0]
    assert float(expected.abs().max()) > 65_504
    with torch.autocast("cpu", torch.float16):
        found = token_loss(hidden, head, targets, chunk=2048)
    assert torch.allclose(torch.autograd.grad(found, head.module.weight)[0], expected, rtol=0.01)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bias", [False, True])
def test_chunks_do_not_matter(softcap: float | None, bias: bool) -> None:
    head = Head(nn.Linear(16, 50, bias=bias), scale=0.7, softcap=softcap)
    hidden, targets = torch.randn(11, 16, requires_grad=True), torch.randint(50, (11,))
    expected = nn.functional.cross_entropy(head.logits(hidden), targets, reduction="sum")
    wanted = torch.autograd.grad(expected * 3, [hidden, *head.module.parameters()])
    got = token_loss(hidden, head, targets, chunk=4)
    assert torch.allclose(got, expected)
    for g, w in zip(torch.autograd.grad(got * 3, [hidden, *head.module.parameters()]), wanted, strict=True):
        assert torch.allclose(g, w, atol=1e-5)


def test_in_fp16_the_heads_gradient_stands_before_the_losss_scale_could_lower_it() -> None:
    """A sum over tokens: 512 times 300, where fp16 ends at 65,504."""
    head = Head(nn.Linear(8, 16, bias=False))
    nn.init.zeros_(head.module.weight)
    hidden, targets = torch.full((512, 8), 300.0), torch.zeros(512, dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        (got,) = torch.autograd.grad(token_loss(hidden, head, targets, chunk=512), head.module.parameters())
    assert torch.allclose(got[0], torch.full((8,), -15 / 16 * 512 * 300), rtol=1e-3)


def test_flash_attention_is_not_taken_where_it_does_not_run() -> None:
    assert not attention._flash_agrees(torch.device("cpu"), torch.bfloat16, 16)
