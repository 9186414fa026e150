"""What is said where nothing can run or nothing should: the remedies, word for word where the words are the point."""

import re
from typing import Any

import pytest

from recommender.decide import recommend
from recommender.facts import Device, Facts
from recommender.figures import share
from recommender.lints import share_cut
from recommender.names import memory_in_name
from recommender.recommendation import METHODS, Recommendation
from tests.recommender.test_recommend import BERT, CPU, IMDB, INSTRUCTIONS, LLAMA_8B, gpu


def advise(model: dict[str, Any], data: dict[str, Any], machine: dict[str, Any], **goal: Any) -> Recommendation:
    return recommend(Facts.model_validate({"machine": machine, "model": model, "data": data, "goal": goal}))


def test_working_kernels_are_named_where_they_are_all_that_is_missing() -> None:
    advice = advise(LLAMA_8B, INSTRUCTIONS, gpu(15, nf4=False))
    assert advice.verdict == "does_not_fit"
    assert advice.instead[0] == "Get the 4-bit kernels to work here (bitsandbytes): QLoRA would fit."
    assert not any("bitsandbytes" in said for said in advise(LLAMA_8B, INSTRUCTIONS, gpu(4, nf4=False)).instead)


def test_shorter_texts_are_advised_for_the_method_that_would_win() -> None:
    """32k tokens on 36 GB: LoRA at 12k, though QLoRA could read some more."""
    long = INSTRUCTIONS | {"tokens_p50": 18_000, "tokens_p95": 30_000, "tokens_p99": 32_000, "tokens_max": 34_000}
    advice = advise(LLAMA_8B | {"max_positions": 131_072}, long, gpu(36))
    assert advice.verdict == "does_not_fit"
    assert advice.instead[0].startswith("LoRA would fit with texts cut at 12 288 tokens")


def test_what_would_fit_and_still_take_too_long_is_told_to_shrink_too() -> None:
    advice = advise(LLAMA_8B, INSTRUCTIONS, gpu(8), time_budget_hours=0.5)
    assert advice.verdict == "does_not_fit"
    assert "Use a smaller model, or a machine with more memory." in advice.instead
    assert any("allow" in said for said in advice.instead), "a larger machine alone would not make it quick enough"


def test_the_time_to_allow_is_the_same_wherever_it_is_said() -> None:
    advice = advise(LLAMA_8B, INSTRUCTIONS, gpu(26), time_budget_hours=0.05)
    (wanted,) = (said for said in advice.would_change if "may take" in said)
    assert advice.instead[-1].split("allow ")[1] == wanted.split("take ")[1]
    assert not any("pack" in said for said in advice.instead), "no padding is paid for, so packing would save nothing"


@pytest.mark.parametrize(
    ("model", "data", "machine", "hours"),
    [
        (LLAMA_8B, INSTRUCTIONS, gpu(77), 2.0),
        (LLAMA_8B, INSTRUCTIONS | {"rows": 12_000, "unique_rows": 12_000}, gpu(77), 1.5),  # fewer than 10,000 train a pass more
        (BERT, IMDB | {"rows": 5000, "unique_rows": 5000, "label_counts": [2500, 2500]}, CPU, 2.0),
        (BERT, IMDB, CPU, 0.5),
    ],
)
def test_fewer_rows_are_advised_where_deciding_on_them_trains(
    model: dict[str, Any], data: dict[str, Any], machine: dict[str, Any], hours: float
) -> None:
    advice = advise(model, data, machine, time_budget_hours=hours)
    assert advice.verdict == "does_not_fit"
    said = [re.search(r"about ([\d ]+) of .*`--train-rows (\d+)`", text) for text in advice.instead]
    for found in filter(None, said):
        rows = int(found[2])
        assert found[1].replace(" ", "") == found[2]
        part = rows / data["rows"]
        fewer = {n: round(part * data[n]) for n in ("tokens_total", "trained_tokens") if n in data}
        counts = {"label_counts": [rows // 2, rows // 2]} if "label_counts" in data else {}
        fewer_rows = data | fewer | counts | {"rows": rows, "unique_rows": rows}
        assert advise(model, fewer_rows, machine, time_budget_hours=hours).verdict in METHODS
    assert any(said) == (data is not IMDB), "of 1,000 rows so few would be left that the gate closes"


@pytest.mark.parametrize("hours", [0.5, 1.0, 1.2, 1.4])
def test_shorter_texts_are_advised_only_where_they_are_enough(hours: float) -> None:
    long = IMDB | {"tokens_p50": 150, "tokens_p95": 500, "tokens_p99": 510, "tokens_max": 512, "tokens_total": 260_000}
    advice = advise(BERT, long, CPU, time_budget_hours=hours)
    short = dict.fromkeys(("tokens_p50", "tokens_p95", "tokens_p99", "tokens_max"), 150) | {"tokens_total": 150_000}
    enough = advise(BERT, long | short, CPU, time_budget_hours=hours).verdict in METHODS
    assert advice.verdict == "does_not_fit"
    assert any("shorter" in text for text in advice.instead) == enough


def test_the_length_that_is_wanted_is_not_the_one_that_was_cut_already() -> None:
    long = INSTRUCTIONS | {"tokens_p95": 2200, "tokens_p99": 3800, "tokens_max": 6000}
    (said,) = (text for text in advise(LLAMA_8B, long, gpu(9.8)).instead if "texts cut at" in text)
    assert said.endswith("instead of 3 800.")


def test_a_challenge_names_methods_that_fit() -> None:
    few = IMDB | {"rows": 500, "unique_rows": 500, "label_counts": [450, 50]}
    both, one = (advise(model, few, gpu(23)).instead for model in (BERT, LLAMA_8B))
    assert any("--methods full,lora`" in text for text in both)
    assert any("--methods lora`" in text for text in one)


def test_too_close_is_not_called_too_large() -> None:
    """By the formula 8.9 of 9.5 GB, of which 8% must stay free."""
    advice = advise(LLAMA_8B, INSTRUCTIONS, gpu(9.5))
    candidate = advice.candidate("qlora")
    assert 0.92 * candidate.memory.available < candidate.memory.predicted <= candidate.memory.available
    (said,) = (r.text for r in advice.reasons if r.code == "does_not_fit" and r.facts["method"] == "QLoRA")
    assert said == "QLoRA: 9.5 GB is free, probably too little."


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([990, 10], "Label more rows of the rarer class: at least 64."),
        ([900, 800, 10], "Label more rows of the rarest classes, at least 64 of each, or merge them with others."),
        ([40, 10], "Label more rows: aim for 100 to 500 in all, and at least 64 of every class."),
    ],
)
def test_more_rows_are_asked_for_where_they_are_missing(counts: list[int], said: str) -> None:
    data = {"task": "classification", "rows": sum(counts), "classes": len(counts), "label_counts": counts, "tokens_p50": 50}
    advice = advise(BERT, data, gpu(12))
    assert advice.verdict == "not_yet"
    assert advice.instead[0] == said


def test_between_percentiles_lengths_are_spread_as_texts_are() -> None:
    """A median of 280 and a 95th percentile of 700: a log-normal spread has 14% above 512, a straight line would say 25%."""
    data = Facts.model_validate({"data": {"tokens_p50": 280, "tokens_p95": 700, "tokens_p99": 1000, "tokens_max": 2000}}).data
    assert share_cut(data, 512) == pytest.approx(0.139, abs=0.005)
    shares = [share_cut(data, n) or 0.0 for n in range(280, 2000, 10)]
    assert shares == sorted(shares, reverse=True)
    assert [share_cut(data, n) for n in (280, 700, 1000)] == pytest.approx([0.5, 0.05, 0.01])
    assert share_cut(data, 2000) == 0


def test_how_many_texts_a_short_reader_cuts_is_said() -> None:
    texts = INSTRUCTIONS | {"task": "seq2seq", "tokens_p50": 500, "tokens_p95": 900, "tokens_p99": 1100, "tokens_max": 2000}
    t5 = {"id": "t5", "family": "encoder-decoder", "parameters": 248_000_000, "max_positions": 512}
    (said,) = (w.text for w in advise(t5, texts, gpu(23)).warnings if w.code == "long_texts")
    assert said.startswith("About 47% of the texts are longer than the 512 tokens that this model reads, one in a hundred longer")
    cuts = [{"length": n, "rows_cut": 480, "tokens_kept": 10**6} for n in (512, 1024)]
    told = {w.code: w.text for w in advise(t5, texts | {"truncation": cuts}, gpu(23)).warnings}
    assert "reads and are cut there: " in told["truncated"]
    assert "long_texts" not in told


def test_others_on_the_card_are_named_where_they_alone_stand_in_the_way() -> None:
    busy = gpu(24)
    busy["devices"][0]["memory_free"] = 5 * 10**9
    advice = advise(LLAMA_8B, INSTRUCTIONS, busy)
    assert advice.verdict == "does_not_fit"
    assert "Close the other programs on this device (they hold 19.0 GB): LoRA would then fit." in advice.instead
    assert not any("other programs" in said for said in advise(LLAMA_8B, INSTRUCTIONS, gpu(5)).instead)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({"ship_in_4_bit": True}, "LoRA, if it need not ship in 4 bits."),
        ({"purpose": "knowledge"}, "LoRA, if the rows teach how to answer and not facts that change."),
    ],
)
def test_what_was_wished_for_is_named_where_it_decides(goal: dict[str, Any], said: str) -> None:
    assert said in advise(LLAMA_8B, INSTRUCTIONS, gpu(80), **goal).would_change


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("NVIDIA A100-SXM4-80GB", 80),
        ("NVIDIA A10G", 24),
        ("Tesla T4", 16),
        ("NVIDIA T400", None),
        ("Quadro GV100", 32),
        ("GRID A100-10C", 10),
        ("GRID A100-1-5CME", 5),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GH200 480GB", None),
        ("a card", None),
    ],
)
def test_a_card_known_by_its_name_alone(name: str, gigabytes: int | None) -> None:
    found = memory_in_name(Device(name=name))
    assert found == (None if gigabytes is None else gigabytes * 10**9)
    advice = advise(BERT, {"rows": 5000, "classes": 2}, {"backend": "cuda", "devices": [{"name": name}]})
    assert any("free memory" in w.text for w in advice.warnings if w.code == "assumed"), "a name does not say what is free"


def test_nearly_all_is_not_all() -> None:
    assert [share(s) for s in (1.0, 0.99996, 0.996, 0.99, 0.5, 0.004)] == ["100%", "99.9%", "99.6%", "99%", "50%", "0.4%"]


def test_enough_rare_rows_choose_the_checkpoint() -> None:
    rare = {"task": "classification", "rows": 200_000, "unique_rows": 200_000, "label_counts": [199_000, 1_000], "tokens_p50": 40}
    assert advise(BERT, rare, gpu(24)).settings.validation_rows * 1_000 / 200_000 >= 30
    even = rare | {"label_counts": [100_000, 100_000]}
    assert advise(BERT, even, gpu(24)).settings.validation_rows == 2_000
