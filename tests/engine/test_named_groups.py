"""Rows that a person says belong together, by the column that tells it: of a user, a document, a product."""

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from engine.inspection.data import inspect_data
from engine.loading import split
from engine.rows import Split, united
from recommender.errors import InputError
from recommender.plan import DataChoice

WORDS = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "lmnrst"]
COLUMNS = ["text", "user_id", "label"]
GROUP = {"columns": {"group": "user_id"}}


def put(folder: Path, name: str, rows: list[list[Any]], columns: list[str] = COLUMNS) -> str:
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(folder / name)


def written(rng: random.Random, user: object) -> list[Any]:
    return [" ".join(rng.choices(WORDS, k=8)), user, rng.choice(["good", "bad"])]


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    """600 rows of 60 users."""
    rng = random.Random(0)
    return put(tmp_path, "reviews.csv", [written(rng, f"u{rng.randrange(60)}") for _ in range(600)])


def facts(train: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = inspect_data({"train": train, **options})["facts"]
    return found


def parted(train: str, columns: dict[str, str] | None = None, **options: Any) -> Split:
    return split(DataChoice(train=train, text_column="text", label_column="label", columns=columns, **options))


def users(parts: Split) -> list[set[object]]:
    return [set(rows.named or ()) for rows in (parts.train, parts.validation, parts.held_out)]


@pytest.mark.parametrize("options", [{}, {"eval_rows": 90}, {"folds": 4, "fold": 1}], ids=["carved", "put aside", "folds"])
def test_no_user_is_on_two_sides_and_intervals_draw_users(reviews: str, options: dict[str, int]) -> None:
    parts = parted(reviews, GROUP["columns"], **options)
    sides = users(parts)
    assert all(sides)
    assert sum(map(len, sides)) == len(set().union(*sides)) == parts.counts["groups"] == 60
    assert len(parts.held_out) == pytest.approx(90 if "folds" not in options else 150, abs=10)
    drawn = parts.held_out.drawn_together()
    assert drawn is not None
    assert len({*zip(drawn, parts.held_out.named or (), strict=True)}) == len(sides[2]) == max(drawn) + 1
    told = facts(reviews, eval_rows=options.get("eval_rows"), **GROUP)
    assert (told["eval_rows"], told["group_overlap_share"]) == ((90, 0) if "eval_rows" in options else (None, None))


def test_without_a_named_group_rows_are_split_as_before(reviews: str) -> None:
    """The very rows that the version before this one held out, or a plan made by it could not be repeated."""
    assert [parted(reviews).held_out.numbers[i] for i in range(8)] == FIRST_HELD_OUT


FIRST_HELD_OUT = [9, 10, 11, 26, 28, 31, 34, 59]


def test_what_users_say_alike_is_on_one_side_too_unless_that_would_tie_all_of_them(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [[f"{' '.join(rng.choices(WORDS, k=8))}", f"u{i // 5}", "ab"[i % 2]] for i in range(300)]
    twins = [[f"{i // 2} of them said so{'.!'[i % 2]}", f"u{i}", "a"] for i in range(40)]  # by u0 and u1, u2 and u3, ...
    few = parted(put(tmp_path, "few.csv", rows + twins), GROUP["columns"])
    shown = [{text.strip(".!") for text in side.texts} for side in (few.train, few.validation, few.held_out)]
    assert sum(map(len, shown)) == len(set().union(*shown))
    chain = [[f"{i + (i % 2)} of them said so{'.!'[n]}", f"u{i}", "a"] for i in range(60) for n in range(2)]
    chain += [[f"{i + 1 - (i % 2)} of us did{'.!'[i % 2]}", f"u{i}", "a"] for i in range(60)]
    tied = parted(put(tmp_path, "tied.csv", rows + chain), GROUP["columns"])
    sides = users(tied)
    assert (sum(map(len, sides)), bool(len(tied.held_out))) == (60, True)
    assert len(set(united([1, 1, 2, 3, 4], "abcbd"))) == 3


def test_users_and_what_they_were_asked_are_put_aside_together(tmp_path: Path) -> None:
    """Two answers to each question, by two users of four who answer the same ones."""
    columns = {"prompt": "text", "completion": "label", "group": "user_id"}
    rows = [[f"A poem of {i // 4} and {i % 2}!", f"u{i // 8}-{i % 4}", f"poem {i}"] for i in range(400)]
    plan = DataChoice(train=put(tmp_path, "a.csv", rows), columns=columns, layout="prompt_completion", eval_rows=80)
    parts = split(plan, "instruction")
    asked = [set(rows.groups or ()) for rows in (parts.train, parts.validation, parts.held_out)]
    sides = users(parts)
    assert len(parts.held_out) == pytest.approx(80, abs=8)
    assert (sum(map(len, asked)), sum(map(len, sides))) == (len(set().union(*asked)), len(set().union(*sides))) == (200, 200)


@pytest.mark.parametrize(
    ("values", "column", "told"),
    [
        (lambda i: f"u{i}", "user_id", "no two rows share a value of column user_id"),
        (lambda i: "one", "user_id", "column user_id holds 1 value only; at least 3 groups are needed"),
        (lambda i: "ab"[i % 2], "user_id", "column user_id holds 2 values only"),
        (lambda i: i % 9, "label", "column label is read as the label and cannot be the group, too"),
        (lambda i: i % 9, "text", "column text is read as the text and cannot be the group, too"),
        (lambda i: i % 9, "user", r"has no column user \(--column group=…\); its columns are text, user_id"),
    ],
)
def test_what_is_no_group_is_told(tmp_path: Path, values: Any, column: str, told: str) -> None:
    rng = random.Random(0)
    file = put(tmp_path, "a.csv", [written(rng, values(i)) for i in range(80)])
    with pytest.raises(InputError, match=told):
        inspect_data({"train": file, "columns": {"group": column}})


def test_rows_without_a_group_stand_alone_and_few_large_groups_are_split_all_the_same(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [written(rng, "" if i % 3 else f"u{i % 30}") for i in range(300)]
    file = put(tmp_path, "a.csv", [["", "of no row", "good"], *rows])
    found = facts(file, **GROUP)
    assert (found["groups"], found["ungrouped_rows"]) == (210, 200)
    large = put(tmp_path, "b.csv", [written(rng, f"hospital {i % 3}") for i in range(300)])
    assert [len(side) for side in users(parted(large, GROUP["columns"]))] == [1, 1, 1]
    with pytest.raises(InputError, match="too few groups in column user_id to keep validation_rows apart"):
        parted(put(tmp_path, "c.csv", [written(rng, f"hospital {i % 2}") for i in range(300)]), GROUP["columns"])
    each = put(tmp_path, "d.csv", [[*written(rng, f"hospital {i % 4}")[:2], "abcd"[i % 4]] for i in range(300)])
    with pytest.raises(InputError, match="--eval-rows is 50, and none can be held out: each class keeps a row"):
        facts(each, eval_rows=50, **GROUP)


def test_users_of_a_held_out_file_that_are_trained_on_are_told(reviews: str, tmp_path: Path) -> None:
    rng = random.Random(1)
    some = put(tmp_path, "some.csv", [written(rng, f"u{i if i < 40 else i + 60}") for i in range(60)])
    assert facts(reviews, eval=some, **GROUP)["group_overlap_share"] == pytest.approx(2 / 3)
    parts = parted(reviews, GROUP["columns"], eval=some)
    assert parts.counts["groups_seen"] == pytest.approx(400, abs=60)
    assert [(s["column"], s["why"], s["share"]) for s in facts(reviews, eval=some)["suspicious_columns"]] == [
        ("user_id", "group_seen", pytest.approx(2 / 3))
    ]
    without = put(tmp_path, "without.csv", [[row[0], row[2]] for row in (written(rng, 0) for _ in range(60))], ["text", "label"])
    unknown = facts(reviews, eval=without, **GROUP)
    assert (unknown["group_overlap_share"], unknown["ungrouped_rows"]) == (0, 60)
    counts = parted(reviews, GROUP["columns"], eval=without).counts
    assert (counts["groups_seen"], counts["groups_unknown"]) == (0, 60)
    assert (parts.counts["groups"], parts.counts["groups_unknown"]) == (80, 0), "20 of the held-out file's own"


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("user_id", lambda i: f"u{i % 60}", True),
        ("ReviewerID", lambda i: f"u{i % 60}", True),
        ("url", lambda i: f"https://example.org/{i // 4}", True),
        ("doc_id", lambda i: i // 5, True),
        ("user_id", lambda i: f"u{i}", False),  # each once
        ("user_id", lambda i: f"u{i % 8}", False),  # few, as classes are
        ("country", lambda i: f"c{i % 60}", False),
        ("annotator_id", lambda i: f"a{i % 60}", False),
        ("company", lambda i: f"c{i % 60}", False),
        ("day", lambda i: f"2024-01-{1 + i % 28:02}", False),
    ],
)
def test_a_column_that_looks_like_users_or_documents_is_named_once(tmp_path: Path, name: str, values: Any, told: bool) -> None:
    rng = random.Random(0)
    rows = [written(rng, values(i)) for i in range(300)]
    found = facts(put(tmp_path, "a.csv", rows, ["text", name, "label"]))["suspicious_columns"]
    assert [s["column"] for s in found if s["why"] == "group"] == [name] * told
    if told:
        assert not facts(put(tmp_path, "b.csv", rows, ["text", name, "label"]), columns={"group": name})["suspicious_columns"]


def test_what_the_split_keeps_together_already_is_not_told(tmp_path: Path) -> None:
    """Three hypotheses a premise, which has a number."""
    rng = random.Random(0)
    premises = [" ".join(rng.choices(WORDS, k=8)) for _ in range(100)]
    rows = [[premises[i // 3], " ".join(rng.choices(WORDS, k=6)), i // 3, "yn"[i % 2]] for i in range(300)]
    found = facts(put(tmp_path, "a.csv", rows, ["premise", "hypothesis", "promptID", "label"]))
    assert "text_pair" in found["columns"]
    assert "group" not in [s["why"] for s in found["suspicious_columns"]]
