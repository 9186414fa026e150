"""The saved result is usable by anybody, without Loracle."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData

from engine.events import read_events
from engine.files import read_json, write_json
from engine.loading import split
from engine.metrics.registry import kind_of
from engine.rundir import RunDirectory
from engine.worker import export
from engine.worker.card_scores import Scored, results, section
from engine.worker.control import StopNow
from engine.worker.held_out import HeldOut
from engine.worker.merge import merge
from recommender.plan import DataChoice
from tests.conftest import make_plan
from tests.engine.worker.conftest import Finished, Here, card_code, unfinished

METHODS = ("full", "lora", "qlora")
SHOWN = 6
"""Held-out texts that the card's own code classifies."""


@dataclass(frozen=True)
class CardSaid:
    """What a card's own code printed."""

    lines: list[str]
    modules: set[str]
    """Names of all packages that were loaded when it was done."""


def said_by_cards(programs: dict[Path, str]) -> list[CardSaid]:
    """Run each program in its model's folder, with nothing of Loracle loaded: one after another in one fresh process."""
    text = """
import contextlib, io, json, os, sys
for folder, program in json.load(sys.stdin).items():
    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(program, {"__name__": "__main__"})
    print(json.dumps([said.getvalue().splitlines(), sorted({n.split(".")[0] for n in sys.modules})]))
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    given = json.dumps({str(folder): program for folder, program in programs.items()})
    done = subprocess.run(
        [sys.executable, "-P", "-c", text],
        input=given, env=env, cwd="/", capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [CardSaid(lines, set(modules)) for lines, modules in map(json.loads, done.stdout.splitlines())]


def card_of(run: RunDirectory) -> Any:
    """The model's card, as the hub reads it."""
    return ModelCard((run.model / "README.md").read_text())


def stopped(*_: object) -> None:
    """As by a second Ctrl-C."""
    raise StopNow


@pytest.fixture(scope="module")
def said(finished: Finished) -> dict[str, CardSaid]:
    """What each method's card printed for the first held-out texts and one that is too long."""
    programs = {}
    for run in map(finished, METHODS):
        loading, use = card_code(run)
        texts = split(run.plan().data).held_out.texts[:SHOWN]
        long = "print(tokenizer.model_max_length, len(tokenizer('many words ' * 500, truncation=True).input_ids))"
        piped = f"""
from transformers import pipeline
print(pipeline("text-classification", model=model, tokenizer=tokenizer)({texts[0]!r})[0]["label"])"""
        programs[run.model] = "\n".join([loading, *(use.replace('"a text"', repr(text)) for text in texts), long, piped])
    return dict(zip(METHODS, said_by_cards(programs), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_cards_own_code_gives_the_reports_predictions(finished: Finished, said: dict[str, CardSaid], method: str) -> None:
    """In the model's folder, with nothing of Loracle loaded, for six classes."""
    run, card = finished(method), said[method]
    labels = split(run.plan().data).labels
    assert len(labels) == 6
    predicted = read_json(run.scores / "after.json")["predicted"][:SHOWN]
    assert card.lines == [*(labels[i] for i in predicted), "48 48", labels[predicted[0]]]
    assert not card.modules & {"engine", "tui", "recommender", "loracle"}
    assert ("peft" in card.modules) == (method != "full")


@pytest.mark.parametrize("method", METHODS)
def test_nothing_private_or_pickled_is_saved(finished: Finished, method: str) -> None:
    run = finished(method)
    names = {p.name for p in run.path.rglob("*") if p.is_file()}
    assert "training_args.bin" not in names
    saved = [p for p in run.model.rglob("*") if p.is_file()]
    assert not [p.name for p in saved if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    words = [str(run.path), *(str(parent) for parent in list(run.path.parents)[:-2]), str(Path.home())]
    naming = {p.name for p in saved if any(w.encode() in p.read_bytes() for w in words)}
    # A local base has no other name than its path, and without it nothing would load.
    assert naming == (set() if method == "full" else {"adapter_config.json"})


@pytest.mark.parametrize("method", METHODS)
def test_labels_and_settings_are_saved_with_the_weights(finished: Finished, method: str) -> None:
    run = finished(method)
    parts = split(run.plan().data)
    config = read_json(run.model / "config.json")
    assert [config["id2label"][str(i)] for i in range(6)] == parts.labels
    assert "quantization_config" not in config
    tokenizer = read_json(run.model / "tokenizer.json")
    assert (tokenizer["truncation"]["max_length"], tokenizer["padding"]) == (48, None), "whoever serves it reads as it learned"
    card = (run.model / "README.md").read_text()
    assert all(f"- `{label}`" in card for label in parts.labels)
    assert "learning rate 0.001" in card
    assert "strip() yours" in card, "to a decoder a space behind a text is another text"
    assert ("may call its head newly initialized" in card) == (method != "full")
    assert ("rounds to it" in card) == (method == "qlora"), "the scores are not what such a CPU computes"
    assert read_json(run.model / "loracle.json")["method"] == method


@pytest.mark.parametrize("method", METHODS)
def test_a_card_tells_people_and_programs_what_the_report_tells_of_its_scores(finished: Finished, method: str) -> None:
    run = finished(method)
    report, card = run.report() or {}, card_of(run)
    before, after = report["scores"]["before"], report["scores"]["after"]
    rows, file, gain = report["rows"]["held_out"], Path(run.plan().data.eval or "").name, report["gains"]["before"]["accuracy"]
    assert f"On {rows} held-out rows of `{file}`" in card.text
    assert f"| accuracy | {before['accuracy']:.3f} | {after['accuracy']:.3f} | {100 * gain['gain']:+.1f} points (" in card.text
    assert f"| loss | {before['loss']:.3f} | {after['loss']:.3f} | {after['loss'] - before['loss']:+.3f} (" in card.text
    assert all(f"- {said}\n" in card.text.replace("\\", "") for said in report["statements"])
    told = {r.metric_name: (r.metric_type, r.metric_value, r.dataset_type, r.dataset_name) for r in card.data.eval_results or ()}
    types = {"accuracy": "accuracy", "macro_f1": "f1", "loss": "loss"}
    assert list(told.values()) == [(kind, after[name], "unknown", file) for name, kind in types.items()]
    assert (card.data.tags, card.data.pipeline_tag) == (["loracle", method], "text-classification")


def test_a_run_that_ends_between_saving_and_scoring_leaves_a_card_without_scores(
    finished: Finished, run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = unfinished(finished("full"), tmp_path)
    with monkeypatch.context() as now:
        now.setattr(HeldOut, "score_after", stopped)
        with pytest.raises(StopNow):
            run_here(run.plan(), again=run)
    card = card_of(run)
    assert "had not been scored yet" in card.text
    assert not card.data.eval_results
    run_here(run.plan(), again=run)
    assert str(card_of(run)) == str(card_of(finished("full")))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("/secret/a`b: [x](y)\n\x1b[2J# \U0001f600.csv", ("unknown", "a`b: [x](y) \\x1b[2J# \U0001f600.csv", None, None)),
        (f"/datasets--org--set/snapshots/{'a1' * 20}/test-1.csv", ("org/set", "org/set, test-1.csv", "test", "a1" * 20)),
    ],
)
def test_a_card_names_the_rows_of_its_scores_so_that_the_hub_takes_it(place: str, told: tuple[str | None, ...]) -> None:
    """The hub refuses a card whose data set is called by what cannot be an id."""
    kind, choice = kind_of("classification", ["<b>"]), DataChoice.model_construct(train="/t/train.csv", eval=place)
    scored = Scored({"after": {"accuracy": 0.5, "loss": 1.0}}, {}, ["The model predicts <b>_x_ for every held-out row"])
    said = ModelCardData(model_name=told[1], eval_results=results(kind, choice, "text-classification", scored)).to_yaml()
    card: Any = ModelCard(f"---\n{said}\n---\n")
    found = card.data.eval_results
    assert [(r.dataset_type, r.dataset_name, r.dataset_split, r.dataset_revision) for r in found] == [told] * 2
    text = section(kind, choice, 7, scored)
    assert "secret" not in text
    assert "\x1b" not in text
    assert "\\<b\\>\\_x\\_" in text
    assert text.count("`") == 2
    assert "| accuracy |  | 0.500 |  |" in text


def test_a_result_gets_its_name_once_all_of_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or after a power cut there would be a result, of which nothing was flushed, and which nobody writes again."""
    run, done, rename = RunDirectory(tmp_path), list[object](), Path.rename
    (tmp_path / ".model").mkdir()
    (tmp_path / ".model" / "half").touch()  # of a worker that was killed

    def write(beside: Path, *_: object, **__: object) -> None:
        (beside / "weights").write_text("all")
        done.append([path.name for path in beside.iterdir()])

    def renamed(path: Path, target: Path) -> Path:
        done.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(export, "_write", write)
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_ino))
    monkeypatch.setattr(Path, "rename", renamed)
    unread: Any = None
    for _ in range(2):  # the second time it is there
        export.save(run, unread, unread, tokenizer=None, parts=unread, base="")
    weights, folder, root = ((tmp_path / name).stat().st_ino for name in ("model/weights", "model", "."))
    assert done == [["weights"], weights, folder, "model", root]


def test_an_adapter_names_its_base_where_others_find_it(tmp_path: Path, tiny: Path) -> None:
    plan = make_plan(tiny, "lora")
    hub = plan.model_copy(update={"model": plan.model.model_copy(update={"id": "org/model", "revision": "abc"})})
    for made, named in ((plan, ("/here/tiny", None)), (hub, ("org/model", "abc"))):
        write_json(tmp_path / "adapter_config.json", {"target_modules": ["b", "a"], "base_model_name_or_path": "/a/snapshot"})
        export._name_base(tmp_path, made, "/here/tiny")
        kept = read_json(tmp_path / "adapter_config.json")
        assert (kept["base_model_name_or_path"], kept["revision"]) == named
        assert kept["target_modules"] == ["a", "b"]


def test_a_hub_model_is_named_by_its_id(finished: Finished) -> None:
    from engine.worker.card import model_card
    from engine.worker.modeling import Built
    from engine.worker.tasks.registry import task_of

    run = finished("lora")
    plan = run.plan()
    hub = plan.model_copy(update={"model": plan.model.model_copy(update={"id": "org/model`](evil)"})})
    parts = split(plan.data)
    built = Built(None, ["classifier"], parameters=0, trained=0)
    card = model_card(task_of(hub, parts.labels), parts, built, "/secret/cache/snapshots/abc")
    told: Any = ModelCard(card).data
    assert told.base_model == "org/model`](evil)"
    assert "/secret" not in card
    assert "a line each" not in card
    both = plan.model_copy(update={"data": plan.data.model_copy(update={"text_column": "subject+body"})})
    card = model_card(task_of(both, parts.labels), parts, built, "/base")
    assert "\nA text is the columns subject+body of the training file, a line each.\n" in card


def test_a_result_is_the_base_of_a_run_with_other_classes(
    finished: Finished, run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head for six classes gives way to one for three: in the run, in the card's code and in a merged model."""
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nboth,a\nboth,b\n" + "".join(f"number {i} is {'abc'[i % 3]},{'abc'[i % 3]}\n" for i in range(48)))
    (tmp_path / "held-out.csv").write_text("text,label\nno label,\n" + "".join(f"it is {x},{x}\n" for x in "abc"))
    data = {"train": str(rows), "eval": str(tmp_path / "held-out.csv"), "labels": list("abc"), "drop_conflicts": True}
    plan = make_plan(finished("full").model, "lora", data=data, epochs=0.5, evaluations=1)
    run = run_here(plan)
    said = [event["text"] for event in read_events(run.events) if event["kind"] == "warning"]
    assert "The model's own head has 6 outputs and 3 are needed: a new one is trained." in said
    assert read_json(run.report_file)["left_out"] == [
        "2 rows whose text also appears with another label were left out.",
        "One row of the held-out file had nothing to read, or nothing to learn, and was left out.",
    ]
    monkeypatch.chdir(run.model)
    names: dict[str, Any] = {}
    exec(card_code(run)[0], names)
    assert names["model"].config.id2label == dict(enumerate("abc"))
    assert merge(run, tmp_path / "merged", lambda doing: None)["difference"] < 1e-3
