"""Facts about the machine: every accelerator, the memory really left, and 4-bit kernels tried once."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine import inspect
from engine.inspection import accelerators, kernels
from engine.inspection import machine as subject
from engine.inspection.accelerators import Accelerators
from engine.inspection.hub_list import hub_cache
from engine.prediction import calibration
from recommender.errors import InputError
from recommender.facts import Backend, DataFacts, Device, Machine, ModelFacts

GIB = 1024**3


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def found(monkeypatch: pytest.MonkeyPatch, *devices: Device, backend: Backend = "cuda") -> None:
    monkeypatch.setattr(accelerators, "accelerators", lambda: Accelerators(backend, devices, ("A card is lost.",)))


def test_every_accelerator_counts_and_a_run_uses_the_freest(monkeypatch: pytest.MonkeyPatch) -> None:
    big = Device(name="A100", memory_total=40 * GIB, memory_free=1 * GIB, uuid="GPU-a")
    free = Device(name="T4", memory_total=16 * GIB, memory_free=15 * GIB, uuid="GPU-b")
    found(monkeypatch, big, free)
    here = subject.machine()
    assert (here.backend, here.devices, here.usable_devices) == ("cuda", (big, free), 1)
    assert here.device == free
    assert here.problems == ("A card is lost.",)


def test_a_device_that_shares_memory_has_what_the_system_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Device(name="Apple GPU", memory_total=1 * GIB, shares_memory=True), backend="mps")
    (apple,) = subject.machine().devices
    assert (apple.memory_total, apple.memory_free) == (1 * GIB, 1 * GIB)
    found(monkeypatch, Device(name="GB10", shares_memory=True))
    here = subject.machine()
    assert here.devices[0].memory_total == here.ram_total
    assert here.devices[0].memory_free == here.ram_available


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HF_HOME": "$SOMEWHERE/x", "SOMEWHERE": "/d"}, "/d/x/hub"),
        ({"HOME": "/e"}, "/e/.cache/huggingface/hub"),
    ],
)
def test_where_downloads_go(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(place)


def test_this_machine_is_described(tmp_path: Path) -> None:
    here = subject.machine(tmp_path / "not" / "there" / "yet")
    assert here.cpu_cores is not None
    assert here.cpu_cores >= 1
    assert here.ram_total is not None
    assert here.ram_available is not None
    assert 0 < here.ram_available <= here.ram_total
    assert here.disk_free is not None
    assert here.disk_free > 0
    assert here.hub_disk_free is not None
    assert here.cpu_name
    assert here.cpu_avx512 is not None
    assert here.nf4 is None


def test_calibration_gives_operations_a_second() -> None:
    assert 1e8 < subject.calibrate()["fp32"] < 1e14


def test_calibration_does_not_take_others_for_a_slow_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step was told seven times too long on a busy machine."""
    clock = SimpleNamespace(computed=0.0, passed=0.0)

    def product(*given: object, **more: object) -> None:
        clock.computed += 0.001
        clock.passed += 0.03  # while others compute

    monkeypatch.setattr("numpy.matmul", product)
    monkeypatch.setattr(subject, "time", SimpleNamespace(thread_time=lambda: clock.computed, perf_counter=lambda: clock.passed))
    assert subject.calibrate()["fp32"] == pytest.approx(2 * subject.CALIBRATION_SIDE**3 / 0.001)


def test_a_clock_that_stands_still_for_milliseconds_is_no_infinite_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time in steps of 10 ms, as some containers count it: a product of 3 ms seems to take none, or all ten."""
    computed, passed = itertools.cycle([0.0, 0.0, 0.0, 0.01]), itertools.count(step=0.003)
    clock = SimpleNamespace(thread_time=lambda: next(computed), perf_counter=lambda: next(passed))
    monkeypatch.setattr("numpy.matmul", lambda *given, **more: None)
    monkeypatch.setattr(subject, "time", clock)
    assert subject.calibrate() == {"fp32": 2 * subject.CALIBRATION_SIDE**3 / 0.01}
    clock.thread_time = lambda: 1.0
    assert subject.calibrate() == {}


CPU = Machine(backend="cpu", cpu_name="some processor")


def test_four_bit_training_is_tried_once_a_device_and_remembered(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    asked: list[tuple[object, object]] = []

    def ask(kind: str, request: dict[str, object], **options: object) -> dict[str, bool]:
        asked.append((request["backend"], options["extra"]))
        return {"works": True}

    monkeypatch.setattr("engine.inspection.child.ask", ask)
    found(monkeypatch, Device(name="T4", memory_free=GIB, uuid="GPU-b"), Device(name="P4", memory_free=1, uuid="GPU-c"))
    assert subject.machine().nf4 is None
    assert subject.nf4_works(subject.machine()) is True
    assert subject.nf4_works(subject.machine()) is True
    assert subject.machine().nf4 is True
    assert asked == [("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-b"})]
    found(monkeypatch, Device(name="P4", memory_free=1, uuid="GPU-c"))
    assert subject.machine().nf4 is None
    (state / "nf4.json").write_text("broken")
    found(monkeypatch, Device(name="T4", memory_free=GIB, uuid="GPU-b"))
    assert subject.machine().nf4 is None


@pytest.mark.parametrize(
    "message",
    [
        "4-bit trial: reading it took longer than 60 seconds and was stopped.",
        "4-bit trial: reading it was stopped; most likely the machine ran out of memory.",
    ],
)
def test_a_busy_machine_says_nothing_about_the_kernels(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def fails(*_: object, **__: object) -> dict[str, bool]:
        raise InputError(message)

    monkeypatch.setattr("engine.inspection.child.ask", fails)
    assert subject.nf4_works(CPU) is None
    monkeypatch.setattr("engine.inspection.child.ask", lambda *_, **__: {"works": None})
    assert subject.nf4_works(CPU) is None
    monkeypatch.setattr("engine.inspection.child.ask", lambda *_, **__: {"works": True})
    assert subject.nf4_works(CPU) is True


def test_a_trial_that_crashes_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def crashed(*_: object, **__: object) -> dict[str, bool]:
        raise InputError("4-bit trial: reading it crashed (SIGILL).")

    monkeypatch.setattr("engine.inspection.child.ask", crashed)
    assert subject.nf4_works(CPU) is False
    monkeypatch.setattr("engine.inspection.child.ask", lambda *_, **__: {"works": True})
    assert subject.nf4_works(CPU) is False, "remembered"


def test_of_the_optimizer_another_answer_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.inspection.child.ask", lambda kind, *_, **__: {"works": kind == "nf4"})
    assert subject.nf4_works(CPU) is True
    assert subject.adamw_8bit_works(CPU) is False
    monkeypatch.setattr("engine.inspection.child.ask", lambda *_, **__: {"works": True})
    assert (subject.nf4_works(CPU), subject.adamw_8bit_works(CPU)) == (True, False)


@pytest.mark.faults  # tests/journeys/test_cli.py trains with QLoRA in every run of the suite
def test_four_bit_training_really_runs_here() -> None:
    assert subject.nf4_works(CPU) is True
    assert subject.adamw_8bit_works(CPU) is True


@pytest.mark.faults
def test_a_gpu_that_is_not_there_runs_no_kernels() -> None:
    assert subject.nf4_works(Machine(backend="xpu", devices=(Device(name="Arc"),))) is False


@pytest.mark.parametrize("tried", [kernels.passes_in_4_bit, kernels.steps_in_8_bit])
@pytest.mark.parametrize("said", ["CUDA error: all CUDA-capable devices are busy or unavailable", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_a_card_that_cannot_be_used_now_says_nothing_about_its_kernels(
    monkeypatch: pytest.MonkeyPatch, tried: Callable[[str], bool | None], said: str
) -> None:
    import bitsandbytes as bnb
    import torch

    def failed(*given: object, **more: object) -> None:
        raise RuntimeError(said)

    if said.startswith("CUDA"):
        monkeypatch.setattr(torch, "ones", failed)
    else:
        monkeypatch.setattr(bnb.nn.modules.Linear4bit, "forward", failed)
        monkeypatch.setattr("bitsandbytes.optim.AdamW8bit.step", failed)
    assert tried("cpu") is None


def test_a_cpu_that_was_calibrated_while_it_was_busy_is_not_thought_slow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = inspect.DataInspection(DataFacts(), (), (), 1.0, "a.csv", None, "", None)
    model = inspect.ModelInspection(ModelFacts(), "m", None, "")
    monkeypatch.setattr(calibration, "remembered", lambda machine: {"matmul_flops": {"fp32": 1e10, "bf16": 3e10}})
    monkeypatch.setattr(subject, "calibrate", lambda: {"fp32": 1e11})
    assert inspect.all_facts(CPU, model, rows).measured.matmul_flops == {"fp32": 1e11, "bf16": 3e11}
    monkeypatch.setattr(subject, "calibrate", lambda: {"fp32": 1e9})
    assert inspect.all_facts(CPU, model, rows).measured.matmul_flops == {"fp32": 1e10, "bf16": 3e10}, "it is busy now"
    monkeypatch.setattr(calibration, "remembered", lambda machine: {"launch": 3e-5})
    assert inspect.all_facts(Machine(backend="cuda"), model, rows).measured.launch == 3e-5


def test_the_fastest_reading_of_the_last_days_counts_for_every_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "calibrate", lambda: {"fp32": 1e11})
    assert calibration.fastest_reading(CPU) == {"fp32": 1e11}
    monkeypatch.setattr(subject, "calibrate", lambda: {"fp32": 4e10})
    assert calibration.fastest_reading(CPU) == {"fp32": 1e11}, "it is busy now"
    monkeypatch.setattr(calibration, "FRESH_SECONDS", 0.0)
    assert calibration.fastest_reading(CPU) == {"fp32": 4e10}, "that was long ago"


def test_the_disk_is_the_one_that_the_runs_go_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(subject, "_disk_free", asked.append)
    monkeypatch.setenv("LORACLE_RUNS", str(tmp_path / "elsewhere"))
    inspect.inspect_machine()
    inspect.inspect_machine(tmp_path / "named")
    assert [asked[0], asked[2]] == [tmp_path / "elsewhere", tmp_path / "named"]
