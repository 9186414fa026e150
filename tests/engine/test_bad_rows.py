"""What is wrong with a row is one sentence with file, row and column, in every format."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from csv import writer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.inspection.data import inspect_data
from engine.loading import load, marks_of
from recommender import language
from recommender.errors import InputError
from recommender.facts import Task
from recommender.plan import DataChoice
from tui import i18n
from tui.error_words import in_words

WIDE = [f"c{i}" for i in range(10_000)]
LONG = "x" * 10_000_001


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def lines(good: Any, bad: Any) -> str:
    """Sixty good rows, numbered where they hold `#`, and a bad one."""
    rows = (json.dumps(good).replace("#", str(i)).replace(": 0", f": {i % 2}") for i in range(60))
    return "".join(f"{row}\n" for row in (*rows, json.dumps(bad)))


CHAT = {"messages": [user("question #"), answer("answer #")]}
SHARED = {"conversations": [{"from": "human", "value": "q #"}, {"from": "gpt", "value": "a #"}]}
NUMBERED = {"tokens": ["a#", "b"], "tags": [0, 3]}
TAGGED = {"tokens": ["a#", "b"], "tags": ["O", "B-x"]}
PAIR = {"prompt": [user("q #")], "chosen": [answer("x")], "rejected": [answer("y")]}
LABELLED = {"text": "some words # of it", "label": "a"}
ALPACA = {"instruction": "do it #", "input": "", "output": "done it well and completely #"}
PICTURE = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "what is that?"}]}
CALL = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
ASKED = [user("a"), answer("") | {"tool_calls": [CALL | {"id": "c1"}]}]
SEVERAL = {"text": "some words # of it", "labels": ["joy", "fear"]}
FLAGS = {"text": "some words # of it", "toxic": 0, "insult": 0, "threat": 0}

ROWS = [
    ("order.jsonl", CHAT, {"messages": [user("a"), user("b"), answer("c")]}, "column messages holds two messages of the user"),
    ("tool.jsonl", CHAT, {"messages": [user("[a]"), {"role": "tool", "content": "7"}, answer("c")]}, "a tool's answer"),
    ("speaker.jsonl", CHAT, {"messages": [{"role": 7, "content": "x"}]}, "column messages holds a message of an unknown"),
    ("late.jsonl", CHAT, {"messages": [user("a"), {"role": "system", "content": "b"}, answer("c")]}, "a system message as"),
    ("short.jsonl", TAGGED, {"tokens": ["a", "b"], "tags": ["O"]}, "column tags holds 1 tags for 2 tokens"),
    ("list.jsonl", TAGGED, {"tokens": ["a", "b"], "tags": "O B-x"}, "column tags does not hold a list"),
    ("within.jsonl", TAGGED, {"tokens": ["a", ["b"]], "tags": ["O", "O"]}, "column tokens holds a list within its list"),
    ("prompt.jsonl", PAIR, PAIR | {"prompt": [answer("a")]}, "column chosen holds an answer and no question"),
    ("answers.jsonl", PAIR, {"chosen": [answer("a"), answer("b")], "rejected": [answer("c")]}, "column prompt holds no question"),
    ("sides.jsonl", PAIR, PAIR | {"rejected": ["text"]}, "column rejected holds a message that is not an object"),
    ("nested.jsonl", LABELLED, {"text": "x", "label": ["a", "b"]}, "column label holds a nested value"),
    ("object.jsonl", LABELLED, {"text": {"t": "x"}, "label": "a"}, "column text holds a nested value"),
    ("kinds.jsonl", LABELLED, {"text": "x y", "label": 7}, "column label holds a number, 7, where other rows hold words"),
    ("words.jsonl", LABELLED | {"label": 3}, {"text": "x y", "label": "b"}, "column label holds a word, b, where other rows"),
    ("number.jsonl", {"text": "words # of it", "score": 0.5}, {"text": "x", "score": "many"}, "column score holds many"),
    ("ask.jsonl", ALPACA, ALPACA | {"instruction": ["do"]}, "column instruction holds a nested value"),
    ("silent.jsonl", CHAT, {"messages": [{"role": "user"}, answer("b")]}, "holds a message of the user without a text (content)"),
    ("nobody.jsonl", CHAT, {"messages": [{"content": "a"}, answer("b")]}, "holds a message that names no speaker (role)"),
    ("picture.jsonl", CHAT, {"messages": [PICTURE, answer("b")]}, "holds a message with a part that is not text (image_url)"),
    ("part.jsonl", CHAT, {"messages": [user("a") | {"content": [{"text": [7]}]}, answer("b")]}, "a part that is not text (text)"),
    ("system.jsonl", CHAT | {"system": "x"}, CHAT | {"system": [{"t": "x"}]}, "column system holds a nested value"),
    (
        "calls.jsonl",
        CHAT,
        {"messages": [user("a"), answer("") | {"tool_calls": [CALL, {"function": {"name": 7}}]}]},
        "holds tool_calls that are not a list",
    ),
    (
        "counted_calls.jsonl",
        CHAT,
        {"messages": [user("a"), answer("") | {"tool_calls": 1}]},
        "holds tool_calls that are not a list",
    ),
    (
        "answered.jsonl",
        CHAT,
        {"messages": [*ASKED, {"role": "tool", "tool_call_id": "c2", "content": "7"}, answer("b")]},
        "a tool's answer as message 3 whose tool_call_id, c2, is that of no call before it",
    ),
    ("called.jsonl", CHAT, {"messages": [user("a") | {"tool_calls": [CALL]}, answer("b")]}, "of the user with tool_calls"),
    ("tools.jsonl", CHAT, CHAT | {"tools": ["look"]}, "column tools does not hold a list of tools, each an object"),
    ("mixed.jsonl", PAIR, PAIR | {"rejected": "y"}, "column rejected holds a text, where chosen holds messages"),
    ("several.jsonl", SEVERAL, {"text": "x y", "labels": ["joy", None]}, "column labels holds an empty label within its list"),
    ("joys.jsonl", SEVERAL, {"text": "x y", "labels": ["NULL"]}, "column labels holds NULL, which programs write for"),
    ("sorts.jsonl", SEVERAL, {"text": "x y", "labels": ["joy", 3]}, "column labels holds a number, 3, where other rows"),
    ("alone.jsonl", SEVERAL, {"text": "x y", "labels": "joy"}, "column labels does not hold a list"),
    ("below.jsonl", NUMBERED, {"tokens": ["a", "b"], "tags": [0, -100]}, "column tags holds the tag -100, and tags written as"),
    ("above.jsonl", NUMBERED, {"tokens": ["a", "b"], "tags": [0, 9999]}, "column tags holds the tag 9999, where others count"),
    ("strange.jsonl", TAGGED, {"tokens": ["a", "b"], "tags": ["O", "ZZZ"]}, "column tags holds the tag ZZZ, where others are"),
    ("flags.jsonl", FLAGS, FLAGS | {"toxic": 2}, "column toxic holds 2, where other rows hold 0 or 1"),
    ("null.jsonl", LABELLED, {"text": "a\0b", "label": "a"}, "column text holds a null byte"),
    ("talk.jsonl", CHAT, {"messages": [user("a\0"), answer("b")]}, "column messages holds a null byte"),
    ("long.jsonl", LABELLED, {"text": LONG, "label": "b"}, "column text holds a text of 10,000,001 characters"),
]


@pytest.mark.parametrize(("name", "good", "bad", "said"), ROWS, ids=[name for name, *_ in ROWS])
def test_a_bad_row_is_named_with_file_row_and_column(tmp_path: Path, name: str, good: Any, bad: Any, said: str) -> None:
    task = "regression" if name == "number.jsonl" else None
    sentence = refused(tmp_path / name, lines(good, bad), task=task)
    assert sentence.startswith(f"{name}: row 61: ")
    assert said in sentence


def test_all_rows_with_faults_are_named_at_once(tmp_path: Path) -> None:
    order, tool = ROWS[0][2], ROWS[1][2]
    few = "".join((lines(CHAT, order), json.dumps(tool) + "\n", lines(CHAT, order)))
    sentence = refused(tmp_path / "few.jsonl", few)
    assert "row 61: column messages holds two messages of the user" in sentence
    assert sentence.endswith(". Rows with faults: 61, 62, 123; correct them, or take them out of the file.")
    many = lines(CHAT, order) + 30 * (json.dumps(tool) + "\n")
    assert ", 79, 80, …; correct them" in refused(tmp_path / "many.jsonl", many)


def test_rows_that_look_odd_and_are_meant_are_read(tmp_path: Path) -> None:
    """A label list of an empty text, tags of overlapping spans, and counts that are nearly flags; senders are no speakers."""
    for name, good, odd, labels in (
        ("none.jsonl", SEVERAL, {"text": "x y", "labels": [""]}, ["fear", "joy"]),
        ("overlap.jsonl", TAGGED, {"tokens": ["a", "b"], "tags": ["HB-x", "H-x"]}, ["B-x", "H-x", "HB-x", "O"]),
        ("votes.jsonl", FLAGS | {"votes": 0}, FLAGS | {"votes": 2}, ["insult", "threat", "toxic"]),
    ):
        (tmp_path / name).write_text(lines(good, odd))
        facts = inspect_data({"train": str(tmp_path / name)})["facts"]
        assert (facts["rows"] + facts["empty_rows"], facts["labels"]) == (61, labels), name
    called = [user("a"), answer("") | {"function_call": CALL["function"]}, {"role": "function", "content": "7"}, answer("b")]
    (tmp_path / "called.jsonl").write_text(lines(CHAT, {"messages": called}))
    assert inspect_data({"train": str(tmp_path / "called.jsonl")})["facts"]["task"] == "chat"
    for ids in ({}, {"id": "c1"}):  # calls without ids are taken for those that were answered, as nothing tells
        late = [user("a"), answer("") | {"tool_calls": [CALL | ids]}, {"role": "tool", "tool_call_id": "c1", "content": "7"}]
        (tmp_path / "late.jsonl").write_text(lines(CHAT, {"messages": [*late, late[-1], answer("b")]}))
        assert inspect_data({"train": str(tmp_path / "late.jsonl")})["facts"]["empty_rows"] == 0
    for said in ('<tool_call>{"name": "look"}</tool_call>', "I look it up.\nAction: look"):  # as texts, in other data
        spelt = [user("a"), answer(said), {"role": "tool", "content": "7"}, answer("b")]
        (tmp_path / "spelt.jsonl").write_text(lines(CHAT, {"messages": spelt}))
        assert inspect_data({"train": str(tmp_path / "spelt.jsonl")})["facts"]["empty_rows"] == 0
    mails = [{"from": f"{i}@x.org", "text": f"some words {i} of it", "label": "ab"[i % 2]} for i in range(60)]
    (tmp_path / "mails.json").write_text(json.dumps({"mails": mails}))
    assert inspect_data({"train": str(tmp_path / "mails.json")})["facts"]["labels"] == ["a", "b"]


def refused(
    file: Path, content: str | bytes, *, eval_file: Path | None = None, task: str | None = None, train: Path | None = None
) -> str:
    """The sentence, its file without the folder; one line, and nothing of what is wrong in full."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        inspect_data({"train": str(train or file), "eval": eval_file and str(eval_file), "task": task})
    assert "\n" not in error.value.message
    assert len(error.value.message) < 400
    i18n.speak("zh_CN")
    said = in_words(error.value.message)
    language.use({})
    assert said != error.value.message, "it has no entry in tui/locale/*.engine.po"
    return error.value.message.replace(f"{file.parent}/", "")


def test_several_files_tell_the_one_that_holds_the_row(tmp_path: Path) -> None:
    """Also where a label is looked at when all are read, and in what the run reads."""
    folder = tmp_path / "set"
    folder.mkdir()
    silent = {"messages": [{"role": "user"}, answer("b")]}
    for good, bad, said in (
        (CHAT, silent, "a message of the user without a text"),
        (LABELLED | {"label": 0}, {"text": "x", "label": 9}, "column label holds 9, where the other labels are"),
        (FLAGS, FLAGS | {"toxic": 2}, "column toxic holds 2, where other rows hold 0 or 1"),
    ):
        (folder / "train-1.jsonl").write_text("".join(lines(good, good).splitlines(keepends=True)[:-1]))
        sentence = refused(folder / "train-2.jsonl", lines(good, bad), train=folder)
        assert sentence.startswith("train-2.jsonl: row 61: ")
        assert said in sentence
    (folder / "train-1.jsonl").write_text(lines(CHAT, CHAT))
    (folder / "train-2.jsonl").write_text(lines(CHAT, {"messages": [user("told "), answer("a")]}))
    rows, _ = load(DataChoice(train=str(folder / "train-*.jsonl"), layout="messages", columns={"messages": "messages"}), "chat")
    assert rows.take([121]).where(rows.numbers[121]) == "train-2.jsonl: row 61"


def test_of_texts_by_class_the_file_is_told(tmp_path: Path) -> None:
    for label in ("good", "bad", "NULL"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for i in range(1 if label == "NULL" else 12):
            (tmp_path / "train" / label / f"{i}.txt").write_text(f"words {i} of a {label} review")
    said = refused(tmp_path / "train" / "bad" / "12.txt", "more words", train=tmp_path / "train")
    assert said.startswith("train/NULL/0.txt: column label holds NULL, which programs write for missing values")


@pytest.mark.parametrize(("every", "bad"), [(60, 41), (6, 2)])
def test_a_cell_that_spells_no_list_among_lists_is_named(tmp_path: Path, every: int, bad: int) -> None:
    """It made texts of all of them: questions became their JSON, tags the labels of a text."""
    talk = {"prompt": [user("q #")], "chosen": [answer("x")], "rejected": [answer("y")]}
    for good, name in ((talk, "prompt"), (talk, "chosen"), (TAGGED, "tags"), (CHAT, "messages"), (SEVERAL, "labels")):
        file = [[json.dumps(v).replace("#", str(i)) for v in good.values()] for i in range(1, every + 1)]
        if name == "labels":
            file = [[i, "['joy']" if n % 2 else "['joy', 'fear']"] for n, (i, _) in enumerate(file)]
        file[bad - 1][list(good).index(name)] = "7"
        with (tmp_path / "rows.csv").open("w") as out:
            writer(out).writerows([list(good), *file])
        said = refused(tmp_path / "rows.csv", (tmp_path / "rows.csv").read_bytes())
        assert said == f"rows.csv: row {bad}: column {name} does not hold a list, where other rows do."


def test_a_row_of_which_nobody_said_the_labels_is_left_out(tmp_path: Path) -> None:
    """A missing list is not an empty one, and a missing flag no 0."""
    other = SEVERAL | {"labels": ["joy"]}
    for good, bad, more in ((SEVERAL, {"text": "x y", "labels": None}, other), (FLAGS, FLAGS | {"insult": None}, FLAGS)):
        (tmp_path / "rows.jsonl").write_text(lines(good, bad) + json.dumps(more) + "\n")
        found = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
        assert (found["task"], found["rows"], found["empty_rows"]) == ("multi_label", 61, 1)


def csv(rows: Iterable[str]) -> str:
    return "text,label\n" + "".join(f"{row}\n" for row in rows)


GOOD = [f"some words {i} of it,{'ab'[i % 2]}" for i in range(60)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("null.csv", csv(["a\0b,a", *GOOD]), "null.csv:2:2: holds null bytes"),
        ("null.conll", "a\tO\n\0\tB-x\n\n" * 20, "null.conll:2:1: holds null bytes"),
        ("null.txt", "a line\n\nanother\0line\n", "null.txt:3:8: holds null bytes"),
        ("twice.csv", csv([*GOOD, "text,label"]), "twice.csv: row 61: repeats the header; remove it"),
        ("titled.csv", "My export\n" + csv(GOOD), "titled.csv:1: holds one value where the row below has 2"),
        ("open.csv", csv([*GOOD, '"some words,a', "others,b"]), "row 61: has 1 column where the header has 2; most likely"),
        ("same.jsonl", lines(LABELLED, LABELLED), "same.jsonl: every row has the label a in column label"),
        ("twofold.jsonl", lines(LABELLED, {}) + '{"i": 1, "i": 1, "a": 1, "a": "y"}', "twofold.jsonl:62: has the field a twice"),
        ("twofold.json", '[{"text": "x y"},\n {"text": "x", "a": {"b": 1,\n "b": 2}}]', "twofold.json:2: has the field b twice"),
        ("twofold-one.json", '{"a": [], "a": [1]}', "twofold-one.json:1: has the field a twice; keep one of them"),
        ("no-ends.csv", "abc," * 300_000, "no-ends.csv: has 262,145 columns, and at most 2,000"),
        ("hollow.jsonl", '{"text": ""}\n' * 9, "hollow.jsonl: its rows are empty in all columns (text)"),
        ("packed.gz", gzip.compress(b"PAR1" + b"\x05" * 99, mtime=0), "packed.gz: is a parquet or Arrow file, packed; unpack it"),
        ("short.conll", "a\tO\nb\tB-x\n\n" * 40 + "c\n", "short.conll:121: has no tag"),
        ("long.csv", csv([*GOOD, f"{LONG},a"]), "long.csv: row 61: column text holds a text of 10,000,001 characters"),
        ("long.conll", f"a\tO\n{LONG}\tO\n", "long.conll: row 1: column tokens holds a text of 10,000,001 characters"),
        ("long.txt", f"hello\n{LONG}\n", "long.txt:2: a paragraph of over 10,000,000 bytes"),
        ("long.json", json.dumps([{"text": LONG, "label": "a"}]), "long.json: row 1: column text holds a text of 10,000,001"),
        ("wide.csv", ",".join(WIDE) + "\n" + "1," * 9_999 + "1\n", "wide.csv: has 10,000 columns, and at most 2,000"),
        ("wide.tsv", "\t".join(WIDE) + "\n" + "1\t" * 9_999 + "1\n", "wide.tsv: has 10,000 columns, and at most 2,000"),
        ("wide.jsonl", json.dumps(dict.fromkeys(WIDE, 1)) + "\n", "wide.jsonl:1: more than 2,000 distinct fields"),
        ("wide.conll", "a\tO\n" * 40 + " ".join(WIDE) + "\n", "wide.conll:41: has 10,000 columns, and at most 2,000"),
        ("wide.json", json.dumps([dict.fromkeys(WIDE, 1)]), "more than 2,000 distinct fields"),
    ],
)
def test_what_is_no_file_of_rows_is_told_with_its_line(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    assert said in refused(tmp_path / name, content)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({name: [1, 2] for name in WIDE}, "rows.parquet: has 10,000 columns, and at most 2,000"),
        ({"text": ["a", "b\0"] * 30, "label": ["x", "y"] * 30}, "rows.parquet: row 2: column text holds a null byte"),
        ({"text": ["some words", "others"] * 30, "label": [{"x": [1]}] * 60}, "row 1: column label holds a nested value"),
        ({"tokens": [["a", "b"]] * 30, "tags": [["O", "O"]] * 29 + [["O"]]}, "row 30: column tags holds 1 tags for 2 tokens"),
    ],
)
def test_parquet_is_checked_as_text_is(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "made")
    assert said in refused(tmp_path / "rows.parquet", (tmp_path / "made").read_bytes())


def test_an_arrow_file_damaged_inside_is_told_before_its_rows_are_read(tmp_path: Path) -> None:
    batch = pa.record_batch({"text": ["some words of it"] * 60, "label": ["a", "b"] * 30})
    with pa.OSFile(str(tmp_path / "made"), "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write(batch)
    content = (tmp_path / "made").read_bytes().replace(b"words", b"w\xff\xfeds")
    assert "rows.arrow: damaged Arrow file: In column 0: Invalid: Invalid UTF8" in refused(tmp_path / "rows.arrow", content)


def test_a_bad_first_row_is_the_one_that_is_named(tmp_path: Path) -> None:
    no_message, no_list = "holds a message that is not an object", "does not hold a list"
    for good, bad, said in ((CHAT, {"messages": 7}, no_message), (SEVERAL, {"labels": "joy"}, no_list)):
        content = "".join(json.dumps(row) + "\n" for row in [good | bad, *[good] * 60])
        assert f"row 1: column {next(iter(bad))} {said}" in refused(tmp_path / "rows.jsonl", content)


def test_rows_that_ask_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    blank = {"messages": [user("  "), answer("b")]}
    for good, bad in ((CHAT, blank), (ALPACA, ALPACA | {"instruction": ""})):
        (tmp_path / "rows.jsonl").write_text(lines(good, bad))
        facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
        assert (facts["rows"], facts["empty_rows"]) == (60, 1)


def test_a_label_out_of_range_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "held-out.csv").write_text(csv([*GOOD[:20], "something new,7"]))
    said = refused(tmp_path / "train.csv", csv(GOOD), eval_file=tmp_path / "held-out.csv")
    assert "held-out.csv: row 21: labels that training has never seen: 7 (1 row); the known ones are a, b" in said


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([0, 1] * 30 + [-5], "row 61: column label holds -5, where the other labels are the whole numbers 0 to 1"),
        ([1, 2, 3] * 20 + [30, 30], "row 61: column label holds 30, where the other labels are the whole numbers 1 to 3"),
        ([0, 1] * 30 + [0.5], "row 61: column label holds 0.5, where"),
        ([0, 1] * 30 + [-1], "row 61: column label holds -1, where"),  # what many write where nobody said the label
        ([0, 1] * 30 + ["good"], "row 61: column label holds a word, good, where other rows hold numbers"),
        (["a", "b"] * 30 + [7], "row 61: column label holds a number, 7, where other rows hold words"),
        (["a", "b"] * 30 + [7] * 3, None),
        ([-1, 0, 1] * 20 + [2], None),  # follows the others: a rare class
        ([1, 2] * 30 + [0], None),
        ([0, 1, 7] * 20, None),  # as many rows as the others
        ([10, 25, 70] * 20 + [3], None),  # not numbered through
        ([1, 2, 3, *[4] * 60, *[5] * 90] * 11, None),  # rare in a sample only
    ],
)
def test_a_number_far_from_classes_that_are_numbered_through_is_a_slip(
    tmp_path: Path, numbers: list[Any], said: str | None
) -> None:
    content = csv([f"some words {i} of it,{n}" for i, n in enumerate(numbers)])
    if said is not None:
        assert said in refused(tmp_path / "rows.csv", content, task="classification")
        return
    (tmp_path / "rows.csv").write_text(content)
    for seed in range(3):
        given = {"train": str(tmp_path / "rows.csv"), "task": "classification", "train_rows": 60, "split_seed": seed}
        assert inspect_data(given)["facts"]["task"] == "classification"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["good", "bad", "NULL"], "row 3: column label holds NULL, which programs write for missing values; leave such rows out"),
        (["good", "bad", "nan"], "row 3: column label holds nan, which programs write for missing values; leave such rows out"),
    ],
)
def test_what_programs_write_for_missing_values_is_no_class(tmp_path: Path, labels: list[str], said: str) -> None:
    content = csv([f"some words {i} of it,{label}" for i, label in enumerate([*labels, *labels[:2] * 15])])
    assert said in refused(tmp_path / "rows.csv", content)


@pytest.mark.parametrize(
    ("labels", "read", "respelled"),
    [
        (["Not good", "bad", "not  GOOD ", "Bad"], {"Not good": 17, "bad": 17}, 2),
        (["1", "0", "1.0"], {"0": 16, "1": 17}, 1),
        (["x", "X"], {"X": 16, "x": 16}, None),  # letters may differ by case alone
        (["a b;cc", "cc;dd", "A  b;CC;cc"], {"a b": 17, "cc": 33, "dd": 16}, 2),
    ],
)
def test_one_class_written_in_several_ways_is_one(
    tmp_path: Path, labels: list[str], read: dict[str, int], respelled: int | None
) -> None:
    """Of a held-out file, which writes them in a third way, too; and the run reads what inspection has told."""
    rows, held_out = tmp_path / "rows.csv", tmp_path / "held-out.csv"
    rows.write_text(csv([f"some words {i} of it,{label}" for i, label in enumerate([*labels, *labels[:2] * 15])]))
    held_out.write_text(csv([f"other words {i},{label.swapcase()}" for i, label in enumerate(labels * 2)]))
    task: Task = "multi_label" if ";" in labels[0] else "classification"
    facts = inspect_data({"train": str(rows), "eval": str(held_out), "task": task})["facts"]
    assert dict(zip(facts["labels"], facts["label_counts"], strict=True)) == read
    assert facts["respelled_labels"] == respelled
    several = {"layout": facts["layout"], "separator": ";", "columns": facts["columns"]}
    choice = DataChoice(
        train=str(rows), eval=str(held_out), text_column="text", label_column="label", labels=facts["labels"],
        **(several if task == "multi_label" else {}),
    )  # fmt: skip
    train, aside = load(choice, task)
    assert Counter(mark for row in marks_of(train, task) or () for mark in row) == read
    assert aside is not None
    assert {mark for row in marks_of(aside, task) or () for mark in row} == set(read)


def test_words_among_numbers_are_found_wherever_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tables.objects.BATCH_ROWS", 30)
    said = refused(tmp_path / "cut.jsonl", lines(LABELLED | {"label": 3}, LABELLED | {"label": "b"}))
    assert "row 61: column label holds a word, b, where" in said


def test_rows_whose_answer_begins_behind_a_length_are_counted_beforehand(tmp_path: Path) -> None:
    """By the prompt where there is one answer, by what stands before the first where there are several."""
    long = {"messages": [user("a very long question " * 60), answer("short")]}
    late = {"messages": [user("hello"), answer("hi"), user("a very long question " * 60), answer("short")]}
    (tmp_path / "rows.jsonl").write_text(lines(CHAT, long) + json.dumps(late) + "\n")
    facts = inspect_data({"train": str(tmp_path / "rows.jsonl")})["facts"]
    at = {cut["length"]: (cut["rows_cut"], cut["rows_untrained"]) for cut in facts["truncation"]}
    assert at[128] == (2, 1)
    assert at[512] == (0, 0)
