"""The trial of bf16: when it is made, how large it is, and that it is made once."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.prediction import candidates
from engine.prediction import trial as subject
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import DataFacts, Facts, Machine, ModelFacts
from recommender.shape import shape_of
from tui.commands_advice import _why_no_bytes

HERE = Machine(backend="cpu", cpu_name="a processor", cpu_cores=2, cpu_bf16=True, ram_available=10**11)
FOUND = {"speedup": 2.0, "loss": 0.7, "loss_fp32": 0.7, "gradients_apart": 0.01}
DATA = DataFacts(task="classification", rows=600, classes=3, tokens_p50=31, tokens_p95=60, tokens_max=100)


def facts(folder: Path, machine: Machine = HERE, **model: Any) -> Facts:
    known: dict[str, Any] = {"path": str(folder), "family": "encoder", "parameters": 1_000_000, "layers": 2, "hidden_size": 64}
    return Facts(machine=machine, model=ModelFacts(**known | model), data=DATA)


@pytest.fixture(autouse=True)
def _on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORACLE_TRIAL")


def test_it_is_made_once_and_then_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answers(kind: str, request: dict[str, Any], **options: Any) -> dict[str, Any]:
        asked.append(request)
        return {"methods": {"full": FOUND}, "whole": len(asked) > 1}

    monkeypatch.setattr(subject, "ask", answers)
    here = facts(tmp_path)
    assert subject.is_wanted(here)
    assert subject.with_known_trial(here) == here
    assert subject.with_trial(here).measured.bf16 is not None
    assert subject.with_known_trial(here) == here, "of a machine that was too busy for all of it nothing is kept"
    again = subject.with_trial(here)
    assert subject.with_known_trial(here) == again
    assert subject.with_trial(here) == again
    assert not subject.is_wanted(again)
    assert len(asked) == 2
    other = facts(tmp_path, HERE.model_copy(update={"cpu_name": "another"}))
    assert subject.with_known_trial(other) == other


@pytest.mark.parametrize(
    ("computed", "before", "tries"),
    [(60.0, 0.0, 1), (5.0, 0.0, 2), (60.0, 50.0, 2)],
    ids=["too slow", "a busy machine", "by a child that had computed for others"],
)
def test_what_is_too_slow_to_try_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: float, before: float, tries: int
) -> None:
    asked: list[Any] = []
    seconds = iter((0.0, computed) * 2)

    def late(*given: Any, **options: Any) -> dict[str, Any]:
        asked.append(given)
        raise InputError("took longer than 60 seconds")

    monkeypatch.setattr(subject, "ask", late)
    monkeypatch.setattr(subject, "computed_by_children", lambda: next(seconds))
    monkeypatch.setattr(subject, "computed_by_idle", lambda: before)
    clock = iter((0.0, 61.0) * 2)
    monkeypatch.setattr("engine.prediction.trial.time", SimpleNamespace(monotonic=lambda: next(clock)))
    for _ in range(2):
        assert not subject.with_trial(facts(tmp_path)).measured.bf16
    assert len(asked) == tries
    assert (subject.with_known_trial(facts(tmp_path)).measured.bf16 == {}) == (tries == 1)


def test_for_a_run_that_cannot_be_nothing_is_tried_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder for raw text: the plan says at once that it takes a decoder."""
    monkeypatch.delenv("LORACLE_TRACE")
    here = facts(tmp_path, config={"model_type": "bert"})
    raw = here.model_copy(update={"data": DATA.model_copy(update={"task": "continued_pretraining", "classes": None})})
    for given, wanted in ((here, True), (raw, False)):
        advice = recommend(given)
        assert subject.is_wanted(given) == wanted
        assert candidates.is_wanted(given, advice.candidates) == wanted
        assert bool(_why_no_bytes(given, advice, counts=True)) == wanted


@pytest.mark.parametrize(
    "other",
    [
        {"machine": HERE.model_copy(update={"cpu_bf16": False})},
        {"machine": HERE.model_copy(update={"backend": "cuda"})},
        {"quantization": "bitsandbytes_4bit"},
        {"weights_format": "gguf"},
        {"config": {"auto_map": {"AutoModel": "x.Y"}}},
        {"parameters": 70_000_000_000, "layers": 80, "hidden_size": 8192, "family": "decoder"},
    ],
)
def test_where_it_could_tell_nothing_it_is_not_made(
    tmp_path: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "ask", lambda *_, **__: pytest.fail("it was asked"))
    here = facts(tmp_path, **other)
    assert not subject.is_wanted(here)
    assert subject.with_trial(here) == here


def test_a_child_that_fails_leaves_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> dict[str, Any]:
        raise InputError("the trial of bf16: reading it took longer than 60 seconds and was stopped.")

    monkeypatch.setattr(subject, "ask", fails)
    here = facts(tmp_path)
    assert subject.with_trial(here) == here


def test_large_models_are_tried_on_fewer_tokens_then_on_fewer_layers() -> None:
    def size(data: DataFacts, **model: Any) -> tuple[int, int, int] | None:
        known = ModelFacts(max_positions=4096, **model)
        return subject.step_size(shape_of(known, data.task), Facts(model=known, data=data))

    small = {"family": "encoder", "parameters": 22_700_000, "embedding_parameters": 11_900_000, "layers": 6, "hidden_size": 384}
    assert size(DATA, **small) == (16, 32, 6)
    chat = DataFacts(task="chat", rows=100, tokens_p50=900)
    writer = {"family": "decoder", "parameters": 135_000_000, "embedding_parameters": 28_300_000, "layers": 30,
              "hidden_size": 576, "vocabulary_size": 49_152, "tied_embeddings": True}  # fmt: skip
    assert size(chat, **writer) == (1, 128, 8)
    large = {"family": "decoder", "parameters": 1_100_000_000, "embedding_parameters": 65_000_000, "layers": 22,
             "hidden_size": 2048, "vocabulary_size": 32_000}  # fmt: skip
    found = size(chat, **large)
    assert found is not None
    assert found[:2] == (1, 128)
    assert found[2] == 2


@pytest.mark.parametrize("child", [False, pytest.param(True, marks=pytest.mark.faults)])  # which has 35 seconds
def test_it_really_runs_here(tiny: Path, monkeypatch: pytest.MonkeyPatch, child: bool) -> None:
    """On any processor: without bf16 in hardware it is slow, and computes the same."""
    if not child:
        monkeypatch.setattr("engine.worker.bf16_trial.LONG", float("inf"))
        trials = importlib.import_module("engine.worker.bf16_trial").trials
        monkeypatch.setattr(subject, "ask", lambda kind, request, **options: json.loads(json.dumps(trials(request["asked"]))))
    config = json.loads((tiny / "config.json").read_text())
    found = subject.with_trial(facts(tiny, config=config)).measured.bf16
    assert found is not None
    assert set(found) == {"full", "lora"}, "whether 4-bit kernels run here was not tried"
    for one in found.values():
        assert one.loss == pytest.approx(one.loss_fp32, rel=0.01)
        assert one.gradients_apart is not None
        assert 0 < one.gradients_apart < 0.25, "two precisions, one function"
