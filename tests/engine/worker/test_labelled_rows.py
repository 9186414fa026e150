"""Rows with several labels, a number, or a tag a word: what is wrong with them, and how they become tokens and targets."""

import itertools
import json
import math
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.loading import split
from engine.rows import Rows
from engine.worker.arguments import choice_of
from engine.worker.batches import padded
from engine.worker.encoding import NO_WORD
from engine.worker.modeling import build, load_config, load_tokenizer
from engine.worker.tasks.base import Encoded
from engine.worker.tasks.heads import by_rarity
from engine.worker.tasks.registry import task_of
from engine.worker.tasks.tags import places
from recommender.errors import InputError
from tests.conftest import make_plan, put_rows
from tests.engine.worker.labelled import PlanOf, made, plan_on


@pytest.fixture(scope="session")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> PlanOf:
    """`plan_of(task, model, method, **fields)`."""
    return partial(plan_on, tmp_path_factory.mktemp("rows"))


# What is wrong with the rows


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("multi_label", {"text": "a text", "topics": "money"}, "row 3: column topics does not hold a list"),
        ("regression", {"text": "a text", "minutes": "many"}, "row 3: column minutes holds many, which is not a number"),
        ("regression", {"text": "a text", "minutes": "1e200"}, "row 3: column minutes holds 1e200, too large to compute with"),
        ("regression", {"text": "a text", "minutes": [1]}, "row 3: column minutes holds a nested value"),
        ("token_classification", {"words": ["a", "b"], "tags": ["O"]}, "row 3: column tags holds 1 tags for 2 tokens"),
        ("token_classification", {"words": ["a", "b"], "tags": ["O", ""]}, "row 3: column tags holds an empty tag"),
    ],
)
def test_a_bad_row_is_named(plan_of: PlanOf, tiny: Path, tmp_path: Path, task: str, row: dict[str, Any], words: str) -> None:
    plan = plan_of(task, tiny)
    rows = [*itertools.islice(made(task, 20, 1), 2), row, *made(task, 20, 3)]
    data = plan.data.model_copy(update={"train": put_rows(tmp_path / "rows.jsonl", rows)})
    with pytest.raises(InputError) as error:
        split(data, plan.task)
    assert "rows.jsonl" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("task", "row"),
    [("multi_label", {"text": "a text", "topics": ["moon"]}), ("token_classification", {"words": ["a"], "tags": ["moon"]})],
)
def test_a_label_out_of_range_is_named_with_its_row(
    plan_of: PlanOf, tiny: Path, tmp_path: Path, task: str, row: dict[str, Any]
) -> None:
    plan = plan_of(task, tiny)
    file = put_rows(tmp_path / "held-out.jsonl", itertools.chain(made(task, 4, 5), [row]))
    with pytest.raises(InputError, match=r"held-out\.jsonl: row 5: labels that training has never seen: moon"):
        split(plan.data.model_copy(update={"eval": file}), plan.task)


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("multi_label", {"text": "text", "topics": []}, "no row has any label"),
        ("regression", {"text": "text", "minutes": 3}, "all rows have the same number"),
        ("token_classification", {"tags": ["O", "O"]}, "all words have the same tag"),
        ("token_classification", {"tags": ["O", "B-x"]}, None),
    ],
)
def test_rows_with_nothing_to_learn_are_refused(
    plan_of: PlanOf, tiny: Path, tmp_path: Path, task: str, row: dict[str, Any], words: str | None
) -> None:
    rows = (row | {"text": f"text {i}", "words": ["text", str(i)]} for i in range(60))
    data = plan_of(task, tiny).data.model_copy(update={"train": put_rows(tmp_path / "rows.jsonl", rows), "eval": None})
    with pytest.raises(InputError, match=words) if words else nullcontext():
        split(data, task)  # type: ignore[arg-type]


# Words and tokens


def encoded(plan_of: PlanOf, model: Path, items: list[dict[str, list[str]]], **fields: Any) -> tuple[Any, Any]:
    plan = plan_of("token_classification", model, **fields)
    task = task_of(plan, ["B-x", "I-x", "O"], 0)
    texts = [" ".join(item["words"]) for item in items]
    rows = Rows(texts, [""] * len(items), list(range(len(items))), items=list(items))
    return task, task.encode(load_tokenizer(str(model), words=True), rows)


def test_words_that_are_cut_off_are_counted_and_scored_as_wrong(plan_of: PlanOf, tiny: Path) -> None:
    words = ["refund", "", "unbelievably", *["parcel"] * 20]
    tags = ["B-x", "I-x", "O", *["O"] * 20]
    task, rows = encoded(plan_of, tiny, [{"words": words, "tags": tags}, {"words": ["late"], "tags": ["O"]}], max_length=12)
    first, second = rows.targets
    assert first["count"] == 23
    assert first["words"][:2] == [0, 2], "a word without letters has no token"
    assert [first["tags"][0], first["tags"][1]] == [0, 2]
    assert len(first["words"]) < 12
    assert (rows.rows_cut, len(rows.input_ids[0])) == (1, 12)
    assert rows.tokens_cut > 5
    assert "of 24 words are not read" in task.remarks["words_lost"]
    with pytest.raises(InputError, match=r"no word fits within max_length \(2 tokens\)"):
        encoded(plan_of, tiny, [{"words": words, "tags": tags}], max_length=2)
    assert second == {"places": [1], "words": [0], "tags": [2], "count": 1}
    torch.manual_seed(0)
    model = build(task, str(tiny)).model.eval()
    with torch.no_grad():
        said = task.answers(model, rows.input_ids, rows.targets)
    assert len(said[0].predicted) == 23
    assert said[0].predicted[1] == said[0].predicted[-1] == -1
    assert said[0].weight == len(first["words"])


def test_a_decoder_tells_a_word_where_it_has_read_the_whole_of_it(plan_of: PlanOf, tiny: Path) -> None:
    words = [None, 0, 0, 1, NO_WORD, 2, 2]
    assert places(words, "encoder") == {0: 1, 1: 3, 2: 5}
    assert places(words, "decoder") == {0: 2, 1: 3, 2: 6}
    plan = plan_of("token_classification", tiny)
    for task, which in ((task_of(plan, ["O"], 0, "encoder"), "first"), (task_of(plan, ["O"], 0, "decoder"), "last")):
        assert f"told at its {which} token" in task.usage()
        assert ("and word not in tags" in task.usage()) is (which == "first"), "a later token of the word says it anew"


def test_byte_level_tokenizers_read_each_word_as_in_a_sentence(tmp_path: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["say hello to my friend"] * 9, 400, show_progress=False, special_tokens=special)
    RobertaTokenizerFast(tokenizer_object=trained._tokenizer).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path), words=True)
    words = ["say", "hello", "to", "my", "friend"]
    whole = tokenizer(" ".join(words))["input_ids"]
    apart = tokenizer(words, is_split_into_words=True)["input_ids"]
    assert apart == whole
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(str(tmp_path / "saved"))
    assert again(words, is_split_into_words=True)["input_ids"] == whole, "whoever loads the result reads words the same way"


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "Qwen2Tokenizer"])
def test_words_are_not_glued_by_tokenizers_without_such_a_setting(
    plan_of: PlanOf, tiny_chat: Path, tmp_path: Path, kind: str
) -> None:
    """Llama 3, ModernBERT and Gemma read each word as if no space came before it, Qwen's setting parts "don't" in three."""
    shutil.copytree(tiny_chat, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": kind}))
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    words = [*"我在上海", "2024"]
    _, rows = encoded(plan_of, tmp_path / "model", [{"words": words, "tags": ["O"] * len(words)}])
    assert list(rows.input_ids[0]) == tokenizer("".join(words))["input_ids"], "a language without spaces"
    words = ["I", "don't", "see", "order", "2024", "."]
    task, rows = encoded(plan_of, tmp_path / "model", [{"words": words, "tags": ["O"] * len(words)}])
    assert list(rows.input_ids[0]) == tokenizer(" " + " ".join(words))["input_ids"]
    inputs = next(line for line in task.usage().splitlines() if line.startswith("inputs"))
    found = eval(inputs.partition("=")[2].replace('return_tensors="pt"', ""), {"tokenizer": tokenizer, "words": words})
    assert found["input_ids"] == [list(rows.input_ids[0])], "so does the model card"


# Labels and waiting


def test_labels_that_are_rare_stay_among_the_training_rows(plan_of: PlanOf, tiny: Path, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "topics": ["usual"] + (["rare"] if i in (7, 9) else [])} for i in range(40)]
    data = plan_of("multi_label", tiny).data
    for seed in range(6):
        change = {"train": put_rows(tmp_path / "rows.jsonl", rows), "eval": None, "split_seed": seed}
        parts = split(data.model_copy(update=change | {"held_out_rows": 8, "validation_rows": 8}), "multi_label")
        assert any("rare" in row for row in parts.train.items or [])


def test_weights_make_a_rare_label_count_more_but_not_as_much_as_its_absence(plan_of: PlanOf, tiny_still: Path) -> None:
    plan = plan_of("multi_label", tiny_still, class_weights=True)
    parts = split(plan.data, plan.task)
    task = task_of(plan, parts.labels, 0)
    rows = task.encode(load_tokenizer(str(tiny_still)), parts.train)
    task.prepare(rows, torch.device("cpu"))
    weights = getattr(task, "weights")  # noqa: B009 - of this task only
    for i in range(len(parts.labels)):
        given = sum(i in row for row in rows.targets)
        assert float(weights[i]) ** 2 * given == pytest.approx(len(rows) - given)


def test_a_rare_class_weighs_more_by_the_root_of_its_rarity_and_a_row_one_in_the_mean() -> None:
    targets = [0] * 80 + [1] * 20
    weights = by_rarity(targets, 3, torch.device("cpu"))
    assert float(weights[1] / weights[0]) == pytest.approx(2)
    assert float(weights[targets].mean()) == pytest.approx(1)
    assert torch.isfinite(weights).all(), "a class without a row breaks nothing"


class Says(torch.nn.Module):  # type: ignore[misc]  # mypy does not read torch here
    """A model whose logits are known."""

    def __init__(self, logits: list[Any]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits), requires_grad=False)

    def forward(self, **batch: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.logits)


IDS = [[1, 1, 1], [1, 1, 1]]
RARE = [0.5 / 0.6, 1 / 0.6]
"""Weights of four rows against one: the roots of their rarity, of mean 1 over the rows."""


@pytest.mark.parametrize("weighted", [True, False])
def test_a_rare_class_weighs_more_in_what_is_learned_and_not_in_a_score(tiny: Path, weighted: bool) -> None:
    task = task_of(make_plan(tiny, class_weights=weighted, label_smoothing=0.1), ["often", "seldom"], 0)
    task.prepare(Encoded([[1]] * 5, [0, 0, 0, 0, 1], []), torch.device("cpu"))
    model = Says([[2.0, 0.0], [1.0, 0.5]])
    truth, weights = torch.tensor([0, 1]), torch.tensor(RARE) if weighted else None
    learned = functional.cross_entropy(model.logits, truth, weight=weights, label_smoothing=0.1, reduction="sum")
    assert float(task.total(model, IDS, [0, 1])) == pytest.approx(float(learned))
    assert task.weight([0, 1]) == pytest.approx(sum(RARE) if weighted else 2)
    said = task.answers(model, IDS, [0, 1])
    plain = functional.cross_entropy(model.logits, truth, reduction="none").tolist()
    assert [(a.predicted, a.weight) for a in said] == [(0, 1.0)] * 2
    assert [a.loss for a in said] == pytest.approx(plain)


@pytest.mark.parametrize("weighted", [True, False])
def test_a_rare_tag_weighs_more_in_what_is_learned_and_not_in_a_score(plan_of: PlanOf, tiny: Path, weighted: bool) -> None:
    plan = plan_of("token_classification", tiny, class_weights=weighted, label_smoothing=0.1)
    task = task_of(plan, ["O", "B-x"], 0)

    def row(places: list[int], tags: list[int], count: int) -> dict[str, Any]:
        return {"places": places, "words": list(range(1, 1 + len(tags))), "tags": tags, "count": count}

    task.prepare(Encoded([], [row([], [0, 0, 0], 3), row([], [0, 1], 2)], []), torch.device("cpu"))
    model = Says([[[9.0, 9.0], [2.0, 0.0], [1.0, 0.5]], [[0.0, 0.0]] * 3])
    rows, words = [row([1, 2], [0, 1], 4), row([], [], 1)], model.logits[0, 1:]
    truth, weights = torch.tensor([0, 1]), torch.tensor(RARE) if weighted else None
    learned = functional.cross_entropy(words, truth, weight=weights, label_smoothing=0.1, reduction="sum")
    assert float(task.total(model, IDS, rows)) == pytest.approx(float(learned))
    assert task.weight(rows) == pytest.approx(sum(RARE) if weighted else 2)
    plain = float(functional.cross_entropy(words, truth))
    some, none = task.answers(model, IDS, rows)
    assert (some.predicted, some.weight) == ([-1, 0, 0, -1], 2.0), "some words are not read"
    assert some.loss == pytest.approx(plain), "a mean over the others"
    assert (none.predicted, none.loss, none.weight) == ([-1], 0.0, 0.0)
    usual = task.constant(Encoded([], [], [[0, 0], [1]]), Encoded([], [], [[1, 0, 0], [1]]))
    assert usual is not None
    assert usual.predicted == [[0, 0, 0], [0]]


@pytest.mark.parametrize("weighted", [True, False])
def test_labels_that_are_rarely_given_weigh_more_where_they_are_and_not_in_a_score(
    plan_of: PlanOf, tiny: Path, weighted: bool
) -> None:
    task = task_of(plan_of("multi_label", tiny, class_weights=weighted), ["often", "seldom"], 0)
    train = Encoded([[1]] * 5, [[0], [0], [0], [0], [0, 1]], [])
    task.prepare(train, torch.device("cpu"))
    model = Says([[0.2, -0.2], [-1.0, 1.0]])
    truth, weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.2**0.5, 2.0]) if weighted else None
    learned = functional.binary_cross_entropy_with_logits(model.logits, truth, pos_weight=weights, reduction="sum") / 2
    assert float(task.total(model, IDS, [[0], [1]])) == pytest.approx(float(learned))
    said = task.answers(model, IDS, [[0], [1]])
    plain = functional.binary_cross_entropy_with_logits(model.logits, truth, reduction="none").mean(-1).tolist()
    assert [a.predicted for a in said] == [[0], [1]]
    assert [a.loss for a in said] == pytest.approx(plain)
    usual = task.constant(train, Encoded([[1]], [], []))
    assert usual is not None
    assert usual.predicted == [[0]], "what most rows have"
    probe = task.probe(np.array([[1.0, 0.0], [0.0, 1.0]] * 10), [[0], [1]] * 10, np.eye(2), [[0], [1]])
    assert probe.predicted == [[0], [1]]
    assert max(probe.losses or ()) < math.log(2), "better than a guess"


def test_numbers_are_told_in_the_units_of_the_data(plan_of: PlanOf, tiny: Path) -> None:
    task = task_of(plan_of("regression", tiny), [], 0)
    rows = Encoded([[1]] * 20, [10.0, 30.0] * 10, [])
    task.prepare(rows, torch.device("cpu"))  # 20, and 10 is one step
    said = task.answers(Says([[0.5], [-2.0]]), IDS, [25.0, 10.0])
    assert [(a.predicted, a.loss) for a in said] == [(25.0, 0.0), (0.0, 1.0)]
    usual = task.constant(rows, rows)
    assert usual is not None
    assert usual.predicted == [20.0] * 20
    probe = task.probe(np.array([[1.0, 0.0], [0.0, 1.0]] * 10), list(rows.targets), np.eye(2), [10.0, 30.0])
    assert probe.predicted == pytest.approx([10.0, 30.0], abs=3.0)
    assert max(probe.losses or ()) < 0.1


def test_waiting_begins_with_the_first_thing_found(tiny: Path) -> None:
    """While the F1 is 0 a falling loss counts as a gain, beside what a head of random weights hits by chance too (seen: 0.007 at
    step 3 of 28, and 0.02 at step 4 of 42, outdid all that was learned); of equal ones the surer is better."""
    plan = make_plan(tiny).model_copy(update={"metric": "span_f1"})
    course = [(0.007, 2.8), (0.0, 2.0), (0.0, 1.5), (0.01, 1.4), (0.2, 1.3), (0.2, 1.0), (0.201, 1.0)]
    choices = [choice_of(plan, {"span_f1": f1, "loss": loss}) for f1, loss in course]
    assert choices == sorted(choices)
    assert min(after - before for before, after in itertools.pairwise(choices)) > 0.0005
    guessed, learned = (choice_of(plan, {"span_f1": f1, "loss": loss}) for f1, loss in ((0.02, 2.2), (0.0, 0.286)))
    assert guessed < learned
    closer, further = (choice_of(plan.model_copy(update={"metric": "mae"}), {"mae": mae, "loss": 1.0}) for mae in (1.0, 2.0))
    assert closer > further
    of_days = plan.model_copy(update={"metric": "mae"})
    gains = [choice_of(of_days, {"mae": 0.99 * unit, "loss": 1.0}) - choice_of(of_days, {"mae": unit, "loss": 1.0})
             for unit in (0.001, 1.0, 1e5)]  # fmt: skip
    assert gains == pytest.approx([0.01] * 3, rel=0.02), "in whatever unit: early stopping compares with one least gain"
    surer, unsure = (choice_of(plan.model_copy(update={"metric": "macro_f1"}), {"macro_f1": 0.9, "loss": x}) for x in (0.3, 0.4))
    assert surer - unsure == pytest.approx(0.001)


@pytest.mark.parametrize("decoder", [False, True])
def test_pairs_are_read_with_what_the_tokenizer_puts_between_them(
    tiny: Path, tiny_chat: Path, tmp_path: Path, decoder: bool
) -> None:
    rows = [{"premise": "late " * n, "hypothesis": "parcel " * 3, "score": n / 4} for n in range(1, 30)]
    columns = {"text": "premise", "text_pair": "hypothesis", "label": "score"}
    data = {"train": put_rows(tmp_path / "rows.jsonl", rows), "layout": "text_number", "columns": columns, "labels": None}
    data |= {"eval": None, "text_column": None, "label_column": None, "train_rows": None, "eval_rows": None}
    folder = tiny_chat if decoder else tiny
    plan = make_plan(folder, data=data | {"validation_rows": 4, "held_out_rows": 4}, task="regression", max_length=16)
    tokenizer = load_tokenizer(str(folder))
    task = task_of(plan, [], tokenizer.pad_token_id)
    load_config(str(folder), task)
    parts = split(plan.data, "regression").train
    found = task.encode(tokenizer, parts)
    pairs = parts.parts or []
    for ids, (first, second) in zip(found.input_ids[:2], pairs[:2], strict=True):
        whole = tokenizer(f"{first}\n{second}") if decoder else tokenizer(first, second)
        batch = padded([ids, ids[:3]], tokenizer.pad_token_id, "cpu")
        assert batch["input_ids"][0].tolist() == whole["input_ids"]
        assert ("token_type_ids" in batch) is not decoder, "only a model with such an embedding is told"
        assert decoder or batch["token_type_ids"][0].tolist() == whole["token_type_ids"]
    assert '"its pair"' in task.usage()
    assert ('+ "\\n" +' in task.usage()) is decoder
    assert f"return_token_type_ids={not decoder}" in task.usage()
    assert max(map(len, found.input_ids)) == 16
    assert found.rows_cut == sum(len(tokenizer(*p)["input_ids"]) > 16 for p in pairs) or decoder
    end = tokenizer.decode(padded(found.input_ids[-1:], 0, "cpu")["input_ids"][0]).count("parcel")
    assert decoder or end == 3, "the longer text is cut, not always the second"
