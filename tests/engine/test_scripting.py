"""Loracle from a Python program: what leads from rows to a run."""

import shutil
from pathlib import Path

import pytest

import loracle
from engine import launch
from engine.events import KINDS
from recommender.plan import Plan
from recommender.plan_file import field_paths

ROOT = Path(__file__).parents[2]


def test_the_page_on_formats_names_every_field_of_a_plan_and_every_kind_of_event() -> None:
    page = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    fields = [".".join(path) for path in field_paths(Plan)]
    assert not [name for name in fields if f"`{name}`" not in page]
    assert not [kind for kind in KINDS if f"| `{kind}` |" not in page]


def test_a_program_plans_and_starts_a_run_as_the_command_line_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "support-train.csv", "rows.csv")
    rows = str(tmp_path / "rows.csv")
    monkeypatch.setattr(launch, "launch", lambda run, plan, waiting=None: None)
    with pytest.raises(loracle.LoracleError, match=r"^settings: epoch: no such field of a plan. Did you mean epochs"):
        loracle.plan("demo", "rows.csv", settings={"epoch": 3})
    plan = loracle.plan("demo", "rows.csv", method="lora", settings={"epochs": 2, "early_stopping": False, "learning_rate": 1e-4})
    assert (plan.method, plan.epochs, plan.early_stopping, plan.learning_rate) == ("lora", 2.0, False, 1e-4)
    assert (plan.data.train, len(plan.data.labels or ())) == (rows, 6)
    short = {"model": {"id": "demo"}, "data": {"train": "rows.csv"}, "method": "full", "learning_rate": 1e-4, "epochs": 1}
    run = loracle.start(loracle.Plan.model_validate(short | {"effective_batch": 16, "max_length": 64}), runs="runs")
    assert run.plan().data.train == rows, "the worker has another folder"
    assert Path(run.plan().model.id).is_absolute()
    assert (run.wait(0.0).status, loracle.attach("last", Path("runs")).path) == ("starting", run.path)
