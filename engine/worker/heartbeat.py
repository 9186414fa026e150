"""Signs of life every two seconds, with the machine's gauges, from a thread of the worker."""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import psutil

from engine.events import EventWriter
from engine.worker.memory import memory_available, memory_now

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
        found: dict[str, Any] = {"memory": memory_now(), "cpu": psutil.cpu_percent(), "disk_free": _disk_free(self._folder)}
        with contextlib.suppress(RuntimeError):  # a GPU that has failed answers nothing, and the run is still to say so
            found["memory_available"] = memory_available()
        return found | _gpu()


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
