"""How fast a run goes and how long it will still take, in tokens rather than steps: steps differ in length."""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from engine.events import count_of, number_of
from recommender.timing import SAVED

if TYPE_CHECKING:
    from engine.state import RunState

WINDOW = 20
"""Steps over which speed is averaged."""
LONG_WINDOW = 200
"""Steps whose pace tells the time left: long enough to be steady, short enough to notice a machine that slows down."""
PROBED = 10
"""Steps of a worker from which on the time left counts as measured: single ones vary by 5 to 11% on an idle machine."""
PROBE_SECONDS = 2.0
"""For importing scikit-learn and fitting the probe: 1.1 s for 640 rows on an idle machine, up to 9 for 1,500 on a busy one."""
SCORING = 0.35
"""Of a token's time in training that scoring it takes, where nothing was scored yet: the forward pass alone."""
LEAST = 0.1
"""Of what was to follow the training: so much is left for as long as it is not over."""
AFTERWARDS = ("after", "save", "probe")
"""Phases that follow the last step; some of a run's others come after it too, but not first."""


class Pace:
    """What steps cost: themselves, and with what lies between one and the next. Nothing is summed until somebody asks."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=LONG_WINDOW)
        self._first: tuple[float, float, float] | None = None
        """Of this worker: kernels are loaded and chosen in it. It counts only until there are others."""

    def add(self, seconds: float, whole: float, tokens: float) -> None:
        """A step of `seconds`, and `whole` seconds after the one before it where nothing but a step lay between."""
        if self._first is None:
            self._first = seconds, whole, tokens
        else:
            self._steps.append((seconds, whole, tokens))

    def clear(self) -> None:
        """A new worker may be on another machine."""
        self._steps.clear()
        self._first = None

    @property
    def count(self) -> int:
        """Steps of this worker, the first one too; no more than are kept."""
        return len(self._steps) + (self._first is not None)

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
        return list(islice(reversed(self._steps), WINDOW)) or self._all()

    def _all(self) -> list[tuple[float, float, float]]:
        return list(self._steps) or [first for first in (self._first,) if first is not None]

    def seconds_for(self, steps: float, tokens: float | None) -> float:
        """About how long that many more steps take, which hold that many tokens if they are known."""
        known = self._all()
        whole = sum(whole for _, whole, _ in known)
        seen = sum(tokens for _, _, tokens in known)
        return tokens * whole / seen if tokens and seen > 0 else steps * whole / max(len(known), 1)


def seconds_left(state: "RunState") -> float | None:
    """Seconds until the run ends or pauses: the tokens left, evaluations, checkpoints, saving, the final scoring.

    `None` before the first steps: an estimate from nothing is worse than none. Early stopping may end it sooner.
    """
    if state.status != "running":
        return None
    if state.after is not None:  # of a worker that goes on there without a step of its own, too
        expected, since = state.after
        return max(expected - (state.elapsed - since), LEAST * expected)
    if state.seconds_per_step is None or not state.total_steps:
        return None
    info = state.info
    pauses_at = count_of(info.get("stops_at"))
    end = min(pauses_at, state.total_steps) if pauses_at else state.total_steps
    steps = max(end - state.step, 0)
    every, epochs = count_of(info.get("train_tokens")), number_of(info.get("epochs"))
    tokens = max(every * epochs * end / state.total_steps - state.tokens_seen, 0.0) if every and epochs else None
    training = state.pace.seconds_for(steps, tokens) if steps else 0.0
    if pauses_at:
        return training
    scored = [e.metrics.get("seconds", 0.0) for e in state.evaluations if e.split == "validation"]
    evaluations = max((number_of(info.get("evaluations")) or 0.0) - len(scored), 0.0)
    scoring = _mean(scored) + state.sample_seconds / len(scored) if scored else _to_score(state, "validation")
    saves = max(evaluations, _saves_left(state))
    left = training + evaluations * scoring + saves * _saving(state) + afterwards(state)
    now = scoring if state.phase == "evaluate" else state.seconds_per_step  # what is being done is partly done
    return max(left - min(state.since_work, now), 0.0)


def afterwards(state: "RunState") -> float:
    """Seconds of what follows the last step: what the same rows and prompts took before the training, by the same code."""
    fit, probe = (_to_score(state, use) for use in ("fit", "probe"))
    before = state.scores("before")
    again = before.get("seconds", 0.0) if before else 0.0
    again += sum(state.phase_seconds.get(phase, 0.0) for phase in ("samples", "forgetting"))
    files = _saving(state) + state.loading  # the best weights are read and written, and the result is loaded
    return fit + (probe + PROBE_SECONDS + state.loading if probe else 0.0) + again + files


def _saves_left(state: "RunState") -> float:
    """Checkpoints that are still to come; they lie evenly spread, the last one at the end."""
    count = count_of(state.info.get("checkpoints"))
    return count - (2 * state.step + 1) * count // (2 * max(state.total_steps, 1))


def _saving(state: "RunState") -> float:
    """Seconds that a checkpoint takes: as those before it, or by its size."""
    disk = state.preflight.get("disk")
    size = count_of(disk.get("checkpoint")) if isinstance(disk, dict) else 0
    return _mean(state.checkpoint_seconds) if state.checkpoint_seconds else size / SAVED


def _to_score(state: "RunState", use: str) -> float:
    """Seconds that the tokens for `use` take to be scored: at the pace of the scoring before the training, else of its steps."""
    known = state.info.get("tokens")
    tokens, scored = (count_of(known.get(name)) for name in (use, "held_out")) if isinstance(known, dict) else (0, 0)
    before = state.scores("before")
    if before and scored:  # less the answers that were written then
        return min(before.get("seconds", 0.0), state.phase_seconds.get("before", float("inf"))) * tokens / scored
    return SCORING * state.pace.seconds_for(0, tokens)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
