"""How long operations take is found out while nothing of ours computes beside."""

import itertools
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from engine.worker.tracing import timed
from engine.worker.tracing.work import STEP


@pytest.mark.parametrize(("computed", "looks"), [([1.0, 1.2, 1.4, 1.401, 2.0], 4), ([None], 1), ([1.0, 1.0], 2)])
def test_what_computes_beside_is_waited_for(computed: list[float | None], looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(computed)
    seen = []
    monkeypatch.setattr(timed, "computed_beside", lambda: seen.append(0) or next(told))  # type: ignore[func-returns-value]
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    timed.wait_for_quiet(60)
    assert len(seen) == looks


def test_what_never_comes_to_rest_is_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=lambda seconds: None))
    monkeypatch.setattr(timed, "computed_beside", lambda: float(next(clock)))
    timed.wait_for_quiet(5)
    assert next(clock) in range(5, 10)


def test_what_another_child_computes_is_seen_unless_it_is_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as sibling:
        try:
            until = time.monotonic() + 60
            while (timed.computed_beside(psutil.Process()) or 0) < 0.1:
                assert time.monotonic() < until
            monkeypatch.setattr(time, "time", lambda now=time.time: now() + timed.YOUNG)
            assert timed.computed_beside(psutil.Process()) == 0, "it has imported long ago"
        finally:
            sibling.kill()


def test_an_operation_is_tried_twice_for_something_may_disturb_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = timed.Calls()
    calls.note(STEP[0], torch.ops.aten.add.Tensor, (torch.ones(2), torch.ones(2)), {})
    calls.note(STEP[0], torch.ops.aten.mul.Tensor, (torch.ones(2), torch.ones(2)), {})
    took = iter([8.0, 1.0, 1.0, 2.0])
    monkeypatch.setattr(timed, "_tried", lambda *_: next(took))
    known: dict[Any, float] = {}
    assert calls.seconds(known) == {STEP[0]: 2.0}
    assert calls.seconds(known) == {STEP[0]: 2.0}, "nothing is tried for what is known"
