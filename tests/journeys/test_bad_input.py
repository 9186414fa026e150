"""Bad input from the command line: one clear sentence, exit code 2, and nothing on standard output."""

import json
from pathlib import Path

import pytest

from tests.conftest import Command

TRAIN = Path(__file__).parents[2] / "examples" / "support-train.csv"
ROWS = [f"message number {i} about my {'order' if i % 2 else 'bill'},{'a' if i % 2 else 'b'}" for i in range(40)]


@pytest.fixture
def loracle(loracle_here: Command) -> Command:
    """Nothing here starts a run: a process for each command would only take time."""
    return loracle_here


@pytest.fixture
def files(tmp_path: Path, tiny: Path) -> Path:
    """The files that the table below names, in the folder in which the program runs."""
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "header.csv").write_text("text,label\n")
    (tmp_path / "one-column.csv").write_text("text\n" + "\n".join(f"words {i}" for i in range(40)))
    free = (f"{i} words of a long free answer number {i}" for i in range(40))
    (tmp_path / "free.csv").write_text("text,label\n" + "\n".join(f"question {i},{answer}" for i, answer in enumerate(free)))
    (tmp_path / "good.csv").write_text("\n".join(["text,label", *ROWS]))
    (tmp_path / "folder").mkdir()
    (tmp_path / "no-weights").mkdir()
    (tmp_path / "no-weights" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "torn.yaml").write_text("method: full\n  learning_rate: [")
    (tmp_path / "unknown.yaml").write_text("method: full\nlerning_rate: 1e-4\n")
    (tmp_path / "tiny").symlink_to(tiny)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--auto --model tiny --data missing.csv", "missing.csv: there is no such file"),
        ("--auto --model tiny --data empty.csv", "empty.csv is empty"),
        ("--auto --model tiny --data header.csv", "a header and no rows"),
        ("--auto --model tiny --data one-column.csv", "one column only"),
        ("--auto --model tiny --data free.csv --label-column label --text-column text", "looks like free text"),
        ("--auto --model tiny --data folder", "folder is a folder"),
        ("--auto --model tiny --data good.csv --label-column text --text-column text", "cannot be text and label at once"),
        ("--auto --model ./no-weights --data good.csv", "model.safetensors is missing"),
        ("inspect model ./nothing-here", "no such model folder"),
        ("inspect data good.csv --label-column lable", "has no column lable"),
        ("--auto --model nobody/nothing-2026 --data good.csv", "not in the local cache"),
        ("--auto --model tiny --data good.csv --seed -1", "--seed"),
        ("--auto --model tiny --data good.csv --anyway --set lerning_rate=1", "learning_rate"),
        ("--auto --model tiny --data good.csv --set train_rows=5", "--set data.train_rows: use --train-rows instead"),
        ("run missing.yaml", "missing.yaml: there is no such file"),
        ("run torn.yaml", "torn.yaml"),
        ("run unknown.yaml --model tiny --data good.csv", "learning_rate"),
    ],
)
def test_one_sentence_and_exit_2(loracle: Command, files: Path, arguments: str, told: str) -> None:
    done = loracle(*arguments.split())
    said = [line for line in done.stderr.splitlines() if not line.startswith("Inspecting ")]
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert said[0].startswith("loracle: ")
    if "--set" not in arguments:
        assert done.stdout == ""
    if not arguments.startswith("run unknown"):  # a plan's errors are told all at once, a line each
        assert len(said) == 1, said
    assert not (files / "runs").exists()


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--port 80 serve", "--port goes after the command: `loracle serve --port`"),
        ("inspect --json machine", "--json goes after the command: `loracle inspect machine --json`"),
        ("plan --modle x", "there is no option --modle; the nearest is --model"),
        ("--model x --data y --epochs 3", "there is no option --epochs; `--set epochs=...` sets it"),
        ("plan --model x --learning-rate 1e-4", "there is no option --learning-rate; `--set learning_rate=...` sets it"),
        ("stop --data x last", "`loracle stop` has no option --data; these commands have it: plan, run"),
        ("rnus", "there is no command rnus; the nearest is runs"),
        ("attach last more", "unexpected argument more"),
        ("plan --method foo", "--method: foo is not one of full, lora, qlora"),
        ("serve --port x", "--port: 'x' is not a whole number"),
        ("plan --seed 2147483648", "--seed: '2147483648' is not a whole number from 0 to 2147483647"),
        ("inspect data x --model demo --tokens 0", "--tokens: '0' is not a whole number of at least 1"),
        ("run", "missing: PLAN"),
        ("inspect data x --model=", "--model: a value is missing"),
        ("runs --json=yes", "--json: it takes no value, and 'yes' is one"),
        ("pilot", "missing: --model, --data"),
    ],
)
def test_a_misplaced_or_unknown_word_is_one_sentence(loracle: Command, typed: str, told: str) -> None:
    done = loracle(*typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"loracle: {told}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["--auto", "--auto --model x", "--dry-run", "--auto runs", "run", "nonsense", "runs --x"])
def test_wrong_usage_is_exit_2(loracle: Command, arguments: str) -> None:
    done = loracle(*arguments.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("loracle: ")
    assert "--help` lists what there is." in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
