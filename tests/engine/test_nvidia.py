"""NVIDIA GPUs: what the driver says of each, which of them this process may use, and every way it fails to answer."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.inspection import nvidia as subject
from recommender.facts import Device

GIB = 1024**3


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


class Driver:
    """What pynvml is where two cards are, the second freer and older; a test may change every answer."""

    nvmlMemory_v2 = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda i: i,
            "nvmlDeviceGetUUID": lambda card: f"GPU-{'ab'[card]}-1",
            "nvmlDeviceGetName": lambda card: [b"NVIDIA A100", "Tesla T4"][card],
            "nvmlDeviceGetMemoryInfo": lambda card, version=None: self.memory(card),
            "nvmlDeviceGetCudaComputeCapability": lambda card: [(8, 0), (7, 5)][card],
            "nvmlDeviceGetTemperature": lambda card, sensor: [60, 31][card],
            "nvmlDeviceGetComputeRunningProcesses": lambda card: [[process(7, 9 * GIB), process(8, 29 * GIB)], []][card],
            "nvmlDeviceGetGraphicsRunningProcesses": lambda card: [[process(8, 29 * GIB)], []][card],
        }

    def memory(self, card: int) -> SimpleNamespace:
        total, free, reserved = [(40 * GIB, 1 * GIB, 1 * GIB), (16 * GIB, 13 * GIB, 1 * GIB)][card]
        return SimpleNamespace(total=total, free=free, used=total - free - reserved)

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            raise AttributeError(name)
        return self.answers[name]


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subject, "driver_present", lambda: True)
    monkeypatch.setattr(subject, "ask", lambda kind, request, **_: subject.report(7))
    return made


@pytest.mark.usefixtures("driver")
def test_each_card_as_it_is_now() -> None:
    (a100, t4), problems = subject.look("13.0")
    assert a100 == Device(
        name="NVIDIA A100",
        memory_total=40 * GIB,
        memory_free=1 * GIB,
        compute_capability=(8, 0),
        bf16=True,
        uuid="GPU-a-1",
        mig=False,
        shares_memory=False,
        temperature=60,
        held_by_others=29 * GIB,
    )
    # Nobody is listed, as in a container, and two GiB are in use all the same.
    assert (t4.bf16, t4.temperature, t4.held_by_others, t4.memory_free) == (False, 31, 2 * GIB, 13 * GIB)
    assert problems == ()


def test_what_a_driver_does_not_tell_hides_no_card(driver: Driver) -> None:
    for name in list(driver.answers):
        if name.startswith("nvmlDevice") and name not in (
            "nvmlDeviceGetCount",
            "nvmlDeviceGetHandleByIndex",
            "nvmlDeviceGetName",
        ):
            del driver.answers[name]
    driver.answers["nvmlDeviceGetCount"] = lambda: 1
    assert subject.look("13.0") == ((Device(name="NVIDIA A100", mig=False, shares_memory=False),), ())


def test_processes_whose_memory_is_not_told_hold_what_is_used(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetComputeRunningProcesses"] = lambda card: [process(9, None)]
    assert [device.held_by_others for device in subject.look("13.0")[0]] == [38 * GIB, 2 * GIB]


def test_an_old_driver_without_the_second_kind_of_answer(driver: Driver) -> None:
    def first_kind(card: int) -> SimpleNamespace:
        return driver.memory(card)

    driver.answers["nvmlDeviceGetMemoryInfo"] = first_kind
    assert [device.memory_free for device in subject.look("13.0")[0]] == [1 * GIB, 13 * GIB]


def test_a_chip_that_shares_the_systems_memory(driver: Driver) -> None:
    def none(card: int, version: int | None = None) -> None:
        raise NvmlError(3)

    driver.answers["nvmlDeviceGetMemoryInfo"] = none
    assert [(device.shares_memory, device.memory_total) for device in subject.look("13.0")[0]] == [(True, None), (True, None)]


def test_a_card_that_is_lost_leaves_the_other(driver: Driver) -> None:
    def lost(card: int) -> int:
        if card == 0:
            raise NvmlError(15)
        return card

    driver.answers["nvmlDeviceGetHandleByIndex"] = lost
    devices, problems = subject.look("13.0")
    assert [device.uuid for device in devices] == ["GPU-b-1"]
    assert problems == ("NVIDIA GPU 0 does not answer (error 15), so it is not used.",)


@pytest.mark.parametrize(("setting", "shown"), [(None, ["NVIDIA A100"]), ("1,0", ["NVIDIA A100"]), ("1", ["Tesla T4"])])
def test_a_card_that_cannot_be_chosen_among_several_is_left_out(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, setting: str | None, shown: list[str]
) -> None:
    """It is the freest: a worker that saw both would spread over them, and the plan was made for one."""
    driver.answers["nvmlDeviceGetUUID"] = lambda card: {0: "GPU-a-1"}[card]
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    devices, problems = subject.look("13.0")
    assert [device.name for device in devices] == shown
    assert ["CUDA_VISIBLE_DEVICES=1 " in problem for problem in problems] == [True] * (shown != ["Tesla T4"])


def test_a_card_cut_into_slices_is_its_slices(driver: Driver) -> None:
    """The first card has slices 0 and 2; slices share its temperature and what it can do."""
    parts = {0: "MIG-aaaa-1", 2: "MIG-abbb-2"}

    def part(card: int, place: int) -> str:
        return parts[place]

    def memory(handle: int | str, version: int | None = None) -> SimpleNamespace:
        return driver.memory(handle) if isinstance(handle, int) else SimpleNamespace(total=5 * GIB, free=4 * GIB, used=GIB)

    driver.answers |= {
        "nvmlDeviceGetMigMode": lambda card: [1 - card, 0],
        "nvmlDeviceGetMaxMigDeviceCount": lambda card: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": part,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetUUID": lambda h: h if isinstance(h, str) else f"GPU-{'ab'[h]}-1",
        "nvmlDeviceGetName": lambda h: "A100 MIG 1g.5gb" if isinstance(h, str) else ["NVIDIA A100", "Tesla T4"][h],
        "nvmlDeviceGetGpuInstanceId": lambda h: 7 + list(parts.values()).index(h),
        "nvmlDeviceGetComputeInstanceId": lambda h: 0,
    }
    devices, problems = subject.look("13.0")
    assert [(d.uuid, d.mig, d.name) for d in devices] == [
        ("MIG-aaaa-1", True, "A100 MIG 1g.5gb"),
        ("MIG-abbb-2", True, "A100 MIG 1g.5gb"),
        ("GPU-b-1", False, "Tesla T4"),
    ]
    first = devices[0]
    assert (first.memory_total, first.memory_free, first.held_by_others) == (5 * GIB, 4 * GIB, GIB)
    assert (first.compute_capability, first.bf16, first.temperature) == ((8, 0), True, 60)
    assert problems == ()

    def shown(setting: str) -> list[str | None]:
        answer = subject.report(7)
        units = [(Device.model_validate(u), u["card"], u["names"]) for u in answer["units"]]
        return [device.uuid for device in subject.visible(units, answer["cards"], setting)]

    assert shown("MIG-abbb-2") == ["MIG-abbb-2"]
    assert shown("MIG-ab,GPU-b") == ["MIG-abbb-2", "GPU-b-1"]
    assert shown("MIG-a") == [], "two slices begin so"
    assert shown("MIG-GPU-a-1/8/0") == ["MIG-abbb-2"]
    assert shown("0") == shown("GPU-a-1") == ["MIG-aaaa-1", "MIG-abbb-2"]
    assert shown("1") == ["GPU-b-1"]


def test_a_card_that_is_to_be_cut_and_has_no_slices(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetMigMode"] = lambda card: [1 - card, 0]
    driver.answers["nvmlDeviceGetMaxMigDeviceCount"] = lambda card: 7
    devices, problems = subject.look("13.0")
    assert [device.uuid for device in devices] == ["GPU-b-1"]
    assert len(problems) == 1
    assert "NVIDIA A100 is set to be cut into slices (MIG) and has none" in problems[0]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        (None, ["GPU-a-1", "GPU-b-1"]),
        ("", []),
        ("-1", []),
        ("1", ["GPU-b-1"]),
        ("1,0", ["GPU-b-1", "GPU-a-1"]),
        (" 1 , 0 ", ["GPU-b-1", "GPU-a-1"]),
        ("0,-1,1", ["GPU-a-1"]),
        ("0,9,1", ["GPU-a-1"]),
        ("7", []),
        ("GPU-b-1", ["GPU-b-1"]),
        ("GPU-b", ["GPU-b-1"]),
        ("GPU-", []),
        ("nonsense", []),
        ("²", []),
        ("9" * 5000, []),
    ],
)
def test_the_gpus_that_cuda_would_show(monkeypatch: pytest.MonkeyPatch, setting: str | None, shown: list[str]) -> None:
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    devices, problems = subject.look("13.0")
    assert [device.uuid for device in devices] == shown
    assert bool(problems) == (not shown)
    assert all("CUDA_VISIBLE_DEVICES" in problem for problem in problems)


def test_a_driver_older_than_torch_needs(driver: Driver) -> None:
    driver.answers["nvmlSystemGetCudaDriverVersion_v2"] = lambda: 12020
    devices, problems = subject.look("13.0")
    assert devices == ()
    assert "knows CUDA 12.2 and the installed torch needs 13.0" in problems[0]
    assert len(subject.look("12.8")[0]) == 2, "one generation works together"


def test_a_card_that_torch_no_longer_supports(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetCudaComputeCapability"] = lambda card: [(7, 0), (7, 5)][card]
    devices, problems = subject.look("13.0")
    assert [device.name for device in devices] == ["Tesla T4"]
    assert "NVIDIA A100 is too old for the installed torch (CUDA 13.0)" in problems[0]
    assert len(subject.look("12.6", wheel="2.13.0+cu126")[0]) == 2
    assert len(subject.look("12.8", wheel="2.10.0+cu128")[0]) == 2
    assert [device.name for device in subject.look("12.8", wheel="2.11.0+cu128")[0]] == ["Tesla T4"]
    driver.answers["nvmlDeviceGetCudaComputeCapability"] = lambda card: [(6, 1), (7, 0)][card]
    devices, problems = subject.look("12.8", wheel="2.8.0+cu128")
    assert [device.name for device in devices] == ["Tesla T4"]
    assert "NVIDIA A100 is too old for the installed torch (CUDA 12.8), so it is not used; torch for CUDA 12.6" in problems[0]
    assert len(subject.look("12.8")[0]) == 2, "others' builds hold kernels for such cards"


def test_a_card_that_torch_does_not_support_yet(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetCudaComputeCapability"] = lambda card: [(12, 0), (9, 0)][card]
    devices, problems = subject.look("12.6", wheel="2.13.0+cu126")
    assert [device.name for device in devices] == ["Tesla T4"]
    assert problems[0] == (
        "NVIDIA A100 is too new for the installed torch (CUDA 12.6), so it is not used; torch for CUDA 12.8 or later can use it."
    )
    assert len(subject.look("12.8", wheel="2.8.0+cu128")[0]) == len(subject.look("12.6")[0]) == 2


def test_numbers_that_cannot_be_are_not_believed(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetMemoryInfo"] = lambda card, version=None: SimpleNamespace(total=2**64 - 1, free=0, used=0)
    devices, problems = subject.look("13.0")
    assert devices == ()
    assert "numbers that cannot be" in problems[0]


def test_a_driver_that_does_not_start_is_a_fact(driver: Driver) -> None:
    def mismatch() -> None:
        raise RuntimeError("Driver/library version mismatch\x1b[31m")

    driver.answers["nvmlInit"] = mismatch
    devices, problems = subject.look("13.0")
    assert devices == ()
    assert problems == ("The NVIDIA driver does not work (Driver/library version mismatch\\x1b[31m), so no GPU is used.",)


def test_without_the_drivers_library_for_python(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    devices, problems = subject.look("13.0")
    assert devices == ()
    assert "does not work" in problems[0]


def test_without_a_card_nobody_is_asked_and_nothing_is_said(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> dict[str, Any]:
        raise AssertionError("asked")

    monkeypatch.setattr(subject, "ask", never)
    monkeypatch.setattr(subject, "driver_present", lambda: False)
    monkeypatch.setattr(subject, "_unreachable", lambda: ())
    assert subject.look("13.0") == ((), ())


def test_a_card_that_nothing_here_can_talk_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was started without its GPUs, and on a fresh system without NVIDIA's driver."""
    monkeypatch.setattr(subject, "JETSON", tmp_path / "nv_tegra_release")
    for place, (vendor, kind) in enumerate([("0x10de", "0x040300"), ("0x8086", "0x030000"), ("0x10de", "0x030200")]):
        assert subject._unreachable(tmp_path) == ()
        (tmp_path / str(place)).mkdir()
        (tmp_path / str(place) / "vendor").write_text(f"{vendor}\n")
        (tmp_path / str(place) / "class").write_text(f"{kind}\n")
    (told,) = subject._unreachable(tmp_path)
    assert "There is an NVIDIA GPU whose driver cannot be reached from here" in told
    subject.JETSON.touch()
    assert "Jetson" in subject._unreachable(tmp_path)[0]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the interpreter of the child; the test writes what it does."""
    script = tmp_path / "python"
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(subject, "driver_present", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return script


def test_a_driver_that_hangs_is_a_fact_and_not_a_hang(child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(subject, "DRIVER_SECONDS", 1.0)
    devices, problems = subject.look("13.0")
    assert devices == ()
    assert "did not answer within 1 seconds, so no GPU is used" in problems[0]


@pytest.mark.parametrize("does", ["kill -SEGV $$", "exit 3", "echo nonsense"])
def test_a_driver_that_crashes_is_a_fact(child: Path, does: str) -> None:
    child.write_text(f"#!/bin/sh\ncat >/dev/null\n{does}\n")
    devices, problems = subject.look("13.0")
    assert devices == ()
    assert "The NVIDIA driver cannot be asked, so no GPU is used" in problems[0]


def test_the_library_is_found_where_the_loader_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "card_present", lambda: False)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    before = subject.driver_present()
    (tmp_path / "libnvidia-ml.so.1").touch()
    assert subject.driver_present()
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert subject.driver_present() == before


def test_a_real_child_without_a_driver_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, on machines with and without a card."""
    monkeypatch.setattr(subject, "driver_present", lambda: True)
    devices, problems = subject.look("12.0")
    assert devices or problems
    assert not any("cannot be asked" in problem for problem in problems)
