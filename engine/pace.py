"""How fast a run goes and how long it will still take, in tokens rather than steps: steps differ in length."""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.state import RunState

WINDOW = 20
"""Steps over which speed is averaged."""
LONG_WINDOW = 200
"""Steps whose pace tells the time left: long enough to be steady, short enough to notice a machine that slows down."""
PROBE_SECONDS = 2.0
"""For importing scikit-learn and fitting the probe: 1.1 s for 640 rows on an idle machine, up to 9 for 1,500 on a busy one."""
WRITING = 400e6
"""Bytes of a checkpoint that are written, read again and compared in a second: 274 MB took 0.6 to 0.8 s on an idle machine. Told
before there is one to go by; a run's own take its place."""
AFTERWARDS, TWICE = ("after", "save", "probe"), ("answers", "samples", "forgetting")
"""Phases that follow the last step, and those that come before the first one as well."""


class Pace:
    """What steps cost: themselves, and with what lies between one and the next. Nothing is summed until somebody asks."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=LONG_WINDOW)

    def add(self, seconds: float, whole: float, tokens: float) -> None:
        """A step of `seconds`, and `whole` seconds after the one before it where nothing but a step lay between."""
        self._steps.append((seconds, whole, tokens))

    def clear(self) -> None:
        """A new worker may be on another machine."""
        self._steps.clear()

    @property
    def tokens_per_second(self) -> float | None:
        """Real tokens through the model a second of training."""
        steps = self._newest()
        seconds = sum(seconds for seconds, _, _ in steps)
        return sum(tokens for _, _, tokens in steps) / seconds if seconds > 0 else None

    @property
    def seconds_per_step(self) -> float | None:
        """Of the training itself."""
        steps = self._newest()
        seconds = sum(seconds for seconds, _, _ in steps)
        return seconds / len(steps) if seconds > 0 else None

    def _newest(self) -> list[tuple[float, float, float]]:
        return list(islice(reversed(self._steps), WINDOW))

    def seconds_for(self, steps: float, tokens: float | None) -> float:
        """About how long that many more steps take, which hold that many tokens if they are known."""
        whole = sum(whole for _, whole, _ in self._steps)
        seen = sum(tokens for _, _, tokens in self._steps)
        return tokens * whole / seen if tokens and seen > 0 else steps * whole / max(len(self._steps), 1)


def seconds_left(state: "RunState") -> float | None:
    """Seconds until the run ends or pauses: the tokens left, evaluations, checkpoints, saving, the final scoring.

    `None` before the first steps: an estimate from nothing is worse than none.
    """
    if state.status != "running" or state.seconds_per_step is None or not state.total_steps:
        return None
    info, saved = state.info, "save" in state.phase_seconds
    over = state.step > 0 and (state.phase in AFTERWARDS or (state.phase in TWICE and saved))
    pauses_at = _count(info.get("stops_at"))
    end = min(pauses_at, state.total_steps) if pauses_at else state.total_steps
    steps = 0 if over else max(end - state.step, 0)
    every, epochs = _count(info.get("train_tokens")), _number(info.get("epochs"))
    tokens = max(every * epochs * end / state.total_steps - state.tokens_seen, 0.0) if every and epochs else None
    training = state.pace.seconds_for(steps, tokens) if steps else 0.0
    if pauses_at:
        return training
    scored = [e.metrics.get("seconds", 0.0) for e in state.evaluations if e.split == "validation"]
    between = 0.0 if over else max((_number(info.get("evaluations")) or 0.0) - len(scored), 0.0)
    writing = state.sample_seconds / max(len(scored), 1)
    scoring = _mean(scored) if scored else _before(state, _count(info.get("validation_rows")))
    return training + between * (scoring + writing + _saving(state)) + _afterwards(state)


def _afterwards(state: "RunState") -> float:
    """What follows the last step: as long as the same rows and prompts took before the training, by the same code."""
    before = state.scores("before") if state.scores("after") is None else None
    final = before.get("seconds", 0.0) if before else 0.0
    scored, more = _count(before.get("rows")) if before else 0, _count(state.info.get("rows_afterwards"))
    if scored and more:
        final += final * more / scored + PROBE_SECONDS
    if before:  # the best checkpoint is read, the result written and read again
        final += 2 * _saving(state)
    written = any(s.get("split") == "after" for s in state.samples.values())
    return final + (0.0 if written else state.phase_seconds.get("samples", 0.0))


def _saving(state: "RunState") -> float:
    """Seconds that a checkpoint takes: as those before it, or by its size."""
    disk = state.preflight.get("disk")
    size = _count(disk.get("checkpoint")) if isinstance(disk, dict) else 0
    return _mean(state.checkpoint_seconds) if state.checkpoint_seconds else size / WRITING


def _before(state: "RunState", rows: int) -> float:
    """Seconds that so many rows take to be scored, by the scoring before the training."""
    before = state.scores("before") or {}
    scored = _count(before.get("rows"))
    return before.get("seconds", 0.0) * rows / scored if scored else 0.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else None


def _count(value: Any) -> int:
    return max(int(_number(value) or 0), 0)
