"""What a worker's last word says: how its run has ended, why, and what helps. It may be said before torch is imported."""

import sys
import traceback
from typing import Any

from engine import checkpoints
from engine.files import DISK_FAILED, DISK_FULL
from engine.rundir import RunDirectory
from engine.text import first_line, one_line
from engine.worker.control import Control
from recommender.errors import Exit, LoracleError, TrainingFailed
from recommender.plan import Plan

PHASES = {
    "load": "the model was loaded",
    "tokenize": "the texts were tokenized",
    "preflight": "the longest rows were tried",
    "before": "the held-out rows were scored",
    "answers": "answers were written",
    "samples": "answers were written",
    "train": "the optimizer took a step",
    "evaluate": "the validation rows were scored",
    "best": "the best weights were loaded",
    "save": "the result was saved",
    "after": "the result was scored",
    "report": "the report was written",
}
"""When memory or disk may run out where nothing smaller can be tried, in words."""
AT_ONCE = "stopped at once on request"

LOST = "If it comes again, see what `nvidia-smi` says, and restart the machine."


def doing(phase: str) -> str:
    """What was done in that phase, in words."""
    return PHASES.get(phase, "the run was at work")


def is_memory(error: BaseException) -> bool:
    """Whether that error means that memory ran out."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from engine.worker.budget import is_out_of_memory

    return is_out_of_memory(error)


def of_error(run: RunDirectory, plan: Plan | None, phase: str, error: Exception) -> dict[str, Any]:
    """What the `end` event says of a run that an error has ended: whatever a library raises becomes one sentence."""
    if isinstance(error, TrainingFailed):
        return _failed(run, error.message, error)
    if isinstance(error, LoracleError):
        return {"status": "refused", "code": int(error.exit), "cause": error.message, "cure": error.cure, "checkpoint": None}
    said, short = one_line(f"{type(error).__name__}: {error}", 500), one_line(first_line(error), 200)
    if is_memory(error):
        return _failed(run, f"Memory ran out while {doing(phase)}.", error, _relief(run, plan, phase))
    if lost := _of_the_gpu(error):
        cause, cure = lost
        return _failed(run, cause.format(doing=doing(phase), said=short), error, cure)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        full = f"The disk of {run.path} was full while {doing(phase)}; what was saved before is intact."
        return _failed(run, full, error, "Free some disk space.")
    if isinstance(error, OSError) and error.errno in DISK_FAILED and str(run.path) in str(error.filename):
        why = error.strerror
        broken = f"The folder of the run, {run.path}, failed while {doing(phase)} ({why}); what was saved before is intact."
        return _failed(run, broken, error, "See that it can be written again.")
    if not run.path.is_dir():
        traceback.print_exception(error)
        gone = f"The folder of the run, {run.path}, was moved or removed while {doing(phase)}; what was saved in it is intact."
        cure = "`loracle resume` with its new path continues it."
        return {"status": "failed", "code": int(Exit.FAILED), "cause": gone, "cure": cure, "checkpoint": None}
    return _failed(run, said if said.endswith(".") else f"{said}.", error)


def _relief(run: RunDirectory, plan: Plan | None, phase: str) -> str:
    """What makes room in memory: after the training, or before a plan is known, nothing that a plan says."""
    if plan is None or "torch" not in sys.modules or (run.checkpoints / checkpoints.FINISHED).exists():
        return "Close other programs."
    from engine.worker.budget import what_helps

    return what_helps(plan, texts=phase != "load")


def _of_the_gpu(error: Exception) -> tuple[str, str] | None:
    """Cause and cure where the GPU has failed, or cannot be used."""
    if "torch" not in sys.modules:
        return None
    from engine.worker.budget import has_lost_the_gpu, refused_by_the_gpu

    if has_lost_the_gpu(error):
        return "The GPU failed while {doing} ({said}), and this process can compute nothing more.", LOST
    cure = refused_by_the_gpu(error)
    return ("The GPU could not be used while {doing} ({said}).", cure) if cure else None


def stopped(run: RunDirectory, control: Control, cause: str) -> dict[str, Any]:
    """What the event says of a run that somebody has stopped."""
    step = _newest(run)
    if step is not None:
        cure = f"`loracle resume {run.name}` continues from step {step}."
        return {"status": "stopped", "code": int(Exit.STOPPED), "cause": cause, "cure": cure, "checkpoint": step}
    code = Exit.TERMINATED if control.terminated else Exit.INTERRUPTED
    cure = f"Nothing was saved yet; `loracle resume {run.name}` starts from the beginning."
    return {"status": "stopped", "code": int(code), "cause": cause, "cure": cure, "checkpoint": None}


def _failed(run: RunDirectory, cause: str, error: BaseException, first: str = "") -> dict[str, Any]:
    """`first` is what helps before going on. The traceback is in worker.log."""
    traceback.print_exception(error)
    step = _newest(run)
    known = getattr(error, "cure", None)
    cure = known or f"{first} Details are in {run.log}.".lstrip()
    if step is not None and not known:
        cure += f" `loracle resume {run.name}` continues from step {step}."
    elif first:
        cure += f" `loracle resume {run.name}` continues it."
    setting = getattr(error, "setting", None)
    end = {"status": "failed", "code": int(Exit.FAILED), "cause": cause, "cure": cure, "checkpoint": step}
    return end | ({"setting": setting} if setting else {})


def _newest(run: RunDirectory) -> int | None:
    """Step of the newest sealed checkpoint; whether it is sound is verified on resuming."""
    return next((checkpoints.step_of(c) for c in checkpoints.sealed(run.checkpoints)), None)
