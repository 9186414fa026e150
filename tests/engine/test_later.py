"""Files whose first rows do not show what the others hold: labelled rows that stand last, rows sorted by label."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.inspection.data import inspect_data
from engine.inspection.later import Later
from engine.tables.read import first_rows, open_source
from recommender.errors import InputError
from tests.conftest import put_rows

UNLABELLED: list[dict[str, Any]] = [{"id": i, "text": f"the parcel of the day number {i} has come"} for i in range(24)]
LABELLED: list[dict[str, Any]] = [
    {"id": 24 + i, "text": f"please send bill {i} once more to us", "label": "bill" if i % 2 else "post"} for i in range(30)
]


@pytest.fixture(autouse=True)
def _few_rows_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("later.LOOK_AT", "columns.LOOK_AT", "data.LOOK_AT", "misleading.LOOK_AT", "suspicious.LOOK_AT"):
        monkeypatch.setattr(f"engine.inspection.{where}", 20)
    for where in ("objects.BATCH_ROWS", "arrow.BATCH_ROWS"):
        monkeypatch.setattr(f"engine.tables.{where}", 10)


def put(folder: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        put_rows(path, rows)
    elif kind == "parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in ("id", "text", "label")}), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("id", "text", "label"))
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_labelled_rows_that_stand_last_are_classes_to_tell(tmp_path: Path, kind: str) -> None:
    facts = inspect_data({"train": put(tmp_path, kind, UNLABELLED + LABELLED)})["facts"]
    assert (facts["task"], facts["labels"], facts["rows"], facts["empty_rows"]) == ("classification", ["bill", "post"], 30, 24)


def test_a_named_column_may_begin_late(tmp_path: Path) -> None:
    train = put(tmp_path, "jsonl", UNLABELLED + LABELLED)
    assert inspect_data({"train": train, "columns": {"label": "label"}})["facts"]["rows"] == 30
    with pytest.raises(InputError, match=r"has no column mood"):
        inspect_data({"train": train, "columns": {"label": "mood"}})


def test_rows_sorted_by_a_label_without_a_usual_name(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "mood": "glad" if i < 27 else "sad"} for i, row in enumerate(UNLABELLED + LABELLED)]
    facts = inspect_data({"train": put(tmp_path, "jsonl", rows)})["facts"]
    assert (facts["task"], facts["label_column"], facts["label_counts"]) == ("classification", "mood", [27, 27])


def test_rows_that_show_more_know_where_they_stand(tmp_path: Path) -> None:
    source = open_source(put(tmp_path, "jsonl", UNLABELLED + LABELLED))
    found = Later(source, first_rows(source, 20)).read()
    assert found is not None
    assert [found.where(i) for i in (9, 10, 19)] == ["rows.jsonl: row 10", "rows.jsonl: row 25", "rows.jsonl: row 34"]


def test_a_slip_of_a_field_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.inspection.later.LEAST_SHARE", 0.05)
    rows = [*UNLABELLED, {"text": "a row with a note", "label": "see above"}, *UNLABELLED[:20]]
    assert inspect_data({"train": put(tmp_path, "jsonl", rows)})["facts"]["task"] == "continued_pretraining"


@pytest.mark.parametrize(("column", "label"), [("source", "mood"), ("label", "label")])
def test_what_parts_a_file_was_put_together_from_is_no_label(tmp_path: Path, column: str, label: str) -> None:
    rows = [
        {column: "web" if i < 27 else "print", "text": row["text"], "mood": ("glad", "sad", "calm")[i * i % 3]}
        for i, row in enumerate(UNLABELLED + LABELLED)
    ]
    assert inspect_data({"train": put(tmp_path, "jsonl", rows)})["facts"]["label_column"] == label


def test_rows_that_show_what_is_learned_are_not_lost_for_a_late_column(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "mood": ("glad", "sad", "calm")[i * i % 3]} for i, row in enumerate(UNLABELLED + LABELLED)]
    rows[-20:] = [row | {"label": "checked" if i % 2 else "open"} for i, row in enumerate(rows[-20:])]
    facts = inspect_data({"train": put(tmp_path, "jsonl", rows)})["facts"]
    assert (facts["label_column"], facts["rows"], facts["empty_rows"]) == ("mood", 54, 0)


def test_several_labels_a_row_that_begin_late(tmp_path: Path) -> None:
    moods = ("joy", "fear", "love", "anger")
    rows = [{"text": row["text"], "mood": moods[i % 4]} for i, row in enumerate(UNLABELLED + LABELLED)]
    rows[-16:] = [row | {"mood": f"{moods[i % 4]}|{moods[(i + 1) % 4]}"} for i, row in enumerate(rows[-16:])]
    facts = inspect_data({"train": put(tmp_path, "jsonl", rows)})["facts"]
    assert (facts["task"], facts["labels"]) == ("multi_label", sorted(moods))
