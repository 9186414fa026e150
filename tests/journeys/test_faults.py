"""Long fault matrices (`make test-faults`): real workers, real kills, real limits of disk and memory."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import merging, runs
from engine.events import read_events
from engine.groups import Group
from engine.launch import environment
from engine.new_run import create
from engine.rundir import RunDirectory
from recommender.errors import InputError, Refused, TrainingFailed
from recommender.plan import Plan
from tests.conftest import HELD_OUT, TRAIN, make_plan, weights

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
PATIENCE = 900.0
"""Seconds; nothing here is about speed, and a matrix may run beside other work."""

Start = Callable[[Plan], RunDirectory]


def worker(run: RunDirectory, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[bytes]:
    """The run's worker as `launch` starts it, to its end, within limits of the system's own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "engine.worker", str(run.path)],
        cwd=run.path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
        preexec_fn=limit,
    )  # fmt: skip


@pytest.fixture(scope="session")
def long_plan(tiny: Path) -> Callable[[str], Plan]:
    """With dropout; 36 steps of several micro-batches, of which every fourth or so is saved."""

    def of(method: str) -> Plan:
        extras: dict[str, Any] = {"dora": True, "rslora": True, "lora_plus_ratio": 8.0} if method == "lora" else {}
        return make_plan(tiny, method, epochs=3.0, evaluations=9, token_budget=256, **extras)

    return of


@pytest.fixture(scope="session")
def undisturbed(long_plan: Callable[[str], Plan], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunDirectory]:
    done: dict[str, RunDirectory] = {}

    def of(method: str) -> RunDirectory:
        if method not in done:
            done[method] = create(tmp_path_factory.mktemp("undisturbed"), long_plan(method), None)
            assert worker(done[method]).returncode == 0
        return done[method]

    return of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_killed_at_random_moments_a_run_comes_to_the_very_same_model(
    long_plan: Callable[[str], Plan], undisturbed: Callable[[str], RunDirectory], start: Start, method: str, seed: int
) -> None:  # fmt: skip
    """While loading, tokenizing, trying, scoring, stepping or saving: SIGKILL to the whole group, again and again."""
    expected, rng = undisturbed(method), random.Random(f"{method} {seed}")
    run = start(long_plan(method))
    for _ in range(4):
        aim = rng.randrange(1, 36)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and run.state().status not in ("done", "dead"):
            state = run.state()
            if state.step >= aim or rng.random() < 0.002:
                time.sleep(rng.random() * 0.2)
                break
            time.sleep(0.02)
        if run.state().status == "done":
            break
        if run.alive() and run.worker():
            psutil.Process(int(run.worker()["pid"])).kill()
        wait_dead(run)
        if run.state().status == "done":  # just before it was hit
            break
        runs.resume(run)
    deadline = time.monotonic() + PATIENCE
    while run.state().status != "done" and time.monotonic() < deadline:
        assert run.state().status in ("starting", "running"), run.last_words()
        time.sleep(0.1)
    assert weights(run) == weights(expected)
    assert run.state().losses == expected.state().losses
    same = ("scores", "gains", "best_step", "steps")
    one, other = (r.report() or {} for r in (run, expected))
    assert {k: one[k] for k in same} == {k: other[k] for k in same}


def wait_dead(run: RunDirectory) -> None:
    deadline = time.monotonic() + PATIENCE
    while run.alive() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A folder on a file system of that many bytes."""
    mounted: list[Path] = []

    def of(size: int) -> Path:
        folder = tmp_path / "small"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("mounting a tmpfs is not allowed here")
        mounted.append(folder)
        return folder

    yield of
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_refused_in_seconds(
    long_plan: Callable[[str], Plan], small_disk: Callable[[int], Path]
) -> None:
    run = create(small_disk(8_000_000), long_plan("full"), None)
    assert worker(run).returncode == 3
    end = run.state().end or {}
    assert end["status"] == "refused"
    assert "of disk, and" in end["cause"]
    assert not [e for e in read_events(run.events) if e["kind"] == "step"]


@pytest.mark.parametrize("left", [20_000, 400_000, 1_500_000, 3_000_000])
def test_a_disk_that_fills_up_under_way_costs_nothing_that_was_saved(
    long_plan: Callable[[str], Plan], undisturbed: Callable[[str], RunDirectory], small_disk: Callable[[int], Path], left: int
) -> None:
    """Somebody else fills it at the first checkpoint; once there is room again the run goes on to the very same model."""
    folder = small_disk(64_000_000)
    run = create(folder, long_plan("full"), None)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.worker", str(run.path)],
        cwd=run.path, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while run.state().checkpoint is None and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(bytes(max(shutil.disk_usage(folder).free - left, 0)))
    code = process.wait(timeout=PATIENCE)
    if code == 0:
        pytest.skip("the run was done before the disk was full")
    assert code == 4
    filler.unlink()
    assert worker(run).returncode == 0
    assert weights(run) == weights(undisturbed("full"))
    assert run.state().losses == undisturbed("full").state().losses


@pytest.mark.parametrize(("left", "words"), [(100_000, "the result could not be written"), (0, "")])
def test_a_disk_that_is_full_at_the_end_costs_nothing(
    undisturbed: Callable[[str], RunDirectory], small_disk: Callable[[int], Path], loracle: Callable[..., Any],
    left: int, words: str,
) -> None:  # fmt: skip
    """All steps are taken and the result cannot be saved; with room again, going on saves the very same model."""
    folder = small_disk(64_000_000)
    run = copied_without_result(undisturbed("full"), folder / "full-at-the-end")
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(bytes(shutil.disk_usage(folder).free - left))
    code = worker(run).returncode
    if words:
        assert code == 4
        end = run.state().end or {}
        assert words in end["cause"]
        assert "of disk is free" in end["cause"]
        assert end["checkpoint"] == undisturbed("full").state().checkpoint
    else:  # not even that could be written down
        assert code != 0
        seen = loracle("attach", run.path)
        assert seen.returncode == 4
        assert "its disk is full" in seen.stderr
    assert not run.model.exists()
    assert not (run.path / ".model").exists()
    filler.unlink()
    assert worker(run).returncode == 0
    assert weights(run) == weights(undisturbed("full"))


def test_a_comparison_whose_disk_fills_up_is_ended_in_a_sentence_and_goes_on_later(
    tiny: Path, small_disk: Callable[[int], Path], start_loracle: Callable[..., "subprocess.Popen[str]"],
    loracle: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    """In its first run; the second one is not begun on a disk that has no room for it."""
    folder = small_disk(300_000_000)
    rows = ("--data", TRAIN, "--eval", HELD_OUT, "--train-rows", "150", "--eval-rows", "40")
    short = ("--set", "epochs=8", "--set", "max_length=32", "--set", "early_stopping=false", "--anyway")
    said = ("compare", "--model", tiny, *rows, *short, "--methods", "full,lora", "--runs", folder)
    process = start_loracle(*said)
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("*/full-1/checkpoints/step-*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(bytes(max(shutil.disk_usage(folder).free - 400_000, 0)))
    _, errors = process.communicate(timeout=PATIENCE)
    (group,) = map(Group, folder.glob("*-compare"))
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert "free some disk" in " ".join(errors.lower().split()), "said of the first run"
    assert "is free. Free some space. `loracle resume" in " ".join(errors.split()), "said of the second"
    assert f"`loracle resume {group.name}` continues it." in errors
    assert group.status() == "stopped"
    assert [r.path.name for r in group.begun()] == ["full-1"]
    filler.unlink()
    done = loracle("resume", group.path)
    assert done.returncode == 0, done.stderr
    assert (group.report() or {})["complete"]
    alone = create(tmp_path / "alone", group.run("full-1").plan(), None)
    assert worker(alone).returncode == 0
    assert weights(group.run("full-1")) == weights(alone)


def copied_without_result(run: RunDirectory, to: Path) -> RunDirectory:
    """A copy as if the worker had died right after the last step, when it was known that the training is over."""
    copy = RunDirectory(to)
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.model)
    for file in (copy.report_file, copy.scores / "after.json"):
        file.unlink()
    lines = [line for line in copy.events.read_text().splitlines(keepends=True) if json.loads(line)["kind"] != "end"]
    copy.events.write_text("".join(lines))
    return copy


def test_a_file_that_may_not_grow_is_a_sentence_and_leaves_sound_checkpoints(
    long_plan: Callable[[str], Plan], undisturbed: Callable[[str], RunDirectory], tmp_path: Path
) -> None:
    """RLIMIT_FSIZE: the weights fit under it, the optimizer's state does not."""
    sizes = [f.stat().st_size for f in next(undisturbed("full").checkpoints.glob("step-*")).iterdir()]
    most = sorted(sizes)[-2] + 1000
    run = create(tmp_path / "runs", long_plan("full"), None)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    assert worker(run, limit).returncode == 4
    end = run.state().end or {}
    assert "could not be written" in end["cause"]
    assert "Traceback" not in end["cause"]
    assert list(run.checkpoints.glob("step-*")) == []
    assert worker(run).returncode == 0
    assert weights(run) == weights(undisturbed("full"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
def test_a_truncated_file_of_the_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    undisturbed: Callable[[str], RunDirectory], tmp_path: Path, name: str, part: float
) -> None:
    expected = undisturbed("full")
    run = copied_without_result(expected, tmp_path / "cut")
    (run.checkpoints / "finished.json").unlink()
    newest = max(run.checkpoints.glob("step-*"), key=lambda p: int(p.name[5:]))
    os.truncate(newest / name, int((newest / name).stat().st_size * part))
    assert worker(run).returncode == 0
    assert weights(run) == weights(expected)
    assert [e for e in read_events(run.events) if e["kind"] == "warning" and e["code"] == "damaged_checkpoint"]
    assert list(run.checkpoints.glob("quarantine-*"))


@pytest.mark.parametrize("room", [60, 150])
def test_a_real_limit_of_memory_lowers_the_budget_or_ends_the_run_in_a_sentence_and_loses_nothing(
    tiny_wide: Path, tmp_path: Path, room: int
) -> None:
    """RLIMIT_DATA that many MB above what the same run takes a row at a time; one micro-batch of 96 rows takes more.

    The heap keeps what it was given, in pieces, so that libraries and kernels that are mapped later may find no room; a fresh
    process does.
    """
    fields: dict[str, Any] = {"effective_batch": 96, "epochs": 1.0, "evaluations": 1, "data": {"train_rows": 400}}
    alone = create(tmp_path / "alone", make_plan(tiny_wide, token_budget=1, **fields), None)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.worker", str(alone.path)],
        cwd=alone.path, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        least = 0
        while process.poll() is None:
            least = max(least, data_bytes(process.pid))
            time.sleep(0.02)
    assert process.returncode == 0
    run = create(tmp_path / "tight", make_plan(tiny_wide, token_budget=10**6, **fields), None)
    most = least + room * 1_000_000
    code = worker(run, lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most))).returncode
    if code:
        end = run.state().end or {}
        assert room == 60, f"where that much more is free, it is enough: {end}"
        assert code in (3, 4)
        assert "emory" in end["cause"], end
        assert worker(run).returncode == 0
    recovered = [e for e in read_events(run.events) if e["kind"] == "recovery"]
    assert recovered
    losses = [[loss for _, loss in r.state().losses] for r in (run, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def data_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


# Merging


@pytest.fixture(scope="session")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = create(tmp_path_factory.mktemp("adapter"), make_plan(tiny, "lora", epochs=0.5, evaluations=1), None)
    assert worker(run).returncode == 0
    return run


def beside(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if "part" in p.name or p == target)


@pytest.mark.parametrize("phase", ["load", "merge", "write", "compare"])
def test_a_merge_whose_process_is_killed_leaves_nothing_and_the_next_one_works(
    adapter: RunDirectory, tmp_path: Path, phase: str
) -> None:
    def kill(doing: str) -> None:
        if doing == phase:
            for child in psutil.Process().children():
                if "engine.worker.merge" in child.cmdline():
                    child.kill()

    target = tmp_path / "whole"
    with pytest.raises(TrainingFailed, match="ended unexpectedly; most often memory ran out"):
        merging.merge(adapter, target, kill)
    assert beside(target) == []
    assert merging.merge(adapter, target)["rows"] > 0
    assert beside(target) == ["whole"]


@pytest.mark.parametrize("with_child", [True, False])
def test_a_merge_whose_parent_is_killed_is_never_taken_for_whole(adapter: RunDirectory, tmp_path: Path, with_child: bool) -> None:
    """By itself or with its child, as a machine that loses power would."""
    target = tmp_path / "whole"
    program = (
        "import sys; from pathlib import Path; from engine import merging; from engine.rundir import RunDirectory;"
        " merging.merge(RunDirectory(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(adapter.path), str(target)], env=environment())
    deadline = time.monotonic() + PATIENCE
    while not beside(target) and time.monotonic() < deadline:
        time.sleep(0.001)
    children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    for child in children:
        if with_child:
            child.kill()
        child.wait(PATIENCE)
    if target.exists():  # the child was faster
        with pytest.raises(InputError, match="exists already"):
            merging.merge(adapter, target)
    else:
        assert merging.merge(adapter, target)["rows"] > 0
    assert beside(target) == ["whole"]
    assert (target / "model.safetensors").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("room", "left", "words"), [(400_000, None, "needs .* of disk"), (64_000_000, 50_000, "cannot be written")]
)
def test_a_disk_that_is_too_small_for_the_merged_model_is_said_and_left_empty(
    adapter: RunDirectory, small_disk: Callable[[int], Path], room: int, left: int | None, words: str
) -> None:
    """From the start, or because somebody else fills it while the model is written."""
    folder = small_disk(room)

    def fill(doing: str) -> None:
        if doing == "load" and left is not None:  # its own look at the disk is behind it
            with (folder / "filler").open("wb") as file, contextlib.suppress(OSError):
                file.write(bytes(shutil.disk_usage(folder).free - left))

    with pytest.raises(Refused, match=words):
        merging.merge(adapter, folder / "whole", fill)
    assert beside(folder / "whole") == []
