"""Facts about the machine: the GPUs CUDA would show, and memory within the container's limits."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.inspection import machine as subject
from engine.inspection import nf4
from recommender.errors import InputError

GIB = 1024**3


class Driver:
    """What pynvml is here: two cards, the second freer and older."""

    cards = (
        ("GPU-aaaa-1", "NVIDIA A100", 40 * GIB, 1 * GIB, (8, 0)),
        ("GPU-abbb-2", "Tesla T4", 16 * GIB, 15 * GIB, (7, 5)),
    )

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: len(self.cards),
            "nvmlDeviceGetHandleByIndex": lambda i: self.cards[i],
            "nvmlDeviceGetUUID": lambda card: card[0],
            "nvmlDeviceGetName": lambda card: card[1],
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=card[2], free=card[3]),
            "nvmlDeviceGetCudaComputeCapability": lambda card: card[4],
        }
        return answers[name]


class BrokenDriver:
    def nvmlInit(self) -> None:
        raise RuntimeError("Driver/library version mismatch")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subject, "_torch_knows_cuda", lambda: True)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        (None, ["GPU-aaaa-1", "GPU-abbb-2"]),
        ("", []),
        ("-1", []),
        ("1", ["GPU-abbb-2"]),
        ("1,0", ["GPU-abbb-2", "GPU-aaaa-1"]),
        ("0,-1,1", ["GPU-aaaa-1"]),
        ("7", []),
        ("GPU-abbb-2", ["GPU-abbb-2"]),
        ("GPU-ab", ["GPU-abbb-2"]),
        ("GPU-a", []),
        ("nonsense", []),
    ],
)
def test_the_gpus_that_cuda_would_show(monkeypatch: pytest.MonkeyPatch, setting: str | None, shown: list[str]) -> None:
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert [device.uuid for device in subject.nvidia_devices()] == shown


@pytest.mark.usefixtures("driver")
def test_only_the_freest_gpu_counts() -> None:
    here = subject.machine()
    assert here.backend == "cuda"
    (card,) = here.devices
    assert (card.name, card.memory_free, card.compute_capability, card.bf16) == ("Tesla T4", 15 * GIB, (7, 5), False)


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_the_installed_torch_cannot_use_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_torch_knows_cuda", lambda: False)
    here = subject.machine()
    assert (here.backend, here.devices) == ("cpu", ())


@pytest.mark.parametrize("module", [BrokenDriver(), None])
def test_without_a_working_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert subject.nvidia_devices() == ()


def test_this_machine_is_described(tmp_path: Path) -> None:
    here = subject.machine(tmp_path / "not" / "there" / "yet")
    assert here.cpu_cores is not None
    assert here.cpu_cores >= 1
    assert here.ram_total is not None
    assert here.ram_available is not None
    assert 0 < here.ram_available <= here.ram_total
    assert here.disk_free is not None
    assert here.disk_free > 0
    assert here.nf4 is None


def group(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_the_tightest_group_limits_memory(tmp_path: Path) -> None:
    group(
        tmp_path,
        {
            "own": "0::/outer/inner\n",
            "cg/outer/memory.max": f"{4 * GIB}\n",
            "cg/outer/memory.current": f"{3 * GIB}\n",
            "cg/outer/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "cg/outer/inner/memory.max": "max\n",
            "cg/outer/inner/memory.current": f"{GIB}\n",
        },
    )
    assert subject.container_memory(tmp_path / "cg", tmp_path / "own") == (4 * GIB, 2 * GIB)


def test_the_older_kind_of_group(tmp_path: Path) -> None:
    group(
        tmp_path,
        {
            "own": "5:cpu:/x\n4:memory:/on/the/host\n",
            "cg/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "cg/memory/memory.usage_in_bytes": f"{GIB}\n",
        },
    )
    assert subject.container_memory(tmp_path / "cg", tmp_path / "own") == (2 * GIB, GIB)


def test_no_group_is_no_limit(tmp_path: Path) -> None:
    group(tmp_path, {"own": "4:memory:/\n", "cg/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert subject.container_memory(tmp_path / "cg", tmp_path / "own") == (subject.NO_LIMIT, subject.NO_LIMIT)
    assert subject.container_memory(tmp_path / "cg", tmp_path / "none") == (subject.NO_LIMIT, subject.NO_LIMIT)


def test_calibration_gives_operations_a_second() -> None:
    assert 1e8 < subject.calibrate()["fp32"] < 1e14


def test_four_bit_training_is_tried_once_and_remembered(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    asked: list[str] = []

    def ask(kind: str, *_: object, **__: object) -> dict[str, bool]:
        asked.append(kind)
        return {"works": True}

    monkeypatch.setattr("engine.inspection.child.ask", ask)
    assert subject.machine().nf4 is None
    assert subject.nf4_works() is True
    assert subject.nf4_works() is True
    assert subject.machine().nf4 is True
    assert asked == ["nf4"]
    assert nf4.remembered("another card") is None
    (state / "nf4.json").write_text("broken")
    assert subject.machine().nf4 is None


def test_a_trial_that_crashes_means_no_and_one_without_an_answer_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> dict[str, bool]:
        raise InputError("4-bit trial: reading it took longer than 60 seconds and was stopped.")

    def crashed(*_: object, **__: object) -> dict[str, bool]:
        raise InputError("4-bit trial: reading it crashed (SIGILL).")

    monkeypatch.setattr("engine.inspection.child.ask", slow)
    assert subject.nf4_works() is None
    monkeypatch.setattr("engine.inspection.child.ask", crashed)
    assert subject.nf4_works() is False
    assert subject.machine().nf4 is False


def test_four_bit_training_really_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "nvidia_devices", lambda: ())
    assert subject.nf4_works() is True
