"""The notes beneath the table of settings (docs/method-guide.md, section 5); its cells are in test_method_guide.py."""

from typing import Any

import pytest

from recommender import hyper, rates
from recommender.counting import Split, skewed, smallest_class, split_of
from recommender.decide import recommend
from recommender.facts import DataFacts, Facts, Goal, ModelFacts
from recommender.recommendation import METHODS
from recommender.shape import Shape, quantised_bytes, shape_of, tuned_as_encoder

TAGS, TEXT, PAIRS, RAW = "token_classification", "instruction", "preference", "continued_pretraining"


def shape(family: str, parameters: float, **more: Any) -> Shape:
    return shape_of(ModelFacts.model_validate({"family": family, "parameters": int(parameters), **more}))


def data(task: str = "classification", rows: int = 5_000, **more: Any) -> DataFacts:
    return DataFacts.model_validate({"task": task, "rows": rows, "unique_rows": rows, **more})


def rate(family: str, parameters: float, task: str, method: Any, steps: int = 1000, **more: Any) -> float:
    model, rows = shape(family, parameters), data(task)
    return rates.learning_rate_of(model, rows, method, tuned_as_encoder(model, rows), steps=steps, **more)


@pytest.mark.parametrize(
    ("family", "parameters", "task", "full", "lora"),
    [
        ("encoder", 90e6, TAGS, 5e-5, 5e-4),
        ("encoder", 200e6, TAGS, 3e-5, 5e-4),
        ("encoder", 400e6, TAGS, 2e-5, 5e-4),
        ("encoder", 600e6, "classification", 1e-5, 5e-4),
        ("encoder", 601e6, "classification", 1e-5, 2e-4),
        ("decoder", 1e9, RAW, 5e-5, 1e-4),
        ("decoder", 1.1e9, RAW, 2e-5, 1e-4),
        ("decoder", 30e9, RAW, 1e-5, 1e-4),
        ("decoder", 8e9, PAIRS, 5e-7, 5e-6),
    ],
)
def test_rates_of_other_work(family: str, parameters: float, task: str, full: float, lora: float) -> None:
    assert (rate(family, parameters, task, "full"), rate(family, parameters, task, "lora")) == (full, lora)


def test_rates_of_other_models_and_of_short_runs() -> None:
    assert rate("encoder-decoder", 220e6, "seq2seq", "full", t5=True) == 1e-4
    assert rate("encoder", 110e6, "classification", "full", trained="last_layers") == 5e-5
    assert [rate("decoder", 2e9, TEXT, m, steps=n) for m in ("full", "lora") for n in (99, 100)] == [2e-5, 2e-5, 4.5e-4, 3e-4]
    mixture = shape("decoder", 46.7e9, experts=8, experts_per_token=2, hidden_size=4096, layers=32)
    assert mixture.active_parameters < 30e9
    assert rates.learning_rate_of(mixture, data(TEXT), "qlora", False, steps=1000) == 2e-4, "by what a token passes through"


def test_what_holds_up_lies_around_the_usual_rate() -> None:
    for family, parameters in (("encoder", 22e6), ("encoder", 110e6), ("encoder", 700e6), ("decoder", 2e9), ("decoder", 70e9)):
        for task in ("classification" if family == "encoder" else TEXT, TAGS if family == "encoder" else PAIRS):
            for method in ("full", "lora"):
                model, rows = shape(family, parameters), data(task)
                low, high, *_ = rates.rate_range(model, rows, method, tuned_as_encoder(model, rows))
                assert low <= rate(family, parameters, task, method) <= high
    bert = shape("encoder", 110e6)
    assert rates.rate_range(bert, data(), "full", True, trained="last_layers")[:2] == (2e-5, 1e-4)
    assert rates.rate_range(shape("encoder", 1.5e9), data(), "lora", True)[1] == 3e-4


@pytest.mark.parametrize(
    ("family", "parameters", "task", "method", "epochs"),
    [
        ("encoder", 110e6, TAGS, "full", [8, 5, 3, 2, 1]),
        ("encoder", 110e6, "classification", "lora", [20, 8, 6, 4, 2]),
        ("decoder", 8e9, TEXT, "full", [3, 3, 2, 1, 1]),
        ("decoder", 8e9, TEXT, "lora", [4, 3, 2, 1, 1]),
        ("decoder", 70e9, TEXT, "lora", [2, 2, 2, 1, 1]),
        ("decoder", 8e9, PAIRS, "lora", [1, 1, 1, 1, 1]),
    ],
)
def test_epochs_by_rows(family: str, parameters: float, task: str, method: Any, epochs: list[int]) -> None:
    model = shape(family, parameters)
    sizes = (999, 9_999, 99_999, 1_000_000, 1_000_001)
    assert [rates.epochs_of(model, data(task, n), method, family == "encoder") for n in sizes] == epochs


def test_few_layers_are_trained_as_often_as_large_data_allows() -> None:
    bert = shape("encoder", 110e6)
    assert [rates.epochs_of(bert, data(rows=n), "full", True, "last_layers") for n in (900, 100_000, 100_001)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("family", "parameters", "method", "batches"),
    [
        ("encoder", 110e6, "full", [16, 32, 32, 32, 32]),
        ("decoder", 2e9, "lora", [16, 32, 32, 32, 32]),
        ("decoder", 8e9, "lora", [16, 16, 32, 32, 32]),
        ("decoder", 8e9, "full", [32, 32, 32, 32, 64]),
        ("decoder", 30e9, "full", [64, 64, 64, 64, 64]),
    ],
)
def test_batches_by_rows(family: str, parameters: float, method: Any, batches: list[int]) -> None:
    model, rows = shape(family, parameters), data("classification" if family == "encoder" else TEXT)
    sizes = (2_999, 9_999, 10_000, 99_999, 100_000)
    usual = [rates.usual_batch(model, rows, method, encoder=family == "encoder", rows=n, length=512) for n in sizes]
    assert usual == batches


def test_a_step_of_raw_text_reads_about_260_thousand_tokens_in_full() -> None:
    found = [
        rates.usual_batch(shape("decoder", 8e9), data(RAW), method, encoder=False, rows=9, length=n)  # type: ignore[arg-type]
        for method, n in (("full", 2048), ("full", 8), ("lora", 2048))
    ]
    assert found == [128, 4096, 32]
    assert [rates.passes_over_text(blocks, 1) for blocks in (10, 60, 99, 100)] == [4, 2, 2, 1]


def test_rows_are_split_by_how_many_there_are() -> None:
    found = {n: tuple(split_of(data(rows=n))) for n in (1_000, 5_000, 20_000, 200_000)}
    small, large = {1_000: (723, 127, 150), 5_000: (3_825, 675, 500)}, {20_000: (16_200, 1_800, 2_000)}
    assert found == small | large | {200_000: (188_000, 2_000, 10_000)}
    assert split_of(data(rows=1_000, eval_rows=300)) == (850, 150, 0), "held-out rows that were brought are not taken twice"


def test_classes_are_skewed_from_beyond_ten_to_one_and_counted_without_repeats() -> None:
    assert [skewed(data(label_counts=[most, 60, 10])) for most in (100, 101)] == [False, True]
    repeated = {"rows": 1_000, "unique_rows": 500, "duplicate_share": 0.5, "label_counts": [940, 60]}
    assert smallest_class(DataFacts.model_validate({"task": "classification", **repeated})) == 30


def test_a_weight_in_8_bits_takes_a_byte() -> None:
    assert [quantised_bytes(ModelFacts(quantization=name)) for name in ("fp8", "nf4", None)] == [1.05, 0.55, None]


def test_a_batch_of_raw_text_counts_blocks_and_not_documents() -> None:
    books = data(RAW, 10, trained_tokens=2_048_000)
    assert hyper.training_rows(books, Split(8, 2, 0), 2048) == 800
    assert hyper.training_rows(data(TEXT), Split(8, 2, 0), 2048) == 8


def test_batches_are_halved_while_a_run_has_under_100_steps() -> None:
    halved = [
        rates.effective_batch_of(32, encoder=encoder, rows=rows, epochs=epochs)
        for encoder, rows, epochs in ((True, 3_200, 1), (True, 3_100, 1), (True, 100, 4), (False, 100, 4), (False, 300, 1))
    ]
    assert halved == [32, 16, 8, 4, 8]
    assert rates.steps_of(33, 3, 16) == 9, "the last rows are a step of their own"


def test_warm_up_ranks_and_dropout_by_rows() -> None:
    assert [rates.warmup_share(data(rows=n), True) for n in (999, 1_000)] == [0.10, 0.06]
    assert rates.warmup_share(data(TEXT, 999), False) == 0.04
    bert, small, large, huge = shape("encoder", 110e6), shape("decoder", 1e9), shape("decoder", 8e9), shape("decoder", 14e9)
    assert [rates.rank_of(bert, data(rows=n), Goal(), True) for n in (9_999, 10_000)] == [8, 16]
    assert rates.rank_of(small, data(TEXT), Goal(purpose="code"), False) == 256
    full = rates.capacity(large, 16)
    many = [rates.rank_of(large, data(TEXT, trained_tokens=n), Goal(), False) for n in (full, full + 1, 40 * full)]
    assert many == [16, 32, 256]
    assert rates.rank_of(large, data(PAIRS, trained_tokens=40 * full), Goal(), False) == 16
    usual, none = [0.1, 0.05, 0.05], [0.0, 0.0, 0.0]
    for model, shares in ((bert, usual), (small, none), (large, usual), (huge, [0.05, 0.05, 0.0])):
        assert [rates.dropout_of(model, data(TEXT, n), model is bert) for n in (999, 9_999, 10_000)] == shares
    assert rates.dropout_of(large, data(RAW, 900), False) == 0.0
    assert rates.dropout_of(shape("decoder", 8e9, experts=8), data(TEXT, 900), False) == 0.0


def test_what_a_warm_up_and_clipping_come_to() -> None:
    facts = Facts.model_validate({"model": {"family": "encoder", "parameters": 110_000_000}, "data": data(rows=5_000)})
    by_method = {c.method: c.settings for c in recommend(facts).candidates}
    assert [(s.warmup_steps, s.max_grad_norm) for s in by_method.values()] == [
        (round(0.06 * s.total_steps), clipped) for s, clipped in zip(by_method.values(), (1.0, 0.3, 0.3), strict=True)
    ]


def test_labels_are_smoothed_where_some_contradict_each_other() -> None:
    shares = (0.02, 0.03, 0.06, 0.07, 0.10, 0.11)
    found = [hyper.label_smoothing_of(data(conflict_share=share, classes=3)) for share in shares]
    assert found == [0.0, 0.05, 0.05, 0.1, 0.1, 0.0]
    assert hyper.label_smoothing_of(data("regression", conflict_share=0.05)) == 0.0


@pytest.mark.parametrize(
    ("task", "p95", "p99", "longest", "length"),
    [
        ("classification", 101, 300, 400, 400),  # cutting nobody is free
        ("classification", 101, 300, 600, 104),
        ("classification", 500, 501, 503, 504),
        ("classification", 900, 950, 1000, 512),  # the model's limit
        (TEXT, 101, 300, 600, 304),
    ],
)
def test_lengths_are_multiples_of_8_within_the_models_limit(task: str, p95: int, p99: int, longest: int, length: int) -> None:
    rows = data(task, tokens_p95=p95, tokens_p99=p99, tokens_max=longest)
    assert hyper.max_length_of(shape("encoder", 110e6), rows) == length


def test_lengths_that_are_estimated_leave_room_for_the_ends_of_answers() -> None:
    """Where all rows have the same list of tools, all are as long, and all lost their last tokens to an estimate 2.4% short."""
    for longest, length in ((490, 512), (1382, 1432)):
        rows = data("chat", tokens_p95=longest, tokens_p99=longest, tokens_max=longest, tokens_origin="estimated")
        assert hyper.max_length_of(shape("decoder", 1e9), rows) == length


def test_raw_text_is_cut_into_blocks_and_a_step_counts_those_that_are_trained_on() -> None:
    model = shape("decoder", 1e9)
    lengths = [hyper.max_length_of(model, data(RAW, tokens_p50=n)) for n in (2048, 2049)]
    assert lengths == [2048, 4096]
    assert hyper.max_length_of(shape("decoder", 1e9, max_positions=1024), data(RAW, tokens_p50=9)) == 1024
    rows = data(RAW, 100, trained_tokens=100_000)
    assert hyper.training_rows(rows, Split(80, 20, 0), 1000) == 80


def test_micro_batches_on_a_cpu_are_larger_where_half_of_the_weights_are_embeddings() -> None:
    facts = Facts.model_validate({"machine": {"backend": "cpu"}})
    for hidden, budgets in ((384, [4096, 2048, 2048]), (768, [1024, 1024, 1024])):
        model = shape("encoder", 30e6, hidden_size=hidden)
        assert [hyper.token_budget_of(facts, model, m) for m in METHODS] == budgets


@pytest.mark.parametrize(
    ("backend", "device", "model", "precision"),
    [
        ("mps", {"bf16": True}, {"parameters": 2 * 10**9}, "bf16-mixed"),
        ("mps", {"bf16": True}, {"parameters": 10**8}, "fp32"),
        ("cuda", {"compute_capability": [8, 0]}, {}, "bf16-mixed"),
        ("cuda", {"compute_capability": [7, 5]}, {}, "fp16-mixed"),
        ("cuda", {"compute_capability": [7, 5]}, {"id": "google/gemma-2b"}, "fp32"),
        ("cuda", {"compute_capability": [5, 2]}, {}, "fp32"),
        ("cuda", {"name": "Tesla T4"}, {}, "fp16-mixed"),
        ("cuda", {"name": "a new card"}, {}, "bf16-mixed"),
    ],
)
def test_the_precision_that_trains_safely(backend: str, device: dict[str, Any], model: dict[str, Any], precision: str) -> None:
    machine = {"backend": backend, "devices": [device | {"memory_free": 10**10}]}
    facts = Facts.model_validate({"machine": machine, "model": {"family": "decoder"} | model})
    assert hyper.precision_of(facts, shape_of(facts.model), "lora") == precision
