"""Which backend counts, by the torch that is installed; AMD's cards from /sys; Intel's and Apple's as torch tells."""

import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.inspection import accelerators as subject
from engine.inspection import amd, nvidia
from engine.inspection.accelerators import Accelerators
from recommender.errors import InputError
from recommender.facts import Device

GIB = 1024**3
CARD = Device(name="card", memory_total=8 * GIB, memory_free=8 * GIB, uuid="GPU-1")


@pytest.mark.parametrize(
    ("text", "build"),
    [
        (
            "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n",
            {"cuda": "13.0", "wheel": "2.13.0+cu130"},
        ),
        ("__version__ = '2.9.0'\ncuda: Optional[str] = '12.9'\n", {"cuda": "12.9"}),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482'\nrocm = '6.4'\n", {"hip": "6.4.43482"}),
        ('cuda = None\nxpu: Optional[str] = "20250101"\n', {"xpu": "20250101"}),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n", {}),
        ("", {}),
    ],
)
def test_what_torch_was_built_for(tmp_path: Path, text: str, build: dict[str, str]) -> None:
    (tmp_path / "version.py").write_text(text)
    assert subject.torch_build([str(tmp_path)]) == build
    assert subject.torch_build([str(tmp_path / "none")]) == {}


def test_the_installed_torch_says_what_it_was_built_for() -> None:
    import torch

    said = {"cuda": torch.version.cuda, "hip": torch.version.hip, "xpu": torch.version.xpu}
    assert {n: v for n, v in subject.torch_build().items() if n != "wheel"} == {n: v for n, v in said.items() if v}


def built_for(monkeypatch: pytest.MonkeyPatch, **build: str) -> None:
    monkeypatch.setattr(subject, "torch_build", lambda: build)


def test_one_backend_counts_the_one_torch_is_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "look", lambda cuda, wheel: ((CARD,), (f"asked for {cuda} {wheel}",)))
    monkeypatch.setattr(amd, "look", lambda: ((CARD, CARD), ()))
    built_for(monkeypatch, cuda="12.8", wheel="2.9.0+cu128")
    assert subject.accelerators() == Accelerators("cuda", (CARD,), ("asked for 12.8 2.9.0+cu128",))
    built_for(monkeypatch, hip="6.4")
    assert subject.accelerators() == Accelerators("rocm", (CARD, CARD), ())
    monkeypatch.setattr(nvidia, "look", lambda cuda, wheel: ((), ("no driver",)))
    built_for(monkeypatch, cuda="12.8")
    assert subject.accelerators() == Accelerators("cpu", (), ("no driver",))


def test_a_card_that_the_installed_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    built_for(monkeypatch)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(nvidia, "card_present", lambda: True)
    monkeypatch.setattr(amd, "card_present", lambda: False)
    found = subject.accelerators()
    assert (found.backend, found.devices) == ("cpu", ())
    assert len(found.problems) == 1
    assert "There is an NVIDIA GPU, and the installed torch is built for the CPU only" in found.problems[0]


def test_apple_and_intel_are_told_by_torch_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ask(kind: str, request: dict[str, Any], **_: object) -> dict[str, Any]:
        asked.append((kind, request["backend"]))
        return {"devices": [{"name": "one", "memory_total": GIB}]}

    monkeypatch.setattr(subject, "ask", ask)
    built_for(monkeypatch)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert subject.accelerators() == Accelerators("mps", (Device(name="one", memory_total=GIB),), ())
    monkeypatch.setattr(sys, "platform", "linux")
    built_for(monkeypatch, xpu="2025")
    monkeypatch.setattr(subject, "_intel_present", lambda: False)
    assert subject.accelerators() == Accelerators("cpu", (), ())
    monkeypatch.setattr(subject, "_intel_present", lambda: True)
    assert subject.accelerators().backend == "xpu"
    assert asked == [("torch_devices", "mps"), ("torch_devices", "xpu")]


def test_a_torch_that_does_not_answer_is_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> dict[str, Any]:
        raise InputError("torch: reading it crashed (SIGSEGV).")

    monkeypatch.setattr(subject, "ask", fails)
    monkeypatch.setattr(subject, "_intel_present", lambda: True)
    built_for(monkeypatch, xpu="2025")
    found = subject.accelerators()
    assert found.backend == "cpu"
    assert "torch could not be asked for its xpu devices" in found.problems[0]


def test_the_real_torch_has_no_such_device_here() -> None:
    """Through a real child: this build of torch answers with an empty list where there is no such device."""
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    assert subject._told_by_torch("mps") == ((), ())


def card(tree: amd.Tree, slot: str, files: dict[str, str], minor: int = 128) -> None:
    folder = tree.drm.parent / "devices" / slot
    link = tree.drm / f"card{minor - 128}"
    link.mkdir(parents=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "drm" / f"renderD{minor}").mkdir(parents=True)
    (link / "device").symlink_to(folder)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> amd.Tree:
    """An instinct and a consumer card, the latter first on the bus, and graphics built into the processor."""
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    made = amd.Tree(tmp_path / "drm", tmp_path / "nodes", tmp_path / "kfd")
    made.compute.touch()
    instinct = {
        "vendor": "0x1002",
        "device": "0x740c",
        "product_name": "Instinct MI250",
        "unique_id": "abc123",
        "mem_info_vram_total": str(64 * GIB),
        "mem_info_vram_used": str(4 * GIB),
        "hwmon/hwmon3/temp1_input": "41500",
    }
    consumer = {"vendor": "0x1002", "device": "0x73bf", "mem_info_vram_total": str(16 * GIB), "mem_info_vram_used": "0"}
    built_in = {"vendor": "0x1002", "device": "0x1638", "mem_info_vram_total": str(GIB // 2), "mem_info_vram_used": "0"}
    intel = {"vendor": "0x8086"}
    card(made, "0000:83:00.0", instinct, 128)
    card(made, "0000:03:00.0", consumer, 129)
    card(made, "0000:05:00.0", built_in, 130)
    card(made, "0000:00:02.0", intel, 131)
    for place, (minor, target) in enumerate([(128, 90010), (129, 100300)]):
        node = made.nodes / str(place) / "properties"
        node.parent.mkdir(parents=True)
        node.write_text(f"cpu_cores_count 0\ngfx_target_version {target}\ndrm_render_minor {minor}\n")
    return made


def test_amd_cards_as_the_kernel_shows_them(tree: amd.Tree) -> None:
    (consumer, instinct), problems = amd.look(tree)
    assert instinct == Device(
        name="Instinct MI250",
        memory_total=64 * GIB,
        memory_free=60 * GIB,
        held_by_others=4 * GIB,
        bf16=True,
        uuid="GPU-abc123",
        temperature=41,
    )
    assert (consumer.name, consumer.memory_free, consumer.bf16, consumer.uuid) == ("AMD GPU 0x73bf", 16 * GIB, False, None)
    assert problems == ()
    assert amd.card_present(tree)


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"ROCR_VISIBLE_DEVICES": "1"}, ["GPU-abc123"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-abc123,0"}, ["GPU-abc123", None]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-abc123,0", "HIP_VISIBLE_DEVICES": "1"}, [None]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, [None]),
        ({"CUDA_VISIBLE_DEVICES": "1,7,0"}, ["GPU-abc123"]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "5"}, []),
    ],
)
def test_the_amd_cards_that_rocm_would_show(
    tree: amd.Tree, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], shown: list[str | None]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    devices, problems = amd.look(tree)
    assert [device.uuid for device in devices] == shown
    assert bool(problems) == (not shown)


def test_amd_cards_that_may_not_be_used_are_said(tree: amd.Tree) -> None:
    tree.compute.unlink()
    devices, problems = amd.look(tree)
    assert devices == ()
    assert "is missing, so no GPU is used" in problems[0]


def test_graphics_of_a_processor_are_told_where_there_is_nothing_else(tree: amd.Tree) -> None:
    (tree.drm / "card0" / "device" / "vendor").write_text("0x8086")
    assert len(amd.look(tree)[0]) == 1
    (tree.drm / "card1" / "device" / "vendor").write_text("0x8086")
    devices, (told,) = amd.look(tree)
    assert devices == ()
    assert "less than 2 GB of memory of its own" in told


def test_files_that_cannot_be_believed_hide_nothing_else(tree: amd.Tree) -> None:
    (tree.drm / "card0" / "device" / "hwmon" / "hwmon3" / "temp1_input").write_text("hot\n")
    (tree.drm / "card0" / "device" / "mem_info_vram_used").write_bytes(b"\xff\xfe")
    (tree.drm / "card1" / "device" / "mem_info_vram_total").write_text("9" * 5000)
    (instinct,), problems = amd.look(tree)
    assert (instinct.temperature, instinct.memory_free, instinct.memory_total) == (None, None, 64 * GIB)
    assert problems == ()


def test_one_device_is_shown_to_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.delenv(name, raising=False)
    other = Device(name="other")
    assert subject.only(Accelerators("cuda", (CARD, other), ()), CARD) == {"CUDA_VISIBLE_DEVICES": "GPU-1"}
    assert subject.only(Accelerators("rocm", (CARD, other), ()), CARD)["ROCR_VISIBLE_DEVICES"] == "GPU-1"
    assert subject.only(Accelerators("rocm", (CARD, other), ()), other) == {"HIP_VISIBLE_DEVICES": "1"}
    assert subject.only(Accelerators("xpu", (CARD, other), ()), other) == {"ZE_AFFINITY_MASK": "1"}
    monkeypatch.setenv("ZE_AFFINITY_MASK", "3,5")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,4")
    assert subject.only(Accelerators("xpu", (CARD, other), ()), other) == {"ZE_AFFINITY_MASK": "5"}
    assert subject.only(Accelerators("rocm", (CARD, other), ()), other) == {"HIP_VISIBLE_DEVICES": "4"}
    assert subject.only(Accelerators("mps", (CARD,), ()), CARD) == {}
