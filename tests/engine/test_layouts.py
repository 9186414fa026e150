"""Task and columns told from the contents, in the shapes that data comes in; what a person names overrules it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.loading import load
from recommender.errors import InputError
from recommender.plan import DataChoice
from tests.conftest import put_rows
from tests.engine.made_files import ROWS, Make, looked, prose, talk, write

OBJECTS: dict[str, tuple[Make, str, str, dict[str, str]]] = {
    "alpaca": (
        lambda i, r: {"instruction": prose(r), "input": "" if i % 2 else prose(r), "output": prose(r, 30)},
        "instruction", "alpaca", {"instruction": "instruction", "input": "input", "output": "output"},
    ),
    "dolly": (
        lambda i, r: {"instruction": prose(r), "context": "", "response": prose(r, 30), "category": "qa" if i % 2 else "sum"},
        "instruction", "alpaca", {"instruction": "instruction", "input": "context", "output": "response"},
    ),
    "prompts": (
        lambda i, r: {"prompt": prose(r), "completion": prose(r, 20)},
        "instruction", "prompt_completion", {"prompt": "prompt", "completion": "completion"},
    ),
    "questions": (
        lambda i, r: {"id": f"q{i}", "question": prose(r), "answer": prose(r, 8)},
        "instruction", "prompt_completion", {"prompt": "question", "completion": "answer"},
    ),
    "chat": (lambda i, r: {"messages": talk(r)}, "chat", "messages", {"messages": "messages"}),
    "reading": (
        lambda i, r: {"question": prose(r), "context": prose(r, 40), "answer": prose(r, 8)},
        "instruction", "prompt_completion", {"prompt": "question", "input": "context", "completion": "answer"},
    ),
    "orca": (
        lambda i, r: {"id": f"q{i}", "system_prompt": "Be brief.", "question": prose(r), "response": prose(r, 20)},
        "instruction", "prompt_completion", {"prompt": "question", "completion": "response", "system": "system_prompt"},
    ),
    "llama-factory": (
        lambda i, r: {"instruction": prose(r), "input": "", "output": prose(r, 20), "history": [[prose(r), prose(r)]] * (i % 3)},
        "instruction", "alpaca", {"instruction": "instruction", "input": "input", "output": "output", "history": "history"},
    ),
    "only-calls": (
        lambda i, r: {"messages": [talk(r)[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
                      "tools": [{"type": "function"}], "parallel_tool_calls": False},
        "chat", "messages", {"messages": "messages"},
    ),
    "openai-pairs": (
        lambda i, r: {"input": {"messages": talk(r)[:1], "tools": []}, "preferred_output": talk(r)[1:],
                      "non_preferred_output": talk(r)[1:]},
        "preference", "preference",
        {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"},
    ),
    "no-pictures": (
        lambda i, r: {"messages": talk(r), "images": [], "videos": [], "audio": None},
        "chat", "messages", {"messages": "messages"},
    ),
    "beside-a-picture": (
        lambda i, r: {"prompt": prose(r), "image": f"{i}.png", "label": "xyz"[i % 3]},
        "classification", "text_label", {"text": "prompt", "label": "label"},
    ),
    "pairs-with-other-messages": (
        lambda i, r: {"prompt": prose(r), "chosen": prose(r), "rejected": prose(r), "meta": {"messages": 3}},
        "preference", "preference", {"chosen": "chosen", "rejected": "rejected", "prompt": "prompt"},
    ),
    "searches": (
        lambda i, r: {"query": [f"w{i}", "shoes"], "pos": ["ADJ", "NOUN"]},
        "token_classification", "tokens_tags", {"tokens": "query", "tags": "pos"},
    ),
    "phrases": (
        lambda i, r: {"words": [prose(r, 2), prose(r, 2)], "tags": ["x", "y"]},
        "token_classification", "tokens_tags", {"tokens": "words", "tags": "tags"},
    ),
    "sentences-with-labels": (
        lambda i, r: {"sentences": [prose(r), prose(r)], "labels": ["x", "y"]},
        "token_classification", "tokens_tags", {"tokens": "sentences", "tags": "labels"},
    ),
    "classes-beside-candidates": (
        lambda i, r: {"prompt": prose(r), "candidates": [prose(r), prose(r)], "label": "xyz"[i % 3]},
        "classification", "text_label", {"text": "prompt", "label": "label"},
    ),
    "from-files": (
        lambda i, r: {"file_name": f"{i}.txt", "columns": 1 + i % 2, "text": prose(r), "label": "xyz"[i % 3]},
        "classification", "text_label", {"text": "text", "label": "label"},
    ),
    "calls": (
        lambda i, r: {"messages": [talk(r)[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
                                   {"role": "tool", "content": "5"}, talk(r)[1]]},
        "chat", "messages", {"messages": "messages"},
    ),
    "sharegpt": (
        lambda i, r: {"conversations": talk(r, "from", "value", ("human", "gpt"))},
        "chat", "sharegpt", {"messages": "conversations"},
    ),
    "dpo": (
        lambda i, r: {"prompt": prose(r), "chosen": prose(r, 20), "rejected": prose(r, 20)},
        "preference", "preference", {"chosen": "chosen", "rejected": "rejected", "prompt": "prompt"},
    ),
    "dpo-whole-conversations": (
        lambda i, r: {"prompt": prose(r), "chosen": talk(r), "rejected": talk(r), "messages": talk(r)},
        "preference", "preference", {"chosen": "chosen", "rejected": "rejected"},
    ),
    "ner": (
        lambda i, r: {"id": i, "tokens": prose(r, 6).split(), "pos_tags": [1] * 6, "ner_tags": r.choices(range(3), k=6)},
        "token_classification", "tokens_tags", {"tokens": "tokens", "tags": "ner_tags"},
    ),
    "summaries": (
        lambda i, r: {"document": prose(r, 60), "summary": prose(r, 15)},
        "seq2seq", "source_target", {"source": "document", "target": "summary"},
    ),
    "translations": (
        lambda i, r: {"translation": {"de": prose(r), "en": prose(r)}},
        "seq2seq", "source_target", {"source": "translation.de", "target": "translation.en"},
    ),
    "language-columns": (
        lambda i, r: {"en": prose(r), "fr": prose(r)}, "seq2seq", "source_target", {"source": "en", "target": "fr"},
    ),
    "raw": (lambda i, r: {"text": prose(r, 80)}, "continued_pretraining", "text", {"text": "text"}),
    "wiki": (
        lambda i, r: {"id": str(i), "url": f"http://x/{i}", "title": prose(r, 3), "text": prose(r, 80)},
        "continued_pretraining", "text", {"text": "text"},
    ),
    "label-lists": (
        lambda i, r: {"text": prose(r), "labels": r.sample(["a", "b", "c"], r.randrange(3))},
        "multi_label", "text_labels", {"text": "text", "label": "labels"},
    ),
    "yes-no": (
        lambda i, r: {"question": prose(r), "passage": prose(r, 40), "answer": i % 3 == 0},
        "classification", "text_label", {"text": "question", "text_pair": "passage", "label": "answer"},
    ),
    "intents": (
        lambda i, r: {"utterance": prose(r), "intent": f"intent {i % 25}"},
        "classification", "text_label", {"text": "utterance", "label": "intent"},
    ),
    "tickets": (
        lambda i, r: {"id": f"T-{i}", "created_at": f"2025-01-{1 + i % 28:02}T10:{i:02}:00Z", "ticket": {"subject": prose(r, 3),
                      "body": prose(r)}, "routing": {"team": "ab"[i % 2], "minutes": 5 * i}},
        "classification", "text_label", {"text": "ticket.body", "label": "routing.team"},
    ),
    "judged-answers": (
        lambda i, r: {"prompt": prose(r), "completion": prose(r, 20), "label": i % 2},
        "classification", "text_label", {"text": "prompt", "text_pair": "completion", "label": "label"},
    ),
    "how-sure": (
        lambda i, r: {"tweet": prose(r), "airline_sentiment": "ab"[i % 2], "airline_sentiment_confidence": r.random()},
        "classification", "text_label", {"text": "tweet", "label": "airline_sentiment"},
    ),
    "snli": (
        lambda i, r: {"annotator_labels": r.choices("xyz", k=1 + i % 5), "gold_label": "xyz"[i % 3], "sentence1": prose(r),
                      "sentence2": prose(r)},
        "classification", "text_label", {"text": "sentence1", "text_pair": "sentence2", "label": "gold_label"},
    ),
    "moments": (
        lambda i, r: {"type": "message", "user": f"U{i % 9}", "text": prose(r), "ts": f"{1_700_000_000 + i}.000{i:03}"},
        "classification", "text_label", {"text": "text", "label": "user"},
    ),
    "stack-exchange": (
        lambda i, r: {"qid": i, "question": prose(r), "response_j": prose(r), "response_k": prose(r)},
        "preference", "preference", {"chosen": "response_j", "rejected": "response_k", "prompt": "question"},
    ),
    "files": (
        lambda i, r: {"repo_name": f"a/{i % 5}", "path": f"{i}.py", "content": prose(r, 40), "license": ["mit", "bsd"][i % 2]},
        "continued_pretraining", "text", {"text": "content"},
    ),
    "files-with-labels": (
        lambda i, r: {"path": f"mails/{i}.txt", "content": prose(r, 40), "label": ["spam", "ham"][i % 2]},
        "classification", "text_label", {"text": "content", "label": "label"},
    ),
    "plain-labels": (
        lambda i, r: {"text": prose(r), "label": i % 3},
        "classification", "text_label", {"text": "text", "label": "label"},
    ),
}  # fmt: skip


def test_keywords_that_stand_once_each_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "keywords.jsonl"
    rng = random.Random(0)
    put_rows(path, ({"text": prose(rng), "keywords": [f"{i}-a", f"{i}-b"]} for i in range(600)))
    with pytest.raises(InputError, match=r"column keywords has 1200 distinct values in 600 rows: that looks like free text"):
        looked(path)


@pytest.mark.parametrize(
    "answers", [{"answers": {"text": ["a man"], "answer_start": [5]}}, {"choices": ["a", "b", "c", "d"], "answer": 2}]
)
def test_questions_with_several_answers_are_told_and_not_guessed_at(tmp_path: Path, answers: dict[str, Any]) -> None:
    make: Make = lambda i, r: {"title": f"Title_{i // 9}", "context": prose(r, 40), "question": f"{prose(r)}?"} | answers  # noqa: E731
    path = write(tmp_path, "questions.jsonl", make)
    with pytest.raises(InputError, match=f"column {next(iter(answers))} holds several answers to the question"):
        looked(path)
    assert looked(path, columns={"text": "context", "label": "title"}).classes == 7


@pytest.mark.parametrize("name", OBJECTS)
def test_layouts_of_objects(tmp_path: Path, name: str) -> None:
    make, task, layout, columns = OBJECTS[name]
    facts = looked(write(tmp_path, f"{name}.jsonl", make))
    assert (facts.task, facts.layout, facts.columns) == (task, layout, columns)
    assert facts.confidence is not None
    assert 0.5 < facts.confidence < 1


SEPARATED: dict[str, tuple[list[str], Make, str, dict[str, str]]] = {
    "similar.csv": (
        ["sentence1", "sentence2", "score"],
        lambda i, r: [prose(r), prose(r), round(5 * r.random(), 2)],
        "regression", {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
    ),
    "prices.csv": (
        ["description", "price"],
        lambda i, r: [prose(r), round(100 * r.random(), 2)],
        "regression", {"text": "description", "label": "price"},
    ),
    "stars.csv": (
        ["review", "stars"],
        lambda i, r: [prose(r), r.choice(["1", "2", "3", "3.5", "4", "5"])],
        "classification", {"text": "review", "label": "stars"},
    ),
    "entailed.tsv": (
        ["index", "premise", "hypothesis", "gold_label"],
        lambda i, r: [i, prose(r), prose(r), r.choice(["yes", "no", "maybe"])],
        "classification", {"text": "premise", "text_pair": "hypothesis", "label": "gold_label"},
    ),
    "toxic.csv": (
        ["id", "comment_text", "toxic", "obscene", "threat"],
        lambda i, r: [f"x{i}", prose(r), *(r.choice("001") for _ in range(3))],
        "multi_label", {"text": "comment_text", "label 1": "toxic", "label 2": "obscene", "label 3": "threat"},
    ),
    "genres.csv": (
        ["plot", "genres"],
        lambda i, r: [prose(r, 20), "|".join(r.sample(["drama", "comedy", "war", "action"], r.randint(1, 3)))],
        "multi_label", {"text": "plot", "label": "genres"},
    ),
    "ner.csv": (
        ["id", "tokens", "tags"],
        lambda i, r: [i, str(prose(r, 4).split()), json.dumps(r.choices(["O", "B-x"], k=4))],
        "token_classification", {"tokens": "tokens", "tags": "tags"},
    ),
    "chat.csv": (["id", "messages"], lambda i, r: [i, json.dumps(talk(r))], "chat", {"messages": "messages"}),
    "listed.csv": (
        ["text", "labels"], lambda i, r: [prose(r), str(r.sample(["a", "b", "c"], r.randint(1, 2)))],
        "multi_label", {"text": "text", "label": "labels"},
    ),
    "cities.csv": (
        ["text", "label"],
        lambda i, r: [prose(r), r.choice(["Paris, France", "Berlin, Germany", "Rome, Italy"])],
        "classification", {"text": "text", "label": "label"},
    ),
    "products.csv": (
        ["name", "price", "stock", "weight", "category"],
        lambda i, r: [f"{prose(r, 2)} {i}", i / 7, i % 90, i / 3, "xyz"[i % 3]],
        "classification", {"text": "name", "label": "category"},
    ),
    "two-numbered-labels.csv": (
        ["text", "labels"], lambda i, r: [prose(r), ",".join(map(str, r.sample(range(6), 2)))],
        "multi_label", {"text": "text", "label": "labels"},
    ),
    "told-beside-a-number.csv": (
        ["text", "toxicity", "topic_id"], lambda i, r: [prose(r), round(r.random(), 4), i % 5],
        "regression", {"text": "text", "label": "toxicity"},
    ),
    "arxiv.csv": (
        ["id", "title", "abstract", "categories"], lambda i, r: [f"0704.{i:04}", prose(r, 5), prose(r, 30), f"cs.{'ABC'[i % 3]}"],
        "classification", {"text": "abstract", "label": "categories"},
    ),
    "unnamed-index.csv": (
        ["", "text", "label"], lambda i, r: [i, prose(r), "xy"[i % 2]],
        "classification", {"text": "text", "label": "label"},
    ),
}  # fmt: skip


def test_a_list_of_one_label_in_every_row_is_one_of_several_classes(tmp_path: Path) -> None:
    path = write(tmp_path, "doccano.jsonl", lambda i, r: {"text": prose(r), "label": ["abc"[i % 3]]})
    facts = looked(path)
    assert (facts.task, facts.labels) == ("classification", ("a", "b", "c"))
    rows, _ = load(DataChoice(train=str(path), text_column="text", label_column="label"))
    assert rows.labels[:4] == ["a", "b", "c", "a"]
    assert looked(path, task="multi_label").task == "multi_label"


def test_answers_out_of_a_list_are_labels_and_not_read_beside_their_question(tmp_path: Path) -> None:
    make: Make = lambda i, r: [prose(r), f"We send this to {'abc'[i % 3]}."]  # noqa: E731
    path = write(tmp_path, "faq.csv", make, ["Question", "Answer"])
    for options in ({}, {"columns": {"label": "Answer"}}):
        assert looked(path, **options).columns == {"text": "Question", "label": "Answer"}
    beside: Make = lambda i, r: [i + 1, "web", *make(i, r)]  # noqa: E731
    path = write(tmp_path, "numbered.csv", beside, ["No.", "Source", "Question", "Answer"])
    assert looked(path).columns == {"text": "Question", "label": "Answer"}
    by: Make = lambda i, r: [*make(i, r), ("Ann", "Ben")[i % 2]]  # noqa: E731
    found = looked(write(tmp_path, "by.csv", by, ["Question", "Answer", "By"]))
    assert [(s.column, s.why) for s in found.suspicious_columns] == [("Answer", "rival")]


def test_what_is_translated_comes_first_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", lambda i, r: {"translation": {"en": prose(r), "de": prose(r)}})
    assert looked(path).columns == {"source": "translation.en", "target": "translation.de"}


def test_what_could_be_the_label_as_well_is_named_unless_the_label_was(tmp_path: Path) -> None:
    header = ["id", "body", "assignee", "group", "via", "opened"]
    make: Make = lambda i, r: [i, prose(r), "xyz"[i % 3], "ab"[i // 3 % 2], "pq"[i // 6 % 2], f"2025-03-{i % 28 + 1:02}"]  # noqa: E731
    path = write(tmp_path, "tickets.csv", make, header)
    told = [(s.column, s.why) for s in looked(path).suspicious_columns if s.why == "rival"]
    assert told == [("group", "rival"), ("via", "rival")]
    assert not any(s.why == "rival" for s in looked(path, columns={"label": "group"}).suspicious_columns)
    make = lambda i, r: [prose(r), "abc"[i % 3], f"{r.uniform(0, 9):.2f}"]  # noqa: E731
    hours = looked(write(tmp_path, "hours.csv", make, ["body", "Priorität", "Dauer (h)"]))
    assert (hours.label_column, hours.suspicious_columns[0].column) == ("Dauer (h)", "Priorität")
    assert not looked(write(tmp_path, "scores.csv", make, ["body", "Priorität", "score"])).suspicious_columns
    # Behind a tab a comma may be another one, and the two numbers beside it are no labels.
    make = lambda i, r: [prose(r), "abc"[i % 3], f"{r.uniform(0, 9):.2f}".replace(".", ",")]  # noqa: E731
    assert looked(write(tmp_path, "hours.tsv", make, ["body", "Priorität", "Dauer (h)"])).label_column == "Priorität"
    # Labels by their numbers are some of them alone in their row.
    make = lambda i, r: [prose(r), f"{i % 5},{5 + i % 7}" if i % 3 == 0 else i % 12]  # noqa: E731
    assert looked(write(tmp_path, "numbers.tsv", make, ["body", "moods"])).task == "multi_label"
    make = lambda i, r: [prose(r), f"{i % 5},{5 + i % 7}"]  # noqa: E731
    assert looked(write(tmp_path, "two.tsv", make, ["body", "moods"]), task="multi_label").label_column == "moods"


def test_texts_beside_the_one_that_is_read_are_named(tmp_path: Path) -> None:
    header = ["clause", "reviewer_comment", "risk", "note"]
    make: Make = lambda i, r: [prose(r), prose(r), "ab"[i % 2], "ok"]  # noqa: E731
    facts = looked(write(tmp_path, "legal.csv", make, header))
    assert [s.column for s in facts.suspicious_columns if s.why == "text"] == ["clause"]


def test_the_subject_of_a_message_is_named_and_read_with_it(tmp_path: Path) -> None:
    header = ["ticket.subject", "body", "agent", "category"]
    make: Make = lambda i, r: [f"my order {i % 7}", prose(r, 30), "Jo B." if i % 2 else "Al C.", "abc"[i % 3]]  # noqa: E731
    path = write(tmp_path, "tickets.csv", make, header)
    facts = looked(path)
    assert (facts.text_column, [s.column for s in facts.suspicious_columns if s.why == "text"]) == ("body", ["ticket.subject"])
    both = looked(path, columns={"text": "ticket.subject+body"})
    assert both.columns == {"text": "ticket.subject+body", "label": "category"}
    assert not any(s.why in ("text", "id") for s in both.suspicious_columns)
    assert (both.tokens_total or 0) > (facts.tokens_total or 0)
    rows, _ = load(DataChoice(train=str(path), text_column="ticket.subject+body", label_column="category"))
    assert rows.texts[0].startswith("my order 0\n")


def test_who_speaks_in_an_answer_is_no_column_of_its_own(tmp_path: Path) -> None:
    def make(i: int, r: random.Random) -> dict[str, Any]:
        sides = {side: {"from": "gpt", "value": prose(r)} for side in ("chosen", "rejected")}
        return {"conversations": talk(r, "from", "value", ("human", "gpt"))[:1], **sides}

    facts = looked(write(tmp_path, "pairs.jsonl", make))
    assert (facts.task, facts.suspicious_columns) == ("preference", ())


def test_what_a_question_is_about_is_named_where_it_is_written_in_pieces(tmp_path: Path) -> None:
    make: Make = lambda i, r: {"question": prose(r), "answer": prose(r), "context": [["a", [prose(r)]]], "facts": [["a", i]]}  # noqa: E731
    facts = looked(write(tmp_path, "hotpot.jsonl", make))
    assert [(s.column, s.why) for s in facts.suspicious_columns] == [("context", "unread")]


def test_a_number_is_no_text_in_indonesian(tmp_path: Path) -> None:
    facts = looked(write(tmp_path, "a.jsonl", lambda i, r: {"id": i, "en": prose(r), "fr": prose(r)}))
    assert (facts.task, facts.columns) == ("seq2seq", {"source": "en", "target": "fr"})


def test_texts_beside_a_question_and_its_answer_are_named_unless_they_repeat_it(tmp_path: Path) -> None:
    def make(i: int, r: random.Random) -> dict[str, Any]:
        asked, said = prose(r), prose(r)
        both = f"Below is {asked} ### {said}"
        return {"Question": asked, "Complex_CoT": prose(r, 30), "Response": said, "text": both, "kind": "a"}

    facts = looked(write(tmp_path, "thoughts.jsonl", make))
    assert [(s.column, s.why) for s in facts.suspicious_columns] == [("kind", "constant"), ("Complex_CoT", "unread")]
    both: Make = lambda i, r: {"diff": prose(r, 30), "message": prose(r)}  # noqa: E731
    facts = looked(write(tmp_path, "commits.jsonl", both))
    assert [(s.column, s.why) for s in facts.suspicious_columns] == [("diff", "text")]


def test_an_answer_in_a_list_of_its_own_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "doccano.jsonl", lambda i, r: {"id": i, "text": prose(r), "label": [prose(r, 12)]})
    with pytest.raises(InputError, match="looks like free text, not labels"):
        looked(path)
    columns = {"prompt": "text", "completion": "label"}
    facts = looked(path, columns=columns)
    rows, _ = load(DataChoice(train=str(path), layout="prompt_completion", columns=columns), "instruction")
    assert (facts.task, facts.rows, len(rows)) == ("instruction", 60, 60)
    assert not rows.items[0]["messages"][-1]["content"].startswith("[")  # type: ignore[index]
    path.write_text(path.read_text() + '{"text": "x", "label": ["one", "other"]}\n')
    with pytest.raises(InputError, match="row 61: column label holds a nested value"):
        load(DataChoice(train=str(path), layout="prompt_completion", columns=columns), "instruction")


@pytest.mark.parametrize(
    ("name", "grade", "told"),
    [
        ("rating", lambda i: f"{i % 5 + 1}.0", True),
        ("cohesion", lambda i: (i % 9 + 2) / 2, True),
        ("kind", lambda i: i % 5, False),
    ],
)
def test_grades_are_told_however_their_numbers_are_written(
    tmp_path: Path, name: str, grade: Callable[[int], object], told: bool
) -> None:
    facts = looked(write(tmp_path, "grades.csv", lambda i, r: [prose(r), grade(i)], ["full_text", name]))
    assert any(s.why == "ordered" for s in facts.suspicious_columns) is told


def test_grades_and_conversations_written_out_are_told(tmp_path: Path) -> None:
    stars = write(tmp_path, "stars.csv", lambda i, r: [prose(r), i % 5 + 1], ["review", "stars"])
    assert [(s.column, s.why) for s in looked(stars).suspicious_columns] == [("stars", "ordered")]
    make: Make = lambda i, r: {"text": f"### Human: {prose(r)}### Assistant: {prose(r)}"}  # noqa: E731
    spoken = write(tmp_path, "guanaco.jsonl", make)
    assert [(s.column, s.why) for s in looked(spoken).suspicious_columns] == [("text", "spoken")]


@pytest.mark.parametrize("carrier", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("write_out", [json.dumps, repr])
def test_conversations_that_texts_spell_are_read(tmp_path: Path, carrier: str, write_out: Callable[[Any], str]) -> None:
    rng = random.Random(0)
    rows: list[dict[str, Any]] = [{"id": i, "messages": write_out(talk(rng)) if i else None} for i in range(ROWS)]
    path = tmp_path / f"a.{carrier}"
    if carrier == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if carrier == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    facts = looked(path)
    assert (facts.task, facts.columns, facts.rows, facts.empty_rows) == ("chat", {"messages": "messages"}, ROWS - 1, 1)
    choice = DataChoice(train=str(path), layout="messages", columns=facts.columns)
    assert len(load(choice, "chat")[0]) == ROWS - 1
    spoiled = path.with_name("b.jsonl")
    rows[7]["messages"] = "hello"
    put_rows(spoiled, rows)
    with pytest.raises(InputError, match=r"b\.jsonl: row 8: column messages does not hold a list, where other rows do"):
        looked(spoiled)


def test_behind_a_semicolon_a_comma_is_the_decimal_one_as_spreadsheets_write_it(tmp_path: Path) -> None:
    make: Make = lambda i, r: [prose(r), "AB"[i % 2], f"{'1.' if i == 7 else ''}{i + 100},{i % 10}0"]  # noqa: E731
    path = write(tmp_path, "semicolon.csv", make, ["Kommentar", "Kategorie", "Betrag"])
    assert looked(path).columns == {"text": "Kommentar", "label": "Kategorie"}
    wanted = {"text": "Kommentar", "label": "Betrag"}
    assert looked(path, columns=wanted, task="regression").task == "regression"
    rows, _ = load(DataChoice(train=str(path), layout="text_number", columns=wanted), "regression")
    assert (rows.items or [])[6:8] == [106.6, 1107.7]
    labels = write(tmp_path, "labels-semicolon.csv", lambda i, r: [prose(r), f"{i % 7},{7 + i % 9}"], ["text", "labels"])
    assert looked(labels).task == "multi_label"
    thousands = write(tmp_path, "thousands-semicolon.csv", lambda i, r: [prose(r), f"{900 + 19 * i:,}"], ["text", "price"])
    with pytest.raises(InputError, match=r"price holds numbers with a comma or a sign \(1,014\); write them like 1\.5 or 1500"):
        looked(thousands)
    path.write_text(path.read_text().replace("103,30", "unbekannt"))
    with pytest.raises(InputError, match="row 4: column Betrag holds unbekannt, which is not a number"):
        looked(path, columns=wanted, task="regression")


def test_labels_behind_texts_are_no_raw_text_whatever_the_file_is_called(tmp_path: Path) -> None:
    make: Make = lambda i, r: [f"i feel {prose(r)}", ["joy", "fear", "anger"][i % 3]]  # noqa: E731
    path = write(tmp_path, "emotions-semicolon.txt", make)
    assert (looked(path).task, looked(path).labels) == ("classification", ("anger", "fear", "joy"))
    path.write_text("".join(f"He said {i}; she went {i}.\n" for i in range(60)))
    assert looked(path).task == "continued_pretraining"


def test_pairs_on_which_annotators_did_not_agree_are_left_out(tmp_path: Path) -> None:
    make: Make = lambda i, r: {"gold_label": ["-", "neutral", "entailment"][i % 3], "sentence1": prose(r), "sentence2": prose(r)}  # noqa: E731
    facts = looked(write(tmp_path, "snli.jsonl", make))
    assert (facts.labels, facts.rows, facts.empty_rows) == (("entailment", "neutral"), 40, 20)


@pytest.mark.parametrize("name", SEPARATED)
def test_layouts_of_separated_values(tmp_path: Path, name: str) -> None:
    header, make, task, columns = SEPARATED[name]
    facts = looked(write(tmp_path, name, make, header))
    assert (facts.task, facts.columns, facts.header) == (task, columns, True)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.csv", lambda i, r: [prose(r), "ab"[i % 2]]),
        ("a-semicolon.csv", lambda i, r: [i % 3, prose(r)]),
        ("a.tsv", lambda i, r: [i, prose(r), "ab"[i % 2]]),
        ("a-bar.csv", lambda i, r: ["question" if i % 2 else "answer", prose(r, 20)]),
    ],
)
def test_a_missing_header_is_noticed(tmp_path: Path, name: str, make: Make) -> None:
    path = write(tmp_path, name, make)
    facts = looked(path)
    assert facts.header is False
    assert facts.rows == ROWS
    assert facts.task == "classification"
    assert str(facts.text_column).startswith("column ")


def test_a_header_of_unusual_names_stays_one(tmp_path: Path) -> None:
    facts = looked(write(tmp_path, "a.csv", lambda i, r: [prose(r), "ab"[i % 2]], ["Utterance (EN)", "verdict"]))
    assert (facts.header, facts.rows, facts.label_column) == (True, ROWS, "verdict")


def test_what_is_named_overrules_what_was_told(tmp_path: Path) -> None:
    make: Make = lambda i, r: {"question": prose(r), "answer": prose(r), "topic": "ab"[i % 2], "why": prose(r)}  # noqa: E731
    path = write(tmp_path, "a.jsonl", make)
    assert looked(path).task == "instruction"
    as_labels = looked(path, task="classification", columns={"text": "answer", "label": "topic"})
    assert (as_labels.text_column, as_labels.label_column, as_labels.confidence) == ("answer", "topic", 1.0)
    by_role = looked(path, columns={"prompt": "why", "completion": "question"})
    assert (by_role.task, by_role.columns, by_role.confidence) == (
        "instruction", {"prompt": "why", "completion": "question"}, 1.0,
    )  # fmt: skip
    raw = looked(path, task="continued_pretraining", columns={"text": "why"})
    assert (raw.task, raw.text_column) == ("continued_pretraining", "why")


def test_a_csv_of_one_column_is_raw_text_when_the_person_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", lambda i, r: [prose(r)], ["text"])
    assert looked(path, task="continued_pretraining").rows == ROWS
    with pytest.raises(InputError, match="--task continued_pretraining learns the text as it is"):
        looked(path)


def test_named_what_does_not_exist_or_does_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", lambda i, r: [prose(r), "ab"[i % 2]], ["text", "label"])
    with pytest.raises(InputError, match=r"no such role; the roles are text, "):
        looked(path, columns={"colour": "text"})
    with pytest.raises(InputError, match=r"has no column words \(--column tokens=…\)"):
        looked(path, columns={"tokens": "words", "tags": "label"})
    with pytest.raises(InputError, match="do not show what to use for chat; name messages with --column"):
        looked(path, task="chat")
    with pytest.raises(InputError, match=r"a\.csv: row 1: column label holds [ab], which is not a number"):
        looked(path, task="regression", columns={"text": "text", "label": "label"})
    path = write(tmp_path, "a.jsonl", lambda i, r: {"tokens": prose(r).split()})
    choice = DataChoice(train=str(path), layout="tokens_tags", columns={"tokens": "tokens", "tags": "tags"})
    with pytest.raises(InputError, match=r"a\.jsonl: has no column tags; its columns are tokens"):
        load(choice, "token_classification")


def test_numbers_that_a_model_made_of_a_text_are_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", lambda i, r: {"text": prose(r), "embedding": [r.random() for _ in range(8)]})
    assert looked(path).task == "continued_pretraining"
