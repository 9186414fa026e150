"""Starting the worker: a process of its own, in its own session, that outlives whoever started it."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

import psutil

from engine.checkpoints import FINISHED
from engine.files import disk_free, folder_size, json_object
from engine.inspection import accelerators, nvidia
from engine.inspection.child import leave_idle
from engine.inspection.hub_list import hub_cache
from engine.inspection.processor import own_threads, usable_cores
from engine.needless import needless
from engine.processes import execute
from engine.rundir import BEGUN_ANEW, RunDirectory, is_group
from recommender.errors import Refused
from recommender.facts import Machine
from recommender.figures import size
from recommender.footprint import BESIDE_RESULT, BESIDE_WEIGHTS, CHECKPOINTS
from recommender.plan import Plan

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 1024**3),
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}
"""glibc maps large blocks anew at every operation and gives them back at every free; the kernel's clearing of those
pages takes as long as the arithmetic. Keeping them on the heap took padded BERT batches from 1.6 to 2.6 rows/s; raising
the mmap threshold alone is not enough, glibc caps it at 32 MiB (benchmarks/results). Of small pieces that are freed glibc
remembers some in lists of their own (tcache, fastbins), where they do not become one with what is free beside them: a piece of
less than 128 bytes between two tensors then holds them apart, and the heap grows. Without these lists 16 steps of MiniLM on rows
of unequal lengths took 656 MB instead of 946, and no more time."""

ALLOCATOR_GPU = "expandable_segments:True"
"""torch's memory of a GPU grows where it ends: micro-batches are of ever other sizes, and blocks of one fit no other. Not below
Windows, whose driver refuses the first allocation (pytorch issue 192330); the worker looks whether others do."""
SETTINGS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Environment variables of it."""

WAITING = {"GOMP_SPINCOUNT": "1000"}
"""How often a thread of GNU's OpenMP, which torch has on Linux, looks whether the others are ready before it sleeps. As usual it
looks 300,000 times, and beside other work a step on short rows takes three times as long; one that sleeps at once (`PASSIVE`)
leaves an idle machine idle for a quarter of a step. A thousand times costs little of either (benchmarks/waiting.py)."""

KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Kernels that oneDNN (and torch's layer above it) keep for its products, one for each shape, which micro-batches without
padding hardly ever repeat. With the usual 1,024 a run of MiniLM grew by 6 MB a step, up to 1 GB; with 64 it stays within 70 MB
and is as fast (160 steps of 200 to 700 tokens)."""
ROOM = 4 * 1024**3
"""Bytes of main memory that have to be free for a process to be made ready beside others: it takes 500 MB before it has begun."""
AS_BUILT = "TORCH_DISABLE_NATIVE_JIT"
"""Set to 1, torch keeps to the kernels that it was built with. Since 2.13 it writes some anew at their first use on a GPU, with a
compiler and Python's headers, and fails where these are missing: so would every model with rotary positions (pytorch issue
196977). What they save is nothing beside a training step."""

OF_MANY = (
    "LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
"""Environment variables by which a cluster's job or a training pod says that it is one of several processes: accelerate would
wait for the others, or fail for lack of their address, once the model is loaded."""


class Waiting:
    """A worker that imports its libraries, seconds of work, and waits to be told its run.

    So they are imported while plan, model and data are still looked at. It is sent away at the end of a `with` that gave it no
    run; where its parent dies, its input ends, and so does it.
    """

    def __init__(self, plan: Plan) -> None:
        """For a run of this plan, or of one like it.

        Raises:
            Refused: no process can be started, or there is no folder for temporary files.
        """
        self._without = needless(plan)
        check_temporary()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - the worker's until it knows its log
        said = self._said
        self._environment = environment()
        try:
            words = ["engine.worker", "--wait", *self._without]
            self._process = execute(words, cwd="/", stdin=subprocess.PIPE, stdout=said, stderr=said, env=self._environment)
        except Refused:
            said.close()
            raise
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._told:
            self._process.kill()  # it has nothing that could be lost
            self._process.communicate()
        self._said.close()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def memory(self) -> int:
        """Bytes of main memory that it has taken for itself."""
        try:
            info = psutil.Process(self._process.pid).memory_info()
        except psutil.Error:
            return 0
        return max(int(info.rss - getattr(info, "shared", 0)), 0)

    def serves(self, plan: Plan) -> bool:
        """Whether it still waits, with the libraries that this plan needs."""
        return not self._told and self._without == needless(plan) and self._process.poll() is None

    def take(self, run: RunDirectory, plan: Plan) -> bool:
        """Give it that run; whether it took it. One that is gone, that lacks a library which the plan needs, or that sees another
        GPU than the freest one of now, takes none."""
        if not self.serves(plan) or self._process.stdin is None or self._environment != environment():
            return False
        try:
            self._process.stdin.write(os.fsencode(run.path) + b"\n")
            self._process.stdin.close()
        except OSError:
            return False
        self._told = True
        _reap(self._process)
        return True


def is_room_beside(machine: Machine) -> bool:
    """Whether a process may import its libraries beside what else is done, without taking a core or memory that others need."""
    free = min(machine.ram_available or 0, psutil.virtual_memory().available)
    return (machine.cpu_cores or 1) > 1 and free >= ROOM


def check_temporary() -> None:
    """Refuse now what would fail in the worker: libraries ask for a folder of temporary files when they are imported.

    Raises:
        Refused: none can be written, as in a container that may only read.
    """
    try:
        tempfile.gettempdir()
    except OSError:
        raise Refused("No folder for temporary files can be written here; set TMPDIR to one that can, and try again.") from None


def launch(run: RunDirectory, plan: Plan, waiting: Waiting | None = None) -> None:
    """Start the worker of that run, or give the run to the one that waits, and return at once.

    Executed, never forked: a fork after torch used its threads hangs. No terminal: a Ctrl-C meant for the viewer must
    not reach the worker. Its folder is the run.

    Raises:
        OSError: its log cannot be written.
        Refused: no process can be started.
    """
    leave_idle()  # the run has more use for its memory
    if waiting is not None and waiting.take(run, plan):
        return
    with run.log.open("ab") as log:
        if log.tell():
            log.write(BEGUN_ANEW.encode())
            log.flush()
        words = ["engine.worker", str(run.path)]
        process = execute(words, cwd=run.path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
    _reap(process)


def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Someone must wait for the child, or a finished worker stays a zombie for as long as the app lives."""
    with contextlib.suppress(RuntimeError):  # no thread is left: the worker runs, and nobody is to be told otherwise
        threading.Thread(target=process.wait, daemon=True, name="reaper").start()


def environment() -> dict[str, str]:
    """The worker's environment: offline, quiet, alone, one GPU, a recorded number of threads."""
    env = {name: value for name, value in os.environ.items() if name not in OF_MANY and not name.startswith("ACCELERATE_")}
    env |= {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "USE_HUB_KERNELS": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONUNBUFFERED": "1",
        AS_BUILT: os.environ.get(AS_BUILT) or "1",
    }
    env.pop("PYTHONPATH", None)
    env |= arithmetic()
    env |= {SETTINGS[0]: own} if (own := _settings()) else {}
    return env | freest_device()


def _settings() -> str:
    """Of torch's memory of a GPU: a person's own by either name, of which torch reads the first."""
    own = next((os.environ[name] for name in SETTINGS if os.environ.get(name)), None)
    return own or ("" if nvidia.under_windows() else ALLOCATOR_GPU)


def expandable() -> bool:
    """Whether a worker's memory on a GPU grows in place; a person may have said otherwise in the environment."""
    return ALLOCATOR_GPU in _settings()


def arithmetic() -> dict[str, str]:
    """What decides how fast a CPU computes: threads and allocator, as far as the environment does not say otherwise."""
    usual = {"OMP_NUM_THREADS": str(usable_cores()), "OMP_WAIT_POLICY": "PASSIVE"}
    if not os.environ.get("OMP_WAIT_POLICY"):
        usual |= WAITING
    if sys.platform == "linux":
        usual |= ALLOCATOR
    usual |= KERNELS
    found = {name: os.environ.get(name) or value for name, value in usual.items()}
    # What is no number torch would take for a thread for each processor of the machine.
    return found if own_threads() else found | {"OMP_NUM_THREADS": usual["OMP_NUM_THREADS"]}


def freest_device() -> dict[str, str]:
    """What shows the worker one accelerator, the freest: Trainer would spread over all of them without asking.

    Cards that were not found, or that nobody was to use, because their driver hangs or torch is too new for them, are hidden:
    torch would take them, and the plan was made for the CPU.
    """
    if sys.platform == "darwin":
        return {}  # one at most, and only torch could tell: seconds that buy nothing
    found = accelerators.accelerators()
    device = Machine(backend=found.backend, devices=found.devices).device
    return accelerators.only(found, device) if device else accelerators.NONE


def check_disk(plan: Plan, where: Path | RunDirectory) -> None:
    """Refuse now what surely would be refused before the first step: of a new run in that folder, or of one that goes on.

    The worker counts exactly, once it has the model, and facts did before (`recommender.footprint`); both count no less.

    Raises:
        Refused: less is free than checkpoints and result need, or there is no folder for temporary files.
    """
    check_temporary()
    run, folder = (where, where.path) if isinstance(where, RunDirectory) else (None, where)
    weights = _weights_of(plan) if plan.method == "full" else 0
    if plan.precision == "bf16":
        weights //= 2  # they may be stored in fp32
    checkpoint = weights * (3 if plan.trained == "all" and plan.optimizer == "adamw" else 1)
    saving, result = CHECKPOINTS * checkpoint, weights + BESIDE_WEIGHTS
    if run is not None:
        trained = (run.checkpoints / FINISHED).exists()
        saving = 0 if trained else max(saving - folder_size(run.checkpoints), checkpoint)
        result = BESIDE_RESULT if run.model.exists() else result
    needed, free = saving + result, disk_free(folder)
    if free < needed:
        elsewhere = "" if run or is_group(folder) else ", or use --runs"  # a group's runs stay together
        raise Refused(
            f"{folder}: the run needs at least {size(needed)} of disk and {size(free)} is free. Free some space{elsewhere}."
        )


def _weights_of(plan: Plan) -> int:
    """Bytes of the model's weights in a folder or in the hub's cache, where their index may be alone; 0 where nothing is known.

    What is not there yet was counted from facts before (`recommender.candidates.no_disk`).
    """
    folder = Path(plan.model.id)
    if not folder.is_dir() and plan.model.revision:
        folder = hub_cache() / f"models--{plan.model.id.replace('/', '--')}" / "snapshots" / plan.model.revision
    here = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    index = (json_object(folder / "model.safetensors.index.json") or {}).get("metadata")
    listed = index.get("total_size") if isinstance(index, dict) else None
    # Beside the shards that it lists a folder may hold the same weights once more, as Mistral's `consolidated.safetensors`.
    return min(here or listed, listed) if isinstance(listed, int) else here
