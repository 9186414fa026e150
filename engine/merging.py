"""A finished run's adapter merged into its base, by a child: a model that needs no peft, in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine import launch
from engine.files import expanded, json_object
from engine.processes import execute
from engine.rundir import RunDirectory
from recommender.errors import Exit, InputError, LoracleError, Refused, TrainingFailed

KINDS: dict[int, type[LoracleError]] = {int(Exit.USAGE): InputError, int(Exit.REFUSED): Refused}
"""The child's errors by their exit codes."""
ROOM = 1.15
"""Of the base's bytes in fp32, so that the adapter and what is computed find room beside it."""


def memory_needed(parameters: int) -> int:
    """Bytes of main memory in which a base of so many parameters takes up an adapter."""
    return int(ROOM * 4 * parameters)


def part_of(target: Path, process: int) -> Path:
    """Where that process writes what is to become `target`: beside it, so that it appears there whole or not at all."""
    return target.with_name(f".{target.name}.{process}.part")


_going_on: dict[subprocess.Popen[bytes], Path] = {}
"""Children at work, and the folder that each writes to before it is whole."""
KILL_SECONDS = 5.0
KEPT_BYTES = 1_000_000


def is_merged(folder: Path) -> bool:
    """Whether a merge wrote that folder, so that another merge may take its place."""
    return (json_object(folder / "loracle.json", KEPT_BYTES) or {}).get("merged") is True


def check_adapter(run: RunDirectory) -> None:
    """Whether there is something to merge.

    Raises:
        InputError: the run is not done, or has no adapter.
    """
    state = run.state()
    if state.status != "done" or not run.model.is_dir():
        raise InputError(f"{run.name} is not done (it is {state.status}), so there is nothing to merge yet.")
    if run.plan().method == "full":
        raise InputError(f"{run.name} has no adapter: {run.model} is already the whole model, so there is nothing to merge.")


def target_of(run: RunDirectory, to: Path | None = None, *, replace: bool = False) -> Path:
    """Where the merged model goes; with `replace` in the place of an earlier merge.

    Raises:
        InputError: the run has no adapter to merge, or something else is there already.
    """
    check_adapter(run)
    target = _place(run, to)
    if target.exists() and not (replace and is_merged(target)):
        raise InputError(f"{target} exists already; name another folder with --to, or remove it.")
    return target


def _place(run: RunDirectory, to: Path | None) -> Path:
    return (expanded(to) if to is not None else run.path / "merged").absolute()


def _beside(target: Path) -> tuple[Path, Path]:
    """Where a merge that is to take an earlier one's place stands until then, and where the earlier one does meanwhile."""
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _take_up(target: Path) -> None:
    """Finish what a process that was killed between two renames has left: the new merge is whole, the earlier one aside."""
    new, old = _beside(target)
    if not is_merged(old):  # there is none, or it is somebody else's
        return
    if not target.exists():
        with suppress(OSError):
            (new if is_merged(new) else old).rename(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)


def merge(
    run: RunDirectory, to: Path | None = None, told: Callable[[str], None] = lambda doing: None, *, replace: bool = False
) -> dict[str, Any]:
    """Merge, and check that the result says what the adapter says; facts about it. `told` hears what is being done.

    An earlier merge that is to be replaced stays until the new one is whole.

    Raises:
        InputError: there is nothing to merge, or base or folder cannot be used.
        Refused: too little disk or memory, or the result differs from the adapter.
        TrainingFailed: the child ended without an answer.
    """
    _take_up(_place(run, to))
    target = target_of(run, to, replace=replace)
    if not target.exists():
        return _merged(run, target, told)
    beside, before = _beside(target)
    if is_merged(beside):
        shutil.rmtree(beside, ignore_errors=True)
    facts = _merged(run, beside, told)
    try:
        target.rename(before)
        beside.rename(target)
    except OSError as error:
        if before.exists() and not target.exists():
            before.rename(target)
        raise Refused(f"{target}: the merged model cannot be written ({error.strerror or error}).") from None
    shutil.rmtree(before, ignore_errors=True)
    return {**facts, "path": str(target)}


def _merged(run: RunDirectory, target: Path, told: Callable[[str], None]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    with _child(run, target) as process:
        for line in process.stdout or ():
            answer = json.loads(line)
            if "doing" in answer:
                told(str(answer["doing"]))
        code = process.wait()
    if "merged" in answer:
        return dict(answer["merged"])
    if "error" in answer:
        raise KINDS.get(int(answer["exit"]), TrainingFailed)(str(answer["error"]))
    why = "most often memory ran out" if code == -signal.SIGKILL else f"the end of {run.log} tells more"
    raise TrainingFailed(f"The process that merges ended unexpectedly; {why}. What it wrote was removed.")


@contextmanager
def _child(run: RunDirectory, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The child at work; once this is left it has ended, and what was not whole is gone."""
    with run.log.open("ab") as log:
        process = execute(
            ["engine.worker.merge", str(run.path), str(target), str(os.getpid())],
            cwd=run.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=launch.environment(),
        )  # fmt: skip
    _going_on[process] = part_of(target, process.pid)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(_going_on.pop(process), ignore_errors=True)


def stop_all() -> None:
    """End the merges that go on in threads of this process, for whoever is about to leave; nothing is left of them."""
    for process, part in list(_going_on.items()):
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=KILL_SECONDS)
        shutil.rmtree(part, ignore_errors=True)
