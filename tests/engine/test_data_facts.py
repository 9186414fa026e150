"""What is counted about rows of every task: tokens, repeats, near-duplicates, leaks, languages; and what is remembered."""

import json
import os
import random
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.inspection import cache, counting, duplicates, tokens
from engine.inspection.data import inspect_data
from engine.inspection.duplicates import Alike
from engine.inspection.language import language_of
from engine.inspection.suspicious import leak_in_text
from engine.installed import own_code
from recommender.errors import InputError
from recommender.facts import DataFacts
from tests.conftest import put_rows

WORDS = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "lmnrst"]


def prose(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def put(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    return put_rows(folder / name, rows)


def looked(train: str, **options: Any) -> DataFacts:
    return DataFacts.model_validate(inspect_data({"train": train, **options})["facts"])


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tokenizer for which a word is a token, with a start and an end."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({"?": 0, "[S]": 1, "[E]": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[S] $A [E]", special_tokens=[("[S]", 1), ("[E]", 2)])
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    return str(tmp_path / "model")


def test_prompts_are_read_and_answers_learned(tmp_path: Path, model: str) -> None:
    rows = [{"instruction": f"say it {i}", "input": "", "output": "one two three four" + " five" * i} for i in range(4)]
    facts = looked(put(tmp_path, "a.jsonl", rows), model=model)
    form = 2 * 3  # "### Instruction:" and "### Response:", in which a model without a template is asked
    assert facts.tokens_max == 3 + 7 + form
    assert facts.trained_tokens == 5 + 6 + 7 + 8
    assert facts.tokens_total == 4 * (3 + form) + 4 + 5 + 6 + 7
    assert facts.tokens_origin == "measured"
    assert facts.conflict_share is None
    assert facts.longest_rows == tuple(3 + form + n for n in (7, 6, 5, 4))
    assert (facts.read_tokens, facts.read_tokens_max, facts.written_tokens_max) == (None, None, None)
    (Path(model) / "config.json").write_text('{"is_encoder_decoder": true}')
    pairs = [{"source": row["instruction"], "target": row["output"]} for row in rows]
    apart = looked(put(tmp_path, "b.jsonl", pairs), model=model, task="seq2seq")
    assert (apart.tokens_total, apart.read_tokens, apart.trained_tokens) == (5 + 6 + 7 + 8, 4 * 5, 5 + 6 + 7 + 8)
    assert (apart.tokens_max, apart.read_tokens_max, apart.written_tokens_max) == (8, 5, 8)


def test_only_what_the_assistant_says_is_learned(tmp_path: Path, model: str) -> None:
    talk = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "a b c"},
    ]
    silent = [{"role": "user", "content": "hello"}]
    path = put(
        tmp_path,
        "a.jsonl",
        [{"messages": [*talk[:2], {**talk[2], "content": f"a b c{i}"}]} for i in range(3)] + [{"messages": silent}],
    )
    facts = looked(path, model=model)
    assert (facts.rows, facts.empty_rows, facts.trained_tokens) == (3, 1, 3 * 4)
    assert facts.tokens_max == 5 + 4 + 3 * 3 - 3
    assert facts.tokens_origin == "estimated"  # a template adds what is not rendered here


def test_what_the_models_template_adds_by_itself_is_counted(tmp_path: Path, model: str) -> None:
    default = "{% if messages[0].role != 'system' %}system: you are kind and short {% endif %}"
    turns = "{% for m in messages %}{{ m.role }}: {{ m.content }} . {% endfor %}"
    (Path(model) / "chat_template.jinja").write_text(default + turns)
    asked = [{"instruction": f"say it {i}", "output": f"one {i}", "input": ""} for i in range(3)]
    system = [{"system": "be brief", **row} for row in asked]
    for rows, longest in ((asked, 7 + 2 * 3 + 3 + 2), (system, 3 * 3 + 2 + 3 + 2)):
        found = looked(put(tmp_path, "a.jsonl", rows), model=model)
        assert found.tokens_max is not None
        assert longest <= found.tokens_max <= longest + 3  # start and end of a text alone, and the end of an answer
    (Path(model) / "chat_template.jinja").write_text("{{ raise_exception('not you') }}")
    assert looked(put(tmp_path, "a.jsonl", asked), model=model).tokens_max == 5 + 3 + 2 * 4


def test_the_tools_of_a_conversation_are_counted_as_its_template_writes_them(tmp_path: Path, model: str) -> None:
    from tokenizers import Tokenizer

    parameters = {"type": "object", "properties": {"city": {"type": "string", "description": "where to look, in any form"}}}
    tools = [{"type": "function", "function": {"name": f"weather{i}", "parameters": parameters}} for i in range(3)]
    talk = [{"role": "user", "content": "how is it ?"}, {"role": "assistant", "content": "fine"}]
    turns = "{% for m in messages %}{{ m.role }}: {{ m.content }} . {% endfor %}"
    preamble = f"you may call {json.dumps(tools, indent=2)} "
    longer = len(Tokenizer.from_file(f"{model}/tokenizer.json").encode(preamble, add_special_tokens=False).ids)
    for listing, more in (("{% if tools %}you may call {{ tools | tojson(indent=2) }} {% endif %}", longer), ("", 0)):
        (Path(model) / "chat_template.jinja").write_text(listing + turns)
        without, found = (
            looked(put(tmp_path, "a.jsonl", [{"messages": talk, **given}] * 2), model=model) for given in ({}, {"tools": tools})
        )
        assert (found.tokens_max or 0) - (without.tokens_max or 0) == more
        assert found.trained_tokens == without.trained_tokens


def test_tools_that_no_template_could_write_are_refused(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "how is it ?"}, {"role": "assistant", "content": "fine"}]
    tools = [{"type": "function", "function": {"name": "weather", "since": datetime(2024, 1, 1)}}]
    pq.write_table(pa.Table.from_pylist([{"messages": talk, "tools": tools}] * 9), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: row 1: column tools does not hold a list of tools"):
        looked(str(tmp_path / "a.parquet"))


def test_an_unknown_speaker_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": who, "content": "x"}, {"role": "assistant", "content": "y"}]} for who in ("user", "waiter")]
    with pytest.raises(InputError, match=r"a\.jsonl: row 2: column messages holds .* unknown speaker, waiter \(known are user"):
        looked(put(tmp_path, "a.jsonl", rows))


def test_both_answers_of_a_preference_are_learned(tmp_path: Path, model: str) -> None:
    path = put(tmp_path, "a.jsonl", [{"prompt": f"ask {i}", "chosen": "a b c", "rejected": "a"} for i in range(3)])
    facts = looked(path, model=model)
    template = 2 * 3 - 3  # "### Instruction:" and "### Response:", without the ends of a text
    assert (facts.tokens_max, facts.trained_tokens) == (4 + 4 + template, 3 * (4 + 2))


def test_labels_of_several_kinds_are_counted_each(tmp_path: Path) -> None:
    rows = [{"text": f"words {i}", "labels": ["a"] if i % 2 else ["a", "b"]} for i in range(10)] + [
        {"text": "none", "labels": []}
    ]
    facts = looked(put(tmp_path, "a.jsonl", rows))
    assert (facts.rows, facts.labels, facts.label_counts) == (11, ("a", "b"), (10, 5))


def test_tags_are_counted_by_token(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("EU B-ORG\nrejects O\n\nPeter B-PER\nsaid O\n. O\n")
    facts = looked(str(tmp_path / "a.conll"))
    assert (facts.rows, facts.labels, facts.label_counts) == (2, ("B-ORG", "B-PER", "O"), (1, 1, 3))
    answer = inspect_data({"train": str(tmp_path / "a.conll")})
    assert answer["preview"][1] == ["Peter said .", "B-PER O O"]


def test_tags_that_do_not_fit_their_tokens(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O", "O"]}] * 30 + [{"tokens": ["a", "b"], "tags": ["O"]}]
    with pytest.raises(InputError, match=r"row 31: column tags holds 1 tags for 2 tokens"):
        looked(put(tmp_path, "a.jsonl", rows))


def test_beyond_the_bound_a_sample_is_counted_and_marked(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"{'word ' * (1 + i % 10)}{i}", "label": i % 2} for i in range(3_000)]
    rows[1234]["text"] = "word " * 500
    path = put(tmp_path, "a.jsonl", rows)
    whole = looked(path, model=model)
    monkeypatch.setattr(tokens, "COUNT_ALL_UP_TO", 2_000)
    monkeypatch.setattr(tokens, "SAMPLE_ROWS", 1_000)
    sampled = looked(path, model=model, split_seed=1)  # another question, so that nothing is remembered
    assert (whole.tokens_origin, sampled.tokens_origin) == ("measured", "estimated")
    assert sampled.tokens_max == whole.tokens_max == 502
    assert (whole.longest_rows[:2], len(whole.longest_rows), sampled.longest_rows) == ((502, 13), 64, ())
    assert sampled.tokens_p50 == pytest.approx(whole.tokens_p50, abs=1)
    assert sampled.tokens_total == pytest.approx(whole.tokens_total, rel=0.1)


def test_the_longest_target_of_a_sampled_file_is_known_as_the_longest_row_is(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(model) / "config.json").write_text('{"is_encoder_decoder": true}')
    pairs = [{"source": f"say it {i}", "target": "one" + " two" * (40 if i == 5 else i)} for i in range(8)]
    monkeypatch.setattr(counting, "_sample", lambda once, characters: (once[:2], True))
    found = looked(put(tmp_path, "a.jsonl", pairs), model=model, task="seq2seq")
    assert (found.tokens_max, found.read_tokens_max, found.written_tokens_max) == (42, 5, 42)


def test_near_duplicates_differ_only_a_little(tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = [prose(rng, 30) for _ in range(100)]
    twins = [f"{t} indeed" for t in texts[:40]]
    halves = [" ".join(t.split()[:15] + prose(rng, 15).split()) for t in texts[40:80]]
    assert Alike(texts).repeated == 0
    assert Alike([*texts, *twins, *halves]).repeated == 40
    assert Alike([chr(0x1F600 + i) * 3 for i in range(30)]).repeated == 0, "texts without a letter are not all the same"
    shouted = [f"{t.upper()} !!" for t in texts[:40]]
    rows = [{"text": t, "label": i % 2} for i, t in enumerate([*texts, *shouted])]
    facts = looked(put(tmp_path, "a.jsonl", rows))
    assert facts.near_duplicate_share == pytest.approx(40 / 140)
    assert facts.duplicate_share == 0


def test_a_sample_finds_near_duplicates_that_stand_far_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of rows drawn one by one, a tenth of them, only a tenth of the pairs would be seen."""
    rng = random.Random(1)
    words = [f"{a}{b}" for a in WORDS for b in WORDS[:20]]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(2_000)]
    rows = [{"text": t, "label": i % 2} for i, t in enumerate([*texts, *(f"{t} indeed" for t in texts)])]
    path = put(tmp_path, "a.jsonl", rows)
    monkeypatch.setattr("engine.inspection.counting.NEAR_ROWS", 400)
    assert looked(path).near_duplicate_share == pytest.approx(0.5, abs=0.1)


def test_an_instruction_before_every_input_makes_no_near_duplicates(tmp_path: Path) -> None:
    """300 inputs behind one long prompt were told to be one row that says something new, too few to train on."""
    rng = random.Random(1)
    prompt = " ".join(f"word{i}" for i in range(300))
    inputs = [prose(rng, 20) for _ in range(150)]
    rows = [{"prompt": f"{prompt}: {text}{more}", "completion": text[:20]} for text in inputs for more in ("", " indeed")]
    facts = looked(put(tmp_path, "a.jsonl", rows))
    assert facts.near_duplicate_share == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("most", [20_000, 400])
def test_held_out_rows_that_nearly_repeat_a_training_row_are_told(
    most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of 1,000 a tenth is in the training data but for punctuation, which is another share, and three tenths with a word more."""
    rng = random.Random(1)
    words = [f"{a}{b}" for a in WORDS for b in WORDS[:20]]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(2_600)]
    held_out = [*(f"{t}!" for t in texts[:100]), *(f"{t} indeed" for t in texts[100:400]), *texts[2_000:]]
    paths = [
        put(tmp_path, name, [{"text": t, "label": i % 2} for i, t in enumerate(rows)])
        for name, rows in (("a.jsonl", texts[:2_000]), ("b.jsonl", held_out))
    ]
    monkeypatch.setattr("engine.inspection.counting.NEAR_ROWS", most)
    facts = looked(paths[0], eval=paths[1])
    assert facts.overlap_share == pytest.approx(0.1)
    assert facts.near_overlap_share == pytest.approx(0.3, abs=0.001 if most > 2_600 else 0.1)
    if most > 2_600:
        assert looked(paths[0], eval_rows=50).near_overlap_share == 0.0


def test_exact_repeats_are_no_near_duplicates(tmp_path: Path) -> None:
    rows = [{"text": f"{prose(random.Random(i % 20))}", "label": i % 2} for i in range(40)]
    facts = looked(put(tmp_path, "a.jsonl", rows))
    assert facts.unique_rows == 20
    assert facts.near_duplicate_share == 0


def test_columns_that_should_not_be_learned_from(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        {"text": prose(rng), "label": "ab"[i % 2], "number": i, "batch": "spring", "code": 7 + i % 2, "page": i % 7}
        | {"sum": f"{137 * i},{i + 10}"}  # an amount, no identifier
        for i in range(60)
    ]
    facts = looked(put(tmp_path, "a.jsonl", rows))
    assert {(s.column, s.why) for s in facts.suspicious_columns} == {("number", "id"), ("batch", "constant"), ("code", "leak")}


def test_numbers_far_from_all_others_and_words_that_the_model_does_not_know(tmp_path: Path, model: str) -> None:
    rng = random.Random(0)
    rows = [{"text": prose(rng), "price": rng.gauss(20, 5)} for _ in range(98)]
    facts = looked(put(tmp_path, "a.jsonl", [*rows, *({"text": prose(rng), "price": 99_999.5} for _ in range(2))]), model=model)
    assert [(s.column, s.why, s.share) for s in facts.suspicious_columns] == [("price", "outliers", 0.02)]
    assert facts.unknown_share == 1.0  # start and end, which the model knows, are no part of the texts
    rows = [{"text": prose(rng), "price": rng.lognormvariate(0, 0.8)} for _ in range(100)]
    assert not looked(put(tmp_path, "b.jsonl", rows)).suspicious_columns


def test_a_label_written_into_its_text(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [{"text": f"{prose(rng)} verdict: {'good' if i % 2 else 'bad'}", "label": "gb"[i % 2]} for i in range(60)]
    (leak,) = looked(put(tmp_path, "a.jsonl", rows)).suspicious_columns
    assert (leak.column, leak.why, leak.word, leak.share) == ("text", "leak", "good", 1.0)
    endless = [row | {"text": row["text"].replace("good", 500 * "x")} for row in rows]
    assert looked(put(tmp_path, "b.jsonl", endless)).suspicious_columns[0].word == 39 * "x" + "…"


def test_words_that_only_lean_to_a_label_are_no_leak() -> None:
    rng = random.Random(0)
    marks = ["ab"[i % 2] for i in range(200)]
    texts = [prose(rng) + (" lovely" if (m == "a") == (rng.random() < 0.8) else "") for m in marks]
    assert leak_in_text(texts, marks) is None
    assert leak_in_text([prose(rng) + "." for _ in range(600)], ["rare" if i % 60 == 0 else "usual" for i in range(600)]) is None
    assert leak_in_text([*(prose(rng) + "." for _ in range(300)), "Fire alarm"], [*["usual"] * 300, "rare"]) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("It was the best of times and it is not what they said that it would have been for the others in the house", "en"),
        ("Das ist nicht der Weg, den ich mit dir gehen wollte, und es wird auch für die anderen nicht besser sein", "de"),
        ("Ce n'est pas ce que je voulais dire avec la lettre, mais elle est partie pour le sud dans une voiture", "fr"),
        ("No es lo que yo quería decir con la carta, pero ella se fue para el sur en un coche y no ha vuelto más", "es"),
        ("Это не то, что я хотел сказать, но он уже был там и всё так же стоял у окна, как бы его не звали", "ru"),
        ("これは私が言いたかったことではありません。彼はもう行ってしまった。", "ja"),
        ("这不是我想说的话，但是他已经走了，我们明天再来看看。", "zh"),
        ("이것은 내가 말하고 싶었던 것이 아니다 그는 이미 가 버렸다", "ko"),
        ("αυτό δεν είναι αυτό που ήθελα να πω αλλά έχει ήδη φύγει", "el"),
        ("def f(x): return [y ** 2 for y in x if y > 3] # 0x7f 12 34", None),
        ("good", None),
    ],
)
def test_languages_are_hinted_at(text: str, code: str | None) -> None:
    assert language_of([text] * 3 if code else [text]) == code


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    return put(tmp_path, "a.jsonl", [{"text": f"a secret text number {i}", "label": i % 2} for i in range(40)])


def kept() -> list[Path]:
    return sorted((Path(os.environ["LORACLE_STATE"]) / "data-facts").glob("*"))


def test_facts_are_remembered_without_any_text(reviews: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = inspect_data({"train": reviews})
    (entry,) = kept()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o700
    assert "secret" not in entry.read_text()
    monkeypatch.setattr("engine.inspection.data.count", lambda *_: pytest.fail("counted again"))
    assert inspect_data({"train": reviews}) == first


def test_another_file_option_tokenizer_or_code_is_looked_at_anew(
    reviews: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect_data({"train": reviews})
    inspect_data({"train": reviews, "train_rows": 20})
    inspect_data({"train": reviews, "model": model})
    inspect_data({"train": reviews, "columns": {"text": "text", "label": "label"}})
    assert len(kept()) == 4
    with Path(reviews).open("a") as file:
        file.write('{"text": "one more", "label": 1}\n')
    assert looked(reviews).rows == 41
    monkeypatch.setattr(cache, "own_code", lambda: "newer")
    inspect_data({"train": reviews})
    assert len(kept()) == 6


@pytest.mark.parametrize("name", ["splitting.py", "largest.py"])
def test_code_that_deals_out_rows_or_lists_lengths_is_looked_at_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = own_code.__wrapped__
    before, read = code(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: read(file) + b"#" * (file.name == name))
    assert code() != before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": "another", "answer": {}}', "\x00\x01"])
def test_a_damaged_memory_is_ignored(reviews: str, damage: str) -> None:
    first = inspect_data({"train": reviews})
    (entry,) = kept()
    entry.write_text(damage)
    assert inspect_data({"train": reviews}) == first


def test_the_memory_is_bounded(reviews: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST", 3)
    for rows in range(10, 20):
        inspect_data({"train": reviews, "train_rows": rows})
    assert len(kept()) == 3


def test_groups_of_near_duplicates_are_drawn_whole() -> None:
    import numpy as np

    groups = np.repeat(np.arange(100, dtype=np.uint32), 5)
    chosen = duplicates.drawn(groups, 100)
    assert 50 <= chosen.sum() <= 100
    assert set(np.unique(groups[chosen], return_counts=True)[1]) == {5}
