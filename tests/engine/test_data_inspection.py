"""Facts about a labelled file, and every input that could waste a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.files import sha256_of
from engine.inspection.data import inspect_data
from engine.loading import load, split
from engine.rows import key_of
from recommender.errors import Exit, InputError
from recommender.facts import DataFacts
from recommender.plan import DataChoice
from tests.conftest import put_rows

EXAMPLES = Path(__file__).parents[2] / "examples"


def put(folder: Path, name: str, lines: list[str]) -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def looked(train: str, **options: object) -> tuple[DataFacts, dict[str, Any]]:
    answer = inspect_data({"train": train, **options})
    return DataFacts.model_validate(answer["facts"]), answer


def complaint(train: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        inspect_data({"train": train, **options})
    assert caught.value.exit == Exit.USAGE
    return caught.value.message


def reviews(count: int) -> list[str]:
    return [f"this film number {i} was quite something to see,{'pos' if i % 2 else 'neg'}" for i in range(count)]


def test_rows_that_contradict_others_are_left_out_when_that_is_wished(tmp_path: Path) -> None:
    rows = [*reviews(20), "One and the same,pos", "one and  the same,neg", "one and the same,neg", "twice,pos", "twice,pos"]
    path = put(tmp_path, "a.csv", ["text,label", *rows])
    facts, _answer = looked(path)
    assert (facts.rows, facts.conflict_share) == (25, 3 / 25)
    cleaned, answer = looked(path, drop_conflicts=True)
    assert (cleaned.rows, cleaned.unique_rows, cleaned.conflict_share) == (22, 21, 0)
    assert cleaned.label_counts == (10, 12)
    assert not any("the same" in text for text, _label in answer["preview"])
    only = put(tmp_path, "b.csv", ["text,label", "same,pos", "same,neg", "same,pos"])
    assert "nothing is left" in complaint(only, drop_conflicts=True)


def test_the_examples_are_what_they_claim_to_be() -> None:
    train, held_out = EXAMPLES / "support-train.csv", EXAMPLES / "support-heldout.csv"
    facts, answer = looked(str(train), eval=str(held_out))
    assert (facts.text_column, facts.label_column, facts.format) == ("text", "label", "csv")
    assert facts.classes == 6
    assert facts.label_counts is not None
    assert min(facts.label_counts) >= 80
    assert facts.rows is not None
    assert facts.rows >= 600
    assert facts.eval_rows is not None
    assert facts.eval_rows >= 120
    assert facts.overlap_share == 0
    assert facts.conflict_share == 0
    assert answer["fingerprint"] == sha256_of(train)
    assert answer["eval_fingerprint"] == sha256_of(held_out)
    assert len(answer["preview"]) == 20


def test_columns_are_told_apart_by_names_and_contents(tmp_path: Path) -> None:
    rows = [f"{i},{'ok' if i % 2 else 'bad'},the parcel number {i} came a day late,2024-01-{i % 28 + 1:02}" for i in range(60)]
    facts, answer = looked(put(tmp_path, "a.csv", ["id,verdict,remark,day", *rows]))
    assert (facts.text_column, facts.label_column) == ("remark", "verdict")
    assert answer["columns"] == ["id", "verdict", "remark", "day"]


def test_named_columns_are_taken(tmp_path: Path) -> None:
    rows = [f"title {i},a long enough text number {i},{i % 2},{i % 3}" for i in range(30)]
    path = put(tmp_path, "a.csv", ["title,text,label,topic", *rows])
    facts, answer = looked(path, columns={"text": "title", "label": "topic"})
    assert (facts.text_column, facts.label_column, facts.classes) == ("title", "topic", 3)
    assert answer["confidence"] > 0.9


def test_repeats_contradictions_overlap_and_gaps_are_counted(tmp_path: Path) -> None:
    lines = ["text,label", "same words,pos", "Same  words,pos", "torn,pos", "torn,neg", "alone,neg", "no label,", ",neg"]
    held_out = put(tmp_path, "test.csv", ["text,label", "SAME WORDS,pos", "new,neg"])
    facts, _ = looked(put(tmp_path, "a.csv", lines), eval=held_out)
    assert (facts.rows, facts.unique_rows, facts.empty_rows) == (5, 3, 2)
    assert facts.duplicate_share == pytest.approx(1 / 5)
    assert facts.conflict_share == pytest.approx(2 / 5)
    assert facts.overlap_share == pytest.approx(1 / 2)


def test_a_field_that_some_rows_lack_is_empty_in_them(tmp_path: Path) -> None:
    """Of JSON lines a row has the fields that it has: the first ones lack `input`, and the second file lacks it wholly."""
    rows = [{"instruction": f"Tell me about thing {i}", "output": f"That is thing number {i}."} for i in range(60)]
    for row in rows[40:]:
        row["input"] = "and say it in a word"
    late = put(tmp_path, "late.jsonl", [json.dumps(row) for row in rows])
    columns = {"instruction": "instruction", "input": "input", "output": "output"}
    for options in ({}, {"train_rows": 5}):
        facts, answer = looked(late, **options)
        assert (facts.columns, len(answer["preview"])) == (columns, min(facts.rows or 0, 20))
    for name, some in (("part-1.jsonl", rows[40:]), ("part-2.jsonl", rows[:40])):
        put(tmp_path, name, [json.dumps(row) for row in some])
    facts, _ = looked(str(tmp_path / "part-*.jsonl"), eval=str(tmp_path / "part-2.jsonl"))
    assert (facts.rows, facts.eval_rows) == (60, 40)
    part, both = str(tmp_path / "part-2.jsonl"), str(tmp_path / "part-*.jsonl")
    train, held_out = load(DataChoice(train=both, eval=part, layout="alpaca", columns=columns), "instruction")
    asked = [item["messages"][0]["content"] for item in train.items or ()]
    assert (asked[0], asked[20]) == ("Tell me about thing 40\n\nand say it in a word", "Tell me about thing 0")
    assert len(held_out or ()) == 40


def test_a_field_of_an_object_is_a_column_for_inspection_and_run(tmp_path: Path) -> None:
    rows = [{"asked": f"What is {i}?", "said": {"good": f"It is {i}.", "bad": f"Not {i}."}} for i in range(30)]
    path = put(tmp_path, "pairs.jsonl", [json.dumps(row) for row in rows])
    columns = {"prompt": "asked", "chosen": "said.good", "rejected": "said.bad"}
    facts, _ = looked(path, columns=columns, task="preference")
    assert (facts.rows, facts.columns) == (30, columns)
    found, _ = load(DataChoice(train=path, layout="preference", columns=columns), "preference")
    assert [message["content"] for message in (found.items or [])[3]["rejected"]] == ["Not 3."]


def test_a_sample_of_rows_is_seeded(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ["text,label", *reviews(100)])
    first, again, other = (looked(path, train_rows=30, split_seed=s)[1]["preview"] for s in (0, 0, 1))
    assert first == again != other
    assert looked(path, train_rows=30)[0].rows == 30


def test_rows_of_one_file_are_held_out_as_the_run_will_hold_them_out(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ["text,label", *reviews(100), *reviews(3), "torn,pos", "torn,neg"])
    facts, answer = looked(path, train_rows=30, eval_rows=40)
    assert (facts.rows, facts.eval_rows, answer["eval_path"]) == (30, 40, None)
    choice = DataChoice(train=path, text_column="text", label_column="label", train_rows=30, eval_rows=40, validation_rows=5)
    parts = split(choice)
    assert parts.held_out is not None
    left_out = parts.counts["overlap"] + parts.counts["duplicates"]
    assert (len(parts.train) + len(parts.validation), len(parts.held_out)) == (30 - left_out, 40)
    assert not {key_of(t) for t in parts.held_out.texts} & {key_of(t) for t in parts.train.texts + parts.validation.texts}
    assert facts.overlap_share == pytest.approx(parts.counts["overlap"] / 40)
    with_gaps = put(tmp_path, "gaps.csv", ["text,label", *reviews(105), "a text without,", ",neg"])
    rest, _ = looked(with_gaps, eval_rows=40)  # without a number: the rest
    parts = split(DataChoice(train=with_gaps, text_column="text", label_column="label", eval_rows=40))
    assert (rest.rows, rest.empty_rows) == (65, 2) == (parts.counts["rows"], parts.counts["empty"])
    assert "--eval-rows is 60, more than half of the 105 rows" in complaint(path, eval_rows=60)


def test_tokens_are_counted_untruncated_with_the_models_own_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = put(tmp_path, "a.csv", ["text,label", "one two,x", "one two three four five,y", f"{'word ' * 90},x"])
    facts, _ = looked(path, model=str(tmp_path))
    assert (facts.tokens_p50, facts.tokens_max, facts.tokens_total) == (5, 90, 97)
    assert facts.tokens_origin == "measured"
    cut = next(t for t in facts.truncation if t.length == 64)
    assert (cut.rows_cut, cut.tokens_kept) == (1, 71)


def test_without_a_tokenizer_the_count_is_called_assumed(tmp_path: Path) -> None:
    assert looked(put(tmp_path, "a.csv", ["text,label", *reviews(10)]))[0].tokens_origin == "assumed"


def test_the_preview_is_safe_to_show(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    put_rows(path, ({"text": f"\x1b[31mred\nrow {i}", "label": i % 2} for i in range(4)))
    assert looked(str(path))[1]["preview"][0] == ["\\x1b[31mred row 0", "0"]


def test_a_label_column_of_identifiers_even_if_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ["text,id", *[f"text {i},{i}" for i in range(100)]])
    assert "column id has 100 distinct values in 100 rows" in complaint(path)
    assert "name another one" in complaint(path, columns={"label": "id"})


def test_more_classes_than_are_learned_are_not_called_free_text(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ["text,label", *[f"the text {i} of a row,part {i % 1001}" for i in range(5005)]])
    assert "has more than 1,000 distinct values, and at most 1,000 classes are learned" in complaint(path)


def test_a_column_that_does_not_exist(tmp_path: Path) -> None:
    message = complaint(put(tmp_path, "a.csv", ["text,label", *reviews(10)]), columns={"label": "sentiment"})
    assert "has no column sentiment (--label-column); its columns are text, label" in message


def test_rows_without_labels(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ["text,label", *reviews(10), *[f"text {i}," for i in range(20)]])
    assert "20 of 30 rows have no text or no label" in complaint(path)


def test_a_held_out_file_with_other_columns(tmp_path: Path) -> None:
    train = put(tmp_path, "train.csv", ["text,label", *reviews(20)])
    held_out = put(tmp_path, "test.csv", ["review,score", "fine,pos"])
    assert "test.csv: has no column text; its columns are review, score" in complaint(train, eval=held_out)
    held_out = put(tmp_path, "test.jsonl", ['{"review": "fine", "label": "pos"}'] * 3)
    assert "test.jsonl: has no column text; its columns are review, label" in complaint(train, eval=held_out)


def test_too_small_a_sample(tmp_path: Path) -> None:
    assert "--train-rows is 0" in complaint(put(tmp_path, "a.csv", ["text,label", *reviews(20)]), train_rows=0)


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    path = put(tmp_path, "a.csv", ["text,label", *reviews(20)])
    assert "tokenizer.json: not readable as a tokenizer" in complaint(path, model=str(tmp_path))


def test_of_many_small_files_all_are_looked_at(tmp_path: Path) -> None:
    scores = [n % 5 if n < 20 else n % 5 + n / 100 for n in range(60)]
    for i, score in enumerate(scores):
        (tmp_path / f"{i:02}.jsonl").write_text(json.dumps({"title": f"the review of number {i} is this", "score": score}))
    assert inspect_data({"train": str(tmp_path / "*.jsonl")})["facts"]["task"] == "regression"
