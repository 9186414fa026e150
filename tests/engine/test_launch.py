"""What the worker's process is given."""

import contextlib
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engine import launch
from engine.inspection import accelerators, nvidia
from engine.inspection.accelerators import Accelerators
from engine.inspection.child import ask
from engine.inspection.processor import usable_cores
from engine.needless import without
from engine.new_run import create
from engine.rundir import BEGUN_ANEW
from recommender.errors import Refused
from recommender.facts import Device, Machine
from recommender.plan import Plan
from tests.conftest import LEAST


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    devices: list[Device] = []
    monkeypatch.setattr(accelerators, "accelerators", lambda: Accelerators("cuda" if devices else "cpu", tuple(devices), ()))
    return devices


def test_the_worker_sees_one_gpu_the_freest_by_its_uuid(gpus: list[Device]) -> None:
    gpus += [
        Device(name="a", uuid="GPU-aaa", memory_total=80, memory_free=10),
        Device(name="b", uuid="GPU-bbb", memory_total=40, memory_free=39),
        Device(name="c", uuid="GPU-ccc", memory_total=80, memory_free=None),
    ]
    assert launch.environment()["CUDA_VISIBLE_DEVICES"] == "GPU-bbb"


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_was_not_found_is_hidden_from_the_worker() -> None:
    """As one that a processor comes with, which ROCm's torch would take: the plan was made for the CPU."""
    found = launch.environment()
    assert found["CUDA_VISIBLE_DEVICES"] == found["HIP_VISIBLE_DEVICES"] == "-1"


def test_where_no_process_can_be_started_that_is_said(
    gpus: list[Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    plan = Plan.model_validate(LEAST)
    run = create(tmp_path, plan, None)
    monkeypatch.setattr(subprocess, "Popen", full)
    begins: list[Callable[[], object]] = [
        lambda: launch.launch(run, plan),
        lambda: launch.Waiting(plan),
        lambda: ask("model", {}, about="a model", timeout=9),
    ]
    for begin in begins:
        with pytest.raises(Refused, match="No process can be started here \\(Resource temporarily unavailable\\)"):
            begin()


def test_without_a_folder_for_temporary_files_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that may only read: the libraries of the worker ask for one when they are imported."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    plan = Plan.model_validate(LEAST)
    for begin in (lambda: launch.Waiting(plan), lambda: launch.check_disk(plan, tmp_path)):
        with pytest.raises(Refused, match="set TMPDIR"):
            begin()


def test_a_gpu_that_is_not_to_be_used_is_hidden_from_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its card is too old for the installed torch, say: the plan was made for the CPU, and torch would take the card."""
    found_out = Accelerators("cpu", (), ("The card is too old, so it is not used.",))
    monkeypatch.setattr(accelerators, "accelerators", lambda: found_out)
    found = launch.environment()
    assert found["CUDA_VISIBLE_DEVICES"] == found["HIP_VISIBLE_DEVICES"] == "-1"


def test_the_worker_is_offline_and_imports_nothing_by_accident(gpus: list[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = launch.environment()
    assert "PYTHONPATH" not in found
    assert (found["HF_HUB_OFFLINE"], found["HF_DATASETS_OFFLINE"], found["USE_HUB_KERNELS"]) == ("1", "1", "0")
    assert int(found["OMP_NUM_THREADS"]) == usable_cores() >= 1


def test_a_worker_in_a_job_of_several_processes_is_alone(gpus: list[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the shell of a training pod: accelerate would wait for processes that nobody has started."""
    for name, value in {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "PMI_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}.items():
        monkeypatch.setenv(name, value)
        assert name not in launch.environment()


def test_a_persons_own_settings_win(gpus: list[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "5")
    found = launch.environment()
    assert (found["OMP_NUM_THREADS"], found["MALLOC_MMAP_MAX_"]) == ("7", "5")
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    assert launch.environment()["OMP_NUM_THREADS"] == str(usable_cores()), "torch would take every processor of the machine"


def test_threads_look_for_one_another_for_a_moment_before_they_sleep(gpus: list[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert 0 < int(launch.environment()["GOMP_SPINCOUNT"]) < 300_000
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert "GOMP_SPINCOUNT" not in launch.environment(), "a person's own wish would be overruled"


def test_the_allocator_keeps_large_blocks(gpus: list[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*launch.ALLOCATOR, *launch.SETTINGS, *launch.KERNELS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    found = launch.environment()
    assert found["MALLOC_MMAP_MAX_"] == "0"
    assert int(found["MALLOC_TRIM_THRESHOLD_"]) > 2**30
    assert found["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert all(int(found[name]) < 1024 for name in launch.KERNELS), "a run would grow by every shape that it meets"


APART = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.sbrk.restype = ctypes.c_void_p
large = libc.malloc(8_000_000)
while (small := libc.malloc(40)) < large:  # what is free before it is used up
    pass
another = libc.malloc(8_000_000)
for piece in (large, small, another):
    libc.free(piece)
end = libc.sbrk(0)
libc.malloc(16_000_000)
print(libc.sbrk(0) - end)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc's heap")
def test_no_small_piece_that_was_freed_holds_two_large_ones_apart() -> None:
    grown = subprocess.run(
        [sys.executable, "-c", APART],
        env={"PATH": "/usr/bin:/bin"} | launch.ALLOCATOR,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(grown.stdout) == 0


def test_memory_of_a_gpu_grows_in_place_but_below_windows_or_where_a_person_has_said_otherwise(
    gpus: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in launch.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(nvidia, "under_windows", lambda: False)
    assert launch.expandable()
    monkeypatch.setattr(nvidia, "under_windows", lambda: True)
    assert not launch.expandable()
    assert "PYTORCH_CUDA_ALLOC_CONF" not in launch.environment()
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:64")  # torch's newer name for it
    assert launch.expandable()
    assert launch.environment()["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True,max_split_size_mb:64"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync")
    assert not launch.expandable()
    assert launch.environment()["PYTORCH_CUDA_ALLOC_CONF"] == "backend:cudaMallocAsync"


def test_torch_writes_no_kernels_of_its_own_which_takes_a_compiler_unless_a_person_wants_it(
    gpus: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(launch.AS_BUILT, raising=False)
    monkeypatch.setenv(launch.AS_BUILT, launch.environment()[launch.AS_BUILT])
    torchs = pytest.importorskip("torch._native.common_utils", reason="an older torch writes none")
    assert torchs.check_native_jit_disabled.__wrapped__()
    monkeypatch.setenv(launch.AS_BUILT, "0")
    assert launch.environment()[launch.AS_BUILT] == "0"


def test_the_worker_is_a_process_of_its_own_that_a_ctrl_c_does_not_reach(
    gpus: list[Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}
    waited = threading.Event()

    class Process:
        def __init__(self, command: list[str], **options: Any) -> None:
            called.update(options, command=command)

        def wait(self) -> int:
            called["daemon"] = threading.current_thread().daemon
            waited.set()
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    run = create(tmp_path, Plan.model_validate(LEAST), None)
    launch.launch(run, run.plan())
    assert waited.wait(10), "it would stay a zombie for as long as the app lives"
    assert called["daemon"], "whoever started it may leave before it"
    assert called["env"] == launch.environment()
    assert called["start_new_session"] is True
    assert called["cwd"] == run.path
    assert called["command"][1:] == ["-P", "-m", "engine.worker", str(run.path)]
    assert called["stdin"] == subprocess.DEVNULL
    assert run.log.read_text() == ""
    run.log.write_text("out of words\n")
    launch.launch(run, run.plan())
    assert run.log.read_text() == f"out of words\n{BEGUN_ANEW}"


@pytest.mark.parametrize(("method", "free", "fits"), [("full", 10**9, False), ("full", 2 * 10**9, True), ("lora", 10**9, True)])
@pytest.mark.parametrize("known", ["a folder", "a hub model in the cache", "the index of one that is not", "its weights twice"])
def test_a_disk_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, free: int, fits: bool, known: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--some--model" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    if "a" not in known.split():
        (folder / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 100000000}}')
    # Mistral's folders hold all of them once more, in one file that nobody here reads.
    for name in [] if "index" in known else ["model", "consolidated"] if "twice" in known else ["model"]:
        with (folder / f"{name}.safetensors").open("wb") as file:
            os.truncate(file.fileno(), 100_000_000)
    adapter = {"rank": 8, "alpha": 16} if method == "lora" else {}
    model = {"id": str(folder)} if known == "a folder" else {"id": "some/model", "revision": "abc"}
    plan = Plan.model_validate(LEAST | adapter | {"model": model, "method": method})
    usage = shutil.disk_usage(tmp_path)
    elsewhere = 10**15  # on other disks
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free if path == tmp_path else elsewhere))
    where = tmp_path / "not" / "yet" / "there"
    if fits:
        launch.check_disk(plan, where)
    else:
        with pytest.raises(Refused, match=r"the run needs at least .* of disk and .* is free.*--runs"):
            launch.check_disk(plan, where)
        (tmp_path / "group.json").touch()
        with pytest.raises(Refused, match=r"is free\. Free some space\.$"):  # a comparison's runs stay together
            launch.check_disk(plan, tmp_path)
    assert not where.exists()


@pytest.mark.parametrize(
    ("held", "finished", "saved", "least"),
    [(0, False, False, 1350), (1000, False, False, 450), (1000, True, False, 150), (1000, True, True, 1)],
)
def test_a_run_that_goes_on_asks_for_what_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, finished: bool, saved: bool, least: int
) -> None:
    """Of a training that was over all checkpoints were asked for, where the result alone was still to be written."""
    (tmp_path / "weights").mkdir()
    with (tmp_path / "weights" / "model.safetensors").open("wb") as file:
        os.truncate(file.fileno(), 100_000_000)
    plan = Plan.model_validate(LEAST | {"model": {"id": str(tmp_path / "weights")}})
    run = create(tmp_path / "runs", plan, None)
    with (run.checkpoints / "optimizer.pt").open("wb") as file:
        os.truncate(file.fileno(), held * 1_000_000)
    if finished:
        (run.checkpoints / "finished.json").touch()
    if saved:
        run.model.mkdir()
    usage = shutil.disk_usage(tmp_path)
    free = [least * 1_000_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free[0]))
    launch.check_disk(plan, run)
    free[0] -= 1
    less: list[dict[str, object]] = [{"precision": "bf16"}] * (not saved)  # weights may be stored in fp32
    less += [{"optimizer": "adamw_8bit"}, {"trained": "no_embeddings"}] * (not finished)
    for fields in less:
        launch.check_disk(plan.model_copy(update=fields), run)
    with pytest.raises(Refused, match=r"the run needs at least .* and .* is free\. Free some space\.$"):
        launch.check_disk(plan, run)


def test_a_worker_that_waits_is_sent_away_or_ends_with_its_parent(tmp_path: Path) -> None:
    plan = Plan.model_validate(LEAST)
    with launch.Waiting(plan) as waiting:
        process = psutil.Process(waiting.pid)
        assert waiting.memory() > 0
    assert not process.is_running()

    code = "import os, sys; from engine.launch import Waiting; from recommender.plan import Plan\n"
    code += f"print(Waiting(Plan.model_validate({LEAST!r})).pid, flush=True); os._exit(9)"
    orphan = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stdout)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(orphan).wait(60)


def test_a_run_is_given_to_no_worker_that_is_gone_or_lacks_what_its_plan_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan.model_validate(LEAST)
    run = create(tmp_path, plan, None)
    in_bits = plan.model_copy(update={"optimizer": "adamw_8bit"})
    with launch.Waiting(plan) as waiting:
        assert waiting.serves(plan)
        deadline = time.monotonic() + 60  # on a busy machine it may not have begun
        while "USE_HUB_KERNELS" not in (found := psutil.Process(waiting.pid).environ()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert found["USE_HUB_KERNELS"] == "0"
        assert not waiting.take(run, in_bits), "its libraries look for no bitsandbytes any more"
        with monkeypatch.context() as later:
            later.setattr(launch, "freest_device", lambda: {"CUDA_VISIBLE_DEVICES": "another"})
            assert not waiting.take(run, plan), "it would train on a card that others have taken meanwhile"
        psutil.Process(waiting.pid).kill()
        psutil.Process(waiting.pid).wait()
        assert not waiting.take(run, plan)


def test_packages_that_a_run_does_without_are_not_found_while_others_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported_yet.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with without(["never_imported_yet", "json"]):
        assert find_spec("never_imported_yet") is None
        with pytest.raises(ModuleNotFoundError):
            import_module("never_imported_yet")
        assert import_module("json") is json, "what is there already stays"
        assert not gc.isenabled()
    assert gc.isenabled()
    assert import_module("never_imported_yet").__name__ == sys.modules.pop("never_imported_yet").__name__


@pytest.mark.parametrize(
    ("cores", "then", "now", "room"), [(2, 8, 8, True), (1, 8, 8, False), (2, 3, 8, False), (2, 8, 3, False), (2, None, 8, False)]
)
def test_a_process_is_made_ready_only_where_cores_and_memory_are_free(
    cores: int, then: int | None, now: int, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=now * 1024**3))
    machine = Machine(backend="cpu", cpu_cores=cores, ram_available=then and then * 1024**3)
    assert launch.is_room_beside(machine) == room
