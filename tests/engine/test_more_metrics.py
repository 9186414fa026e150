"""Metrics of labels, numbers and tags agree with scikit-learn's and with the CoNLL evaluation's rules."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    root_mean_squared_error,
)

from engine.metrics import bootstrap
from engine.metrics.kinds import Answers, Kind
from engine.metrics.labels import Labels
from engine.metrics.numbers import Numbers
from engine.metrics.spans import Span, has_spans, spans
from engine.metrics.tags import Tags
from engine.metrics.tokens import Tokens
from engine.worker.baselines import probe_labels, probe_numbers
from engine.worker.report import statements


def sets_of(given: Any) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in given]


@pytest.mark.parametrize("seed", range(10))
def test_metrics_of_labels_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, rows = int(random.integers(1, 7)), int(random.integers(5, 80))
    truth, said = (random.random((rows, labels)) < 0.35 for _ in range(2))
    truth[:, seed % 2 : 1] = False  # of every other the first label is given and never true
    truth[:, -1], said[:, -1] = False, np.arange(rows) < seed % 3  # the last one is never true, and given twice at most
    found = Labels([f"l{i}" for i in range(labels)]).full_score(sets_of(truth), Answers(sets_of(said), None))
    options: dict[str, Any] = {"zero_division": 0}
    assert found["micro_f1"] == pytest.approx(f1_score(truth, said, average="micro", **options))
    present = truth.any(0) | said.any(0)
    assert found["macro_f1"] == pytest.approx(f1_score(truth[:, present], said[:, present], average="macro", **options))
    assert found["exact_match"] == pytest.approx(accuracy_score(truth, said))
    told = precision_recall_fscore_support(truth, said, **options)
    for name, values in zip(("precision", "recall", "f1", "rows"), told, strict=True):
        assert [c[name] for c in found["per_class"]] == pytest.approx(np.atleast_1d(values).tolist())


@pytest.mark.parametrize("middle", [0.0, 1e7])
def test_metrics_of_numbers_are_those_of_scikit_learn_far_from_zero_too(middle: float) -> None:
    random = np.random.default_rng(1)
    truth = middle + random.normal(0, 2, 200)
    said = truth + random.normal(0.3, 1, 200)
    found = Numbers([]).summary(truth.tolist(), Answers(said.tolist(), [1.0] * 200))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, said), rel=1e-6)
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, said), rel=1e-6)
    assert found["r2"] == pytest.approx(r2_score(truth, said), rel=1e-6)
    assert found["pearson"] == pytest.approx(np.corrcoef(truth, said)[0, 1], rel=1e-6)
    assert found["loss"] == 1.0


def test_an_answer_that_never_varies_correlates_with_nothing() -> None:
    found = Numbers([]).summary([1e7, 1e7 + 1, 1e7 + 2], Answers([1e7 + 0.3] * 3, None))
    assert found["pearson"] == 0
    assert found["r2"] < 0
    assert Numbers([]).summary([5.0, 5.0], Answers([4.0, 5.0], None))["r2"] == 0
    table = Numbers([]).table([0.1, 0.3, 0.7], [0.2, 0.2, 0.9])
    drawn = Numbers([]).from_sums(np.array([[3.0, 0.0, 0.0]]) @ table)  # as the bootstrap may draw: rounding is no variation
    assert (drawn["r2"].tolist(), drawn["pearson"].tolist()) == ([0.0], [0.0])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-per I-per O B-loc", [("per", 0, 2), ("loc", 3, 4)]),
        ("I-per I-per B-per O", [("per", 0, 2), ("per", 2, 3)]),  # IOB1: B only where two of a type touch
        ("B-per B-per", [("per", 0, 1), ("per", 1, 2)]),
        ("I-per I-loc", [("per", 0, 1), ("loc", 1, 2)]),
        ("B-per I-loc I-loc", [("per", 0, 1), ("loc", 1, 3)]),  # an I of another type begins a span
        ("S-per B-loc I-loc E-loc I-loc", [("per", 0, 1), ("loc", 1, 4), ("loc", 4, 5)]),
        ("U-per B-loc L-loc", [("per", 0, 1), ("loc", 1, 3)]),
        ("B-per M-per M-per E-per S-loc", [("per", 0, 4), ("loc", 4, 5)]),
        ("O O", []),
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
    ],
)
def test_spans_are_found_as_the_conll_evaluation_finds_them(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == [Span(*e) for e in expected]


def test_a_span_counts_only_with_its_exact_words_and_type() -> None:
    """The example of the CoNLL-2000 evaluation's kind: 3 true spans, 3 said, 1 right."""
    labels = ["O", "B-per", "I-per", "B-loc", "I-loc"]
    truth = [[1, 2, 0, 3, 0, 3], [0, 0]]
    said = [[1, 2, 0, 3, 4, 1], [0, 0]]
    found = Tags(labels).full_score(truth, Answers(said, None))
    assert found["span_f1"] == pytest.approx(1 / 3)
    assert found["token_accuracy"] == pytest.approx(6 / 8)
    by_type = {c["label"]: c for c in found["per_class"]}
    assert by_type.keys() == {"per", "loc"}
    assert (by_type["per"]["precision"], by_type["per"]["recall"], by_type["per"]["rows"]) == (0.5, 1.0, 1)
    assert (by_type["loc"]["precision"], by_type["loc"]["recall"], by_type["loc"]["rows"]) == (0.0, 0.0, 2)


@pytest.mark.parametrize("scheme", ["BI", "BIES", "BILU"])
def test_span_f1_is_seqevals(scheme: str) -> None:
    from seqeval.metrics import f1_score as f1_of_spans

    random = np.random.default_rng(len(scheme))
    labels = ["O", *(f"{mark}-{kind}" for mark in scheme for kind in ("per", "loc"))]
    truth, said = ([random.integers(0, len(labels), n).tolist() for n in range(1, 40)] for _ in range(2))
    named = [[[labels[i].replace("L-", "E-").replace("U-", "S-") for i in row] for row in rows] for rows in (truth, said)]
    assert Tags(labels).summary(truth, Answers(said, None))["span_f1"] == pytest.approx(f1_of_spans(*named))


def test_words_that_were_never_read_are_wrong() -> None:
    tags = Tags(["O", "B-per"])
    found = tags.summary([[1, 0, 1]], Answers([[1, -1, -1]], None))
    assert found["span_f1"] == pytest.approx(2 / 3)
    assert found["token_accuracy"] == pytest.approx(1 / 3)


def test_tags_that_mark_no_spans_are_words_of_their_own() -> None:
    assert not has_spans(["NOUN", "VERB"])
    assert has_spans(["O", "B-x", "M-x", "E-x", "S-x"])
    found = Tags(["NOUN", "VERB", "O"]).summary([[0, 0, 1, 2], [1]], Answers([[0, 1, 1, 2], [-1]], None))
    assert found["span_f1"] == pytest.approx(4 / 7)
    assert found["token_accuracy"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("kind", "truth", "before", "after", "metric"),
    [
        (Labels(["a", "b"]), [[0], [0, 1], [], [1]] * 20, [[]] * 80, [[0], [0, 1], [], []] * 20, "micro_f1"),
        (Numbers([]), [1.0, 2.0, 3.0, 4.0] * 20, [2.5] * 80, [1.5, 2.5, 2.5, 3.5] * 20, "rmse"),
        (
            Tags(["O", "B-x"]),
            [[0, 1], [1, 1], [0, 0], [1, 0]] * 20,
            [[0, 0]] * 80,
            [[0, 1], [1, 0], [0, 0], [1, 0]] * 20,
            "span_f1",
        ),
        (Tokens([]), [0] * 80, [[8.0, 2]] * 80, [[4.0, 2], [6.0, 2]] * 40, "perplexity"),
    ],
)
def test_gains_have_intervals_and_say_which_way_is_better(kind: Kind, truth: Any, before: Any, after: Any, metric: str) -> None:
    found = bootstrap.gain(kind, truth, Answers(before, None), Answers(after, None), 1)
    span = found[metric]
    assert span["low"] <= span["gain"] <= span["high"]
    one = kind.summary(truth, Answers(after, None))[metric] - kind.summary(truth, Answers(before, None))[metric]
    assert span["gain"] == pytest.approx(one)
    assert (span["high"] < 0) if metric in ("rmse", "perplexity") else (span["low"] > 0)
    (said,) = statements(kind, {"majority": found}, {"majority": {}})
    told = {"rmse": "-0.618 RMSE ", "perplexity": "-42.4 perplexity "}
    assert said.startswith(f"Better: {told.get(metric, f'{100 * one:+.1f} points of')}")
    places = np.random.default_rng(0).integers(len(truth), size=len(truth))  # rows drawn anew are a weighting
    drawn = kind.from_sums(np.bincount(places, minlength=len(truth))[None] @ kind.table(truth, after))
    again = kind.summary([truth[i] for i in places], Answers([after[i] for i in places], None))
    assert {name: values.item() for name, values in drawn.items()} == pytest.approx(again)
    assert kind.constant_words in said


def test_the_probe_of_labels_is_a_logistic_regression_a_label() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    train, shown = random.normal(size=(120, 5)).astype(np.float32), random.normal(size=(30, 5)).astype(np.float32)
    given = np.column_stack([train[:, 0] > 0.4, train[:, 1] + train[:, 2] > 0, np.ones(120)]).astype(np.float32)
    found = probe_labels(train, given, shown)
    scaler = StandardScaler().fit(train)
    for i in (0, 1):
        alone = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(scaler.transform(train), given[:, i])
        assert found[:, i] == pytest.approx(alone.predict_proba(scaler.transform(shown))[:, 1], abs=1e-3)
    assert (found[:, 2] > 0.99).all()


def test_the_probe_of_numbers_finds_a_line() -> None:
    random = np.random.default_rng(0)
    train, shown = random.normal(size=(200, 4)).astype(np.float32), random.normal(size=(50, 4)).astype(np.float32)
    line = np.array([1.0, -2.0, 0.0, 0.5])
    assert probe_numbers(train, train @ line, shown) == pytest.approx(shown @ line, abs=0.05)
