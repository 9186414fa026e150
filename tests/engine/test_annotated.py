"""What annotation tools export is read as what it means: labels, or words with tags; what was rejected is not learned."""

import json
from csv import writer
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from engine.inspection.data import inspect_data
from recommender.errors import InputError
from tests.conftest import put_rows
from tests.engine.made_files import read_table

TEXT = "👍 Ada Lovelace (London) won't go"
TAGS = ["O", "B-person", "I-person", "O", "B-place", "O", "O", "O", "O", "O"]
WORDS = ["👍", "Ada", "Lovelace", "(", "London", ")", "won", "'", "t", "go"]
IN_PYTHON = [[2, 14, "person"], [16, 22, "place"]]


def _label_studio(result: list[dict[str, Any]], text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"id": 1, "project": 3, "data": {"text": text}, "annotations": [{"id": 2, "result": result, **more}]}


def _marked(start: int, end: int, text: str, label: str) -> dict[str, Any]:
    return {"from_name": "ner", "type": "labels", "value": {"start": start, "end": end, "text": text, "labels": [label]}}


@pytest.mark.parametrize(
    "row",
    [
        {"id": 7, "text": TEXT, "label": IN_PYTHON},  # Doccano
        {"text": TEXT, "entities": [{"id": 1, "label": n, "start_offset": a, "end_offset": b} for a, b, n in IN_PYTHON]},
        {"text": TEXT, "tokens": [{"text": "👍"}], "spans": [{"start": a, "end": b, "label": n} for a, b, n in IN_PYTHON]},
        {"text": TEXT, "spans": [*IN_PYTHON, [2, 5, "given name"]]},  # one within another: a word has one tag
        # A browser counts an emoji twice.
        _label_studio([_marked(3, 15, "Ada Lovelace", "person"), _marked(17, 23, "London", "place")]),
    ],
    ids=["doccano", "doccano-relations", "prodigy", "nested", "label-studio"],
)
def test_spans_become_words_with_tags(tmp_path: Path, row: dict[str, Any]) -> None:
    table = read_table(put_rows(tmp_path / "a.jsonl", [row]))
    assert (table.columns["tokens"], table.columns["tags"]) == ([WORDS], [TAGS])


def test_a_script_without_spaces_is_parted_by_character(tmp_path: Path) -> None:
    table = read_table(put_rows(tmp_path / "a.jsonl", [{"text": "我在北京工作", "label": [[2, 4, "地点"]]}]))
    assert table.columns["tags"] == [["O", "O", "B-地点", "I-地点", "O", "O"]]


def test_a_span_outside_of_its_text_is_told_with_its_row(tmp_path: Path) -> None:
    rows = [{"text": "short", "label": [[0, 5, "x"]]}, {"text": "short", "label": [[3, 9, "x"]]}]
    with pytest.raises(InputError, match=r"row 2: column label marks the characters 3 to 9 of a text of 5"):
        read_table(put_rows(tmp_path / "a.jsonl", rows))


def test_label_studio_reads_its_answers_and_leaves_out_what_nobody_answered(tmp_path: Path) -> None:
    def mood(chosen: str) -> list[dict[str, Any]]:
        return [{"from_name": "mood", "type": "choices", "value": {"choices": [chosen]}}]

    chosen = [_label_studio(mood(label), f"text {label}") for label in "abab" * 5]
    cancelled = _label_studio(mood("a"), "x", was_cancelled=True)
    (tmp_path / "export.json").write_text(json.dumps([*chosen, cancelled]))
    found = inspect_data({"train": str(tmp_path / "export.json")})["facts"]
    told = [found[name] for name in ("task", "label_column", "labels", "empty_rows")]
    assert told == ["classification", "mood", ["a", "b"], 1]


def test_a_batch_of_label_studio_in_which_nothing_was_marked_is_read_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tables.objects.BATCH_ROWS", 2)
    unread = {"id": 1, "data": {"text": TEXT}, "annotations": []}
    rows = [_label_studio([_marked(0, 2, "go", "x")], "go on"), *[_label_studio([], "go on")] * 3, unread, unread]
    table = read_table(put_rows(tmp_path / "a.jsonl", rows))
    assert table.columns["tags"] == [["B-x", "O"], *[["O", "O"]] * 3, None, None]


def test_a_large_export_of_label_studio_takes_as_long_as_its_rows(tmp_path: Path) -> None:
    path = put_rows(tmp_path / "a.jsonl", [_label_studio([_marked(0, 2, "go", "x")], "go on")] * 8_000)
    begun = process_time()
    read_table(path)
    assert process_time() - begun < 3, "half a second, when no row looks at all the others"


def _prodigy(answer: str, **more: Any) -> dict[str, Any]:
    return {"text": TEXT, "_input_hash": 1, "_task_hash": 2, "answer": answer, **more}


def test_what_was_rejected_in_prodigy_is_not_learned(tmp_path: Path) -> None:
    options = [{"id": "a", "text": "a"}, {"id": "b", "text": "b"}]
    rows = [_prodigy(answer, accept=["a"], options=options) for answer in ("accept", "reject", "ignore")]
    assert read_table(put_rows(tmp_path / "a.jsonl", rows)).columns["label"] == ["a", None, None]
    spans = [{"start": 0, "end": 1, "label": "x"}]
    rows = [_prodigy("accept", spans=spans), _prodigy("reject", spans=spans), _prodigy("accept")]
    tags = read_table(put_rows(tmp_path / "b.jsonl", rows)).columns["tags"]
    assert tags == [["B-x", *["O"] * 9], None, ["O"] * 10]


def test_one_label_accepted_or_rejected_in_prodigy_makes_two_classes(tmp_path: Path) -> None:
    rows = [_prodigy(answer, label="spam") for answer in ("accept", "reject", "ignore")]
    assert read_table(put_rows(tmp_path / "a.jsonl", rows)).columns["label"] == ["spam", "not spam", None]
    odd = [row | {"accept": n} for n, row in enumerate(rows)]  # somebody's own field of that name
    assert read_table(put_rows(tmp_path / "b.jsonl", odd)).columns["label"] == ["spam", "not spam", None]


def test_spans_beside_a_class_of_the_text_leave_the_choice_to_the_person(tmp_path: Path) -> None:
    spans = [{"start": 2, "end": 14, "entity": "name"}]
    rows = [{"text": f"{TEXT} {i}", "intent": "ab"[i % 2], "entities": spans} for i in range(40)]
    path = put_rows(tmp_path / "a.jsonl", rows)
    assert inspect_data({"train": path})["facts"]["columns"] == {"text": "text", "label": "intent"}
    assert inspect_data({"train": path, "task": "token_classification"})["facts"]["labels"] == ["B-name", "I-name", "O"]


def test_objects_with_numbers_that_are_no_spans_stay_as_they_are(tmp_path: Path) -> None:
    row = {"text": TEXT, "answers": [{"text": "Ada", "answer_start": 2}], "box": [[1, 2, 3]], "label": "a"}
    assert read_table(put_rows(tmp_path / "a.jsonl", [row])).columns == {name: [value] for name, value in row.items()}


def _answers(value: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"user_id": "u", "value": "?", "status": "draft"}, {"user_id": "v", "value": value, **more}]


@pytest.mark.parametrize(
    "record",
    [
        lambda text, label: {"fields": {"text": text}, "suggestions": {"mood": {"value": "x", "agent": "m"}}, "vectors": {},
                             "responses": {"mood": _answers(label)} if label else {}, "status": "completed"},
        lambda text, label: {"text": text, "mood.responses": [label] if label else None, "mood.responses.users": ["u"],
                             "mood.responses.status": ["submitted"], "mood.suggestion": "x", "status": "completed"},
        lambda text, label: {"text": text, "mood": _answers(label, status="submitted") if label else [], "mood-suggestion": "x",
                             "external_id": None, "metadata": "{}"},
        lambda text, label: {"text": text, "inputs": {"text": text}, "prediction": [{"label": "x", "score": 0.9}],
                             "prediction_agent": "m", "annotation": label, "annotation_agent": "me", "multi_label": False,
                             "status": "Validated" if label else "Default", "metrics": {}},
    ],
    ids=["records", "flat", "feedback", "first version"],
)  # fmt: skip
def test_argilla_reads_what_was_submitted_and_leaves_out_the_rest(tmp_path: Path, record: Any) -> None:
    """Neither a suggestion nor a draft is an answer, and what tells of the annotating is no label."""
    rows = [record(f"some words {i} of it", None if i % 5 == 0 else "ab"[i % 2]) for i in range(40)]
    found = inspect_data({"train": put_rows(tmp_path / "a.jsonl", rows)})["facts"]
    assert (found["task"], found["text_column"], found["labels"]) == ("classification", "text", ["a", "b"])
    assert (found["rows"], found["empty_rows"]) == (32, 8)


def test_label_studios_csv_is_read_as_its_json_is(tmp_path: Path) -> None:
    """Its column of spans made a regression on how long the annotating took."""
    span = json.dumps([{"start": 2, "end": 14, "text": "Ada Lovelace", "labels": ["person"]}])
    choices = json.dumps({"choices": ["a", "b"]})
    with (tmp_path / "a.csv").open("w") as out:
        rows = [[f"{TEXT} {i}", i, span, "a" if i % 2 else choices, i / 7 + 0.1] for i in range(40)]
        writer(out).writerows([["text", "id", "label", "topics", "lead_time"], *rows])
    found = inspect_data({"train": str(tmp_path / "a.csv")})["facts"]
    assert (found["task"], found["labels"]) == ("token_classification", ["B-person", "I-person", "O"])
    named = {"train": str(tmp_path / "a.csv"), "columns": {"text": "text", "label": "topics"}, "task": "multi_label"}
    assert inspect_data(named)["facts"]["labels"] == ["a", "b"]


def test_annotations_of_brat_are_not_passed_over(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(TEXT)
        (tmp_path / f"{name}.ann").write_text("T1\tperson 2 14\tAda Lovelace\n")
    with pytest.raises(InputError, match=r"annotations of brat \(\.ann\), which are not read; write them to one jsonl file"):
        inspect_data({"train": str(tmp_path)})
