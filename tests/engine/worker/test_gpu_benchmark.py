"""The GPU benchmarks still fit the engine: their cells and steps run here too, on small models."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.gpu import memory, plain, speed
from benchmarks.gpu.__main__ import end_all_of
from benchmarks.gpu.models import Kind, lengths, rows_of
from benchmarks.gpu.results import Lines, read_lines, without_numbers_first
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
    sides = [pair.key(side) for pair in speed.pairs(smoke=False) for side in pair.sides]
    # Pairs that TRL takes long for come again at the end, with Loracle's side, which is not measured twice.
    assert {key for key in sides if sides.count(key) > 1} == {
        f"llama-{name}-loracle" for name in ("1b-full", "0.5b-full", "8b-qlora")
    }


def test_the_models_and_methods_that_were_promised_are_compared() -> None:
    found = {(pair.kind.name, pair.method) for pair in speed.pairs(smoke=False) if pair.setups}
    assert found == {(f"llama-{size}b", method) for size in ("0.5", "1", "3", "8") for method in ("full", "lora", "qlora")}


def test_what_no_card_has_measured_comes_first(tmp_path: Path) -> None:
    lines = [{"key": "a", "result": "ok"}, {"key": "b", "result": "error"}, {"key": "c"}]
    (tmp_path / "gpu-speed-h200.json").write_text(json.dumps({"results": lines}))
    found = without_numbers_first("speed", ["a", "b", "ac", "c", "d", "ad"], list, tmp_path)
    assert found == ["b", "d", "ad", "a", "ac", "c"]


def test_a_piece_that_was_killed_as_it_wrote_goes_on_behind_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "speed.jsonl"
    Lines(file, float("inf")).write("first")
    with file.open("a") as stream:
        stream.write('{"key": "torn", "resu')
    again = Lines(file, float("inf"))
    again.write("second")
    assert [line["key"] for line in read_lines(file)] == ["first", "second"]
    assert again.wanted("torn")
    assert not again.wanted("first")


def test_a_piece_that_is_cut_off_leaves_none_of_its_programs_behind() -> None:
    below = "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", below], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as piece:
        assert piece.stdout is not None
        program = psutil.Process(int(piece.stdout.readline()))
        end_all_of(piece)
    gone, alive = psutil.wait_procs([program], timeout=10)
    assert gone or alive[0].status() == psutil.STATUS_ZOMBIE


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
