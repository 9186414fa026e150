"""What a container leaves of memory and processor time, and what the processor says it can do."""

import os
import resource
from pathlib import Path

import pytest

from engine.inspect import inspect_machine
from engine.inspection import processor as cpu
from engine.inspection.limits import NO_LIMIT, container_cores, container_memory, process_memory, promised_memory
from engine.inspection.processor import processor, share_of_core, usable_cores

GIB = 1024**3


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
    assert container_memory(tmp_path / "cg", tmp_path / "own") == (4 * GIB, 2 * GIB)
    group(tmp_path, {"cg/outer/inner/memory.high": f"{3 * GIB // 2}\n"})  # where the kernel begins to hold processes back
    assert container_memory(tmp_path / "cg", tmp_path / "own") == (3 * GIB // 2, GIB // 2)


def test_the_older_kind_of_group(tmp_path: Path) -> None:
    group(
        tmp_path,
        {
            "own": "5:cpu:/x\n4:memory:/on/the/host\n",
            "cg/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "cg/memory/memory.usage_in_bytes": f"{GIB}\n",
        },
    )
    assert container_memory(tmp_path / "cg", tmp_path / "own") == (2 * GIB, GIB)


def test_no_group_is_no_limit(tmp_path: Path) -> None:
    group(tmp_path, {"own": "4:memory:/\n", "cg/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert container_memory(tmp_path / "cg", tmp_path / "own") == (NO_LIMIT, NO_LIMIT)
    assert container_memory(tmp_path / "cg", tmp_path / "none") == (NO_LIMIT, NO_LIMIT)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"own": "0::/a/b\n", "cg/a/cpu.max": "150000 100000\n", "cg/a/b/cpu.max": "max 100000\n"}, 1.5),
        ({"own": "0::/a\n", "cg/cpu.max": "50000 100000\n", "cg/a/cpu.max": "400000 100000\n"}, 0.5),
        ({"own": "0::/\n", "cg/cpu.max": "max 100000\n"}, None),
        ({"own": "0::/\n", "cg/cpu.max": "nonsense\n"}, None),
        ({"own": "3:cpu,cpuacct:/x\n", "cg/cpu/cpu.cfs_quota_us": "200000\n", "cg/cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        (
            {"own": "3:cpu,cpuacct:/\n", "cg/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cg/cpu,cpuacct/cpu.cfs_period_us": "9\n"},
            None,
        ),
        ({"own": "4:memory:/\n"}, None),
    ],
)
def test_the_processor_time_of_a_container(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    group(tmp_path, files)
    assert container_cores(tmp_path / "cg", tmp_path / "own") == cores


@pytest.mark.parametrize(("limits", "room"), [((-1, -1), 2**60), ((-1, 10**9), 10**9), ((2 * 10**9, 3 * 10**9), 2 * 10**9)])
def test_what_ulimit_allows_one_process_is_all_there_is(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], room: int
) -> None:
    kinds = dict(zip((resource.RLIMIT_AS, resource.RLIMIT_DATA), limits, strict=True))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10, kinds[kind]))
    assert process_memory() == room
    if room < 2**60:
        assert (inspect_machine().ram_available or 0) <= room


def test_a_system_that_promises_no_more_than_it_has(tmp_path: Path) -> None:
    meminfo = "MemAvailable: 60000000 kB\nCommitLimit:    20000000 kB\nCommitted_AS:   18000000 kB\n"
    group(tmp_path, {"meminfo": meminfo, "sys/vm/overcommit_memory": "0\n"})
    assert promised_memory(tmp_path) == NO_LIMIT
    group(tmp_path, {"sys/vm/overcommit_memory": "2\n"})
    assert promised_memory(tmp_path) == 2_000_000 * 1024
    group(tmp_path, {"meminfo": "MemAvailable: 60000000 kB\n"})
    assert promised_memory(tmp_path) == NO_LIMIT


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processors, each a core."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cpu, "_cores", len)


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("quota", "cores", "share"), [(0.2, 1, 0.2), (1.4, 1, None), (1.5, 2, 0.75), (1.6, 2, 0.8), (64.0, 4, None), (None, 4, None)]
)
def test_threads_follow_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int, share: float | None
) -> None:
    monkeypatch.setattr(cpu, "container_cores", lambda: quota)
    assert (usable_cores(), share_of_core()) == (cores, share)


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    siblings = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5", 8: "8"}
    group(tmp_path, {f"cpu{n}/topology/thread_siblings_list": f"{both}\n" for n, both in siblings.items()})
    assert cpu._cores(frozenset({0, 1, 4, 5, 8}), tmp_path) == 3
    assert cpu._cores(frozenset({4, 5}), tmp_path) == 2
    assert cpu._cores(frozenset({0, 1, 4, 5}), tmp_path / "nothing is told there") == 4


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("said", "cores", "told"), [("1", 1, 1), ("3,2", 3, 3), ("64", 4, 64), ("4", 4, None), ("0", 4, None), ("all", 4, None)]
)
def test_threads_that_the_environment_names_are_told(
    monkeypatch: pytest.MonkeyPatch, said: str, cores: int, told: int | None
) -> None:
    """Some clusters set it to 1 for everybody: a run would take one core of 64."""
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    here = inspect_machine()
    assert here.cpu_cores == cores
    assert [p.split(" in ")[0] for p in here.problems] == ([f"OMP_NUM_THREADS is {told}"] if told else [])


@pytest.mark.parametrize(
    ("text", "name", "bf16", "avx512"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx512f avx512_bf16\n\nmodel name : other\n", "Xeon", True, True),
        ("model name\t: Xeon\nflags\t\t: fpu avx512f\n", "Xeon", False, True),
        ("model name\t: Ryzen\nflags\t\t: fpu avx2\n", "Ryzen", False, False),
        ("model name\t: Xeon\nflags\t\t: avx512f amx_bf16 amx_tile\n", "Xeon", True, True),
        ("cpu family\t: 25\nmodel\t: 17\nmodel name\t: AMD EPYC\nflags\t: fpu\n", "AMD EPYC, family 25 model 17", False, False),
        ("cpu family\t: 6\nmodel\t: 85\nmodel name\t: Xeon 6248\nflags\t: avx2\n", "Xeon 6248", False, False),
        ("model name\t: Graviton\nFeatures\t: fp asimd bf16\n", "Graviton", True, False),
    ],
)
def test_what_processors_say_of_themselves(tmp_path: Path, text: str, name: str, bf16: bool, avx512: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    found = processor(tmp_path / "cpuinfo")
    assert (found.name, found.bf16, found.avx512) == (name, bf16, avx512)


def test_a_processor_without_a_name_still_has_one(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nFeatures : fp\n")
    assert processor(tmp_path / "cpuinfo").name
    assert processor(tmp_path / "none").name
