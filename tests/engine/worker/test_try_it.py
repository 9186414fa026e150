"""Asking a result and its base, side by side: in this process, and through the child."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from engine.files import read_json
from engine.loading import split
from engine.rundir import RunDirectory
from engine.trying import Trial as Asking
from engine.worker import export
from engine.worker.budget import TokenBudget
from engine.worker.generating import write
from engine.worker.modeling import build, load_tokenizer
from engine.worker.scoring import Reader
from engine.worker.tasks.registry import task_of
from engine.worker.try_it import NEW_TOKENS, Trial, serve
from recommender.errors import InputError
from recommender.plan import Plan
from tests.conftest import put_rows
from tests.engine.worker.conftest import Finished
from tests.engine.worker.writing import plan_of

SOME = 6


def silent(side: str, words: str) -> None:
    raise AssertionError("a classifier writes nothing bit by bit")


@pytest.mark.parametrize("method", [pytest.param("full", marks=pytest.mark.faults), "lora"])
def test_both_say_what_they_said_in_the_run(finished: Finished, method: str) -> None:
    run = finished(method)
    parts = split(run.plan().data)
    trial = Trial(run)
    answers = [trial.answer(text, silent) for text in parts.held_out.texts[:SOME]]
    for side, kept in (("tuned", "after"), ("base", "before")):
        predicted = read_json(run.scores / f"{kept}.json")["predicted"][:SOME]
        assert [a[side]["text"] for a in answers] == [parts.labels[i] for i in predicted]
    shares = answers[0]["tuned"]["shares"]
    assert len(shares) == 3
    assert shares[0][0] == answers[0]["tuned"]["text"]
    assert shares[0][1] >= shares[1][1] >= shares[2][1]


def test_a_text_without_a_tag_is_answered_with_nothing(tiny: Path) -> None:
    trial: Any = object.__new__(Trial)
    trial.tokenizer, trial.task = load_tokenizer(str(tiny)), SimpleNamespace(labels=["O", "B-place"], family="encoder")
    trial.plan = SimpleNamespace(task="token_classification", max_length=32)
    for tag, said in ((0, ""), (1, "where/B-place is/B-place it/B-place")):
        logits = torch.nn.functional.one_hot(torch.full((1, 32), tag), 2)
        model = Mock(return_value=SimpleNamespace(logits=logits))
        assert trial._ask(model, "where is it", print) == {"text": said, "shares": []}


def test_a_model_that_writes_tells_what_it_has_so_far(
    tiny_chat: Path, begin: Callable[[Plan], RunDirectory], tmp_path: Path
) -> None:
    """Word by word what it is scored by, whatever tastes its own settings have."""
    folder = tmp_path / "tastes"
    shutil.copytree(tiny_chat, folder)
    blank = [*range(4), *load_tokenizer(str(folder)).encode("\n")]  # it would write nothing else
    own = json.loads((folder / "generation_config.json").read_text())
    own |= {"do_sample": True, "temperature": 9.0, "suppress_tokens": blank}
    (folder / "generation_config.json").write_text(json.dumps(own))
    plan = plan_of(folder, "lora")
    run, tokenizer = begin(plan), load_tokenizer(str(folder))
    task = task_of(plan, [], tokenizer.pad_token_id)
    parts, built = split(plan.data, plan.task), build(task, str(folder))
    export.save(run, task, built, tokenizer=tokenizer, parts=parts, base=str(folder))
    told: list[tuple[str, str]] = []
    trial = Trial(run)
    found = trial.answer("Where is my parcel?", lambda side, words: told.append((side, words)))
    assert {side for side, _words in told} == {"base", "tuned"}
    assert found["base"] == found["tuned"]  # nothing was trained: the adapter adds zero
    reader = Reader(task, TokenBudget(1000, lambda *_: None), lambda: None)
    ids, _ = trial._prompt("Where is my parcel?")
    assert [found["base"]["text"]] == write(reader, tokenizer, built.model, [ids], NEW_TOKENS).texts != [""]
    assert found["tuned"]["text"].startswith(next(words for side, words in told if side == "tuned"))


@pytest.mark.parametrize(("with_it", "told"), [(10, True), (6, False)])
def test_a_text_is_asked_behind_the_system_message_that_most_rows_have(
    tiny_chat: Path, begin: Callable[[Plan], RunDirectory], tmp_path: Path, with_it: int, told: bool
) -> None:
    """The scores are those of answers behind it, and without it the result answers otherwise: the card's code has it too."""
    system, file = {"role": "system", "content": 'You are "Bo".\nBe brief.'}, tmp_path / "rows.jsonl"
    talks = [[{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}] for i in range(12)]
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]
    rows: list[dict[str, Any]] = [{"messages": [system, *talk] if i < with_it else talk} for i, talk in enumerate(talks)]
    rows = [{**row, "tools": tools if i < with_it else []} for i, row in enumerate(rows)]
    put_rows(file, rows)
    data = dict.fromkeys(("eval", "train_rows", "eval_rows")) | {"train": str(file), "held_out_rows": 0, "validation_rows": 0}
    plan = plan_of(tiny_chat, "lora", data=data)
    run, tokenizer = begin(plan), load_tokenizer(str(tiny_chat))
    tokenizer.chat_template = "{% if tools %}{{ tools[0].function.name }}{% endif %}" + tokenizer.chat_template
    task = task_of(plan, [], tokenizer.pad_token_id)
    parts = split(plan.data, plan.task)
    task.encode(tokenizer, parts.train)
    task.encode(tokenizer, parts.train.take([11]))  # held-out rows, that say nothing of what was learned
    export.save(run, task, build(task, str(tiny_chat)), tokenizer=tokenizer, parts=parts, base=str(tiny_chat))
    trial = Trial(run)
    assert trial.system == (system["content"] if told else "")
    asked = trial.tokenizer.decode(trial._prompt("Where is it?")[0])
    assert ("Be brief." in asked, asked.startswith("find"), asked.count("Where is it?")) == (told, told, 1)
    card = (run.model / "README.md").read_text()
    messages = [system] * told + [{"role": "user", "content": "a question"}]
    assert f"\nmessages = {json.dumps(messages)}\n" in card
    assert ("begin with it, too" in card) is told
    assert ("apply_chat_template(messages, tools=tools, add_generation_prompt=True" in card) is told


def test_the_worst_rows_are_wrong_ones_with_their_texts(finished: Finished) -> None:
    run = finished("lora")
    parts = split(run.plan().data)
    report = run.report()
    assert report is not None
    worst = report["worst"]
    assert worst
    assert all(row["wanted"] != row["said"] for row in worst)
    assert [row["loss"] for row in worst] == sorted((row["loss"] for row in worst), reverse=True)
    at = parts.held_out.numbers.index(worst[0]["row"])
    assert worst[0]["text"] == parts.held_out.texts[at]
    assert worst[0]["wanted"] == parts.held_out.labels[at]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough free memory to load the models"),
        (ValueError("a strange file"), "The models cannot be loaded (ValueError: a strange file)."),
    ],
)
def test_what_keeps_models_from_being_loaded_is_told(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: RunDirectory) -> None:
        raise error

    monkeypatch.setattr("engine.worker.try_it.Trial", fail)
    said: list[dict[str, Any]] = []
    serve(RunDirectory(tmp_path), iter(()), said.append)
    assert told in said[0]["error"]


def test_a_question_that_fails_does_not_end_the_others(finished: Finished) -> None:
    said: list[dict[str, Any]] = []
    questions = [json.dumps({"id": 1, "text": None}), json.dumps({"id": 2, "text": "charged twice"})]
    serve(finished("lora"), iter(questions), said.append)
    assert said[0] == {"ready": True, "system": "", "tools": []}
    assert "error" in said[1]
    assert said[2]["id"] == 2
    assert said[2]["tuned"]["text"]


async def test_the_child_answers_and_says_when_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for it; the app's journey asks a real one."""
    script = tmp_path / "python"
    said = ['{"ready": true, "system": "Be brief.", "tools": ["find"]}', "read line"]
    said += ['{"id": 0, "text": "of an earlier question"}', '{"id": 1, "side": "base", "partial": "so"}']
    said += ['{"id": 1, "base": {}, "tuned": {"text": "so far"}}', "read line"]
    script.write_text("#!/bin/sh\n" + "".join(f"{line}\n" if line == "read line" else f"echo '{line}'\n" for line in said))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    (tmp_path / "model").mkdir()
    asking, told = Asking(RunDirectory(tmp_path)), []
    await asking.start()
    assert (asking.system, asking.tools) == ("Be brief.", ["find"])
    found = await asking.ask("charged twice \x1b[31m", lambda side, words: told.append((side, words)))
    assert found["tuned"]["text"] == "so far"
    assert told == [("base", "so")]
    await asking.close()
    with pytest.raises(InputError, match=r"ended|gone"):
        await asking.ask("again", silent)


async def test_a_run_without_a_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    asking = Asking(RunDirectory(tmp_path))
    with pytest.raises(InputError, match="no saved model yet"):
        await asking.start()
