"""Signs of life every two seconds, with the machine's gauges, from a thread of the worker."""

import os
import resource
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from engine.events import EventWriter

SECONDS = 2.0


class Heartbeat(threading.Thread):
    """Writes a `heartbeat` event until it is stopped."""

    def __init__(self, events: EventWriter, folder: Path) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._events = events
        self._folder = folder
        self._done = threading.Event()

    def run(self) -> None:
        """Beat."""
        psutil.cpu_percent()  # the first reading only sets the starting point
        while not self._done.wait(SECONDS):
            self._events.write("heartbeat", machine=self.gauges())

    def stop(self) -> None:
        """Stop beating."""
        self._done.set()

    def gauges(self) -> dict[str, Any]:
        """Memory in bytes, load in percent, free disk in bytes."""
        found: dict[str, Any] = {
            "memory": memory_now(),
            "memory_available": memory_available(),
            "cpu": psutil.cpu_percent(),
            "disk_free": _disk_free(self._folder),
        }
        return found | _gpu()


def _torch() -> Any:
    """torch, once it is wholly imported: this thread beats while another still imports it."""
    torch = sys.modules.get("torch")
    return None if getattr(getattr(torch, "__spec__", None), "_initializing", False) else torch


def memory_now() -> int:
    """Bytes held now: by the allocator of the GPU in use, else by this process."""
    torch = _torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.memory_reserved())
    return int(psutil.Process().memory_info().rss)


def memory_available() -> int:
    """Bytes this run may hold: what it holds now, and what is free beside it."""
    torch = _torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.mem_get_info()[0]) + memory_now()
    return int(psutil.virtual_memory().available) + memory_now()


def memory_peak() -> int:
    """The most bytes held so far, by the same measure as `memory_now`."""
    torch = _torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_reserved())
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(kibibytes * (1 if sys.platform == "darwin" else 1024))


def _disk_free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _gpu() -> dict[str, Any]:
    """Load and temperature of the one GPU this worker sees; nothing where there is none."""
    uuid = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not uuid.startswith(("GPU-", "MIG-")):
        return {}
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return {
            "gpu": int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "temperature": int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        }
    except pynvml.NVMLError:
        return {}
