"""Metrics agree with scikit-learn's, and intervals mean what they say."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from engine.metrics import bootstrap
from engine.metrics.classes import Classes
from engine.metrics.kept import joined, paired
from engine.metrics.kinds import Answers
from engine.metrics.registry import kind_of
from engine.worker.baselines import majority, probe
from engine.worker.report import statements


@pytest.mark.parametrize("seed", range(20))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 8))
    rows = int(random.integers(5, 120))
    # The first class is said and never true, one is said once, the last one is neither.
    truth, predicted = (random.integers(first, classes, rows) for first in (1, 0))
    predicted[0] = classes
    labels = [f"c{i}" for i in range(classes + 2)]
    found = Classes(labels).full_score(truth.tolist(), Answers(predicted.tolist(), None))
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["loss"] is None
    assert found["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert found["confusion"] == confusion_matrix(truth, predicted, labels=range(len(labels))).tolist()
    told = precision_recall_fscore_support(truth, predicted, labels=range(len(labels)), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "rows"), told, strict=True):
        assert [c[name] for c in found["per_class"]] == pytest.approx(values.tolist())


TWO, THREE = Classes(["no", "yes"]), Classes(["a", "b", "c"])


def gained_of(truth: list[int], before: list[int], after: list[int], seed: int) -> dict[str, dict[str, float]]:
    return bootstrap.gain(TWO, truth, Answers(before, None), Answers(after, None), seed)


def test_an_interval_covers_the_true_gain_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 experiments whose true gain is known: +8 points of accuracy, predictions correlated as before/after are."""
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_SAMPLES", 200)
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 2, 250)
        hard = random.random(250)
        before = np.where(hard < 0.75, truth, 1 - truth)
        after = np.where(hard + random.normal(0, 0.0001, 250) < 0.83, truth, 1 - truth)
        span = gained_of(truth.tolist(), before.tolist(), after.tolist(), seed)["accuracy"]
        covered += span["low"] <= 0.08 <= span["high"]
    assert 88 <= covered <= 100


def test_rows_are_drawn_in_pairs() -> None:
    """What is hard for both models cancels out: the interval is far narrower than that of two independent samples."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 300)
    before = np.where(random.random(300) < 0.6, truth, 1 - truth)
    after = before.copy()
    after[:6] = truth[:6]
    span = gained_of(truth.tolist(), before.tolist(), after.tolist(), 1)["accuracy"]
    alone = 2 * 1.96 * (2 * 0.6 * 0.4 / 300) ** 0.5
    assert span["high"] - span["low"] < alone / 3


def test_each_sample_draws_as_many_rows_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With replacement, however many samples are drawn at once."""
    monkeypatch.setattr(bootstrap, "AT_ONCE", 777)
    drawn = np.concatenate(list(bootstrap._draws(50, 3)))
    assert drawn.shape == (bootstrap.BOOTSTRAP_SAMPLES, 50)
    assert set(drawn.sum(axis=1)) == {50}
    assert drawn.mean(axis=0) == pytest.approx(np.ones(50), abs=0.1)
    assert drawn.var() == pytest.approx(1 - 1 / 50, abs=0.02)


def test_rows_that_stand_or_fall_together_are_drawn_together() -> None:
    """Each row three times says no more than each once, and the interval is the same; taken for rows it was far narrower."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 60).tolist()
    before, after = (np.where(random.random(60) < right, truth, 1 - np.array(truth)).tolist() for right in (0.6, 0.7))
    losses = random.exponential(1.0, (2, 60)).tolist()
    one, two = (Answers(said, loss) for said, loss in zip((before, after), losses, strict=True))
    groups = [*range(60)] * 3
    one3, two3 = (Answers(said * 3, loss * 3, None, groups) for said, loss in zip((before, after), losses, strict=True))
    once, thrice = bootstrap.gain(TWO, truth, one, two, 1), bootstrap.gain(TWO, truth * 3, one3, two3, 1)
    assert [thrice[m] for m in TWO.measures] == [pytest.approx(once[m]) for m in TWO.measures]
    shown = [
        bootstrap.side_by_side(TWO, wanted, {"full": [a], "lora": [b]}, "loss")["methods"]["lora"]["accuracy"]
        for wanted, a, b in ((truth, one, two), (truth * 3, one3, two3))
    ]
    assert shown[1]["difference"] == pytest.approx(shown[0]["difference"])
    old, new = Answers(one3.predicted, one3.losses), two3  # the first by a version that knew of no groups
    mixed = bootstrap.side_by_side(TWO, truth * 3, {"full": [old], "lora": [new]}, "loss")["methods"]["lora"]["accuracy"]
    assert mixed["difference"] == pytest.approx(shown[0]["difference"])
    assert bootstrap.mean_gap(one3, two3) == pytest.approx(bootstrap.mean_gap(one, two))
    many = next(bootstrap._draws(20_000, 0, [n % 10 for n in range(20_000)]))
    assert many.size <= bootstrap.AT_ONCE, "a gigabyte where few groups have many rows"


def test_groups_of_two_folds_stay_apart() -> None:
    fold = {"predicted": [0, 1, 1], "losses": [1.0, 1.0, 1.0], "weights": None}
    both = joined([fold | {"groups": [0, 0, 1]}, fold | {"groups": None}, fold | {"groups": [0, 1, 0]}])
    assert both.groups == [0, 0, 1, 2, 3, 4, 5, 6, 5]
    assert joined([fold, fold | {"groups": None}]).groups is None


def test_an_interval_is_as_wide_as_95_percent_of_a_normal_distribution() -> None:
    span = gained_of([0] * 400, [0, 1] * 200, [0] * 400, 1)["accuracy"]
    error = (0.5 * 0.5 / 400) ** 0.5
    assert (span["low"], span["high"]) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.003)


def test_an_interval_of_few_rows_is_that_of_students_t() -> None:
    """Of normal numbers the interval of their mean is known."""
    numbers = np.random.default_rng(2).normal(0, 1, 8)
    first, last = Answers([0] * 8, [0.0] * 8), Answers([0] * 8, numbers.tolist())
    span = bootstrap.gain(TWO, [0] * 8, first, last, 1)["loss"]
    wide = 2 * t.ppf(0.975, 7) * numbers.std(ddof=1) / 8**0.5
    assert span["high"] - span["low"] == pytest.approx(wide, rel=0.1), "by percentiles alone it is a quarter narrower"


def test_no_difference_on_some_rows_leaves_room_for_one_on_others() -> None:
    """Told with an interval of no width it claimed to be sure of all rows."""
    span = gained_of([0, 1, 1] * 20, [0, 1, 0] * 20, [0, 1, 0] * 20, 1)
    assert span["accuracy"] == span["macro_f1"] == {"gain": 0, "low": -0.05, "high": 0.05}


def gained(low: float, gain: float, high: float) -> dict[str, dict[str, float]]:
    return {"accuracy": {"low": low, "gain": gain, "high": high}, "macro_f1": {"low": low, "gain": gain, "high": high}}


def test_a_clear_gain_is_called_better() -> None:
    (said,) = statements(TWO, {"before": gained(0.02, 0.05, 0.08)}, {"before": {}})
    assert said == "Better: +5.0 points of accuracy against the untouched model (95% interval +2.0 to +8.0)."


@pytest.mark.parametrize(("low", "gain"), [(0.0, 0.03), (-0.01, 0.03), (-0.07, -0.01)])
def test_an_interval_with_zero_is_said_plainly(low: float, gain: float) -> None:
    (said,) = statements(TWO, {"majority": gained(low, gain, 0.07)}, {"majority": {}})
    assert said.startswith("Not shown to differ")
    assert "contains zero, so this may be chance" in said


def test_the_same_answers_are_not_called_chance() -> None:
    (said,) = statements(TWO, {"before": gained(-0.1, 0.0, 0.1)}, {"before": {}})
    assert said == "No difference in accuracy against the untouched model on these rows (95% interval -10.0 to +10.0 points)."


def test_a_loss_is_called_worse_and_the_simpler_tool_is_named() -> None:
    said = statements(TWO, {"probe": gained(-0.08, -0.05, -0.02)}, {"probe": {}})
    assert said[0].startswith("Worse: -5.0 points")
    assert "linear probe is better and costs seconds" in said[1]
    mixed = {"before": gained(-0.08, -0.05, -0.02), "probe": gained(0.02, 0.05, 0.08)}
    assert len(statements(TWO, mixed, {"before": {}, "probe": {}})) == 2, "worse than it was, and yet better than that model"


def test_the_majority_class_is_that_of_the_training_rows() -> None:
    assert majority([2, 2, 0], 4) == [2, 2, 2, 2]


def test_the_probe_learns_what_is_linear_and_survives_a_class_it_never_saw() -> None:
    random = np.random.default_rng(0)
    labels = 2 * random.integers(0, 2, 80)  # of three classes the one in the middle is not among them
    seen = (random.normal(0, 0.1, (80, 4)) + labels[:, None] / 2).astype(np.float32)
    predicted, losses = probe(seen, labels.tolist(), seen, labels.tolist(), 3)
    assert predicted == labels.tolist()
    assert 0 < np.mean(losses) < 0.2
    _, unseen = probe(seen, labels.tolist(), seen[:1], [1], 3)
    assert np.isfinite(unseen).all()
    predicted, losses = probe(seen, [1] * 80, seen[:2], [1, 0], 3)  # ten rows of another class among 100,000: a sample holds none
    assert predicted == [1, 1]
    assert losses[0] == 0 < losses[1] < np.inf


def answers_of(truth: list[int], right: float, seeds: int, classes: int, start: int) -> list[Answers]:
    """Predictions that are right with that probability, and losses to match."""
    answers = []
    for seed in range(start, start + seeds):
        random = np.random.default_rng(seed)
        hit = random.random(len(truth)) < right
        predicted = [t if h else (t + 1) % classes for t, h in zip(truth, hit, strict=True)]
        answers.append(Answers(predicted, [0.1 if h else 2.0 for h in hit]))
    return answers


def test_methods_side_by_side_are_scored_by_the_mean_of_their_seeds_and_paired_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_SAMPLES", 300)
    truth = np.random.default_rng(0).integers(0, 3, 400).tolist()
    good, worse = answers_of(truth, 0.9, 2, 3, 10), answers_of(truth, 0.7, 2, 3, 20)
    for metric in ("accuracy", "macro_f1", "loss"):
        found = bootstrap.side_by_side(THREE, truth, {"lora": worse, "full": good}, metric)
        assert found["best"] == "full"
        behind = found["methods"]["lora"][metric]["difference"]
        assert behind["low"] < behind["mean"] < behind["high"]
        assert behind["low"] > 0 if metric == "loss" else behind["high"] < 0
        assert set(found["methods"]["full"][metric]["difference"].values()) == {0.0}
    each = [f1_score(truth, p, average="macro") for p in (a.predicted for a in good)]
    score = found["methods"]["full"]["macro_f1"]
    assert score["mean"] == pytest.approx(np.mean(each))
    assert score["sd"] == pytest.approx(np.std(each, ddof=1))
    assert score["low"] < score["mean"] < score["high"]
    assert found["methods"]["full"]["loss"]["mean"] == pytest.approx(np.mean([a.losses for a in good]))


def test_the_same_answers_show_no_difference_and_one_seed_has_no_deviation() -> None:
    truth = [0, 1, 2] * 20
    same = answers_of(truth, 0.8, 1, 3, 1)
    found = bootstrap.side_by_side(THREE, truth, {"full": same, "lora": same}, "accuracy")["methods"]["lora"]["accuracy"]
    assert found["difference"] == {"mean": 0.0, "low": -0.05, "high": 0.05}, "of rows that nobody saw it is not known"
    assert found["sd"] is None


def test_the_error_of_a_mean_gap_is_that_of_paired_differences() -> None:
    random = np.random.default_rng(1)
    hard = random.exponential(1.0, 500)  # what is hard for one is hard for the other
    better, worse = hard + random.normal(0, 0.1, 500), hard + 0.05 + random.normal(0, 0.1, 500)
    for rows in (500, 4):
        apart = (worse - better)[:rows]
        gap, error = bootstrap.mean_gap(Answers([], worse[:rows].tolist()), Answers([], better[:rows].tolist()))
        assert gap == pytest.approx(apart.mean())
        assert error == pytest.approx(apart.std(ddof=1) / rows**0.5, rel=0.05)


def test_rows_that_weigh_nothing_leave_intervals_that_are_numbers() -> None:
    """Two rows, one of which was cut before its first word: a quarter of the draws hold that one alone."""
    first, last = (Answers([0, 0], [loss, 0.0], [5.0, 0.0]) for loss in (2.0, 1.0))
    assert bootstrap.gain(TWO, [0, 0], first, last, 1)["loss"] == {"gain": -1.0, "low": -1.0, "high": -1.0}
    assert bootstrap.mean_gap(first, last) == (1.0, 0.0)


def test_rows_that_are_all_right_leave_room_for_others_that_are_not() -> None:
    """As of DPO's first scores, which are even for every pair."""
    found = bootstrap.gain(TWO, [0] * 30, Answers([1] * 30, None), Answers([0] * 30, None), 1)["accuracy"]
    assert found == pytest.approx({"gain": 1.0, "low": 0.9, "high": 1.0})
    both = {"lora": [Answers([0] * 30, None)], "full": [Answers([0] * 30, None)], "qlora": [Answers([1] * 30, None)]}
    told = {name: each["accuracy"] for name, each in bootstrap.side_by_side(TWO, [0] * 30, both, "accuracy")["methods"].items()}
    assert [[told[n][end] for end in ("low", "high")] for n in both] == [[0.9, 1.0], [0.9, 1.0], [0.0, pytest.approx(0.1)]]
    apart = [[told[n]["difference"][end] for end in ("low", "high")] for n in both]
    assert apart == [[0, 0], [-0.1, 0.1], [-1.0, pytest.approx(-0.9)]]


def test_models_are_compared_by_the_answers_that_all_of_them_wrote() -> None:
    """A slow method answered fewer rows, or shorter."""
    kind = kind_of("chat", [])
    quick = (["a b", "c d", None], [[3.0, 2, " a  b\n"], [2.0, 2, "x y"], [1.0, 2, None]])
    slow = (["a b", None, None], [[3.0, 2, "x y"], [2.0, 2, None], [1.0, 2, None]])
    common = kind.in_common([quick, slow], alike=True)
    assert common[0][0] == common[1][0] == ["a b", None, None]
    scores = [kind.summary(truth, Answers(said, None)) for truth, said in common]
    assert [score["exact_answer"] for score in scores] == [1.0, 0.0]
    shorter = kind.in_common([quick, slow], alike=False)
    assert all("chrf" not in kind.summary(truth, Answers(said, None)) for truth, said in shorter)
    assert all("perplexity" in kind.summary(truth, Answers(said, None)) for truth, said in shorter)


def test_runs_of_a_slow_machine_are_paired_where_their_answers_are_as_long() -> None:
    kind = kind_of("chat", [])
    wanted = ["a b", "c d"]
    said = [[3.0, 2, "a b"], [2.0, 2, "x y"]]
    quick: dict[str, Any] = {"truth": wanted, "predicted": said, "losses": [1.5, 1.0], "weights": [2.0, 2.0]}
    few = quick | {"truth": ["a b", None], "predicted": [[3.0, 2, "x y"], [2.0, 2, None]]}

    def together(**written: Any) -> tuple[list[bool], set[str]]:
        found = paired(kind, [[quick], [few | {"written": {"answers": 1, "tokens": 9} | written}]])
        assert found is not None
        truth, (first, second) = found
        shown = bootstrap.side_by_side(kind, truth, {"full": [first], "lora": [second]}, "perplexity")
        return [true is not None for true in truth], set(shown["methods"]["lora"])

    assert together(cut=False) == ([True, False], set(kind.measures)), "as long as they wanted, one of two rows"
    assert together(cut=True) == ([False, False], {"perplexity", "loss"})
    assert paired(kind, [[quick], [quick | {"truth": ["a b", "other"]}]]) is None
    assert paired(kind, [[quick], [{name: values[:1] for name, values in quick.items()}]]) is None


def test_a_model_that_computes_nonsense_has_a_perplexity_that_is_a_number() -> None:
    score = kind_of("continued_pretraining", []).summary([0], Answers([[1e6, 2]], [5e5], [2.0]))
    assert 1e9 < score["perplexity"] < np.inf
