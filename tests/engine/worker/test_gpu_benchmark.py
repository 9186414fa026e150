"""The GPU benchmarks still fit the engine: their cells and steps run here too, on small models."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import memory, plain, speed
from benchmarks.gpu.models import Kind, lengths, rows_of
from benchmarks.gpu.results import Lines, read_lines
from engine.worker.modeling import device_name

FIELDS = set(plain.DEFAULTS) | {"method", "micro_batch_rows", "length", "head"}


@pytest.mark.skipif(device_name() != "cpu", reason="a GPU runs the benchmarks themselves")
def test_cells_of_both_loops_are_measured_and_say_every_field_of_their_step(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "cells.jsonl", float("inf"))
    cell = memory.Cell(Kind("llama-0.5b", smoke=True), "lora", 2, 24)
    memory._group(lines, [cell], torch.device("cpu"))
    other = next(c for c in plain.grid(smoke=True) if c.step["method"] == "lora")
    plain.measure(other, lines, torch.device("cpu"))
    found = read_lines(tmp_path / "cells.jsonl")
    assert [(f["key"], f["result"]) for f in found] == [(cell.key, "ok"), (other.key, "ok")]
    for line in found:
        assert set(line["step"]) == FIELDS
        assert len(line["measured"]["seconds_per_step"]) == 2
    assert found[0]["packed"]
    assert not Lines(tmp_path / "cells.jsonl", float("inf")).wanted(cell.key)


def test_every_cell_has_a_name_of_its_own() -> None:
    keys = [c.key for c in memory.grid(smoke=False)] + [c.key for c in plain.grid(smoke=False)]
    assert len(keys) == len(set(keys)) > 200


def test_operations_follow_the_usual_count() -> None:
    """6 a parameter and trained token, beside attention, which short rows hardly pay."""
    kind = Kind("llama-1b")
    config = kind.config()
    rows = rows_of([64] * 8, 1000, learned=1.0)
    parameters = 973_078_528 + config.vocab_size * config.hidden_size  # layers' linear maps, and the head
    assert speed.operations(speed.Pair(kind, "full"), rows) == pytest.approx(6 * parameters * 512, rel=0.02)


def test_lengths_are_those_of_instructions() -> None:
    found = sorted(lengths(2000))
    assert 135 < found[1000] < 165
    assert found[-1] == 1024
    assert json.dumps(found)  # plain numbers: they go into results
