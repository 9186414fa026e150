"""How long operations take is found out while nothing of ours computes beside."""

import subprocess
import sys
import time

import psutil
import pytest

from engine.worker.tracing import timed


@pytest.mark.parametrize(("computed", "looks"), [([1.0, 1.2, 1.4, 1.401, 2.0], 4), ([None], 1), ([1.0, 1.0], 2)])
def test_what_computes_beside_is_waited_for(computed: list[float | None], looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter(computed)
    seen = []
    monkeypatch.setattr(timed, "computed_beside", lambda: seen.append(0) or next(told))  # type: ignore[func-returns-value]
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    timed.wait_for_quiet(60)
    assert len(seen) == looks


def test_what_never_comes_to_rest_is_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "computed_beside", time.monotonic)
    begun = time.monotonic()
    timed.wait_for_quiet(0.3)
    assert 0.3 <= time.monotonic() - begun < 30


def test_what_another_child_computes_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as sibling:
        try:
            until = time.monotonic() + 60
            while (timed.computed_beside(psutil.Process()) or 0) < 0.1:
                assert time.monotonic() < until
        finally:
            sibling.kill()
