"""Several labels a row, a number a row, a tag a word: from a file to a report, a model and its card."""

import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from engine import checkpoints
from engine.events import EventWriter, read_events
from engine.files import read_json, sha256_of
from engine.loading import split
from engine.rows import Rows
from engine.rundir import RunDirectory
from engine.worker.arguments import choice_of, training_arguments
from engine.worker.batches import LogicalBatch, padded
from engine.worker.budget import TokenBudget
from engine.worker.modeling import build, load_config, load_tokenizer
from engine.worker.tasks.heads import by_rarity
from engine.worker.tasks.registry import task_of
from engine.worker.trainer import LogicalBatchTrainer, seed_everything
from engine.worker.training import FINISHED
from recommender.errors import InputError
from recommender.plan import Plan
from tests.engine.worker.conftest import CardSaid, card_code, said_by_cards

MakePlan = Callable[..., Plan]
Here = Callable[..., RunDirectory]

SAID = {
    "money": ["refund the invoice", "the card was charged twice", "a discount on the bill"],
    "parcel": ["the parcel is late", "my order was delivered broken", "tracking shows nothing"],
    "login": ["I forgot my password", "the account is locked", "two factor code never comes"],
}
PLACES = ["berlin", "paris", "new york", "lima"]
ROLES = {
    "multi_label": ("text_labels", {"text": "text", "label": "topics"}),
    "regression": ("text_number", {"text": "text", "label": "minutes"}),
    "token_classification": ("tokens_tags", {"tokens": "words", "tags": "tags"}),
    "pairs": ("text_label", {"text": "said", "text_pair": "asked", "label": "fits"}),
}


def made(task: str, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows that a tiny model can learn something of."""
    order = random.Random(seed)
    for n in range(rows):
        topics = [t for t in SAID if order.random() < 0.45]
        said = [order.choice(SAID[t]) for t in topics] + [f"case {seed} {n}"]
        order.shuffle(said)
        text = ", ".join(said)
        if task == "multi_label":
            yield {"text": text, "topics": topics}
        elif task == "pairs":
            asked = order.choice([*SAID])
            yield {"said": text, "asked": f"is it about {asked}", "fits": "yes" if asked in topics else "no"}
        elif task == "regression":
            yield {"text": text, "minutes": 2000 + 500 * len(topics) + 0.25 * (n % 4)}
        else:
            place = order.choice(PLACES).split()
            words = [*text.split(), "in", *place]
            yield {"words": words, "tags": ["O"] * (len(words) - len(place)) + ["B-place"] + ["I-place"] * (len(place) - 1)}


def written(path: Path, rows: Iterator[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="session")
def plan_of(make_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory) -> MakePlan:
    """A plan for one of these tasks, of which `pairs` is a classification: `plan_of(task, model, method, **fields)`."""
    folder = tmp_path_factory.mktemp("rows")

    def of(task: str, model: Path, method: str = "full", **fields: Any) -> Plan:
        layout, columns = ROLES[task]
        train = written(folder / f"{task}-train.jsonl", made(task, 150, 1))
        held_out = written(folder / f"{task}-held-out.jsonl", made(task, 40, 2))
        data = {"train": train, "eval": held_out, "layout": layout, "columns": columns, "labels": None}
        data |= {"text_column": None, "label_column": None, "train_rows": None, "eval_rows": None}
        adapter = {} if method == "full" else {"learning_rate": 5e-3}
        named = "classification" if task == "pairs" else task
        return make_plan(model, method, data=data, task=named, **({"max_length": 64, "epochs": 6.0} | adapter | fields))

    return of


@pytest.fixture(scope="session")
def done(plan_of: MakePlan, tiny: Path, run_here: Here) -> Callable[[str, str], RunDirectory]:
    """A finished run of a task and a method. Not to be changed; copy it first."""
    runs: dict[tuple[str, str], RunDirectory] = {}

    def of(task: str, method: str) -> RunDirectory:
        if (task, method) not in runs:
            runs[task, method] = run_here(plan_of(task, tiny, method))
        return runs[task, method]

    return of


# One step


def whole_loss(task: str, model: Any, batch: LogicalBatch, pad: int, labels: int, numbers: list[float]) -> torch.Tensor:
    """The loss of the uncut batch in plain torch, as transformers' own heads compute it."""
    logits = model(**padded(batch.input_ids, pad, "cpu")).logits
    if task == "classification":
        return functional.cross_entropy(logits, torch.tensor(batch.targets))
    if task == "multi_label":
        truth = torch.tensor([[float(i in row) for i in range(labels)] for row in batch.targets])
        return functional.binary_cross_entropy_with_logits(logits, truth)
    if task == "regression":
        all_numbers = torch.tensor(numbers, dtype=torch.float64)
        truth = (torch.tensor(batch.targets, dtype=torch.float64) - all_numbers.mean()) / all_numbers.std(correction=0)
        return functional.mse_loss(logits[:, 0], truth.float())
    truth = torch.full(logits.shape[:2], -100)
    for i, target in enumerate(batch.targets):
        truth[i, target["places"]] = torch.tensor(target["tags"])
    return functional.cross_entropy(logits.flatten(0, 1), truth.flatten())


TASKS = ["multi_label", "regression", "token_classification"]
RUNS = [("multi_label", "full"), ("regression", "lora"), ("token_classification", "full"), ("token_classification", "qlora")]


@pytest.mark.parametrize("task", [*TASKS, "pairs"])
@pytest.mark.parametrize(
    ("method", "decoder"), [(m, d) for m in ("full", "lora", "qlora") for d in (False, True)]
)
def test_the_gradient_of_a_cut_batch_is_that_of_the_whole_padded_or_not(
    plan_of: MakePlan, tiny_still: Path, tiny_llama: Path, tmp_path: Path, task: str, method: str, decoder: bool
) -> None:
    folder = tiny_llama if decoder else tiny_still
    plan = plan_of(task, folder, method, token_budget=60, **({} if method == "full" else {"dropout": 0.0}))
    parts = split(plan.data, plan.task)
    tokenizer = load_tokenizer(str(folder), words=task == "token_classification")
    seed_everything(1)
    work = task_of(plan, parts.labels, tokenizer.pad_token_id, "decoder" if decoder else "encoder")
    model = build(work, str(folder)).model
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # decoders' heads for tokens have one of their own
    rows = work.encode(tokenizer, parts.train)
    work.prepare(rows, torch.device("cpu"))
    events = EventWriter(tmp_path / "events.jsonl")
    (tmp_path / "checkpoints").mkdir()
    trainer = LogicalBatchTrainer(
        model,
        training_arguments(plan, tmp_path / "checkpoints", 10, scored=False),
        rows.table(),
        None,
        task=work,
        budget=TokenBudget(plan.token_budget, lambda before, after: None),
        evaluate_rows=lambda model, step: {},
        events=events,
        checkpoint_note={},
        interrupt=lambda: None,
    )
    batch = LogicalBatch(list(rows.input_ids[:16]), list(rows.targets[:16]))
    assert len(set(map(len, batch.input_ids))) > 5
    assert sum(map(len, batch.input_ids)) > 2 * plan.token_budget

    def gradients() -> dict[str, torch.Tensor]:
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected_loss = whole_loss(plan.task, model, batch, work.pad, len(parts.labels), list(rows.targets))
    expected_loss.backward()
    expected = gradients()
    assert any(g.abs().max() > 1e-4 for g in expected.values())
    for packed in (False, True):
        if packed:
            work.adopt(model)
        assert work.packed is packed
        model.zero_grad()
        loss = trainer.training_step(model, batch)
        found = gradients()
        torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-4, atol=1e-5)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-3, atol=2e-5, msg=f"{name}, packed: {packed}")
    events.close()


# A whole run


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_run_learns_and_says_so_with_intervals(done: Callable[[str, str], RunDirectory], task: str, method: str) -> None:
    report = done(task, method).report() or {}
    first = done(task, method).plan().metric
    gains = report["gains"]["before"]
    assert set(report["scores"]["after"]) >= {first, "loss"}
    assert gains["loss"]["high"] < 0, "the loss on the held-out rows falls"
    sign = -1 if first == "rmse" else 1
    assert sign * gains[first]["gain"] > 0
    assert gains[first]["low"] <= gains[first]["gain"] <= gains[first]["high"]
    assert report["gains"]["majority"]
    assert any(s.startswith("Better") for s in report["statements"])
    best = {v["step"]: v[first] for v in report["validation"]}
    assert best[report["best_step"]] == (min if first == "rmse" else max)(best.values())
    if task != "regression":
        assert report["scores"]["after"]["per_class"]


def test_labels_come_in_sets(done: Callable[[str, str], RunDirectory]) -> None:
    run = done("multi_label", "full")
    parts = split(run.plan().data, "multi_label")
    kept = read_json(run.scores / "after.json")
    assert [[parts.labels[i] for i in row] for row in kept["truth"]] == parts.held_out.items
    assert [] in kept["truth"]
    assert any(len(row) > 1 for row in kept["predicted"])
    score = kept["score"]
    assert score["exact_match"] == sum(t == p for t, p in zip(kept["truth"], kept["predicted"], strict=True)) / 40
    assert set(read_json(run.scores / "probe.json")["score"]) >= {"micro_f1", "loss"}


@pytest.mark.parametrize(("task", "method"), RUNS[:3])
def test_a_run_cut_off_in_the_middle_goes_on_to_the_very_same_model(
    done: Callable[[str, str], RunDirectory], run_here: Here, tmp_path: Path, task: str, method: str
) -> None:
    run = done(task, method)
    copy = RunDirectory(tmp_path / "copied")
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.model)
    for file in (copy.report_file, copy.scores / "after.json", copy.checkpoints / FINISHED):
        file.unlink()
    kept = sorted(copy.checkpoints.glob("step-*"), key=checkpoints.step_of)
    for folder in kept[1:]:
        shutil.rmtree(folder)
    again = run_here(run.plan(), again=copy)
    begun = [e for e in read_events(again.events) if e["kind"] == "run"][-1]
    assert 0 < begun["resumed_from"] < begun["total_steps"]
    (weights,) = run.model.glob("*.safetensors")
    assert sha256_of(again.model / weights.name) == sha256_of(weights)
    for part in ("scores", "gains", "best_step"):
        assert (again.report() or {})[part] == (run.report() or {})[part]


CARDS = [RUNS[0], RUNS[1], RUNS[3]]
SHOWN = 4


@pytest.fixture(scope="module")
def said(done: Callable[[str, str], RunDirectory]) -> dict[tuple[str, str], CardSaid]:
    """What each card's own code printed for the first held-out rows."""
    programs = {}
    for task, method in CARDS:
        run = done(task, method)
        held_out = split(run.plan().data, run.plan().task).held_out
        loading, use = card_code(run)
        if task == "token_classification":
            uses = [use.replace('["some", "words"]', repr(item["words"])) for item in (held_out.items or [])[:SHOWN]]
        else:
            uses = [use.replace('"a text"', repr(text)) for text in held_out.texts[:SHOWN]]
        programs[run.model] = "\n".join([loading, *uses])
    return dict(zip(CARDS, said_by_cards(programs), strict=True))


@pytest.mark.parametrize(("task", "method"), CARDS)
def test_the_cards_own_code_gives_the_reports_predictions(
    done: Callable[[str, str], RunDirectory], said: dict[tuple[str, str], CardSaid], task: str, method: str
) -> None:
    """In the model's folder, with nothing of Loracle loaded."""
    run, card = done(task, method), said[task, method]
    parts = split(run.plan().data, run.plan().task)
    assert not card.modules & {"engine", "tui", "recommender", "loracle"}
    predicted = read_json(run.scores / "after.json")["predicted"][:SHOWN]
    if task == "multi_label":
        assert card.lines == [str([parts.labels[i] for i in row]) for row in predicted]
    elif task == "regression":
        assert [float(x) for x in card.lines] == pytest.approx(predicted, rel=1e-4)
    else:
        items = (parts.held_out.items or [])[:SHOWN]
        tagged = zip(items, predicted, strict=True)
        pairs = itertools.chain.from_iterable(zip(i["words"], (parts.labels[t] for t in p), strict=True) for i, p in tagged)
        assert [tuple(line.split("\t")) for line in card.lines] == list(pairs)


# What is wrong with the rows


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("multi_label", {"text": "a text", "topics": "money"}, "row 3: column topics holds no list"),
        ("regression", {"text": "a text", "minutes": "many"}, "row 3: column minutes holds many, which is no number"),
        ("regression", {"text": "a text", "minutes": "1e200"}, "row 3: column minutes holds 1e200, too large to compute with"),
        ("regression", {"text": "a text", "minutes": [1]}, "row 3: column minutes holds a nested value"),
        ("token_classification", {"words": ["a", "b"], "tags": ["O"]}, "row 3: column tags holds 1 tags for 2 tokens"),
        ("token_classification", {"words": ["a", "b"], "tags": ["O", ""]}, "row 3: column tags holds an empty tag"),
    ],
)
def test_a_bad_row_is_named(plan_of: MakePlan, tiny: Path, tmp_path: Path, task: str, row: dict[str, Any], words: str) -> None:
    plan = plan_of(task, tiny)
    rows = [*itertools.islice(made(task, 20, 1), 2), row, *made(task, 20, 3)]
    data = plan.data.model_copy(update={"train": written(tmp_path / "rows.jsonl", iter(rows))})
    with pytest.raises(InputError) as error:
        split(data, plan.task)
    assert "rows.jsonl" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("multi_label", {"text": "a text", "topics": ["moon"]}),
        ("token_classification", {"words": ["a"], "tags": ["moon"]}),
    ],
)
def test_a_label_out_of_range_is_named_with_its_row(
    plan_of: MakePlan, tiny: Path, tmp_path: Path, task: str, row: dict[str, Any]
) -> None:
    plan = plan_of(task, tiny)
    file = written(tmp_path / "held-out.jsonl", itertools.chain(made(task, 4, 5), [row]))
    with pytest.raises(InputError, match=r"held-out\.jsonl: row 5: labels that training has never seen: moon"):
        split(plan.data.model_copy(update={"eval": file}), plan.task)


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("multi_label", {"text": "text", "topics": []}, "no row has any label"),
        ("regression", {"text": "text", "minutes": 3}, "all rows have the same number"),
    ],
)
def test_rows_with_nothing_to_learn_are_refused(
    plan_of: MakePlan, tiny: Path, tmp_path: Path, task: str, row: dict[str, Any], words: str
) -> None:
    rows = (row | {"text": f"text {i}"} for i in range(60))
    data = plan_of(task, tiny).data.model_copy(update={"train": written(tmp_path / "rows.jsonl", rows), "eval": None})
    with pytest.raises(InputError, match=words):
        split(data, task)  # type: ignore[arg-type]


# Words and tokens


def encoded(plan_of: MakePlan, model: Path, items: list[dict[str, list[str]]], **fields: Any) -> tuple[Any, Any]:
    plan = plan_of("token_classification", model, **fields)
    task = task_of(plan, ["B-x", "I-x", "O"], 0)
    texts = [" ".join(item["words"]) for item in items]
    rows = Rows(texts, [""] * len(items), list(range(len(items))), items=list(items))
    return task, task.encode(load_tokenizer(str(model), words=True), rows)


def test_words_that_are_cut_off_are_counted_and_scored_as_wrong(plan_of: MakePlan, tiny: Path) -> None:
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
    assert second == {"places": [1], "words": [0], "tags": [2], "count": 1}
    torch.manual_seed(0)
    model = build(task, str(tiny)).model.eval()
    with torch.no_grad():
        said = task.answers(model, rows.input_ids, rows.targets)
    assert len(said[0].predicted) == 23
    assert said[0].predicted[1] == said[0].predicted[-1] == -1
    assert said[0].weight == len(first["words"])


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


# Labels and waiting


def test_labels_that_are_rare_stay_among_the_training_rows(plan_of: MakePlan, tiny: Path, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "topics": ["usual"] + (["rare"] if i in (7, 9) else [])} for i in range(40)]
    data = plan_of("multi_label", tiny).data
    for seed in range(6):
        change = {"train": written(tmp_path / "rows.jsonl", iter(rows)), "eval": None, "split_seed": seed}
        parts = split(data.model_copy(update=change | {"held_out_rows": 8, "validation_rows": 8}), "multi_label")
        assert any("rare" in row for row in parts.train.items or [])


def test_weights_make_a_rare_label_count_more_but_not_as_much_as_its_absence(plan_of: MakePlan, tiny_still: Path) -> None:
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


def test_waiting_begins_with_the_first_thing_found(tiny: Path, make_plan: MakePlan) -> None:
    """While the F1 is 0 a falling loss counts as a gain, beside what a head of random weights hits by chance too (seen: 0.007 at
    step 3 of 28 outdid all that was learned); of equal ones the surer is better."""
    plan = make_plan(tiny).model_copy(update={"metric": "span_f1"})
    course = [(0.007, 2.8), (0.0, 2.0), (0.0, 1.5), (0.01, 1.4), (0.2, 1.3), (0.2, 1.0), (0.201, 1.0)]
    choices = [choice_of(plan, {"span_f1": f1, "loss": loss}) for f1, loss in course]
    assert choices == sorted(choices)
    assert min(after - before for before, after in itertools.pairwise(choices)) > 0.0005


@pytest.mark.parametrize("decoder", [False, True])
def test_pairs_are_read_with_what_the_tokenizer_puts_between_them(
    make_plan: MakePlan, tiny: Path, tiny_chat: Path, tmp_path: Path, decoder: bool
) -> None:
    rows = [{"premise": "late " * n, "hypothesis": "parcel " * 3, "score": n / 4} for n in range(1, 30)]
    columns = {"text": "premise", "text_pair": "hypothesis", "label": "score"}
    data = {"train": written(tmp_path / "rows.jsonl", iter(rows)), "layout": "text_number", "columns": columns, "labels": None}
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
    assert max(map(len, found.input_ids)) == 16
    assert found.rows_cut == sum(len(tokenizer(*p)["input_ids"]) > 16 for p in pairs) or decoder
    end = tokenizer.decode(padded(found.input_ids[-1:], 0, "cpu")["input_ids"][0]).count("parcel")
    assert decoder or end == 3, "the longer text is cut, not always the second"
