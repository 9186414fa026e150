"""The state of a run: a fold of its events. The live view, attaching, the headless view and the tests share it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.events import Event

Status = Literal["starting", "running", "done", "stopped", "failed", "refused", "dead"]
FINISHED: frozenset[str] = frozenset({"done", "stopped", "failed", "refused"})
RATE_WINDOW = 20
"""Steps over which speed is averaged."""


@dataclass(slots=True)
class Evaluation:
    """One scoring of one set of rows."""

    step: int
    split: str
    """`validation`, or `before`, `after`, `probe`, `majority` on the held-out rows."""
    metrics: dict[str, float]
    time: float


@dataclass(slots=True)
class RunState:
    """Everything a viewer shows. Only `apply` changes it."""

    status: Status = "starting"
    info: dict[str, Any] = field(default_factory=dict)
    """What the `run` event said: method, model, rows, devices, versions."""
    phase: str = "starting"
    phase_done: int = 0
    phase_total: int = 0
    phase_unit: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, training loss), once a step; a repeated step replaces its first pass."""
    evaluations: list[Evaluation] = field(default_factory=list)
    learning_rate: float | None = None
    grad_norm: float | None = None
    memory_peak: int | None = None
    memory_now: int | None = None
    tokens_seen: int = 0
    rows_seen: int = 0
    tokens_per_second: float | None = None
    seconds_per_step: float | None = None
    checkpoint: int | None = None
    """Step of the newest verified checkpoint."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    started: float | None = None
    updated: float | None = None
    last_step_time: float | None = None
    end: dict[str, Any] | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    """Gauges from the newest heartbeat."""
    sequence: int = 0
    _recent: list[tuple[float, int]] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take in one event. Unknown fields and kinds are ignored; nothing a log may hold raises."""
        handler = getattr(self, f"_on_{event['kind']}", None)
        self.sequence = max(self.sequence, event["seq"])
        when = event.get("time")
        if (moment := _number(when)) is not None:
            self.updated = moment
        if handler is not None:
            try:
                handler(event)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                return

    def _on_run(self, event: Event) -> None:
        self.info = {k: v for k, v in event.items() if k not in ("v", "seq", "kind", "monotonic")}
        self.status = "running"
        self.end = None
        self.started = self.started if self.started is not None else _number(event.get("time"))
        self.total_steps = _count(event.get("total_steps")) or self.total_steps
        self._go_back_to(_count(event.get("resumed_from")))
        self._recent.clear()

    def _go_back_to(self, step: int) -> None:
        """Forget what a resumed run will do again."""
        self.step = min(self.step, step)
        while self.losses and self.losses[-1][0] > step:
            self.losses.pop()
        self.evaluations = [e for e in self.evaluations if e.split != "validation" or e.step <= step]

    def _on_phase(self, event: Event) -> None:
        if event["name"] == "load" and self.status in FINISHED:  # a new worker goes on with a run that had ended
            self.status, self.end = "starting", None
        self.phase = str(event["name"])
        self.phase_done = _count(event.get("done"))
        self.phase_total = _count(event.get("total"))
        self.phase_unit = str(event.get("unit") or "")
        if self.phase == "train" and self.phase_total:
            self.total_steps = self.phase_total

    def _on_step(self, event: Event) -> None:
        step, seconds, tokens = int(event["step"]), _number(event.get("seconds")), _count(event.get("tokens"))
        if step <= self.step:  # done again
            self._go_back_to(step - 1)
        loss = _number(event.get("loss"))
        if loss is not None:
            self.losses.append((step, loss))
        self.step = step
        self.phase = "train"
        self.epoch = _number(event.get("epoch")) or self.epoch
        self.learning_rate = _number(event.get("learning_rate"))
        self.grad_norm = _number(event.get("grad_norm"))
        self._on_memory(event.get("memory"))
        self.tokens_seen += tokens
        self.rows_seen += _count(event.get("rows"))
        self.last_step_time = _number(event.get("time"))
        if seconds is None:
            return
        self._recent.append((seconds, tokens))
        del self._recent[:-RATE_WINDOW]
        spent = sum(s for s, _ in self._recent)
        if spent > 0:
            self.seconds_per_step = spent / len(self._recent)
            self.tokens_per_second = sum(t for _, t in self._recent) / spent

    def _on_evaluation(self, event: Event) -> None:
        metrics = {str(k): n for k, v in event["metrics"].items() if (n := _number(v)) is not None}
        self.evaluations.append(Evaluation(_count(event.get("step")), str(event["split"]), metrics, float(event["time"])))

    def _on_checkpoint(self, event: Event) -> None:
        self.checkpoint = int(event["step"])

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(event)

    def _on_recovery(self, event: Event) -> None:
        self.recoveries.append(event)

    def _on_heartbeat(self, event: Event) -> None:
        self.machine = dict(event.get("machine") or {})
        self._on_memory(self.machine.get("memory"))

    def _on_memory(self, value: Any) -> None:
        if _number(value) is not None:
            self.memory_now = _count(value)
            self.memory_peak = max(self.memory_peak or 0, self.memory_now)

    def _on_end(self, event: Event) -> None:
        self.end = event
        status = event.get("status")
        self.status = status if isinstance(status, str) and status in FINISHED else "failed"  # type: ignore[assignment]

    def scores(self, split: str) -> dict[str, float] | None:
        """The newest metrics of that split."""
        return next((e.metrics for e in reversed(self.evaluations) if e.split == split), None)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run ends or pauses: the steps left, the evaluations left, and the final scoring.

        `None` before the first steps: an estimate from nothing is worse than none.
        """
        if self.status != "running" or self.seconds_per_step is None or not self.total_steps:
            return None
        pauses_at = _count(self.info.get("stops_at"))
        if pauses_at:
            return max(min(pauses_at, self.total_steps) - self.step, 0) * self.seconds_per_step
        steps_left = max(self.total_steps - self.step, 0)
        scored = [e.metrics.get("seconds", 0.0) for e in self.evaluations if e.split == "validation"]
        evaluations_left = max((_number(self.info.get("evaluations")) or 0) - len(scored), 0)
        pause = sum(scored) / len(scored) if scored else 0.0
        before = self.scores("before") if self.scores("after") is None else None
        final = before.get("seconds", 0.0) if before else 0.0  # the same rows again, by the same code
        return steps_left * self.seconds_per_step + evaluations_left * pause + final


def fold(events: Iterable[Event]) -> RunState:
    """The state after all of `events`."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def _number(value: Any) -> float | None:
    """`value` as a finite number; a log may hold anything, `1e999` too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        return None
    return float(value)


def _count(value: Any) -> int:
    """`value` as a count, 0 where it is none."""
    return max(int(_number(value) or 0), 0)
