"""Run directories written as a worker would, facts by hand, and the screen as a person sees it."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import planning, scripting
from engine.events import EventWriter
from engine.inspect import DataInspection, ModelInspection
from engine.new_run import create
from engine.rundir import RunDirectory
from recommender.facts import DataFacts, Facts, Machine, ModelFacts
from recommender.plan import DataChoice, ModelChoice, Plan
from tui import commands_estimate

LOOK_BY_NAME = (planning, scripting, commands_estimate)
"""Have `inspect_machine` of their own: imported by a test that has put another in its place, they would keep that one for all
later tests of the process."""
GB = 1_000_000_000


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    for name in ("LORACLE_RUNS", "NO_COLOR"):  # pictures have colours whatever the developer likes
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def machine() -> Machine:
    return Machine(backend="cpu", cpu_cores=2, ram_total=16 * GB, ram_available=12 * GB, disk_free=100 * GB, nf4=True)


@pytest.fixture(autouse=True)
def _machine_known(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """The machine is neither looked at nor timed."""
    monkeypatch.setattr("engine.inspect.inspect_machine", lambda runs=None: machine)
    monkeypatch.setattr("engine.inspection.machine.calibrate", dict)


@pytest.fixture
def model(tmp_path: Path) -> ModelInspection:
    facts = ModelFacts(
        id="small-encoder", family="encoder", parameters=22_700_000, embedding_parameters=11_900_000, layers=6, hidden_size=384,
        intermediate_size=1536, attention_heads=12, vocabulary_size=30_522, max_positions=512, architecture="BertModel",
    )  # fmt: skip
    return ModelInspection(facts=facts, path=str(tmp_path / "model"), revision=None, fingerprint="0" * 64)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., DataInspection]:
    def make(labels: tuple[str, ...] = ("billing", "delivery"), rows_each: int = 300, **facts: Any) -> DataInspection:
        known = {
            "task": "classification",
            "rows": rows_each * len(labels),
            "unique_rows": rows_each * len(labels),
            "tokens_p50": 30,
            "tokens_p95": 60,
            "tokens_p99": 80,
            "tokens_max": 100,
            "tokens_total": 30 * rows_each * len(labels),
            "tokens_origin": "measured",
            "classes": len(labels),
            "labels": labels,
            "label_counts": (rows_each,) * len(labels),
            "text_column": "text",
            "label_column": "label",
        }
        return DataInspection(
            facts=DataFacts(**{**known, **facts}),
            preview=(("where is my parcel", labels[-1]), ("charged twice", labels[0])),
            columns=("text", "label", "id"),
            confidence=0.95,
            path=str(tmp_path / "rows.csv"),
            eval_path=None,
            fingerprint="1" * 64,
            eval_fingerprint=None,
        )

    return make


@pytest.fixture
def facts(machine: Machine, model: ModelInspection, make_data: Callable[..., DataInspection]) -> Facts:
    return Facts(machine=machine, model=model.facts, data=make_data().facts)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


class FakeWorker:
    """Writes a run's files as the worker does, from the test's own process, which is alive."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.events = EventWriter(run.events)
        process = psutil.Process()
        self._write("worker.json", {"pid": os.getpid(), "started": process.create_time(), "host": socket.gethostname()})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.run.path / name).write_text(json.dumps(content))

    def begin(self, total: int = 100, **more: Any) -> None:
        fields: dict[str, Any] = {
            "method": "lora", "model": "small-encoder", "labels": ["a", "b"], "total_steps": total, "evaluations": 5, "epochs": 4,
            "device": "cpu", "precision": "fp32", "predicted_memory": 2 * GB, "memory_available": 12 * GB,
        }  # fmt: skip
        self.events.write("run", **{**fields, **more})

    def steps(self, first: int, last: int, loss: float = 1.0) -> None:
        for step in range(first, last + 1):
            self.events.write("step", step=step, epoch=step / 25, loss=loss / step**0.5, learning_rate=2e-4, grad_norm=0.8,
                              tokens=640, rows=32, seconds=0.1, memory=GB)  # fmt: skip

    def evaluate(self, step: int, split: str = "validation", accuracy: float = 0.8) -> None:
        scores = {"accuracy": accuracy, "macro_f1": accuracy - 0.01, "loss": 0.5, "rows": 60, "seconds": 0.2}
        self.events.write("evaluation", step=step, split=split, metrics=scores)

    def end(self, status: str = "done", code: int = 0, **more: Any) -> None:
        known = {"cause": None, "cure": None, "checkpoint": None}
        self.events.write("end", status=status, code=code, **{**known, **more})

    def die(self, words: str = "", started: float | None = None) -> None:
        self._write("worker.json", {"pid": 2**22 - 3, "started": started or time.time(), "host": socket.gethostname()})
        if words:
            self.run.log.write_text(words)

    def report(self, **more: Any) -> None:
        per_class = [{"label": name, "precision": 0.8, "recall": 0.9, "f1": 0.85, "rows": 30} for name in ("a", "b")]
        after = {"accuracy": 0.85, "macro_f1": 0.84, "loss": 0.4, "per_class": per_class, "confusion": [[27, 3], [6, 24]]}
        before = {"accuracy": 0.5, "macro_f1": 0.33, "loss": 0.7, "per_class": [], "confusion": []}
        content: dict[str, Any] = {
            "version": 1, "name": self.run.name, "method": "lora", "labels": ["a", "b"],
            "rows": {"train": 400, "validation": 60, "held_out": 60},
            "scores": {"before": before, "after": after, "majority": {"accuracy": 0.5, "macro_f1": 0.33, "loss": None}},
            "gains": {
                "before": {"accuracy": {"gain": 0.35, "low": 0.25, "high": 0.45}},
                "majority": {"accuracy": {"gain": 0.01, "low": -0.02, "high": 0.04}},
            },
            "statements": ["Better than before."],
            "memory": {"predicted": 2 * GB, "peak": 1_900_000_000},
            "seconds": {"predicted": 120.0, "training": 90.0, "total": 130.0}, "steps": 100, "best_step": 80,
            "parameters": 22_700_000, "trained_parameters": 334_000, "model_folder": "model",
            "warnings": [], "recoveries": [],
        }  # fmt: skip
        self._write("report.json", {**content, **more})


@pytest.fixture
def make_run(runs: Path) -> Callable[..., FakeWorker]:
    def make(name: str = "rows", method: str = "lora") -> FakeWorker:
        plan = Plan(
            model=ModelChoice(id="small-encoder"), data=DataChoice(train=f"{name}.csv"), method=method,  # type: ignore[arg-type]
            learning_rate=2e-4, epochs=4.0, effective_batch=32, max_length=64, rank=16, alpha=32,
        )  # fmt: skip
        return FakeWorker(create(runs, plan, None))

    return make


@pytest.fixture
def worker(make_run: Callable[..., FakeWorker]) -> FakeWorker:
    """Of a run that has begun."""
    made = make_run()
    made.begin()
    return made


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, model: ModelInspection, make_data: Callable[..., DataInspection]) -> None:
    """Model and data as by hand, too: nothing is looked at."""
    monkeypatch.setattr("engine.inspect.inspect_model", lambda name, **options: model)
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data())
    monkeypatch.setattr("engine.launch.is_room_beside", lambda machine: False)  # for a worker that imports, seconds of work


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\nhello,a\nbye,b\n")
    return file


@pytest.fixture
def started(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Plans that were started, none for real."""
    plans: list[Plan] = []
    run = make_run().run

    def start(plan: Plan, recommendation: object, root: Path, *, facts: Facts, waiting: object) -> Any:
        plans.append(plan)
        return run

    monkeypatch.setattr("engine.runs.start", start)
    return plans
