"""A GPU that cannot be used as it was meant to be, shown with stand-ins: no GPU is here."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.rundir import RunDirectory
from engine.worker import accelerator, preflight
from recommender.errors import Refused
from recommender.plan import Plan
from tests.conftest import make_plan
from tests.engine.worker.inside import work


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what touching a card that seems to be there does."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    before = torch._C._accelerator_getAllocatorSettings()

    def touched(does: Callable[[], None]) -> None:
        monkeypatch.setattr(torch, "ones", lambda *size, device: does())

    yield touched
    torch._C._accelerator_setAllocatorSettings(before)
    torch.backends.cuda.enable_cudnn_sdp(True)


def raising(error: BaseException) -> Callable[[], None]:
    def does() -> None:
        raise error

    return does


def test_a_chosen_gpu_that_torch_cannot_use_is_no_run_on_the_processor(
    tiny: Path, begin: Callable[[Plan], RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a laptop has slept: the driver answers, and CUDA does not begin."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1234")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    end = work(begin(make_plan(tiny)))
    assert (end["status"], end["code"]) == ("refused", 3)
    assert end["cause"].startswith("torch cannot use the GPU (")
    assert "CUDA_VISIBLE_DEVICES=-1" in end["cure"]


def test_memory_that_grows_in_place_is_done_without_where_the_driver_cannot_map_it(card: Any) -> None:
    def does() -> None:
        if torch._C._accelerator_getAllocatorSettings() != "expandable_segments:False":
            raise RuntimeError("CUDA driver error: operation not supported")

    card(does)
    accelerator.take_hold()
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:False"
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("CUDA driver error: unknown error", "a restart of the machine often helps"),
        ("CUDA error: no kernel image is available for execution", "install a build that has them"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "Another program may have it to itself"),
    ],
)
def test_a_card_that_fails_at_the_first_touch_is_told_at_once(card: Any, said: str, cure: str) -> None:
    card(raising(RuntimeError(said)))
    with pytest.raises(Refused, match="torch cannot use the GPU") as refused:
        accelerator.take_hold()
    assert said in refused.value.message
    assert cure in (refused.value.cure or "")
    assert "CUDA_VISIBLE_DEVICES=-1" in (refused.value.cure or "")


def test_a_full_card_is_told_as_that(card: Any) -> None:
    card(raising(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        accelerator.take_hold()


def test_what_windows_lends_beyond_the_card_was_not_there(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "under_windows", lambda: True)
    assert not preflight._was_there(9, available=8)
    assert preflight._was_there(8, available=8)
    monkeypatch.setattr(preflight, "under_windows", lambda: False)
    assert preflight._was_there(9, available=8), "elsewhere others have given memory back meanwhile"
