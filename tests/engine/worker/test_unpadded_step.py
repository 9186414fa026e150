"""Encoders, and decoders that classify, learn without padding what the plain padded batch teaches."""

from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput

from engine.worker import dropout, fused_lora, grouped, unpadded
from engine.worker.batches import padded
from engine.worker.inner import inner_of
from engine.worker.layout import layout
from engine.worker.packing import cut_packed
from tests.engine.worker import exact
from tests.engine.worker.exact import Gradients, gradients, stir

WORDS = 97
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "num_labels": 3,
}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LENGTHS = [23, 3, 17, 9, 31, 2, 14, 9]
ROUNDING = 3e-5
"""Of the largest gradient of a parameter; fp32 sums in another order."""

ENCODERS: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**SMALL, **STILL),
    "roberta": lambda: transformers.RobertaConfig(**SMALL | {"max_position_embeddings": 66}, **STILL),
    "electra": lambda: transformers.ElectraConfig(**SMALL, **STILL, embedding_size=16),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=WORDS, dim=32, hidden_dim=64, n_layers=2, n_heads=4, max_position_embeddings=64, pad_token_id=1,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, num_labels=3,
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SMALL, local_attention=8, global_attn_every_n_layers=2, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
    ),
}  # fmt: skip
DECODERS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**SMALL, num_key_value_heads=2, bos_token_id=2, eos_token_id=3),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=WORDS, n_positions=64, n_embd=32, n_layer=2, n_head=4, pad_token_id=1, num_labels=3,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, summary_first_dropout=0.0,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fixed() -> None:
    torch.manual_seed(0)


def build(config: Any, auto: str = "AutoModelForSequenceClassification") -> Any:
    return exact.build(config, auto)


def adapted(model: Any, **more: Any) -> Any:
    return stir(get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS", **more)))


def rows() -> tuple[list[list[int]], torch.Tensor]:
    return [torch.randint(5, WORDS, (n,)).tolist() for n in LENGTHS], torch.randint(0, 3, (len(LENGTHS),))


def step(model: Any, ids: list[list[int]], truth: torch.Tensor, budget: int | None = None) -> tuple[float, Gradients]:
    """Loss and gradients of the rows, in one padded batch or in micro-batches of `budget` tokens."""
    model.zero_grad()
    loss = 0.0
    for piece in cut_packed([len(i) for i in ids], budget or 10**6):
        logits = model(**padded([ids[i] for i in piece], 1, "cpu")).logits
        if logits.dim() == 3:  # a label a token
            logits = torch.cat([row[: len(ids[i])] for row, i in zip(logits, piece, strict=True)])
            wanted = torch.cat([truth[i].expand(len(ids[i])) for i in piece])
        else:
            wanted = truth[piece]
        share = functional.cross_entropy(logits, wanted, reduction="sum") / len(ids)
        share.backward()
        loss += float(share.detach())
    return loss, gradients(model)


def compare(model: Any) -> float:
    """The largest difference of a gradient between the plain batch and the cut, unpadded one."""
    ids, truth = rows()
    model.train()
    loss, expected = step(model, ids, truth)
    assert unpadded.prepare(model) is None
    assert narrow(model) == (short(model) and type(inner_of(model)).__name__.endswith("SequenceClassification"))
    fused_lora.fuse(model)
    got_loss, got = step(model, ids, truth, budget=40)
    assert got_loss == pytest.approx(loss, rel=1e-5)
    assert got.keys() == expected.keys()
    assert sum(float(g.abs().max()) > 0 for g in expected.values()) > 0.8 * len(expected)
    # Keys' biases have a gradient of exactly zero, which rounding fills with noise.
    largest = max(float(g.abs().max()) for g in expected.values())
    return max(float((got[n] - g).abs().max() / (g.abs().max() + 1e-3 * largest)) for n, g in expected.items())


def narrow(model: Any) -> bool:
    """Whether the last layer is computed for first tokens only."""
    return "forward" in vars(inner_of(model))


def short(model: Any) -> bool:
    return inner_of(model).config.model_type in ("bert", "roberta", "electra", "distilbert")


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS])
def test_full(family: str) -> None:
    assert compare(build((ENCODERS | DECODERS)[family]())) < ROUNDING


@pytest.mark.parametrize(
    ("family", "more"), [("bert", {}), ("bert", {"use_dora": True}), ("modernbert", {}), ("llama", {})]
)
def test_lora(family: str, more: dict[str, Any]) -> None:
    model = adapted(build((ENCODERS | DECODERS)[family]()), **more)
    assert compare(model) < ROUNDING


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_label_a_token(family: str) -> None:
    assert compare(build(ENCODERS[family](), "AutoModelForTokenClassification")) < ROUNDING


def test_whoever_asks_the_body_gets_every_token() -> None:
    """The probe and the forgetting check read all of the hidden states that the head reads one of."""
    model = build(ENCODERS["bert"]()).eval()
    ids, _ = rows()
    batch = padded(ids, 1, "cpu")
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        before = model.bert(**batch).last_hidden_state
        layers = model(**batch, output_hidden_states=True).hidden_states
        assert unpadded.prepare(model) is None
        assert narrow(model)
        torch.testing.assert_close(model.bert(**batch).last_hidden_state[real], before[real], rtol=1e-4, atol=1e-5)
        for got, wanted in zip(model(**batch, output_hidden_states=True).hidden_states, layers, strict=True):
            torch.testing.assert_close(got[real], wanted[real], rtol=1e-4, atol=1e-5)


class Mean(transformers.BertForSequenceClassification):  # type: ignore[misc]  # mypy does not read transformers here
    """A head that reads every token."""

    share = 1.0

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
        hidden = self.bert(input_ids, attention_mask=attention_mask, **rest).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return SequenceClassifierOutput(logits=self.classifier(torch.lerp(hidden[:, 0], mean, self.share)))


class Glance(Mean):
    """One that hardly looks beyond the first: zeros there would agree."""

    share = 1e-6


class Prenorm(transformers.RobertaPreLayerNormForSequenceClassification):  # type: ignore[misc]
    """Keys and values of what a norm makes of the layer's input."""


@pytest.mark.parametrize("kind", [Mean, Glance, Prenorm])
def test_the_last_layer_stays_whole_where_the_head_or_the_layer_reads_more(kind: Any) -> None:
    made = transformers.RobertaPreLayerNormConfig if kind is Prenorm else transformers.BertConfig
    model = kind(made(**SMALL, **STILL))
    ids, truth = rows()
    loss, expected = step(model, ids, truth)
    assert unpadded.prepare(model) is None
    assert not narrow(model)
    got_loss, got = step(model, ids, truth, budget=40)
    assert got_loss == pytest.approx(loss, rel=1e-5)
    largest = max(float(g.abs().max()) for g in expected.values())
    assert max(float((got[n] - g).abs().max()) for n, g in expected.items()) < ROUNDING * largest


def test_gradient_checkpointing() -> None:
    model = build(ENCODERS["bert"]())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert compare(model) < ROUNDING


def test_bf16_on_a_cpu_learns_about_the_same_with_dropout_too() -> None:
    config = transformers.BertConfig(**SMALL, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = build(config)
    ids, truth = rows()
    assert unpadded.prepare(model) is None
    dropout.hasten(model)
    model.train()
    found = []
    for bf16 in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found.append(step(model, ids, truth))
    (loss, expected), (got_loss, got) = found
    assert got_loss == pytest.approx(loss, rel=0.05)
    for name in ("classifier.weight", "bert.encoder.layer.0.attention.self.value.weight"):
        assert float(functional.cosine_similarity(got[name].flatten(), expected[name].flatten(), 0)) > 0.98


def test_the_last_layers_alone() -> None:
    model = build(ENCODERS["bert"]())
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(("bert.embeddings", "bert.encoder.layer.0")))
    assert compare(model) < ROUNDING


def test_qlora(tmp_path: Any) -> None:
    model = build(transformers.BertConfig(**SMALL | {"hidden_size": 64, "intermediate_size": 128}, **STILL))
    assert compare(adapted(exact.in_4_bit(model, tmp_path, llm_int8_skip_modules=["classifier"]))) < ROUNDING


def test_a_family_that_cannot_stays_padded_and_says_the_same_as_before() -> None:
    config = transformers.DebertaV2Config(**SMALL, **STILL, relative_attention=True, pos_att_type=["p2c", "c2p"])
    model = build(config).eval()
    ids, _ = rows()
    batch = padded(ids, 1, "cpu")
    with torch.no_grad():
        before = model(**batch).logits
        reason = unpadded.prepare(model)
        assert reason is not None
        assert "deberta" in reason
        torch.testing.assert_close(model(**batch).logits, before, rtol=0, atol=0)


def test_a_model_that_disagrees_is_left_as_it_was() -> None:
    class Odd(transformers.BertForSequenceClassification):  # type: ignore[misc]  # mypy does not read transformers here
        """Its answers change with every reading."""

        def forward(self, input_ids: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
            self.bert.embeddings.position_embeddings.weight.data.add_(torch.randn(64, 32))
            return super().forward(input_ids, attention_mask=attention_mask, **rest)

    torch.manual_seed(0)
    model = Odd(ENCODERS["bert"]())
    before = model.config._attn_implementation
    reason = unpadded.prepare(model)
    assert reason is not None
    assert "other outputs" in reason
    assert model.config._attn_implementation == before
    assert "forward" not in vars(model.bert)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("lengths", [(9, 9, 9), (31, 23, 17, 14, 9, 9, 3, 2), (3, 40, 2), (3, 40, 3)])
def test_attention_in_groups(
    monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], window: int | None, causal: bool
) -> None:
    """There and back as sequence by sequence, by torch's kernel, and by ours with a dropout too small to drop anything."""
    monkeypatch.setattr(grouped, "TILE", 2_000)  # so that a group takes several tiles, of some heads or some sequences
    heads, width = 4, 8
    parts = [torch.randn(1, heads, sum(lengths), width) for _ in range(3)]
    outer = torch.randn(1, sum(lengths), heads, width)
    found = []
    for p in (None, 0.0, 1e-9):
        q, k, v = (t.clone().requires_grad_() for t in parts)
        if p is None:
            each = zip(*(t.split(lengths, 2) for t in (q, k, v)), lengths, strict=True)
            outs = []
            for a, b, c, n in each:
                distance = torch.arange(n)[:, None] - torch.arange(n)[None, :]
                seen = (distance.abs() < (window or n)) & ((distance >= 0) if causal else torch.ones(n, n, dtype=torch.bool))
                outs.append(functional.scaled_dot_product_attention(a, b, c, seen).transpose(1, 2))
            out = torch.cat(outs, 1)
        else:
            out = grouped.attend(q, k, v, lengths=lengths, p=p, scaling=None, causal=causal, window=window)
        found.append((out, *torch.autograd.grad((out * outer).sum(), (q, k, v))))
    for other in found[1:]:
        for got, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_what_was_laid_out_while_scoring_serves_in_training_too(causal: bool) -> None:
    parts = [torch.randn(1, 2, 11, 4, requires_grad=True) for _ in range(3)]
    options: dict[str, Any] = {"lengths": (8, 3), "p": 0.0, "scaling": None, "causal": causal, "window": 4}
    layout.cache_clear()
    grouped.band.cache_clear()
    with torch.inference_mode():
        grouped.attend(*parts, **options)
    grouped.attend(*parts, **options).sum().backward()
    assert all(t.grad is not None for t in parts)


def test_keys_that_are_repeated_for_a_card_without_such_kernels_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [torch.randn(1, heads, 23, 8) for heads in (4, 2, 2)]
    found = []
    for takes in (True, False):
        monkeypatch.setattr(grouped, "takes_groups", lambda *_, takes=takes: takes)
        q, k, v = (t.clone().requires_grad_() for t in parts)
        out = grouped.attend(q, k, v, lengths=(14, 9), p=0.0, scaling=None, causal=True, window=5)
        found.append((out, *torch.autograd.grad(out.square().sum(), (q, k, v))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_attention_with_dropout_has_the_expectation_of_attention_without() -> None:
    q, k, v = (torch.randn(1, 2, 24, 8) for _ in range(3))
    options: dict[str, Any] = {"lengths": (14, 10), "scaling": None, "causal": False, "window": None}
    wanted = grouped.attend(q, k, v, p=0.0, **options)
    mean = torch.stack([grouped.attend(q, k, v, p=0.25, **options) for _ in range(500)]).mean(0)
    assert float((mean - wanted).abs().max()) < 0.2
    assert float((mean - wanted).abs().mean()) < 0.035


def _attend_from_seed(*inputs: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    return grouped.attend(*inputs, lengths=(7, 5, 4), p=0.3, scaling=None, causal=False, window=None)


def test_attention_goes_back_through_what_it_dropped() -> None:
    """Against finite differences, with the same draws each time; and in 16 bit as in fp32. Values may be narrower than keys."""
    parts = [torch.randn(1, 2, 16, width, dtype=torch.float64, requires_grad=True) for width in (4, 4, 3)]
    assert torch.autograd.gradcheck(_attend_from_seed, parts)
    outer = torch.randn(1, 16, 2, 3)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        narrow = [t.detach().to(dtype).requires_grad_() for t in parts]
        out = _attend_from_seed(*narrow)
        found.append((out.detach(), *torch.autograd.grad((out * outer).sum(), narrow)))
    for wide, narrow in zip(*found, strict=True):
        assert float((wide - narrow).norm() / wide.norm()) < 0.02


def test_attention_keeps_nothing_twice_of_a_sequence_that_is_alone() -> None:
    """It was a slice of the rows of all groups, which were kept beside the others' copies: 5% of a step of MiniLM."""
    kept: dict[int, int] = {}

    def seen(t: torch.Tensor) -> torch.Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    shapes = layout((100, 9, 8), torch.device("cpu")).shapes
    assert shapes == ((1, 100), (2, 9))
    q, k, v = (torch.randn(1, 2, 118, 8, requires_grad=True) for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(seen, lambda t: t):
        grouped._Attended.apply(*(t[0].transpose(0, 1) for t in (q, k, v)), shapes, [None, None], 0.1, 1.0)
    assert sum(kept.values()) == 3 * 118 * 2 * 8 * 4 + 2 * (100**2 + 2 * 9**2) * 5


@pytest.mark.parametrize("p", [0.001, 0.05, 0.1])
def test_draws_drop_their_share_though_a_byte_knows_only_256ths(p: float) -> None:
    kept = torch.empty(20_000, dtype=torch.int8)
    dropped = [float((dropout.draw(kept, p) == 0).float().mean()) for _ in range(200)]
    assert set(kept.unique().tolist()) == {0, -1}
    error = (p / len(kept) / 200) ** 0.5 + (1 / 256 / 200**0.5 / 2 if p > 1 / 16 else 0)
    assert abs(sum(dropped) / 200 - p) < 4 * error


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_its_share_everywhere_and_scales_the_rest(p: float) -> None:
    layer = nn.Sequential(nn.Linear(64, 64), nn.Dropout(p))
    assert dropout.hasten(layer) == 1
    x = torch.ones(4000, 64, requires_grad=True)
    y = layer[1](x)
    values = y.detach()
    kept = values != 0
    assert len(values[kept].unique()) == 1
    assert float(values[kept][0]) == pytest.approx(1 / (1 - p), rel=1e-4)
    shares = kept.float().mean(0)  # by column: all four lanes of the drawn words must be alike
    assert float((shares - (1 - p)).abs().max()) < 6 * (p * (1 - p) / 4000) ** 0.5
    rows_together = (kept[:, :-1] & kept[:, 1:]).float().mean()  # neighbours are independent
    assert float(rows_together) == pytest.approx((1 - p) ** 2, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, values)
    layer.eval()
    torch.testing.assert_close(layer[1](x), x)


def test_dropout_repeats_from_the_same_seed() -> None:
    layer = nn.Dropout(0.3)
    dropout.hasten(layer)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(layer(torch.ones(50, 7)))
    assert torch.equal(*found)
