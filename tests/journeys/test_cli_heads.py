"""Words with tags, from a CoNLL file to a model, through the real program."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from engine.files import read_json

Command = Callable[..., subprocess.CompletedProcess[str]]
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


def test_tags_are_learned_from_a_conll_file(tiny: Path, loracle: Command, tmp_path: Path) -> None:
    file = conll(tmp_path / "towns.conll", 200)
    ran = loracle("--auto", "--model", tiny, "--data", file, "--set", "epochs=2", "--set", "learning_rate=2e-3", "--anyway")
    assert ran.returncode == 0, ran.stderr
    assert "tagging words" in ran.stdout
    assert "span F1" in ran.stdout
    (run,) = (tmp_path / "runs").iterdir()
    report = read_json(run / "report.json")
    assert report["scores"]["after"]["span_f1"] > report["scores"]["before"]["span_f1"] + 0.2
    assert [c["label"] for c in report["scores"]["after"]["per_class"]] == ["place"]
    plan = YAML(typ="safe").load((run / "plan.yaml").read_text())
    assert (plan["task"], plan["data"]["layout"], plan["metric"]) == ("token_classification", "tokens_tags", "span_f1")

    short = {"model": plan["model"]["id"], "data": plan["data"]["train"]}
    mine = f"""model: {{id: "{short['model']}"}}
data: {{train: "{short['data']}"}}
task: token_classification
method: lora
rank: 4
alpha: 8
learning_rate: 2e-3
epochs: 1
effective_batch: 16
max_length: 32
"""
    (tmp_path / "mine.yaml").write_text(mine)
    again = loracle("run", "mine.yaml")
    assert again.returncode == 0, again.stderr
    assert "span F1" in again.stdout

    (tmp_path / "wrong.yaml").write_text(mine + "metric: rmse\n")
    wrong = loracle("run", "wrong.yaml")
    assert wrong.returncode == 2
    assert "span_f1" in wrong.stderr
    assert "Traceback" not in wrong.stderr
