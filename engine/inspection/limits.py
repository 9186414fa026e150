"""What a container (cgroup v1 and v2), `ulimit` and the system leave of a machine's memory and processor time."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from engine.files import number_in, text_in

NO_LIMIT = 2**60
"""Bytes; cgroup v1 writes about 2^63 where there is no limit."""
ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def container_memory(root: Path = ROOT, own: Path = OWN) -> tuple[int, int]:
    """The container's memory limit and what it leaves, in bytes; both `NO_LIMIT` where there is none."""
    limit = room = NO_LIMIT
    limits: tuple[str, ...]
    for group, unified in _groups(root, own, "memory"):
        if unified:  # above `high` nothing is killed, and everything waits until the kernel has found memory
            limits, used, idle = ("memory.max", "memory.high"), "memory.current", "inactive_file"
        else:
            limits, used, idle = ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"
        bytes_at_most = min((n for name in limits if (n := number_in(group / name)) is not None), default=NO_LIMIT)
        if bytes_at_most >= NO_LIMIT:
            continue
        limit = min(limit, bytes_at_most)
        # File pages that nobody uses are given back before anything is killed.
        room = min(room, bytes_at_most - (number_in(group / used) or 0) + _stat(group / "memory.stat", idle))
    return limit, min(room, limit)


def process_memory() -> int:
    """Bytes that any one process started from here may take (`ulimit -v`, `ulimit -d`); `NO_LIMIT` where nobody set one."""
    found = [resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((most for most in found if most != resource.RLIM_INFINITY), default=NO_LIMIT)


def promised_memory(proc: Path = Path("/proc")) -> int:
    """Bytes that the system still promises where it promises no more than it has (`vm.overcommit_memory` 2, on some clusters).

    What was promised to others and lies free is not to be had. `NO_LIMIT` elsewhere.
    """
    if number_in(proc / "sys/vm/overcommit_memory") != 2:
        return NO_LIMIT
    limit, promised = (_stat(proc / "meminfo", name) for name in ("CommitLimit:", "Committed_AS:"))
    return max(limit - promised, 0) * 1024 if limit else NO_LIMIT


def container_cores(root: Path = ROOT, own: Path = OWN) -> float | None:
    """Processor time the container may use, in cores (1.5 is one and a half); `None` where there is no limit."""
    found: list[float] = []
    for group, unified in _groups(root, own, "cpu"):
        if unified:
            quota, period = _pair(group / "cpu.max")
        else:
            quota, period = number_in(group / "cpu.cfs_quota_us"), number_in(group / "cpu.cfs_period_us")
        if quota is not None and period is not None and quota > 0 and period > 0:  # -1 is no limit
            found.append(quota / period)
    return min(found, default=None)


def _groups(root: Path, own: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders whose limits hold for this process, its own group and all above; whether each is of version 2.

    Every group above limits too; inside a container the path is often the host's, and only the base exists.
    """
    for line in text_in(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base = root
        elif controller in controllers.split(","):
            # Where controllers are mounted together, the folder has both names.
            base = next((p for p in (root / controller, root / controllers) if p.is_dir()), root / controller)
        else:
            continue
        folder = base / path.strip("/")
        for group in (folder, *(p for p in folder.parents if p.is_relative_to(base))):
            yield group, controllers == ""


def _pair(path: Path) -> tuple[int | None, int | None]:
    parts = text_in(path).split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdecimal() for part in parts) else (None, None)


def _stat(path: Path, name: str) -> int:
    with contextlib.suppress(ValueError):
        for line in text_in(path).splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value.removesuffix("kB"))
    return 0
