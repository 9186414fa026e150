"""Taking hold of the device that a process was given, before anything is computed on it."""

import os

import torch

from engine.text import first_line, one_line
from engine.worker import products
from engine.worker.budget import is_out_of_memory, refused_by_the_gpu
from recommender.errors import Refused

IN_PLACE = "expandable_segments:{}"


def take_hold() -> None:
    """Try the GPU and settle how it computes; where there is none, how the processor multiplies.

    Raises:
        Refused: torch cannot use the one that was chosen. It would compute on the processor instead, without a word.
    """
    if not torch.cuda.is_available():
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith(("GPU-", "MIG-"))
        if chosen and torch.version.cuda:
            _touch()
        products.take_faster()
        return
    # cuDNN's attention, which torch takes first on an H100 or a B200, is planned anew for every new shape, for up to seconds
    # (benchmarks/gpu), and micro-batches hardly ever repeat one.
    torch.backends.cuda.enable_cudnn_sdp(False)
    _touch()


def _touch() -> None:
    try:
        torch.ones(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        if "driver error" not in str(error):
            raise _unusable(error) from error
        # Memory that grows in place is mapped by the driver, which not every virtual machine lets it do.
        torch._C._accelerator_setAllocatorSettings(IN_PLACE.format(False))
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = IN_PLACE.format(False)  # the report tells what was used
        try:
            torch.ones(1, device="cuda")
        except RuntimeError as still:
            raise _unusable(still) from still


def _unusable(error: BaseException) -> Refused:
    return Refused(
        f"torch cannot use the GPU ({one_line(first_line(error), 200)}).",
        (refused_by_the_gpu(error) or "See what `nvidia-smi` says; a restart of the machine often helps.")
        + " With `CUDA_VISIBLE_DEVICES=-1` in the environment Loracle plans for the processor.",
    )
