"""The main job from the command line, with the real program and the demo model."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.rundir import RunDirectory
from recommender.plan_file import dump, parse
from tests.conftest import Command, json_lines, make_plan, plain

ROOT = Path(__file__).parents[2]
TRAIN, HELD_OUT = ROOT / "examples" / "support-train.csv", ROOT / "examples" / "support-heldout.csv"
SITUATION = ("--model", "demo", "--data", TRAIN, "--eval", HELD_OUT)
SHORT = ("--train-rows", "72", "--eval-rows", "24", "--set", "epochs=1", "--set", "max_length=32", "--set", "evaluations=2")


def test_help_imports_only_what_it_needs() -> None:
    code = (
        "import sys\nfrom tui.cli import main\nmain(['--help'])\n"
        "heavy = {'pydantic', 'rich', 'textual', 'torch', 'numpy', 'psutil', 'transformers', 'ruamel'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "[]\n"
    assert "exit codes: 0 done" in done.stdout


def test_a_dry_run_shows_what_was_found_and_all_three_methods(loracle_here: Command, tmp_path: Path) -> None:
    done = loracle_here("--auto", "--dry-run", *SITUATION)
    assert done.returncode == 0, done.stderr
    said = plain(done.stdout)
    for words in ("text in column text, label in column label", "6 classes", "Full fine-tuning", "LoRA", "QLoRA", "Why"):
        assert words in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "method", [pytest.param("full", marks=pytest.mark.faults), pytest.param("lora", marks=pytest.mark.faults), "qlora"]
)
def test_auto_trains_each_method_for_real_and_answers_in_json(loracle: Command, tmp_path: Path, method: str) -> None:
    """Against the advice, which is to wait for more rows: it runs, and the plan records that."""
    done = loracle("--auto", "--json", *SITUATION, *SHORT, "--method", method, "--anyway", "--runs", "runs")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    said = json_lines(done.stdout)
    assert [said[0]["kind"], said[1]["kind"], said[-1]["kind"]] == ["recommendation", "phase", "end"]
    assert {c["method"] for c in said[0]["candidates"]} == {"full", "lora", "qlora"}
    assert said[0]["verdict"] == "not_yet"
    assert said[-1]["status"] == "done"
    assert {e["split"] for e in said if e["kind"] == "evaluation"} == {"before", "probe", "majority", "validation", "after"}
    assert [e["step"] for e in said if e["kind"] == "step"] == list(range(1, 1 + sum(e["kind"] == "step" for e in said)))
    (run,) = (RunDirectory(p) for p in (tmp_path / "runs").iterdir())
    plan = run.plan()
    assert plan.method == method
    assert plan.max_length == 32
    assert any(o.startswith("G") for o in plan.overrides)
    names = {p.name for p in run.model.iterdir()}
    assert {"README.md", "config.json", "tokenizer.json"} <= names
    assert ("model.safetensors" if method == "full" else "adapter_model.safetensors") in names


@pytest.mark.parametrize("command", ["compare", "pilot"])
def test_a_group_that_would_be_wasted_is_refused_before_anything_is_tried_or_counted(
    loracle_here: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def tried(facts: object) -> None:
        pytest.fail("bf16 was tried")

    monkeypatch.setattr("engine.prediction.trial.with_trial", tried)
    done = loracle_here(command, "--model", tiny, "--data", TRAIN, "--train-rows", "60")
    assert done.returncode == 3
    assert "--anyway runs it regardless" in plain(done.stderr)


def test_a_plan_file_is_never_overwritten_unasked(loracle_here: Command, tmp_path: Path, tiny: Path) -> None:
    few, name = ("--model", tiny, "--data", TRAIN, "--eval", HELD_OUT), "my \x1b[31mplan.yaml"
    made = loracle_here("plan", *few, "--method", "lora", "-o", name)
    assert made.returncode == 0
    assert "Run it: loracle run 'my \\x1b[31mplan.yaml'" in made.stderr
    text = (tmp_path / name).read_text()
    plan = parse(text)
    assert plan.method == "lora"
    assert plan.overrides, "that LoRA was chosen against the advice is written down"
    again = loracle_here("plan", *few, "-o", name)
    assert again.returncode == 2
    assert "plan.yaml exists already" in again.stderr
    assert (tmp_path / name).read_text() == text
    assert loracle_here("plan", *few, "-o", name, "--force", "--set", "seed=9").returncode == 0
    assert parse((tmp_path / name).read_text()).seed == 9


def test_plan_exits_0_whatever_it_advises(loracle_here: Command, tmp_path: Path, tiny: Path) -> None:
    done = loracle_here("plan", "--model", tiny, "--data", TRAIN, "--train-rows", "60")
    assert done.returncode == 0
    assert "No plan was written" in done.stderr
    assert not (tmp_path / "plan.yaml").exists()


def test_the_example_plan_runs_elsewhere(loracle_trains: Command, tmp_path: Path, tiny: Path) -> None:
    """The background's example, pointed to another model and other rows, warns about its warm-up and runs."""
    smaller = ["train_rows=72", "eval_rows=24", "max_length=48", "epochs=1"]
    done = loracle_trains(
        "run", ROOT / "examples" / "bert-imdb.yaml", "--model", tiny, "--data", TRAIN, "--eval", HELD_OUT,
        *(word for s in smaller for word in ("--set", s)), "--seed", "5", "--runs", "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warm-up" in plain(done.stderr)
    (run,) = (RunDirectory(p) for p in (tmp_path / "runs").iterdir())
    plan = run.plan()
    assert (plan.model.id, plan.data.train, plan.seed, plan.warmup_steps) == (str(tiny), str(TRAIN), 5, 500)
    assert plan.data.train_fingerprint
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["attach", "resume", "stop", "report"])
def test_an_unknown_run_is_said_in_one_sentence(loracle_here: Command, command: str) -> None:
    done = loracle_here(command, "nothing-like-this", "--runs", "runs")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "loracle: No run is called nothing-like-this. `loracle runs` lists them.\n"


def test_without_runs_the_list_says_so(loracle_here: Command) -> None:
    done = loracle_here("runs", "--runs", "nowhere")
    assert (done.returncode, done.stdout) == (0, "No runs in nowhere.\n")


def test_a_full_disk_is_refused_before_a_run_is_made(
    tiny: Path, tmp_path: Path, loracle_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(dump(make_plan(tiny)))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    done = loracle_here("run", file, "--runs", "runs")
    assert done.returncode == 3
    assert "1.0 MB is free" in done.stderr
    assert not (tmp_path / "runs").exists()
