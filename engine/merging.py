"""A finished run's adapter merged into its base, by a child: a model that needs no peft, in a folder of its own."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import launch
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


def target_of(run: RunDirectory, to: Path | None = None) -> Path:
    """Where the merged model goes.

    Raises:
        InputError: the run has no adapter to merge, or something is there already.
    """
    state = run.state()
    if state.status != "done" or not run.model.is_dir():
        raise InputError(f"{run.name} is not done (it is {state.status}), so there is nothing to merge yet.")
    if run.plan().method == "full":
        raise InputError(f"{run.name} trained all weights: {run.model} is the whole model already, there is nothing to merge.")
    target = (to.expanduser() if to is not None else run.path / "merged").absolute()
    if target.exists():
        raise InputError(f"{target} exists already; name another folder with --to, or remove it.")
    return target


def merge(run: RunDirectory, to: Path | None = None, told: Callable[[str], None] = lambda doing: None) -> dict[str, Any]:
    """Merge, and check that the result says what the adapter says; facts about it. `told` hears what is being done.

    Raises:
        InputError: there is nothing to merge, or base or folder cannot be used.
        Refused: too little disk or memory, or the result differs from the adapter.
        TrainingFailed: the child ended without an answer.
    """
    target = target_of(run, to)
    answer: dict[str, Any] = {}
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.worker.merge", str(run.path), str(target)],
            cwd=run.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=launch.environment(),
        )
    try:
        for line in process.stdout or ():
            answer = json.loads(line)
            if "doing" in answer:
                told(str(answer["doing"]))
        code = process.wait()
    finally:
        process.kill()
        process.communicate()
        if "merged" not in answer:
            shutil.rmtree(part_of(target, process.pid), ignore_errors=True)
    if "merged" in answer:
        return dict(answer["merged"])
    if "error" in answer:
        raise KINDS.get(int(answer["exit"]), TrainingFailed)(str(answer["error"]))
    why = "most often memory ran out" if code == -signal.SIGKILL else f"the end of {run.log} tells more"
    raise TrainingFailed(f"The process that merges ended without a word; {why}. Nothing is left of it.")
