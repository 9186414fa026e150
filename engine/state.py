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
        if isinstance(when, int | float):
            self.updated = float(when)
        if handler is not None:
            try:
                handler(event)
            except (KeyError, TypeError, ValueError, AttributeError):
                return

    def _on_run(self, event: Event) -> None:
        self.info = {k: v for k, v in event.items() if k not in ("v", "seq", "kind", "monotonic")}
        self.status = "running"
        self.end = None
        self.started = self.started if self.started is not None else float(event["time"])
        self.total_steps = int(event.get("total_steps") or self.total_steps)
        self._recent.clear()

    def _on_phase(self, event: Event) -> None:
        self.phase = str(event["name"])
        self.phase_done = int(event.get("done") or 0)
        self.phase_total = int(event.get("total") or 0)
        self.phase_unit = str(event.get("unit") or "")
        if self.phase == "train" and self.phase_total:
            self.total_steps = self.phase_total

    def _on_step(self, event: Event) -> None:
        step = int(event["step"])
        while self.losses and self.losses[-1][0] >= step:
            self.losses.pop()
        if step <= self.step:  # resumed behind what was already seen
            self.evaluations = [e for e in self.evaluations if e.split != "validation" or e.step < step]
        if event.get("loss") is not None:
            self.losses.append((step, float(event["loss"])))
        self.step = step
        self.phase = "train"
        self.epoch = float(event.get("epoch") or self.epoch)
        self.learning_rate = _number(event.get("learning_rate"))
        self.grad_norm = _number(event.get("grad_norm"))
        if event.get("memory") is not None:
            self.memory_now = int(event["memory"])
            self.memory_peak = max(self.memory_peak or 0, self.memory_now)
        self.tokens_seen += int(event.get("tokens") or 0)
        self.rows_seen += int(event.get("rows") or 0)
        self.last_step_time = _number(event.get("time"))
        self._recent.append((float(event["seconds"]), int(event.get("tokens") or 0)))
        del self._recent[:-RATE_WINDOW]
        seconds = sum(s for s, _ in self._recent)
        if seconds > 0:
            self.seconds_per_step = seconds / len(self._recent)
            self.tokens_per_second = sum(t for _, t in self._recent) / seconds

    def _on_evaluation(self, event: Event) -> None:
        metrics = {str(k): float(v) for k, v in event["metrics"].items() if isinstance(v, int | float)}
        self.evaluations.append(Evaluation(int(event.get("step") or 0), str(event["split"]), metrics, float(event["time"])))

    def _on_checkpoint(self, event: Event) -> None:
        self.checkpoint = int(event["step"])

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(event)

    def _on_recovery(self, event: Event) -> None:
        self.recoveries.append(event)

    def _on_heartbeat(self, event: Event) -> None:
        self.machine = dict(event.get("machine") or {})
        memory = self.machine.get("memory")
        if memory is not None:
            self.memory_now = int(memory)
            self.memory_peak = max(self.memory_peak or 0, int(memory))

    def _on_end(self, event: Event) -> None:
        self.end = event
        status = event.get("status")
        self.status = status if status in FINISHED else "failed"

    def scores(self, split: str) -> dict[str, float] | None:
        """The newest metrics of that split."""
        return next((e.metrics for e in reversed(self.evaluations) if e.split == split), None)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until training ends, from the measured step time and the evaluations seen so far.

        `None` before the first steps: an estimate from nothing is worse than none.
        """
        if self.status != "running" or self.seconds_per_step is None or not self.total_steps:
            return None
        steps_left = max(self.total_steps - self.step, 0)
        spent = [float(e) for e in (self.info.get("evaluation_seconds"),) if e]
        planned = int(self.info.get("evaluations") or 0)
        done = sum(1 for e in self.evaluations if e.split == "validation")
        pause = spent[0] if spent else self._evaluation_seconds()
        return steps_left * self.seconds_per_step + max(planned - done, 0) * pause + self._final_seconds()

    def _evaluation_seconds(self) -> float:
        times = [e.metrics["seconds"] for e in self.evaluations if e.split == "validation" and "seconds" in e.metrics]
        return sum(times) / len(times) if times else 0.0

    def _final_seconds(self) -> float:
        before = self.scores("before")
        return before.get("seconds", 0.0) if before and self.scores("after") is None else 0.0


def fold(events: Iterable[Event]) -> RunState:
    """The state after all of `events`."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
