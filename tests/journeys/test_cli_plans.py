"""Planning from the command line: what is written, what is refused, and in which words. Nothing is trained here."""

import codecs
import csv
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from recommender.plan_file import parse
from tests.conftest import Command, plain, put_rows

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "examples" / "support-train.csv"
FACTS = ROOT / "tests" / "recommender" / "facts_example.json"
COMMAND = [sys.executable, "-m", "tui.cli"]


def write_rows(file: Path, per_label: int) -> Path:
    """The first rows of the first two labels of the example data."""
    kept: dict[str, list[str]] = defaultdict(list)
    with TRAIN.open(encoding="utf-8", newline="") as source:
        for row in csv.DictReader(source):
            kept[row["label"]].append(row["text"])
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label"])
        for label in sorted(kept)[:2]:
            writer.writerows((text, label) for text in kept[label][:per_label])
    return file


@pytest.fixture
def loracle(loracle_here: Command) -> Command:
    """Nothing here starts a run: a process for each command would only take time."""
    return loracle_here


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Enough rows to train on."""
    return write_rows(tmp_path / "rows.csv", 80)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Forty rows, too few to learn from."""
    return write_rows(tmp_path / "few.csv", 20)


@pytest.fixture
def planned(loracle: Command, tiny: Path, rows: Path, tmp_path: Path) -> Path:
    """A plan file for `rows`."""
    done = loracle("plan", "--model", tiny, "--data", rows, "-o", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "loracle run mine.yaml" in plain(done.stderr)
    return tmp_path / "mine.yaml"


def refused(done: "subprocess.CompletedProcess[str]", code: int = 2) -> str:
    """What was said, after it was checked that it is short and that nothing else came."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return plain("\n".join(line for line in done.stderr.splitlines() if not line.startswith("Inspecting ")))


def test_the_version_is_told() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loracle 0.1.0\n", "")


def test_facts_from_a_file_are_answered_without_looking_at_anything(loracle: Command, tmp_path: Path) -> None:
    done = loracle("plan", "--facts", FACTS, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    advice = json.loads(done.stdout)
    assert advice["verdict"] in ("full", "lora", "qlora")
    assert [c["method"] for c in advice["candidates"]] == ["full", "lora", "qlora"]
    assert advice["reasons"]
    said = loracle("plan", "--facts", FACTS)
    assert said.returncode == 0
    assert "Recommended:" in said.stdout
    assert list(tmp_path.glob("*.yaml")) == []


def test_facts_can_come_through_a_pipe_and_flags_outrank_their_goal(tmp_path: Path) -> None:
    def decided(*more: str) -> dict[str, Any]:
        command = [*COMMAND, "plan", "--facts", "-", "--json", *more]
        done = subprocess.run(command, input=codecs.BOM_UTF8 + FACTS.read_bytes(), capture_output=True, cwd=tmp_path, check=True)
        return dict(json.loads(done.stdout))

    assert decided()["verdict"] == "full"
    assert decided("--adapters", "4")["verdict"] == "lora"


def test_a_brought_plan_is_judged_before_anything_else_is_said(loracle: Command) -> None:
    """The background's own recipe: 1,000 rows, batches of 8, 3 epochs, 500 steps of warm-up."""
    for form in ([], ["--explain"]):
        said = plain(loracle("plan", "--facts", FACTS, *form).stdout)
        warned = said.index("The warm-up (500 steps) is longer than the whole run (375 steps)")
        assert said.index("Your own settings") < warned < min(said.find(w) for w in ("Why", "Gates") if w in said)


def test_explain_prints_the_whole_chain(loracle: Command) -> None:
    said = plain(loracle("plan", "--facts", FACTS, "--explain").stdout)
    stages = [said.index(word) for word in ("Gates", "Candidates", "Constraints", "Dominance", "Points", "Verdict", "Sources")]
    assert stages == sorted(stages)
    advice = json.loads(loracle("plan", "--facts", FACTS, "--json").stdout)
    assert all(plain(part["text"]) in said for part in (*advice["reasons"], *advice["warnings"]))
    steps = [json.loads(line) for line in loracle("plan", "--facts", FACTS, "--explain", "--json").stdout.splitlines()]
    assert {r["code"] for r in advice["reasons"]} <= {s["code"] for s in steps}
    assert {"stage", "code", "text", "points", "source"} == set(steps[0])


def test_a_goal_changes_the_advice_and_is_shown(loracle: Command, tiny: Path, rows: Path) -> None:
    situation = ("--model", tiny, "--data", rows, "-o", "-")
    said = plain(loracle("plan", *situation, "--hours", "0.5", "--forgetting", "high", "--note", "for [bold]Ann").stdout)
    assert "within 30 min; forgetting would hurt much; “for [bold]Ann”" in said
    untold = loracle("plan", "--facts", "-", "--json")  # nothing comes through the pipe
    assert untold.returncode == 2


def test_flags_that_would_change_the_advice_are_named_and_true(loracle: Command, tmp_path: Path) -> None:
    facts = json.loads(FACTS.read_text()) | {"goal": {}}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    said = plain(loracle("plan", "--facts", "facts.json").stdout)
    told = re.search(r"Tell me more: .*?(--adapters \d+)[^;]* would make it LoRA", said)
    assert told, said
    assert json.loads(loracle("plan", "--facts", "facts.json", *told[1].split(), "--json").stdout)["verdict"] == "lora"
    answered = plain(loracle("plan", "--facts", "facts.json", *told[1].split()).stdout)
    assert "--adapters" not in answered, "what was said is not asked again"


@pytest.mark.parametrize("wrong", [["--hours", "0"], ["--hours", "nan"], ["--adapters", "0"], ["--forgetting", "very"]])
def test_a_goal_that_makes_no_sense_is_a_usage_error(loracle: Command, wrong: list[str]) -> None:
    assert wrong[0] in refused(loracle("plan", "--facts", FACTS, *wrong))


def test_what_facts_alone_cannot_answer_is_refused_and_not_ignored(loracle: Command) -> None:
    said = refused(loracle("plan", "--facts", FACTS, "-o", "plan.yaml", "--set", "rank=8", "--train-rows", "5"))
    assert "leave out --train-rows, -o, --set." in said


def test_facts_whose_steps_cannot_be_counted_are_decided_without_bytes_and_that_is_said(
    loracle: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORACLE_TRACE")
    facts = json.loads(FACTS.read_text())
    (tmp_path / "facts.json").write_text(json.dumps(facts | {"machine": facts["machine"] | {"backend": "rocm"}}))
    done = loracle("plan", "--facts", "facts.json", "--trace", "--json")
    assert "Memory is given in bytes only where a step can be counted" in done.stderr
    assert [c["memory"]["counted"] for c in json.loads(done.stdout)["candidates"]] == [False] * 3
    assert "--trace goes with --facts" in refused(loracle("plan", "--trace", "--model", "x", "--data", "y"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "its JSON is cut off"),
        ("", "is empty"),
        ("[" * 100_000, "nested too deeply"),
        ('{"machine": {}}\nhello', ":2: is not JSON from column 1 on"),
        ('{"verdict": "full"}', "holds no facts"),
        (f'{{"data": {{"rows": {"9" * 5000}}}}}', "holds a number that is far too long"),
        ('{"data": {"rows": "many"}}', "data.rows"),
        ('{"step": {"method": "lora", "trl": "new"}}', "step.trl: must be a version such as 5.2"),
        (None, "there is no such file"),
    ],
)
def test_facts_that_cannot_be_used_are_named(loracle: Command, tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "facts.json").write_text(content)
    said = refused(loracle("plan", "--facts", "facts.json"))
    assert said.startswith("loracle: facts.json:")
    assert told in said


@pytest.mark.parametrize("typed", ["--runs elsewhere runs", "--json runs", "--seed 3 plan --model x", "--model x run plan.yaml"])
def test_options_before_the_command_are_not_lost_without_a_word(loracle: Command, typed: str) -> None:
    assert "options go after the command" in refused(loracle(*typed.split()))


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path, form: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*COMMAND, "plan", "--facts", str(FACTS), *form]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plan_is_not_run_on_other_rows_or_another_model_than_it_was_made_for(
    loracle: Command, planned: Path, rows: Path, tmp_path: Path
) -> None:
    text = planned.read_text()
    planned.write_text(text.replace(parse(text).model.fingerprint or "", "f" * 64))
    assert "is not the model that the plan was made for" in refused(loracle("run", "mine.yaml"))
    planned.write_text(text)
    with rows.open("a") as file:
        file.write("one more,account\n")
    assert f"{rows} has changed since the plan was made" in refused(loracle("run", "mine.yaml"))
    assert not (tmp_path / "runs").exists()


def test_a_folder_is_never_taken_for_the_plan_file(loracle: Command, tiny: Path, rows: Path) -> None:
    assert "is a folder" in refused(loracle("plan", "--model", tiny, "--data", rows, "-o", ".", "--force"))


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("token_budgte=1", "Did you mean token_budget?"),
        ("label_smoothing=1", "label_smoothing must be less than 1"),
    ],
)
def test_a_misspelt_setting_is_told_before_anything_is_looked_at(loracle: Command, assignment: str, told: str) -> None:
    assert told in refused(loracle("--auto", "--model", "nowhere", "--data", "nothing.csv", "--set", assignment))


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("train_rows=20", "--train-rows"),  # it would slip past the advice to wait for more rows
        ("method=lora", "--method"),
        ("max_length=4096", "reads 128 tokens at most"),
        ("metric=rmse", "task classification has no metric"),
        ("last_layers=99", "last_layers is 99, and"),
    ],
)
def test_a_setting_that_the_advice_would_not_know_of_is_refused(
    loracle: Command, tiny: Path, rows: Path, tmp_path: Path, assignment: str, told: str
) -> None:
    done = loracle("plan", "--model", tiny, "--data", rows, "--set", assignment)
    assert done.returncode == 2
    assert told in plain(done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "plan.yaml").exists()


def test_a_rate_that_would_ruin_the_model_starts_no_worker_and_is_written_into_no_plan(
    loracle: Command, tiny: Path, rows: Path, tmp_path: Path
) -> None:
    given = ("--model", tiny, "--data", rows, "--set", "learning_rate=0.5")
    done = loracle("plan", *given)
    assert done.returncode == 0
    assert "No plan was written: learning_rate 0.5 changes every weight by about that much" in plain(done.stderr)
    assert not (tmp_path / "plan.yaml").exists()
    done = loracle("--auto", *given, "--anyway")
    assert done.returncode == 3
    assert "nothing of the model would be left. Use `--set learning_rate=" in plain(done.stderr)
    assert not (tmp_path / "runs").exists()


def test_pairs_of_texts_are_planned(loracle: Command, tiny: Path, tmp_path: Path) -> None:
    said = ("some came", "none came")
    pairs = [{"premise": f"order {i} came", "hypothesis": said[i % 2], "label": "yn"[i % 2]} for i in range(300)]
    put_rows(tmp_path / "pairs.jsonl", pairs)
    done = loracle("plan", "--model", tiny, "--data", "pairs.jsonl", "-o", "plan.yaml", "--anyway")
    assert done.returncode == 0, done.stderr
    assert "text_pair: hypothesis" in (tmp_path / "plan.yaml").read_text()


def test_nobody_can_insist_on_an_encoder_that_writes(loracle: Command, tiny: Path, tmp_path: Path) -> None:
    done = loracle("--auto", "--model", tiny, "--data", ROOT / "examples" / "chat-train.jsonl", "--anyway")
    assert done.returncode == 3
    assert "An encoder cannot write text" in plain(done.stderr)
    assert "--anyway runs it" not in plain(done.stderr)
    assert not (tmp_path / "runs").exists()


def test_forty_rows_are_planned_only_when_somebody_insists(loracle: Command, tiny: Path, few: Path, tmp_path: Path) -> None:
    situation = ("--model", tiny, "--data", few)
    done = loracle("--auto", *situation, "--json")
    assert done.returncode == 3
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["verdict"] == "not_yet"
    assert "--anyway runs it regardless" in plain(done.stderr)
    assert loracle("--auto", *situation, "--dry-run").returncode == 3
    own = ("--set", "epochs=3", "--set", "warmup_steps=500", "--set", "weight_decay=0.1")
    tried = loracle("--auto", *situation, "--dry-run", "--anyway", *own)
    assert tried.returncode == 0
    assert "\n\nWith your own: Full fine-tuning" in tried.stdout
    assert "weight_decay=0.1" in plain(tried.stdout)
    assert "3 epochs" in plain(tried.stdout)
    assert "The warm-up (500 steps) is longer than the whole run" in " ".join(plain(tried.stdout).split())
    assert loracle("plan", *situation, "--method", "lora").returncode == 0
    assert not (tmp_path / "plan.yaml").exists()
    assert loracle("plan", *situation, "--method", "lora", "--anyway").returncode == 0
    assert parse((tmp_path / "plan.yaml").read_text()).overrides[0].startswith("G4_too_few_examples: With 40 rows")
    assert not (tmp_path / "runs").exists()
