"""Whether all that a run will save has room: on the disk, and in main memory for the moment in which it is saved."""

import shutil
from typing import Any

import torch

from engine.files import folder_size
from engine.merging import memory_needed
from engine.rundir import RunDirectory
from engine.worker.budget import what_helps
from engine.worker.memory import host_room, memory_available
from engine.worker.modeling import Built
from engine.worker.narrator import Narrator
from engine.worker.trainer import LogicalBatchTrainer
from recommender.errors import Refused
from recommender.figures import size
from recommender.footprint import BESIDE_WEIGHTS, CHECKPOINTS
from recommender.plan import Plan


def room_for_files(run: RunDirectory, plan: Plan, tell: Narrator, trainer: LogicalBatchTrainer, built: Built) -> dict[str, Any]:
    """Bytes that checkpoints, result and a later merge take, and those that are free.

    Raises:
        Refused: there are too few.
    """
    checkpoint, there = trainer.expected_bytes(), folder_size(run.checkpoints)
    result = trainer.saved_bytes() + BESIDE_WEIGHTS
    needed = max(CHECKPOINTS * checkpoint - there, checkpoint) + (0 if run.model.exists() else result)
    free = shutil.disk_usage(run.path).free
    if free < needed:
        instead = "" if run.group else ", or take another folder with --runs"  # a group's runs stay together
        instead += "; LoRA saves less" if plan.method == "full" else ""
        raise Refused(
            f"{run.path}: checkpoints ({CHECKPOINTS} of {size(checkpoint)} at most) and the result need {size(needed)} "
            f"of disk, and {size(free)} is free. Free some space{instead}."
        )
    host = host_room()
    if result > host:
        raise Refused(
            f"Saving the result takes {size(result)} of main memory for a moment, and {size(host)} is free. Close other "
            f"programs. {what_helps(plan)}"
        )
    merged = 0 if plan.method == "full" else built.parameters * (4 if plan.precision == "fp32" else 2)
    held = memory_needed(built.parameters) if merged else 0
    later = host if torch.cuda.is_available() else memory_available()  # once this process has ended
    if merged and (held > later or merged > free - needed):
        tell.warn(
            "merge_does_not_fit",
            f"The adapter fits; merging it into its base would need {size(held)} of main memory ({size(later)} is free) "
            f"and {size(merged)} of disk ({size(max(free - needed, 0))} will be). Use it as an adapter, or merge it "
            "elsewhere.",
            held=held, memory=later, merged=merged, disk=free - needed,
        )  # fmt: skip
    disk = {"checkpoint": checkpoint, "result": result, "needed": needed, "free": free, "merged": merged}
    return {"disk": disk, "host": {"saving": result, "merging": held, "free": host}}
