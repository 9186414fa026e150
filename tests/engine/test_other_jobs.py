"""Rows for another job than fine-tuning on texts, or with nothing to learn: told what they are."""

import json
from pathlib import Path

import pytest

from recommender.errors import InputError
from tests.engine.made_files import Make, looked, prose, talk, write

OTHER_JOBS: dict[str, tuple[Make, str]] = {
    "passengers": (
        lambda i, r: {"survived": i % 2, "name": f"{prose(r, 2)}, Mr", "age": i % 80, "fare": i / 7, "ticket": f"A/5 {i}"},
        r"look like measurements .* gradient boosting .* name it with --text-column",
    ),
    "sensors": (
        lambda i, r: {"time": f"2025-03-01 10:{i % 60:02}:00", "heat": r.gauss(20, 2), "shaking": r.random()},
        "look like measurements",
    ),
    "churn": (
        lambda i, r: {"customer": f"{i:04}-XYZ", "gender": "fm"[i % 2], "tenure": i % 70, "left": i % 2},
        "look like measurements and short values",
    ),
    "paragraphs": (
        lambda i, r: {"title": "x", "paragraphs": [{"context": prose(r), "qas": [{"question": prose(r), "answers": []}]}]},
        "as SQuAD's own file does; write one question per row",
    ),
    "messages-of-trees": (
        lambda i, r: {"message_id": f"m{i}", "parent_id": None, "text": prose(r), "role": "prompter", "rank": i % 2},
        "holds trees of messages, as OASST and exports of ChatGPT do",
    ),
    "trees": (
        lambda i, r: {"state": "ready", "prompt": {"text": prose(r), "replies": [{"text": prose(r), "replies": []}]}},
        "holds trees of messages",
    ),
    "parts": (
        lambda i, r: {"contents": [{"role": who, "parts": [{"text": prose(r)}]} for who in ("user", "model")]},
        "as Gemini does; write them as messages",
    ),
    "two-answers": (
        lambda i, r: {"instruction": prose(r), "output_1": prose(r), "output_2": prose(r), "preference": i % 2 + 1},
        r"two answers per row \(output_1 and output_2\); write the preferred one as chosen",
    ),
    "good-or-bad": (
        lambda i, r: {"prompt": prose(r), "completion": prose(r, 20), "label": i % 2 == 0},
        r"column label marks each answer as good or bad .* KTO.* To tell good answers from bad ones, use --task classification",
    ),
    "good-or-bad-in-words": (
        lambda i, r: {"prompt": prose(r), "completion": prose(r, 20), "label": "?" if i == 7 else str(i % 2 == 0)},
        r"column label marks each answer as good or bad",
    ),
    "good-or-bad-talks": (
        lambda i, r: {"messages": [{"role": "user", "content": prose(r)}, {"role": "assistant", "content": prose(r)}],
                      "label": i % 2 == 0},
        r"column label marks each answer as good or bad .* leave the bad ones and that column out\.$",
    ),
    "good-or-bad-tasks": (
        lambda i, r: {"instruction": prose(r), "input": "", "output": prose(r, 20), "kto_tag": i % 2 == 0},
        r"column kto_tag marks each answer as good or bad",
    ),
    "ranked": (
        lambda i, r: {"instruction": prose(r), "input": "", "output": [prose(r), prose(r)]},
        "column output holds several answers per row; write the preferred one as chosen",
    ),
    "graded": (
        lambda i, r: {"instruction": prose(r), "generations": [prose(r), prose(r)], "ratings": [5, 3]},
        "column generations holds several answers per row; write the preferred one as chosen",
    ),
    "calls-in-text": (
        lambda i, r: {"query": prose(r), "answers": json.dumps([{"name": "f", "arguments": {"a": i}}]),
                      "tools": json.dumps([{"name": f"f{i}"}])},
        "has 60 distinct values in 60 rows: that looks like free text, not labels",
    ),
    "numbered-answers": (
        lambda i, r: {"prompt": prose(r), "response_0": prose(r), "response_1": prose(r), "better_response_id": i % 2},
        r"two answers per row \(response_0 and response_1\)",
    ),
    "pictures": (
        lambda i, r: {"conversation": talk(r), "images": ["a.jpg"] if i % 9 == 0 else []},
        "column images holds pictures or sounds that belong to the texts",
    ),
    "asked-about-pictures": (
        lambda i, r: {"image": f"{i}.png", "question": prose(r), "answer": prose(r)},
        "column image holds pictures or sounds that belong to the texts",
    ),
    "intents": (
        lambda i, r: {"tag": f"t{i}", "patterns": [prose(r, 3), prose(r, 3)], "responses": [prose(r, 4)]},
        "column patterns holds several texts per row; write one text per row, with its tag",
    ),
    "dataset_info": (
        lambda i, r: {"file_name": f"{i}.json", "formatting": "sharegpt", "columns": {"messages": "conversations"}},
        "describes data sets, as LLaMA-Factory's dataset_info.json does, and holds no rows",
    ),
    "chatgpt": (
        lambda i, r: {"title": prose(r, 3), "mapping": {"a": {"id": "a", "children": []}}, "current_node": "a"},
        "holds trees of messages, as OASST and exports of ChatGPT do",
    ),
    "unread-label": (
        lambda i, r: {"text": prose(r), "label": [{"polygon": [1, 2], "name": "x"}], "lead_time": i / 7},
        "row 1: column label holds a nested value; one label per row is needed",
    ),
    "dialogues": (
        lambda i, r: {"dialog": [prose(r), prose(r)], "act": [1, 2], "emotion": [0, i % 2]},
        "row 1: column dialog holds a nested value; one text per row is needed",
    ),
    "text-with-facts": (
        lambda i, r: {"text": prose(r, 40), "labels": {"language": "en", "kind": "web"}},
        r"one label per row is needed \(--task continued_pretraining learns the text as it is\)",
    ),
    "postings": (
        lambda i, r: {"title": prose(r, 3), "where": "ab"[i % 2], "kind": "cd"[i % 2], "pay": i % 9, "field": "ef"[i % 2],
                      "logo": i % 2, "remote": i // 2 % 2, "fraud": i % 5 // 4},
        "columns logo, remote, fraud hold 0 or 1 each; name the one to predict with --label-column, or use --task multi_label",
    ),
    "vectors": (
        lambda i, r: {"text": prose(r), "labels": [float(i % 2), 0.0, 7.0 if i == 9 else float(i % 3 == 0)]},
        "column labels holds a list of 0 and 1, one for each label; write the names of the row's labels, or a column",
    ),
    "spelt-vectors": (
        lambda i, r: {"text": prose(r), "labels": str([i % 2, 0, int(i % 3 == 0)] if i else [1])},
        "column labels holds a list of 0 and 1, one for each label; write the names of the row's labels, or a column",
    ),
    "graded-by-many": (
        lambda i, r: {"instruction": prose(r), "models": ["a", "b"], "correct_answers": ["None"],
                      "completions": [{"model": m, "response": prose(r), "overall_score": i % 9} for m in "ab"]},
        "column completions holds several answers per row; write the preferred one as chosen",
    ),
    "near-and-far": (
        lambda i, r: {"query": prose(r), "pos": [prose(r)], "neg": [prose(r), prose(r)]},
        r"texts beside others that are close to them \(column pos\), as for training embedding models",
    ),
    "triplets": (
        lambda i, r: {"anchor": prose(r), "positive": prose(r), "negative": prose(r)},
        r"close to them \(column positive\)",
    ),
    "written-labels": (
        lambda i, r: {"text": prose(r), "label": prose(r, 12)},
        "column label .* looks like free text, .* or, if it is an answer to be generated, name the columns with --column prompt=",
    ),
    "always-the-same": (
        lambda i, r: {"question": prose(r), "models": ["a", "b"]},
        r"every row has the same labels \(a, b\), so there is nothing to learn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_JOBS)
def test_rows_for_another_job_are_told_what_they_are(tmp_path: Path, name: str) -> None:
    make, said = OTHER_JOBS[name]
    with pytest.raises(InputError, match=said):
        looked(write(tmp_path, f"{name}.jsonl", make))


def test_a_table_of_measurements_is_read_where_its_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "passengers.jsonl", OTHER_JOBS["passengers"][0])
    assert looked(path, columns={"text": "name", "label": "survived"}).task == "classification"
    dish: Make = lambda i, r: [prose(r, 3), "thai" if i % 2 else "greek", i % 50, i % 9, i % 7]  # noqa: E731
    dishes = looked(write(tmp_path, "dishes.csv", dish, ["name", "cuisine", "minutes", "steps", "servings"]))
    assert dishes.columns == {"text": "name", "label": "cuisine"}
    make: Make = lambda i, r: ["".join(r.choices("今天很开心难过", k=6)) + str(i), "喜悲"[i % 2], i % 9, f"u{i % 7}"]  # noqa: E731
    assert looked(write(tmp_path, "zh.csv", make, ["内容", "情绪", "赞", "用户"])).columns == {"text": "内容", "label": "情绪"}
    post: Make = lambda i, r: ["".join(r.choices("今天很开心难过", k=20)), "喜悲"[i % 2], i % 9, i % 8, i % 7]  # noqa: E731
    assert looked(write(tmp_path, "weibo.csv", post, ["内容", "情绪", "赞", "评论", "转发"])).text_column == "内容"


def test_amounts_with_a_decimal_comma_are_no_labels_whatever_they_are_called(tmp_path: Path) -> None:
    path = write(tmp_path, "preise.csv", lambda i, r: [prose(r), f"{i % 9},{i % 90 + 10}"], ["Beschreibung", "Preis"])
    for options in ({}, {"columns": {"label": "Preis"}}):
        with pytest.raises(InputError, match=r"column Preis holds numbers with a comma or a sign \(0,10\); write"):
            looked(path, **options)


def test_measures_with_a_decimal_comma_are_no_pairs_of_labels(tmp_path: Path) -> None:
    make: Make = lambda i, r: [prose(r), f"{i % 7},{i % 10}"]  # noqa: E731
    with pytest.raises(InputError, match=r"column score holds numbers with a comma or a sign \(0,0\); write them like 1\.5"):
        looked(write(tmp_path, "a.csv", make, ["text", "score"]))
    make = lambda i, r: [prose(r), f"{31_250 * i:,}.50"]  # noqa: E731
    with pytest.raises(InputError, match=r"column price holds numbers with a comma or a sign \(31,250\.50\); write"):
        looked(write(tmp_path, "b.csv", make, ["text", "price"]))


def test_measures_with_a_sign_are_no_classes_and_classes_with_one_are(tmp_path: Path) -> None:
    for name, form in (("price", "${}.50"), ("score", "{} %")):
        path = write(tmp_path, f"{name}.csv", lambda i, r, form=form: [prose(r), form.format(i % 30)], ["text", name])  # type: ignore[misc]
        with pytest.raises(InputError, match=rf"column {name} holds numbers with a comma or a sign \(.*0.*\); write"):
            looked(path)
    discounts = write(tmp_path, "c.csv", lambda i, r: [prose(r), f"{10 * (i % 3)}%"], ["text", "label"])
    assert looked(discounts).labels == ("0%", "10%", "20%")


def test_words_that_all_have_one_tag_are_nothing_to_learn(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", lambda i, r: {"tokens": prose(r).split(), "ner_tags": ["O"] * 12})
    with pytest.raises(InputError, match="all words have the same tag, so there is nothing to learn"):
        looked(path)
