"""Rows are put through a model in micro-batches that memory allows, and what it says comes back in their order."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.files import write_json
from engine.metrics.classes import Classes
from engine.metrics.tags import Tags
from engine.worker import held_out
from engine.worker.budget import TokenBudget
from engine.worker.held_out import HeldOut
from engine.worker.scoring import Reader, Speed
from engine.worker.tasks.base import Answer, Encoded
from engine.worker.token_rows import TokenRows
from recommender.errors import InputError, TrainingFailed

LENGTHS = [2, 5, 1, 4, 3]
ROWS = Encoded([[n] * n for n in LENGTHS], LENGTHS, LENGTHS)


class Reading:
    """A task that answers a row's length, and has no memory for more than so many rows at once."""

    def __init__(self, most_rows: int) -> None:
        self.most_rows = most_rows
        self.pieces: list[list[int]] = []
        self.plan, self.turn = SimpleNamespace(precision="fp32"), None

    def lengths(self, input_ids: Any, targets: Any) -> list[int]:
        return [len(ids) for ids in input_ids]

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        assert not model.training
        if len(input_ids) > self.most_rows:
            raise MemoryError
        self.pieces.append(targets)
        return [Answer(len(ids), float(len(ids)), float(target)) for ids, target in zip(input_ids, targets, strict=True)]


def reader(tokens: int, most_rows: int = 9, **more: Any) -> tuple[Any, Any]:
    task: Any = Reading(most_rows)
    return Reader(task, TokenBudget(tokens, lambda *_: None, **more), lambda: None), task


def test_the_longest_come_first_and_answers_in_the_order_of_the_rows() -> None:
    known, task = reader(10)
    model = torch.nn.Linear(1, 1).train()
    told: list[int] = []
    said = known.score(model, ROWS, told.append)
    assert task.pieces == [[5, 4], [3, 2, 1]]
    assert (said.answers.predicted, said.answers.weights) == (LENGTHS, LENGTHS)
    assert said.loss == pytest.approx(sum(n * n for n in LENGTHS) / sum(LENGTHS)), "each as often as it weighs"
    assert told == [2, 5]
    assert known.speed.tokens == sum(LENGTHS)
    assert model.training, "as it was"


def test_a_judge_of_its_own_answers_in_the_tasks_place() -> None:
    known, task = reader(10)
    said = known.score(torch.nn.Linear(1, 1), ROWS, judge=lambda model, ids, targets: [Answer(7, 0.5)] * len(ids))
    assert (said.answers.predicted, said.answers.weights, task.pieces) == ([7] * 5, None, [])


def test_which_rows_are_drawn_together_is_kept_with_what_was_said_of_them() -> None:
    known, _ = reader(10)
    rows = replace(ROWS, groups=[0, 0, 1, 1, 2])
    answers = known.score(torch.nn.Linear(1, 1), rows).answers
    content = held_out.kept(Classes(["a", "b"]), {}, rows.truth, answers)
    assert held_out.answers_in(content) == answers
    assert answers.groups == rows.groups
    assert held_out.answers_in({n: v for n, v in content.items() if n != "groups"}).groups is None, "an older run's"


def test_less_memory_makes_smaller_pieces_of_the_same_rows() -> None:
    known, task = reader(10, most_rows=1)
    assert known.score(torch.nn.Linear(1, 1), ROWS).answers.predicted == LENGTHS
    assert task.pieces == [[5], [4], [3], [2], [1]]


def test_where_one_row_has_no_memory_nothing_that_helps_a_training_is_tried() -> None:
    known, _ = reader(10, most_rows=0, relief=lambda: pytest.fail("gradients are not what takes the memory"))
    with pytest.raises(TrainingFailed, match="even one row of 5 tokens"):
        known.score(torch.nn.Linear(1, 1), ROWS)


def test_one_may_leave_between_two_pieces() -> None:
    known, task = reader(5)
    asked: list[int] = []

    def leave() -> None:
        asked.append(len(task.pieces))
        if len(asked) == 3:
            raise KeyboardInterrupt

    model = torch.nn.Linear(1, 1)
    with pytest.raises(KeyboardInterrupt):
        Reader(known.task, known.budget, leave).score(model, ROWS)
    assert asked == [0, 1, 2]
    assert model.training


def test_after_the_last_piece_it_is_said_that_there_are_no_more() -> None:
    known, task = reader(5)
    rested: list[int] = []
    rest = Reader(known.task, known.budget, known.interrupt, lambda: rested.append(len(task.pieces)))
    rest.score(torch.nn.Linear(1, 1), ROWS)
    assert rested == [len(task.pieces)]
    assert len(task.pieces) > 1


def test_time_is_told_by_what_was_read_so_far() -> None:
    assert Speed().time_for(1000) == 0.0
    assert Speed(tokens=500, seconds=2.0).time_for(1000) == pytest.approx(4.0)


def test_the_result_that_was_scored_is_given_back_before_the_probe_s_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(held_out, "give_back", lambda: order.append("given back"))

    def untouched() -> Any:
        order.append("loaded")
        raise LookupError

    reader = SimpleNamespace(task=SimpleNamespace(has_probe=True))
    scores = HeldOut(SimpleNamespace(scores=tmp_path), [1], reader, None)  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        scores.score_probe(untouched, None, 1)  # type: ignore[arg-type]
    assert order == ["given back", "loaded"]


def test_no_probe_is_fitted_where_its_library_would_ask_for_memory_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "host_room", lambda: held_out.PROBE_ROOM - 1)
    warned: list[str] = []
    task = SimpleNamespace(has_probe=True, probe=lambda *_: pytest.fail("it was asked"))
    reader: Any = SimpleNamespace(task=task, embed=lambda *_: None)
    tell: Any = SimpleNamespace(warn=lambda code, *_: warned.append(code), progress=lambda *_: lambda done: None)
    scores = HeldOut(SimpleNamespace(scores=tmp_path), ROWS, reader, tell)  # type: ignore[arg-type]
    scores.score_probe(lambda: SimpleNamespace(body=None), ROWS, 1)  # type: ignore[arg-type, return-value]
    assert warned == ["no_probe"]


@pytest.mark.parametrize(("kind", "truth"), [(Classes(["a", "b"]), [0, 1, 1]), (Tags(["O", "B-x"]), TokenRows([[0, 1], [1]]))])
def test_a_run_whose_rows_are_split_otherwise_than_when_it_began_is_refused(kind: Any, truth: Any, tmp_path: Path) -> None:
    """What it has learned from may be held out now, and its scores before training are of other rows."""
    plan = SimpleNamespace(task="classification", data=SimpleNamespace(train="rows.csv"))
    reader: Any = SimpleNamespace(task=SimpleNamespace(kind=kind, plan=plan))
    run: Any = SimpleNamespace(scores=tmp_path)
    now = HeldOut(run, Encoded([[1], [2], [3]], truth, truth), reader, None)  # type: ignore[arg-type]
    now.unchanged()
    write_json(tmp_path / "before.json", {"truth": kind.compared(truth, ())})
    now.unchanged()
    write_json(tmp_path / "before.json", {"truth": kind.compared(truth, ())[::-1]})
    with pytest.raises(InputError, match=r"rows\.csv: other rows are held out than when this run began"):
        now.unchanged()
