"""What the report keeps so that predictions can be judged."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.metrics.registry import kind_of
from engine.rows import Rows
from engine.worker.inputs import tell_losses
from engine.worker.mistakes import worst
from engine.worker.report import counted, kept_together, one_answer, statements, too_few, went_too_fast
from engine.worker.took import Log, in_report
from recommender.facts import Task


def test_ten_steps_tell_how_long_all_take_by_their_tokens() -> None:
    """The first one warms up; later ones hold twice the tokens, and take as long for each."""
    took = [(9.0, 100), *[(1.0, 100)] * 10, *[(2.5, 200)] * 9]
    steps = [{"seq": n, "kind": "step", "seconds": seconds, "tokens": tokens} for n, (seconds, tokens) in enumerate(took)]
    assert Log(steps).from_first_steps(20) == pytest.approx(11 * 1.0 + 9 * 2.0)
    assert Log(steps).from_first_steps(40) == pytest.approx(40.0)  # stopped early: by steps
    assert Log(steps[:10]).from_first_steps(10) is None


def test_what_a_step_took_is_told_by_the_clock_and_by_the_processors() -> None:
    def event(kind: str, processor: float) -> dict[str, object]:
        return {"seq": 1, "kind": kind, "processor": processor, "seconds": 3.0, "tokens": 100}

    events = [event("phase", 50.0), event("step", 52.0), event("heartbeat", 53.0), event("step", 54.0), event("phase", 1.0)]
    told = in_report(Log([*events, event("step", 3.0)]), 3, {"step": 1.5, "seconds": 60.0})
    assert told["step"] == {"predicted": 1.5, "probed": None, "measured": 3.0, "computed": 2.0 / torch.get_num_threads()}
    assert told["seconds"]["predicted"] == 60.0
    older = [{"seq": 1, "kind": "step", "seconds": 3.0, "tokens": 100}]
    assert in_report(Log(older), 1, {})["step"]["computed"] is None


def test_a_long_log_is_let_go_while_it_is_read() -> None:
    one = {"kind": "step", "loss": 1.0, "seconds": 0.1}
    steps = ({**one, "seq": n, "step": n, "time": n, "memory": n} for n in range(1, 10_000))
    tracemalloc.start()
    log = Log(steps)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (log.steps, log.memory, log.told) == (9_999, 9_999, [])
    assert held < 1_500_000, "as events they take 400 bytes each"


@pytest.mark.parametrize(("reward", "told"), [(-0.001, False), (-0.4, True), (0.2, False)])
def test_chosen_answers_that_became_less_likely_are_told_where_it_is_more_than_noise(reward: float, told: bool) -> None:
    said = statements(kind_of("preference", []), {}, {"after": {"chosen_reward": reward}})
    assert any("less likely too" in text for text in said) is told


BOTH: dict[str, list[object]] = {"classification": [0, 1] * 4, "multi_label": [[0], []] * 4, "token_classification": [[0, 1]] * 8}
"""What rows deserve."""


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("classification", [1] * 8, "The model predicts late for every held-out row"),
        ("classification", [1] * 7 + [0], None),
        ("classification", [1] * 7, None),
        ("multi_label", [[]] * 8, "The model gives no held-out row any label"),
        ("multi_label", [[]] * 7 + [[0]], None),
        ("token_classification", [[1, 1], [1, -1]] * 4, "The model gives every held-out word the tag late"),
        ("token_classification", [[1, 1], [1, 0]] * 4, None),
        ("regression", [0.5] * 8, None),
    ],
)
def test_a_model_that_says_the_same_to_everything_is_told(task: Task, given: list[object], said: str | None) -> None:
    found = one_answer(task, ["lost", "late"], {"predicted": given, "truth": BOTH.get(task, [])})
    assert [text.partition(":")[0] for text in found] == ([said] if said else [])
    assert not one_answer(task, ["lost", "late"], {"predicted": given, "truth": given}), "it is no fault where it is right"


def test_more_epochs_are_no_cure_for_a_rate_that_was_too_high() -> None:
    after = {"predicted": [1] * 8, "truth": BOTH["classification"]}
    went = [{"kind": "warning", "code": code, "seq": 1, "time": 0.0} for code in ("rows_cut", "diverging")]
    for events, cure in ((went[:1], "more epochs"), (went, "a lower learning_rate")):
        (said,) = one_answer("classification", ["lost", "late"], after, too_fast=went_too_fast(events))
        assert cure in said


def test_the_losses_of_pieces_are_not_told_as_those_of_as_many_texts() -> None:
    rows = Rows(["a book", "another"], ["", ""], [1, 2], items=["a book", "another"])
    kept = {"truth": [0, 0], "predicted": [[9.0, 3], [1.0, 3]], "losses": [3.0, 0.3]}
    assert [len(worst(task, [], rows, kept)) for task in ("chat", "continued_pretraining")] == [2, 0]


def test_a_row_or_four_prove_nothing() -> None:
    assert too_few(1) == ["One row was held out: too few to say whether anything was gained."]
    assert too_few(4) == ["4 rows were held out: too few to say whether anything was gained."]
    assert not too_few(0) + too_few(5)


def test_how_many_rows_are_right_is_said_to_those_who_know_no_metric() -> None:
    scores = {"after": {"accuracy": 207 / 220}, "majority": {"accuracy": 131 / 220}}
    (said,) = counted("classification", scores, 220)
    assert said.startswith("207 of the 220 held-out rows are right;")
    assert said.endswith("would be right for 131.")
    assert not counted("multi_label", scores, 220) + counted("classification", {}, 0) + counted("classification", scores, 4)


@pytest.mark.parametrize(("seen", "began"), [(0, None), (1, "One training row shares"), (90, "90 training rows share")])
def test_questions_that_a_brought_held_out_file_asks_too_are_told(seen: int, began: str | None) -> None:
    """ "None is on two sides" stood in the report: of the training file's own rows that was true."""
    told: list[str] = []
    tell: Any = SimpleNamespace(warn=lambda code, text: told.append(text))
    task: Any = SimpleNamespace(remarks={})
    counts = {"together": 90, "seen": seen}
    tell_losses(task, {}, counts, tell)
    assert [text.startswith(began or "") for text in told] == [True] * (began is not None)
    assert len(kept_together(counts)) == (began is None)
    told.clear()
    tell_losses(task, {}, {"groups": 60, "groups_seen": seen}, tell)
    assert [text.split(".")[0] for text in told] == [f"Training rows of the same groups as held-out rows: {seen}"] * (seen > 0)
    (said,) = kept_together({"groups": 60, "groups_seen": seen}, held_out=9)
    assert ("none of them on two sides" in said) is (seen == 0)
    assert "9 are held out: intervals draw whole groups" in said
    assert "too few to draw" in kept_together({"groups": 20}, held_out=4)[0]
    unknown = ["Held-out rows that name no group: 7. Whether theirs are trained on is not known."]
    assert kept_together({"groups": 67, "groups_unknown": 7}, held_out=7) == unknown
