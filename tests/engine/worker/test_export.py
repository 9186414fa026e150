"""The saved result is usable by anybody, without Loracle."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.files import read_json
from engine.loading import split
from engine.rundir import RunDirectory

Finished = Callable[[str], RunDirectory]
METHODS = ("full", "lora", "qlora")
SHOWN = 6
"""Held-out texts that the card's own code classifies."""


def snippet(run: RunDirectory) -> str:
    found = re.search(r"```python\n(.*?)```", (run.model / "README.md").read_text(), re.DOTALL)
    assert found
    return found.group(1)


@pytest.mark.parametrize("method", METHODS)
def test_the_cards_own_code_gives_the_reports_predictions(finished: Finished, method: str) -> None:
    """In a fresh process, in the model's folder, with nothing of Loracle loaded, for six classes."""
    run = finished(method)
    parts = split(run.plan().data)
    assert len(parts.labels) == 6
    texts = parts.held_out.texts[:SHOWN]
    code = snippet(run)
    loading, use = code.split("import torch\n")
    program = [loading, "import torch, sys, json"]
    program += [use.replace('"a text"', repr(text)) for text in texts]
    program.append("print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))")
    program.append("print(tokenizer.model_max_length, len(tokenizer('many words ' * 500, truncation=True).input_ids))")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=run.model, env=env, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    predicted = read_json(run.scores / "after.json")["predicted"][:SHOWN]
    assert said[:SHOWN] == [parts.labels[i] for i in predicted]
    modules = set(json.loads(said[SHOWN]))
    assert not modules & {"engine", "tui", "recommender", "loracle"}
    assert ("peft" in modules) == (method != "full")
    assert said[SHOWN + 1] == "48 48"


@pytest.mark.parametrize("method", METHODS)
def test_nothing_private_or_pickled_is_saved(finished: Finished, method: str) -> None:
    run = finished(method)
    names = {p.name for p in run.path.rglob("*") if p.is_file()}
    assert "training_args.bin" not in names
    saved = [p for p in run.model.rglob("*") if p.is_file()]
    assert not [p.name for p in saved if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    words = [str(run.path), *(str(parent) for parent in list(run.path.parents)[:-2]), str(Path.home())]
    naming = {p.name for p in saved if any(w.encode() in p.read_bytes() for w in words)}
    # A local base has no other name than its path, and without it nothing would load.
    assert naming == (set() if method == "full" else {"adapter_config.json"})


@pytest.mark.parametrize("method", METHODS)
def test_labels_and_settings_are_saved_with_the_weights(finished: Finished, method: str) -> None:
    run = finished(method)
    parts = split(run.plan().data)
    config = read_json(run.model / "config.json")
    assert [config["id2label"][str(i)] for i in range(6)] == parts.labels
    assert "quantization_config" not in config
    card = (run.model / "README.md").read_text()
    assert all(f"- `{label}`" in card for label in parts.labels)
    assert "learning rate 0.001" in card
    assert read_json(run.model / "loracle.json")["method"] == method


def test_a_hub_model_is_named_by_its_id(finished: Finished) -> None:
    from engine.worker.card import model_card
    from engine.worker.tasks.registry import task_of

    run = finished("lora")
    plan = run.plan()
    hub = plan.model_copy(update={"model": plan.model.model_copy(update={"id": "org/model`](evil)"})})
    parts = split(plan.data)
    card = model_card(task_of(hub, parts.labels), parts, ["classifier"], "/secret/cache/snapshots/abc")
    assert 'base_model: "org/model`](evil)"' in card
    assert "/secret" not in card
