"""Model and data from a hub: looked at, downloaded, trained with, as every run that names hub ids."""

import os
import subprocess
from pathlib import Path

import pytest

from engine.runs import all_runs
from tests.conftest import HELD_OUT, TRAIN, command
from tests.hub import Hub, Repository, serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_a_hub_that_dies_and_comes_back_while_a_model_is_downloaded(tmp_path: Path, tiny: Path) -> None:
    files = {file.name: file.read_bytes() for file in tiny.iterdir()}
    files |= {".gitattributes": b"*.bin filter=lfs", "pytorch_model.bin": b"evil", "onnx/model.onnx": b"another form"}
    rows = {"data/train.csv": TRAIN.read_bytes(), "data/test.csv": HELD_OUT.read_bytes()}
    hub = Hub({"org/tiny": Repository(files)}, {"team/tickets": Repository(rows, commit="d" * 40)})
    where = ("--model", "org/tiny", "--data", "team/tickets", "--runs", tmp_path / "runs")
    line = command("--auto", *where, "--method", "full", "--set", "epochs=1")

    def run() -> "subprocess.CompletedProcess[str]":
        env = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)

    with serving(hub):
        hub.breaks, hub.dies = {"model.safetensors": 1_000}, True
        died = run()
        assert died.returncode == 2
        assert "the hub cannot be reached" in died.stderr
        assert not (tmp_path / "runs").exists()
        hub.breaks, hub.dies, hub.down = {"model.safetensors": 1_000}, False, False
        done = run()
    assert done.returncode == 0, done.stderr
    assert hub.ranges[-2:] == [("model.safetensors", None)] * 2  # what broke off was asked for again
    assert not any("onnx" in path or ".bin" in path for path in hub.asked)
    made = next(all_runs(tmp_path / "runs"))
    assert made.name.endswith("-tickets-full")
    assert (made.plan().model.id, made.plan().model.revision) == ("org/tiny", "c" * 40)
