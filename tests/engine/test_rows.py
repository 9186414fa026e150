"""Rows: the same for inspection and run, and never a text on two sides."""

import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.inspection.data import inspect_data
from engine.loading import split
from engine.rows import Rows, agreeing, key_of, labelled, sort_labels, twin_of, unique
from engine.splitting import carve, deal, put_aside, sample
from engine.tables.table import Table
from recommender.errors import InputError
from recommender.plan import DataChoice
from tests.conftest import put_rows
from tests.engine.made_files import read_table


def rows_of(pairs: list[tuple[str, str]]) -> Rows:
    return Rows([t for t, _ in pairs], [x for _, x in pairs], list(range(1, len(pairs) + 1)))


def many(count: int, labels: int = 3) -> Rows:
    return rows_of([(f"text number {i}", f"label {i % labels}") for i in range(count)])


def write(folder: Path, name: str, rows: Rows) -> str:
    lines = [f'"{t}",{x}' for t, x in zip(rows.texts, rows.labels, strict=True)]
    (folder / name).write_text("\n".join(["text,label", *lines]) + "\n")
    return str(folder / name)


def choice(train: str, **fields: object) -> DataChoice:
    return DataChoice.model_validate({"train": train, "text_column": "text", "label_column": "label", **fields})


TEXTS = st.sampled_from([*(f"t{i}" for i in range(30)), "T1", " t2 "])
PAIRS = st.lists(st.tuples(TEXTS, st.sampled_from("abc")), min_size=2, max_size=80)


@settings(max_examples=80)
@given(pairs=PAIRS, count=st.integers(1, 60), seed=st.integers(0, 5))
def test_carving_splits_every_row_once_and_no_text_twice(pairs: list[tuple[str, str]], count: int, seed: int) -> None:
    rows = rows_of(pairs)
    out, rest = carve(rows, count, seed)
    assert sorted(out.numbers + rest.numbers) == rows.numbers
    assert not {key_of(t) for t in out.texts} & {key_of(t) for t in rest.texts}
    assert len(rest) > 0


def test_rows_that_differ_in_punctuation_alone_are_on_one_side(tmp_path: Path) -> None:
    """Of SST-2's held-out phrases a fifth were in the training rows but for a full stop or a dash."""
    ways = ("thing {} is good", "Thing {} is good .", "thing {}, is `good'", "thing-{} is good!")
    rows = rows_of([(way.format(i), "ab"[i % 2]) for i in range(30) for way in ways])
    once = {twin_of(t) for t in rows.texts}
    assert len(once) == 30
    out, rest = carve(rows, 40, seed=0)
    assert (len(out), len({twin_of(t) for t in out.texts} & {twin_of(t) for t in rest.texts})) == (40, 0)
    folds = dict(zip(map(twin_of, rows.texts), deal(rows, 4, seed=0), strict=True))
    assert [folds[twin_of(t)] for t in rows.texts] == deal(rows, 4, seed=0)
    held_out = rows_of([("THING 3 is good...", "a"), ("thing 99 is good", "b")])
    chosen = choice(write(tmp_path, "a.csv", rows), eval=write(tmp_path, "b.csv", held_out), validation_rows=4)
    assert split(chosen).counts["overlap"] == 4
    assert inspect_data({"train": chosen.train, "eval": chosen.eval}, lambda *_: None)["facts"]["overlap_share"] == 0.5


@pytest.mark.parametrize(
    ("one", "other", "twins"),
    [
        ("It's good.", "it 's good", True),
        ("2 + 2", "2 - 2", False),
        ("costs $5", "costs 5", False),
        ("fine \U0001f600", "fine \U0001f621", False),
        ("3 - 2", "3, 2", False),
        ("3*2", "3/2", False),
        ("x^2", "x 2", False),
        ("C# developer", "C developer", False),
        ("up 5%", "up 5", False),
        ("GPT-4 is well-known", "GPT 4 is well known", True),
        ("你好，世界！", "你好 世界", True),
        ("我用Python，写代码。", "我用Python写代码", True),
        ("今日は、晴れ。", "今日は晴れ", True),
        ("안녕, 세계", "안녕 세계!", True),
        ("1.5", "15", False),
        ("#.#S#.#", "#...S", False),
        ("!!!", "?", False),
        ("مرحبا؟", "مرحبا", True),
    ],
)
def test_what_makes_twins(one: str, other: str, *, twins: bool) -> None:
    """Signs with a meaning count; in drawings and the like all do."""
    assert (twin_of(one) == twin_of(other)) is twins


@pytest.mark.parametrize("options", [{}, {"folds": 5, "fold": 0, "validation_rows": 0}], ids=["carved", "folds"])
def test_where_punctuation_is_all_that_differs_rows_are_held_out_all_the_same(options: dict[str, int], tmp_path: Path) -> None:
    """Statements and questions of the same words were one group or two, too large for any side: nothing was held out."""
    ends = (".", "!", "?", "...", "!!", "??", "?!", ";", ":", "!?", "!!!", "???")
    rows = rows_of([(words + end, "b" if "?" in end else "a") for words in ("how are you", "we go home") for end in ends])
    parts = split(choice(write(tmp_path, "a.csv", rows), **options))
    assert (len(parts.held_out), parts.counts["torn"]) == (5 if options else 3, 1)
    assert bool(len(parts.validation)) is not bool(options)


def test_prompts_of_preferences_that_are_held_out_are_told_before_the_run_leaves_them_out(tmp_path: Path) -> None:
    for name, begin, answer in (("a.jsonl", 0, "is good"), ("b.jsonl", 40, "is bad")):
        pairs = ({"prompt": f"And {i}?", "chosen": f"{i} {answer}.", "rejected": "No."} for i in range(begin, begin + 60))
        put_rows(tmp_path / name, pairs)
    train, held_out = (str(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    facts = inspect_data({"train": train, "eval": held_out}, lambda *_: None)["facts"]
    chosen = DataChoice(train=train, eval=held_out, layout="preference", columns=facts["columns"], validation_rows=4)
    assert split(chosen, "preference").counts["overlap"] == 20 == round(60 * facts["overlap_share"])


def test_carving_keeps_the_share_of_each_label() -> None:
    rows = rows_of([(f"text {i}", "rare" if i % 10 == 0 else "usual") for i in range(1000)])
    out, _ = carve(rows, 200, seed=0)
    assert Counter(out.labels) == {"usual": 180, "rare": 20}


@pytest.mark.parametrize(("classes", "count"), [(150, 50), (40, 60), (7, 33)])
def test_carving_many_small_classes_gives_as_many_rows_as_are_wanted(classes: int, count: int) -> None:
    out, rest = carve(many(classes * 15, classes), count, seed=0)
    taken = Counter(out.labels)
    assert (len(out), len(rest)) == (count, classes * 15 - count)
    assert max(taken.values()) - min(taken[label] for label in set(rest.labels)) <= 1


def test_carving_ten_thousand_classes_takes_no_longer_than_reading_them() -> None:
    """Whatever was lacking to whole rows was looked for among all of them, each time: a minute for 40,000."""
    labels = [f"class {i // 2}" for i in range(20_000)]
    rows = Rows([f"text {i}" for i in range(20_000)], labels, list(range(1, 20_001)))
    began = time.process_time()
    assert len(carve(rows, 2_500, seed=0)[0]) == 2_500
    assert time.process_time() - began < 1


def test_carving_leaves_the_only_row_of_a_label() -> None:
    rows = rows_of([*[(f"text {i}", "usual") for i in range(20)], ("one", "single")])
    assert "single" not in carve(rows, 10, seed=0)[0].labels


def test_carving_is_repeatable_and_depends_on_the_seed() -> None:
    rows = many(100)
    assert carve(rows, 20, 1)[0].numbers == carve(rows, 20, 1)[0].numbers
    assert carve(rows, 20, 1)[0].numbers != carve(rows, 20, 2)[0].numbers


GROUPS = st.lists(st.tuples(st.integers(0, 25), st.sampled_from("abc")), min_size=2, max_size=80)


def grouped(pairs: list[tuple[int, str]]) -> Rows:
    rows = rows_of([(f"text {i}", label) for i, (_, label) in enumerate(pairs)])
    return replace(rows, groups=[f"premise {group}" for group, _ in pairs])


@settings(max_examples=80)
@example(pairs=[(0, "a"), (0, "b"), (1, "a"), (1, "c"), (1, "c")], count=2, seed=0)  # one would fill up, with all b
@given(pairs=GROUPS, count=st.integers(1, 40), seed=st.integers(0, 5))
def test_rows_of_one_group_stay_on_one_side_and_of_no_label_all_are_taken(
    pairs: list[tuple[int, str]], count: int, seed: int
) -> None:
    rows = grouped(pairs)
    out, rest = carve(rows, count, seed)
    assert sorted(out.numbers + rest.numbers) == rows.numbers
    assert not set(out.groups or ()) & set(rest.groups or ())
    assert len(out) <= count
    assert set(rest.labels) == set(rows.labels)
    dealt = deal(rows, 4, seed)
    assert len(set(zip(rows.groups or (), dealt, strict=True))) == len(set(rows.groups or ()))


@pytest.mark.parametrize("count", [60, 400])
def test_groups_of_mixed_labels_keep_the_share_of_each_label(count: int) -> None:
    pairs = [(i, label) for i in range(400) for label in "aaab"[i % 4 :] + "c" * (i % 10 == 0)]
    rows = grouped(pairs)
    out, _ = carve(rows, count, seed=0)
    assert len(out) >= 0.95 * count
    shares, before = Counter(out.labels), Counter(rows.labels)
    assert all(abs(shares[x] / len(out) - before[x] / len(rows)) < 0.06 for x in before)
    assert max(Counter(deal(rows, 5, 0)).values()) - min(Counter(deal(rows, 5, 0)).values()) <= 5


SHARING: dict[str, list[dict[str, object]]] = {
    "instruction": [{"instruction": f"Name {i // 3}", "input": "", "output": f"answer {i}"} for i in range(240)],
    "chat": [
        {"messages": [{"role": "user", "content": f"Hello {i // 3}"}, {"role": "assistant", "content": f"answer {i}"}]}
        for i in range(240)
    ],
    "premises": [{"premise": f"It is {i // 3} here", "hypothesis": f"So {i}", "label": "ab"[i % 2]} for i in range(240)],
    "passages": [{"question": f"Is it {i}?", "passage": f"It is {i // 3}.", "label": "ab"[i % 2]} for i in range(240)],
}


@pytest.mark.parametrize("kind", SHARING)
@pytest.mark.parametrize("options", [{}, {"eval_rows": 60}, {"folds": 5, "fold": 0}], ids=["carved", "put aside", "folds"])
def test_what_rows_share_is_never_on_two_sides(kind: str, options: dict[str, int], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    put_rows(file, SHARING[kind])
    aside = options.get("eval_rows")
    found = inspect_data({"train": str(file), "eval_rows": aside})["facts"]
    assert found["shared_share"] == 1
    assert found["eval_rows"] == aside
    columns = None if found["task"] == "classification" and "text_pair" not in found["columns"] else found["columns"]
    plan = DataChoice.model_validate({"train": str(file), "columns": columns, "layout": found["layout"], **options})
    parts = split(plan, found["task"])
    sides = [{(n - 1) // 3 for n in part.numbers} for part in (parts.train, parts.validation, parts.held_out)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set().union(*sides)) == 80
    assert (parts.counts["together"], "torn" in parts.counts) == (found["rows"], False)
    assert len(parts.held_out) == (aside or pytest.approx(48, abs=15))
    drawn = zip(parts.held_out.drawn_together() or (), parts.held_out.numbers, strict=True)
    assert len({(group, (n - 1) // 3) for group, n in drawn}) == len(sides[2]), "intervals are of groups"


def test_what_a_brought_held_out_file_shares_with_the_training_is_learned_and_said(tmp_path: Path) -> None:
    """With other answers a question is not left out of the training, as a row is that is held out too."""
    for name, answers in (("train", range(90)), ("held", range(90, 120))):  # three answers each, of the same 30 questions
        rows = [{"prompt": f"A poem of {i % 30}!", "completion": f"poem {i}"} for i in answers]
        put_rows(tmp_path / f"{name}.jsonl", rows)
    columns = {"prompt": "prompt", "completion": "completion"}
    plan = {"train": str(tmp_path / "train.jsonl"), "columns": columns, "layout": "prompt_completion"}
    alone = split(DataChoice.model_validate(plan), "instruction").counts
    brought = split(DataChoice.model_validate(plan | {"eval": str(tmp_path / "held.jsonl")}), "instruction").counts
    assert (alone["together"], alone.get("seen")) == (90, None)
    assert (brought["together"], brought["overlap"], brought["seen"]) == (90, 0, 90)


@pytest.mark.parametrize("options", [{}, {"eval_rows": 40}], ids=["carved", "put aside"])
def test_a_question_that_all_rows_share_is_split_all_the_same_and_said(options: dict[str, int], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    put_rows(file, ({"prompt": "A poem!", "completion": f"poem {i}"} for i in range(200)))
    columns = {"prompt": "prompt", "completion": "completion"}
    plan = {"train": str(file), "columns": columns, "layout": "prompt_completion", **options}
    parts = split(DataChoice.model_validate(plan), "instruction")
    assert parts.counts["torn"] == 1
    assert len(parts.validation) > 0
    assert len(parts.held_out) == options.get("eval_rows", 30)
    assert parts.held_out.drawn_together() is None, "one group says nothing of others"


def test_rows_put_aside_have_the_share_of_each_class_and_leave_some_of_it_to_train_on(tmp_path: Path) -> None:
    labels = ["only" if i == 7 else "rare" if i % 20 == 0 else f"usual {i % 2}" for i in range(300)]
    file = write(tmp_path, "a.csv", rows_of([(f"text {i}", label) for i, label in enumerate(labels)]))
    for seed in range(5):
        parts = split(choice(file, eval_rows=100, split_seed=seed))
        assert Counter(parts.held_out.labels)["rare"] == 5
        assert "only" in parts.train.labels
        found = inspect_data({"train": str(file), "eval_rows": 100, "split_seed": seed})["facts"]
        kept = Counter(parts.train.labels + parts.validation.labels)
        assert dict(zip(found["labels"], found["label_counts"], strict=True)) == kept
    # Inspection knows hashes of the labels, a run their names: both are to hold out the same rows.
    assert put_aside(300, 100, 50, 3, labels=labels) == put_aside(300, 100, 50, 3, labels=[f"-{label}"[::-1] for label in labels])


def test_a_sample_is_seeded_and_keeps_the_order() -> None:
    rows = many(100)
    taken = sample(rows, 10, seed=3)
    assert taken.numbers == sorted(taken.numbers) == sample(rows, 10, seed=3).numbers
    assert taken.numbers != sample(rows, 10, seed=4).numbers
    assert sample(rows, 1000, seed=3) is rows


def test_a_repeat_counts_once_unless_its_label_differs() -> None:
    once = unique(rows_of([("Good film", "pos"), ("good  FILM ", "pos"), ("good film", "neg")]))
    assert once.numbers == [1, 3]


def test_rows_that_contradict_others_are_told_apart_from_repeats() -> None:
    rows = Rows(["a", "A ", "b", "b", "c"], ["x", "y", "x", "x", "y"], [1, 2, 3, 4, 5])
    assert agreeing(rows).numbers == [3, 4, 5]
    tagged = Rows(["a", "a", "b"], ["", "", ""], [1, 2, 3], items=[["O"], ["PER"], ["O"]])
    assert agreeing(tagged).numbers == [3]


def test_labels_are_sorted_as_numbers_when_they_are_numbers() -> None:
    assert sort_labels({"10", "9", "-1"}) == ["-1", "9", "10"]
    assert sort_labels({"10", "9", "b"}) == ["10", "9", "b"]
    alike = [label for i in range(1, 10) for label in (f"0{i}", f"{i}")]
    assert sort_labels(set(alike)) == alike


def test_missing_values_make_a_row_drop_out() -> None:
    table = Table(Path("a.json"), "json", {"text": [" a\n", "  ", "c", "d"], "label": [1.0, 0, None, float("nan")]})
    rows = labelled(table, "text", "label")
    assert (rows.texts, rows.labels, rows.dropped) == (["a"], ["1"], 3)


def test_true_and_whole_numbers_become_the_same_labels_as_in_a_csv() -> None:
    table = Table(Path("a.json"), "json", {"text": ["a", "b", "c"], "label": [True, 2.0, " 3 "]})
    assert labelled(table, "text", "label").labels == ["true", "2", "3"]


def test_half_a_surrogate_pair_does_not_reach_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800 b", "label": 1}\n')
    rows = labelled(read_table(str(tmp_path / "a.jsonl")), "text", "label")
    assert rows.texts == ["a ? b"]


def test_a_nested_value_is_refused_with_its_row() -> None:
    table = Table(Path("a.json"), "json", {"text": ["a", ["b"]], "label": [1, 0]})
    with pytest.raises(InputError, match=r"a\.json: row 2: column text holds a nested value"):
        labelled(table, "text", "label")


def test_a_run_has_no_text_on_two_sides(tmp_path: Path) -> None:
    rows = rows_of([*[(f"text {i % 150}", f"label {(i % 150) % 3}") for i in range(300)]])
    parts = split(choice(write(tmp_path, "train.csv", rows)))
    keys = [{key_of(t) for t in part.texts} for part in (parts.train, parts.validation, parts.held_out)]
    assert all(keys)
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert parts.counts["duplicates"] == 150
    assert parts.labels == ["label 0", "label 1", "label 2"]


def test_training_rows_that_are_also_held_out_are_left_out_of_training(tmp_path: Path) -> None:
    train = write(tmp_path, "train.csv", many(200))
    held_out = write(tmp_path, "test.csv", rows_of([*zip(many(50).texts, many(50).labels, strict=True), ("", "label 0")]))
    parts = split(choice(train, eval=held_out))
    assert (len(parts.held_out), parts.counts["eval_empty"]) == (50, 1)
    assert parts.counts["overlap"] == 50
    assert len(parts.train) + len(parts.validation) == 150


def test_a_plan_that_does_not_say_how_its_rows_are_read_is_refused(tmp_path: Path) -> None:
    """By hand, in the folder of a run; elsewhere what is missing is looked for in the rows."""
    file = write(tmp_path, "train.csv", many(60))
    for fields, task, said in (
        ({}, "classification", "names no text_column and label_column"),
        ({"layout": "messages"}, "chat", r"how the rows of .*train\.csv are written \(data\.layout, data\.columns\)"),
        ({"layout": "messages", "columns": {"prompt": "text"}}, "chat", "which column holds the messages"),
    ):
        with pytest.raises(InputError, match=said):
            split(DataChoice.model_validate({"train": file} | fields), task)  # type: ignore[arg-type]


def test_rows_too_few_for_what_is_kept_of_them_or_of_one_label_alone_are_refused(tmp_path: Path) -> None:
    for labels, fields, said in (
        (3, {"validation_rows": 31}, "validation_rows is 31, more than half of the 60 rows"),
        (3, {"held_out_rows": 31}, "held_out_rows is 31, more than half of the 60 rows"),
        (1, {}, "fewer than two labels are left for training"),
    ):
        with pytest.raises(InputError, match=said):
            split(choice(write(tmp_path, "train.csv", many(60, labels)), **{"held_out_rows": 0} | fields))


def test_the_same_plan_gives_the_same_rows(tmp_path: Path) -> None:
    train = write(tmp_path, "train.csv", many(300))
    first, again, other = split(choice(train)), split(choice(train)), split(choice(train, split_seed=7))
    assert first.held_out.numbers == again.held_out.numbers
    assert first.validation.numbers == again.validation.numbers
    assert first.held_out.numbers != other.held_out.numbers
    folds = split(choice(train, folds=5, fold=1))
    chosen = (first.held_out, other.validation, folds.held_out, sample(first.train, 9, 0))
    kept = [[4, 12, 15, 21], [7, 18, 29, 30], [4, 16, 18, 19], [17, 104, 144, 151]]
    assert [part.numbers[:4] for part in chosen] == kept, "else runs of earlier versions could not be resumed"


def test_a_label_never_seen_in_training_is_named_with_its_row(tmp_path: Path) -> None:
    train = write(tmp_path, "train.csv", many(60))
    held_out = write(tmp_path, "test.csv", rows_of([("new one", "label 0"), ("new two", "surprise")]))
    with pytest.raises(InputError, match=r"test\.csv: row 2: labels that training has never seen: surprise \(1 row\)"):
        split(choice(train, eval=held_out))
    with pytest.raises(InputError, match=r"train\.csv: row \d+: labels that the plan does not name \(data\.labels\): label 1 "):
        split(choice(train, labels=["label 0", "lable 1"]))


@settings(max_examples=60)
@given(pairs=PAIRS, folds=st.integers(2, 6), seed=st.integers(0, 5))
def test_folds_hold_every_row_once_and_keep_equal_texts_together(pairs: list[tuple[str, str]], folds: int, seed: int) -> None:
    rows = rows_of(pairs)
    dealt = deal(rows, folds, seed)
    assert len(dealt) == len(rows)
    assert set(dealt) <= set(range(folds))
    fold_of: dict[str, int] = {}
    for text, fold in zip(rows.texts, dealt, strict=True):
        assert fold_of.setdefault(key_of(text), fold) == fold


def test_folds_are_equally_large_and_mixed_repeatable_and_depend_on_the_seed() -> None:
    rows = rows_of([(f"text {i}", "rare" if i % 10 == 0 else "usual") for i in range(203)])
    dealt = deal(rows, 5, 3)
    assert sorted(Counter(dealt).values()) == [40, 40, 41, 41, 41]
    rare = Counter(fold for fold, label in zip(dealt, rows.labels, strict=True) if label == "rare")
    assert sorted(rare.values()) == [4, 4, 4, 4, 5]
    assert dealt == deal(rows, 5, 3) != deal(rows, 5, 4)
    apart = grouped([(i // 5, "a") for i in range(15)] + [(i, "b") for i in range(3, 23)])
    folds = [fold for fold, label in zip(deal(apart, 4, 0), apart.labels, strict=True) if label == "b"]
    assert Counter(folds) == dict.fromkeys(range(4), 5), "whatever the groups of another label have filled"


def test_the_folds_of_a_plan_are_held_out_in_turn(tmp_path: Path) -> None:
    train = write(tmp_path, "train.csv", many(60))
    parts = [split(choice(train, folds=4, fold=k)) for k in range(4)]
    assert sorted(n for part in parts for n in part.held_out.numbers) == list(range(1, 61))
    for part in parts:
        assert sorted(part.train.numbers + part.validation.numbers + part.held_out.numbers) == list(range(1, 61))
        assert len(part.held_out) == 15
        assert len(part.validation) > 0


def test_more_folds_than_rows_are_refused(tmp_path: Path) -> None:
    train = write(tmp_path, "train.csv", many(12))
    with pytest.raises(InputError, match="12 rows are too few for 15 folds"):
        split(choice(train, folds=15, fold=14))


def test_a_run_leaves_out_what_inspection_left_out(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(80)] + [("both", "a"), ("both", "b"), ("both ", "a")]
    train = write(tmp_path, "train.csv", rows_of(rows))
    kept, cleaned = (split(choice(train, drop_conflicts=drop)) for drop in (False, True))
    everything = [len(part.train) + len(part.validation) + len(part.held_out) for part in (kept, cleaned)]
    assert everything == [82, 80]
    assert cleaned.counts["conflicts"] == 2
    assert "both" not in {t.strip() for part in (cleaned.train, cleaned.validation, cleaned.held_out) for t in part.texts}


def test_rows_that_contradict_each_other_are_held_out_as_often_as_others() -> None:
    """Two of two classes find room in both quotas less easily than one alone: hardly any were held out, and scores too good."""
    share = {"held out": 0.0, "rest": 0.0}
    for seed in range(10):
        draw = random.Random(seed)
        labels = draw.choices("abcdefgh", (40, 30, 20, 10, 5, 5, 3, 1), k=1000)
        texts = [f"text {i}" for i in range(1000)]
        again = draw.sample(range(1000), 60)
        labels += ["h" if labels[i] == "a" else "a" for i in again]
        texts += [texts[i] for i in again]
        twice = {texts[i] for i in again}
        held_out, rest = carve(Rows(texts, labels, list(range(1060))), 200, seed)
        assert len(held_out) == 200
        for name, rows in (("held out", held_out), ("rest", rest)):
            share[name] += sum(text in twice for text in rows.texts) / len(rows)
    assert share["held out"] == pytest.approx(share["rest"], rel=0.15)


def test_rows_that_are_all_held_out_too_are_refused_as_what_they_are(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", rows_of([(f"thing {i}", "ab"[i % 2]) for i in range(40)]))
    with pytest.raises(InputError, match=r"a\.csv: every row is among the held-out rows, too"):
        split(choice(file, eval=file, validation_rows=4))
