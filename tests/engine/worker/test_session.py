"""A run from plan to report: which rows serve for what, what is kept, and going on after damage."""

import gc
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import checkpoints
from engine.events import EventWriter
from engine.files import read_json, sha256_of, write_json
from engine.loading import split
from engine.new_run import create
from engine.rows import Rows, key_of
from engine.rundir import RunDirectory
from engine.worker import modeling, resuming, session, training
from engine.worker.modeling import build, load_tokenizer
from engine.worker.tasks.base import Encoded
from engine.worker.tasks.registry import task_of
from engine.worker.trainer import LogicalBatchTrainer
from engine.worker.training import suggested_rate
from engine.worker.watch import Watch
from recommender.decide import recommend
from recommender.errors import InputError, TrainingFailed
from recommender.facts import Device, Facts, Machine, Measured
from recommender.plan import Plan
from recommender.traced import as_facts
from recommender.variants import step_of
from tests.conftest import make_plan, weights
from tests.engine.worker.conftest import Finished, Here, unfinished
from tests.engine.worker.inside import events


def test_before_and_after_are_scored_on_the_same_rows(finished: Finished) -> None:
    run = finished("full")
    kept = {name: read_json(run.scores / f"{name}.json") for name in ("before", "after", "probe", "majority")}
    assert len({tuple(content["truth"]) for content in kept.values()}) == 1
    parts = split(run.plan().data)
    assert [parts.labels[i] for i in kept["after"]["truth"]] == parts.held_out.labels
    report = run.report() or {}
    assert report["rows"] == {"train": len(parts.train), "validation": 24, "held_out": 40}
    for name, content in kept.items():
        right = sum(t == p for t, p in zip(content["truth"], content["predicted"], strict=True)) / 40
        assert report["scores"][name]["accuracy"] == pytest.approx(right)
    assert [e["split"] for e in events(run, "evaluation") if e["split"] != "validation"] == [
        "before", "majority", "after", "probe",
    ]  # fmt: skip


def test_texts_to_train_on_are_let_go_once_they_are_tokens(tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tiny, "full")
    held: list[int] = []

    def with_texts() -> list[Rows]:
        return [found for found in gc.get_objects() if isinstance(found, Rows) and any(found.texts)]

    def before_the_training(*_: Any) -> None:
        held.extend(len(rows) for rows in with_texts() if not any(rows is one for one in others))
        raise TrainingFailed("enough")

    others = with_texts()
    monkeypatch.setattr(session, "Training", before_the_training)
    with pytest.raises(TrainingFailed):
        run_here(plan)
    assert sorted(held) == [24, 40]


def test_the_same_validation_rows_are_shown_at_every_evaluation(finished: Finished) -> None:
    run = finished("full")
    parts = split(run.plan().data)
    known = dict(zip(parts.validation.texts, parts.validation.labels, strict=True))
    steps = [e["step"] for e in events(run, "evaluation") if e["split"] == "validation"]
    shown = [e for e in events(run, "sample") if e["split"] == "validation"]
    assert [e["step"] for e in shown if e["number"] == 0] == steps
    for number in range(6):
        told = [e for e in shown if e["number"] == number]
        assert len({e["prompt"] for e in told}) == 1
        assert all(e["wanted"] == known[e["prompt"]] and e["answer"] in parts.labels for e in told)
    assert len({e["wanted"] for e in shown}) == min(6, len(set(known.values())))


def test_only_training_rows_are_trained_on_each_once_an_epoch(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared = "Where is my parcel, it was due on Monday"
    train, held_out = tmp_path / "train.csv", tmp_path / "held-out.csv"
    rows = [f"text {i} about {'money' if i % 2 else 'parcels'},{'pay' if i % 2 else 'ship'}" for i in range(60)]
    train.write_text("\n".join(["text,label", *rows, f'"{shared}",ship']) + "\n")
    held_out.write_text(f'text,label\n"  {shared.upper()} ",ship\na refund please,pay\n')
    seen: list[tuple[int, ...]] = []
    step = LogicalBatchTrainer.training_step

    def spy(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        seen.extend(tuple(ids) for ids in inputs.input_ids)
        return step(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(LogicalBatchTrainer, "training_step", spy)
    data = {"train": str(train), "eval": str(held_out), "labels": None, "train_rows": None, "eval_rows": None}
    plan = make_plan(tiny, data=data | {"validation_rows": 12}, epochs=3)
    run_here(plan)

    parts = split(plan.data)
    tokenizer = load_tokenizer(str(tiny))

    def ids(rows: Rows) -> set[tuple[int, ...]]:
        return {tuple(i) for i in task_of(plan, parts.labels).encode(tokenizer, rows).input_ids}

    trained, validation, shown = ids(parts.train), ids(parts.validation), ids(parts.held_out)
    assert Counter(seen) == dict.fromkeys(trained, 3)
    assert not trained & (validation | shown)
    assert len(validation) == 12
    assert key_of(shared) not in {key_of(t) for t in parts.train.texts}


def test_the_same_plan_gives_the_same_model_and_another_seed_another(finished: Finished, tiny: Path, run_here: Here) -> None:
    plan = make_plan(tiny)
    assert weights(run_here(plan)) == weights(finished("full"))
    assert weights(run_here(plan.model_copy(update={"seed": 2}))) != weights(finished("full"))


def test_of_checkpoints_that_get_as_many_right_the_surer_one_is_the_best(finished: Finished) -> None:
    report = finished("full").report() or {}
    by_step = {v["step"]: (v["macro_f1"], -v["loss"]) for v in report["validation"]}
    assert by_step[report["best_step"]] == max(by_step.values())


def test_the_best_weights_are_saved_and_not_loaded_beside_the_memory_of_the_steps(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[int] = []
    load = LogicalBatchTrainer.load_weights

    def watched(trainer: Any, checkpoint: Path) -> None:
        beside.append(sum(p.grad is not None for p in trainer.model.parameters()) + len(trainer.optimizer.state))
        load(trainer, checkpoint)

    monkeypatch.setattr(LogicalBatchTrainer, "load_weights", watched)
    values = iter((0.1, 0.5, 0.4, 0.3, 0.2, 0.1))
    monkeypatch.setattr(training, "choice_of", lambda plan, found: next(values))
    run = run_here(make_plan(tiny, epochs=1, evaluations=6))
    assert beside == [0]
    assert (run.report() or {})["best_step"] == 4
    best, last = (sha256_of(run.checkpoints / f"step-{step}" / "model.safetensors") for step in (4, 12))
    assert sha256_of(run.model / "model.safetensors") == best != last


def test_early_stopping_ends_a_training_that_brings_nothing(tiny: Path, run_here: Here) -> None:
    plan = make_plan(tiny, learning_rate=1e-12, early_stopping=True, patience=2, evaluations=10)
    run = run_here(plan)
    report = run.report() or {}
    assert report["stopped_early"]
    (begun,) = events(run, "run")
    assert (begun["stops_early"], begun["evaluations"], begun["checkpoints"]) == (True, 10, 10), "by which what is left is told"
    assert report["steps"] < report["total_steps"]
    (told,) = events(run, "stopped_early")
    assert told["step"] == report["steps"], "the log says why it ended"


def test_without_held_out_rows_the_report_says_that_nothing_is_known(tiny: Path, run_here: Here) -> None:
    run = run_here(make_plan(tiny, data={"eval": None, "eval_rows": None, "held_out_rows": 0}, epochs=0.2))
    report = run.report() or {}
    assert report["scores"] == {}
    assert report["statements"] == ["No rows were held out, so the gain is unknown."]
    assert "no_held_out" in [w["code"] for w in events(run, "warning")]
    assert (run.model / "model.safetensors").is_file()


def test_class_weights_and_smoothing_train_and_what_was_said_beforehand_is_kept(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"memory": 123_456_789, "seconds": 77.0, "step": 0.5, "available": 9 * 10**9}
    monkeypatch.setattr(session, "_expected", lambda run, plan: said)
    run = run_here(make_plan(tiny, class_weights=True, label_smoothing=0.1, epochs=0.5, max_length=12))
    report = run.report() or {}
    assert report["steps"] == 6
    told = [w for w in events(run, "warning") if w["code"] == "rows_cut"]
    assert [w["facts"]["use"] for w in told] == ["train", "validation", "held_out"], "nothing is cut in silence"
    assert {w["text"] for w in told} <= set(report["warnings"])
    (begun,), (tried,) = events(run, "run"), events(run, "preflight")
    assert begun["stops_early"] is False
    assert [begun[k] for k in ("predicted_memory", "predicted_seconds", "memory_available")] == [123_456_789, 77.0, 9 * 10**9]
    assert tried["predicted"] == report["memory"]["predicted"] == 123_456_789
    assert (report["seconds"]["predicted"], report["step"]["predicted"]) == (77.0, 0.5)


@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json"])  # each of them, cut anywhere: journeys/test_faults.py
def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    finished: Finished, run_here: Here, tmp_path: Path, file: str
) -> None:
    """Left to itself the Trainer dies of some of these and goes on silently different after the others."""
    run = unfinished(finished("full"), tmp_path)
    newest = run.checkpoints / "step-24"
    content = bytearray((newest / file).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / file).write_bytes(content)
    run_here(run.plan(), again=run)

    assert weights(run) == weights(finished("full"))
    last = events(run, "run")[-1]
    assert (last["resumed_from"], last["resume"]) == (16, "exact")
    assert file in next(w["text"] for w in events(run, "warning") if w["code"] == "damaged_checkpoint")
    assert (run.checkpoints / "quarantine-step-24-1").is_dir()
    losses = [s["loss"] for s in events(finished("full"), "step")]
    assert run.state().losses == list(enumerate(losses, 1))


def test_a_run_killed_while_saving_its_result_only_saves_and_scores(finished: Finished, run_here: Here, tmp_path: Path) -> None:
    original = finished("lora")
    run = unfinished(original, tmp_path)
    shutil.copy(original.checkpoints / checkpoints.FINISHED, run.checkpoints / checkpoints.FINISHED)
    (run.path / ".model").mkdir()
    (run.path / ".model" / "half").write_text("")
    run_here(run.plan(), again=run)
    assert weights(run) == weights(original)
    for kind in ("step", "preflight"):
        assert len(events(run, kind)) == len(events(original, kind))
    assert [e["split"] for e in events(run, "evaluation")][-2:] == ["probe", "after"], "what was scored is not scored again"
    assert not (run.model / "half").exists()
    assert (run.report() or {})["scores"] == (original.report() or {})["scores"]


def test_what_a_run_has_kept_and_cannot_read_any_more_is_made_again(finished: Finished, run_here: Here, tmp_path: Path) -> None:
    original = finished("full")
    run = unfinished(original, tmp_path)
    (run.checkpoints / checkpoints.FINISHED).write_text("")
    os.truncate(run.scores / "before.json", 100)
    run_here(run.plan(), again=run)
    assert weights(run) == weights(original)
    assert len(events(run, "step")) == len(events(original, "step"))
    damaged = [e["facts"]["file"] for e in events(run, "warning") if e["code"] == "damaged_file"]
    assert damaged == ["before.json", "finished.json"]
    report, expected = run.report() or {}, original.report() or {}
    assert {k: report[k] for k in ("scores", "gains", "fit")} == {k: expected[k] for k in ("scores", "gains", "fit")}


def test_a_lost_best_checkpoint_is_said_and_the_newest_is_used(finished: Finished, run_here: Here, tmp_path: Path) -> None:
    original = finished("full")
    run = unfinished(original, tmp_path)
    facts = read_json(original.checkpoints / checkpoints.FINISHED)
    of_the_lost = {"training_loss": 99.0, "rows": 1}
    (run.checkpoints / checkpoints.FINISHED).write_text(json.dumps(facts | {"best_step": 16, "fit": of_the_lost}))
    (run.checkpoints / "step-16" / "model.safetensors").write_bytes(b"")
    run_here(run.plan(), again=run)
    assert "step-24 is used instead" in events(run, "warning")[-1]["text"]
    kept = load_file(run.checkpoints / "step-24" / "model.safetensors")
    assert all(torch.equal(w, kept[n]) for n, w in load_file(run.model / "model.safetensors").items())
    report = run.report() or {}
    assert report["best_step"] == 24
    assert report["fit"]["training_loss"] < 99


def test_once_the_result_is_saved_no_checkpoint_is_needed(finished: Finished, run_here: Here, tmp_path: Path) -> None:
    original = finished("full")
    run = RunDirectory(tmp_path / "copied")
    shutil.copytree(original.path, run.path)
    run.report_file.unlink()
    for checkpoint in checkpoints.listed(run.checkpoints):
        (checkpoint / "model.safetensors").write_bytes(b"")
    run_here(run.plan(), again=run)
    assert "best_lost" not in [e["code"] for e in events(run, "warning")]
    report, expected = run.report() or {}, original.report() or {}
    assert {k: report[k] for k in ("best_step", "fit", "scores")} == {k: expected[k] for k in ("best_step", "fit", "scores")}
    shutil.rmtree(run.model)
    with pytest.raises(InputError, match="no other checkpoint is intact; start the run again"):
        run_here(run.plan(), again=run)
    assert not (run.checkpoints / checkpoints.FINISHED).exists()


def test_a_full_disk_ends_the_training_with_a_sentence_and_sound_checkpoints(
    tiny: Path, run_here: Here, begin: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny)
    run = begin(plan)
    usage = shutil.disk_usage(run.path)
    free = iter([usage.free, usage.free])  # for preflight, and for the first checkpoint

    def filling(path: Any) -> Any:
        return usage._replace(free=next(free, 1000))

    monkeypatch.setattr(shutil, "disk_usage", filling)
    with pytest.raises(TrainingFailed, match=r"needs about .* is free.*loracle resume"):
        run_here(plan, again=run)
    assert [checkpoints.damage(c) for c in checkpoints.listed(run.checkpoints)] == [None]


def test_a_changed_model_is_noticed(tiny: Path, run_here: Here) -> None:
    plan = make_plan(tiny)
    with pytest.raises(InputError, match="the model has changed since the plan was made"):
        run_here(plan.model_copy(update={"model": plan.model.model_copy(update={"fingerprint": "0" * 64})}))


def test_a_model_full_of_nan_ends_before_training(tiny: Path, run_here: Here, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    held = load_file(folder / "model.safetensors")
    held["embeddings.LayerNorm.weight"].fill_(float("nan"))
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingFailed, match="not numbers before any training: its weights are damaged") as told:
        run_here(make_plan(folder))
    assert (told.value.cure, told.value.setting) == ("Download the model again.", None)


@pytest.mark.parametrize(
    ("model", "method"),
    [pytest.param("tiny_llama", "full", marks=pytest.mark.faults), ("tiny_llama", "qlora"), ("tiny_roberta", "lora")],
)
def test_other_architectures_go_all_the_way(request: pytest.FixtureRequest, run_here: Here, model: str, method: str) -> None:
    run = run_here(make_plan(request.getfixturevalue(model), method, epochs=0.4))
    report = run.report() or {}
    assert set(report["scores"]) == {"before", "after", "probe", "majority"}
    assert report["steps"] == 5
    assert report["scores"]["after"]["loss"] > 0


def test_stopping_again_and_again_changes_nothing(
    finished: Finished, run_here: Here, begin: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = finished("full").plan()
    run = begin(plan)
    write = EventWriter.write

    def watching(self: EventWriter, kind: str, **fields: Any) -> Any:
        if kind == "step" and fields["step"] in (2, 10):
            run.ask("stop")  # while that step ends, so that the next one is the last
        return write(self, kind, **fields)

    begins: list[int] = []
    look = Watch.begin

    def looking(self: Watch, step: int) -> None:
        begins.append(step)
        look(self, step)

    monkeypatch.setattr(Watch, "begin", looking)
    monkeypatch.setattr(EventWriter, "write", watching)
    for _ in range(3):
        assert run.report() is None
        (run.control / "stop").unlink(missing_ok=True)
        run_here(plan, again=run)
    assert weights(run) == weights(finished("full"))
    assert [e["resumed_from"] for e in events(run, "run")] == [None, 3, 11]
    assert begins == [0, 3, 11], "from where the health watch knows what was shown and told before"
    assert run.state().losses == finished("full").state().losses


def test_running_out_of_memory_lowers_the_budget_and_the_run_goes_on(
    tiny: Path, run_here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "build", _built_with_little_memory)
    plan = make_plan(tiny, token_budget=100_000, epochs=1)
    run = run_here(plan)
    recoveries = events(run, "recovery")
    assert recoveries[0]["before"] == {"token_budget": 100_000}
    assert "Memory ran out" in recoveries[0]["text"]
    budget = recoveries[-1]["after"]["token_budget"]
    assert budget <= 150
    assert (run.report() or {})["recoveries"] == [e["text"] for e in recoveries]
    monkeypatch.undo()
    assert weights(run_here(plan.model_copy(update={"token_budget": budget}))) == weights(run)
    again = unfinished(run, tmp_path)
    shutil.rmtree(next(checkpoints.listed(again.checkpoints)))  # as if killed before the last one
    assert weights(run_here(plan, again=again)) == weights(run), "what was come down to is kept by a resumed run"
    assert len(events(again, "recovery")) == len(recoveries)


def _built_with_little_memory(*args: Any) -> Any:
    built = build(*args)

    def before(module: Any, positional: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].numel() > 150:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    built.model.register_forward_pre_hook(before, with_kwargs=True)
    return built


def test_what_a_run_was_said_to_take_is_of_its_own_settings(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((Path(__file__).parents[2] / "recommender" / "facts_example.json").read_text())
    facts = Facts.model_validate(content)
    advice = recommend(facts)
    advised = advice.candidate("lora").settings
    same = [name for name in type(advised).model_fields if name in Plan.model_fields]
    plan = make_plan(tiny, "lora", **{name: getattr(advised, name) for name in same})
    short = plan.model_copy(update={"max_length": 16, "effective_batch": 2})
    uncounted = session._expected(create(tmp_path / "by-a-formula", plan, advice, facts), plan)
    assert (uncounted["memory"], uncounted["available"]) == (None, advice.candidate("lora").memory.available)
    steps = [as_facts(step_of(facts, "lora", p), peak, {"weights": peak}) for p, peak in ((plan, 10**9), (short, 10**8))]
    facts = facts.model_copy(update={"measured": Measured(memory_profile={"steps": steps})})
    advice = recommend(facts)
    said = [session._expected(create(tmp_path / name, p, advice, facts), p) for name, p in (("as-advised", plan), ("own", short))]
    assert said[0]["memory"] == advice.candidate("lora").memory.predicted
    assert said[1]["memory"] == said[0]["memory"] - 9 * 10**8
    assert said[1]["seconds"] != said[0]["seconds"]
    without = create(tmp_path / "run-from-a-file", plan, None, facts)
    assert suggested_rate(without, "lora") == advised.learning_rate, "as the warning beside the plan has it"
    monkeypatch.setattr(session, "counted_by", lambda: "allocator")  # a GPU's, which does not count its context
    on_a_gpu = session._expected(create(tmp_path / "gpu", plan, advice, facts), plan)
    assert said[0]["memory"] - on_a_gpu["memory"] == advice.candidate("lora").memory.parts["runtime"] > 10**8


@pytest.mark.parametrize(("device", "now", "told"), [("NVIDIA L4", "cpu", 1), ("NVIDIA L4", "cuda", 0), ("cpu", "cpu", 0)])
def test_a_run_that_goes_on_without_its_gpu_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, now: str, told: int
) -> None:
    write_json(tmp_path / "loracle.json", {"device": device})
    monkeypatch.setattr(checkpoints, "newest_sound", lambda folder: (tmp_path, []))
    monkeypatch.setattr(session, "device_name", lambda: now)
    warned: list[str] = []

    def warn(code: str, text: str, device: str) -> None:
        warned.append(f"{code} {device}")

    here: Any = SimpleNamespace(checkpoints=tmp_path, scores=tmp_path, method="full", warn=warn)
    session.Session(here, here, here, here)._earlier_life()
    assert warned == ["gpu_gone NVIDIA L4"] * told
    monkeypatch.setattr(checkpoints, "newest_sound", lambda folder: (None, []))  # a run that begins, planned for such a card
    machine = Machine(backend="cuda", devices=(Device(name=device),)) if device != "cpu" else Machine()
    monkeypatch.setattr(session, "advised", lambda run, method: (SimpleNamespace(machine=machine), None))
    session.Session(here, here, here, here)._earlier_life()
    assert warned == ["gpu_gone NVIDIA L4"] * 2 * told


def test_a_resume_is_exact_only_with_the_same_threads_device_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Encoded([[1, 2], [3]], [0, 1], [0, 1])
    note = resuming.environment_note(train)
    assert resuming.compare(note, train) == "exact"
    assert resuming.compare(note | {"threads": 99}, train) == f"approximate: threads was 99, is {note['threads']}"
    assert resuming.compare(note | {"device": "T4"}, train) == f"approximate: device was T4, is {note['device']}"
    older = note | {"versions": note["versions"] | {"torch": "1.0"}}
    assert resuming.compare(older, train) == f"approximate: torch was 1.0, is {note['versions']['torch']}"
    unsaid = note | {"versions": {name: v for name, v in note["versions"].items() if name != "loracle"}}
    assert resuming.compare(unsaid, train) == f"approximate: loracle was not noted, is {note['versions']['loracle']}"
    other = resuming.compare(note, Encoded([[1, 2], [4]], [0, 1], [0, 1]))
    assert other.startswith("approximate: texts are other tokens (the tokenizer has changed")
    assert resuming.compare({k: v for k, v in note.items() if k != "tokens"}, train) == "exact"  # as it was noted before
    monkeypatch.setattr(modeling, "device_label", lambda: note["device"])
    monkeypatch.setattr(modeling, "device_name", lambda: "cuda")
    assert resuming.compare(note, train) == "approximate: a GPU adds up in no fixed order"
