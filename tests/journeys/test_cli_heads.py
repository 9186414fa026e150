"""Words with tags, from a CoNLL file to a model, through the real program."""

import random
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from engine.files import read_json
from tests.conftest import Command

WORDS = "the parcel with my order was sent again and never came back to us".split()  # noqa: SIM905
PLACES = ("berlin", "paris", "new york", "san juan")


def conll(path: Path, rows: int) -> Path:
    order = random.Random(rows)
    sentences = []
    for n in range(rows):
        place = order.choice(PLACES).split()
        tagged = [f"{w}\tO" for w in [*order.sample(WORDS, 5), f"n{n}", "in"]]
        tagged += [f"{w}\t{'I' if i else 'B'}-place" for i, w in enumerate(place)]
        sentences.append("\n".join(tagged))
    path.write_text("\n\n".join(sentences) + "\n")
    return path


def test_tags_are_learned_from_a_conll_file(tiny: Path, loracle_trains: Command, tmp_path: Path) -> None:
    file = conll(tmp_path / "towns.conll", 200)
    short = ("--set", "epochs=2", "--set", "learning_rate=2e-3", "--anyway")
    ran = loracle_trains("--auto", "--model", tiny, "--data", file, *short)
    assert ran.returncode == 0, ran.stderr
    assert "tagging words" in ran.stdout
    assert "span F1" in ran.stdout
    (run,) = (tmp_path / "runs").iterdir()
    report = read_json(run / "report.json")
    assert report["scores"]["after"]["span_f1"] > report["scores"]["before"]["span_f1"] + 0.2
    assert [c["label"] for c in report["scores"]["after"]["per_class"]] == ["place"]
    plan = YAML(typ="safe").load((run / "plan.yaml").read_text())
    assert (plan["task"], plan["data"]["layout"], plan["metric"]) == ("token_classification", "tokens_tags", "span_f1")


def short_plan(model: Path, rows: Path) -> str:
    """A plan of one's own with what nobody could guess, and no more."""
    return f"""model: {{id: "{model}"}}
data: {{train: "{rows}"}}
task: token_classification
method: lora
rank: 4
alpha: 8
learning_rate: 2e-3
epochs: 1
effective_batch: 16
max_length: 32
"""


@pytest.mark.faults
def test_tags_are_learned_by_a_short_plan(tiny: Path, loracle: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(short_plan(tiny, conll(tmp_path / "towns.conll", 200)))
    done = loracle("run", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "span F1" in done.stdout


def test_a_measure_of_another_task_is_refused(tiny: Path, loracle_here: Command, tmp_path: Path) -> None:
    file = conll(tmp_path / "towns.conll", 200)
    (tmp_path / "wrong.yaml").write_text(short_plan(tiny, file) + "metric: rmse\n")
    wrong = loracle_here("run", "wrong.yaml")
    assert wrong.returncode == 2
    assert "span_f1" in wrong.stderr
    assert "Traceback" not in wrong.stderr
