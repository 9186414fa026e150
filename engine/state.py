"""The state of a run: a fold of its events. The live view, attaching, the headless view and the tests share it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.events import KINDS, Event, count_of, number_of
from engine.pace import AFTERWARDS, PROBED, Pace, afterwards, seconds_left
from engine.series import Series

Status = Literal["starting", "running", "done", "stopped", "failed", "refused", "dead"]
Death = Literal["disk", "read_only", "restarted", "elsewhere", "memory"]
"""What most likely ended a worker without a word: its disk was full, its machine was started anew, it ran on another machine
and is no longer heard of, or (the most frequent) memory ran out."""
FINISHED: frozenset[str] = frozenset({"done", "stopped", "failed", "refused"})
MOST_KEPT = 1_000
"""Warnings and recoveries kept, the newest; a flood of them must not grow without bound."""
MOST_SAMPLES = 50
STEPPING = ("train", "evaluate")
"""Phases in which steps are taken: a worker that is asked to stop finishes the one in hand and saves. In any other it leaves with
the checkpoints that it has."""
OF_EVERY = ("v", "seq", "kind", "monotonic", "processor")
"""Fields of every event that say nothing of what happened."""


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
    death: Death = "memory"
    """Only of a `dead` run; no event tells it, whoever looks for the worker does."""
    info: dict[str, Any] = field(default_factory=dict)
    """What the `run` event said: method, model, rows, devices, versions."""
    phase: str = "starting"
    phase_done: int = 0
    phase_total: int = 0
    phase_unit: str = ""
    phase_limit: float | None = None
    """Seconds after which the phase is cut short."""
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    losses: Series = field(default_factory=Series)
    """(step, training loss), once a step; a repeated step replaces its first pass."""
    evaluations: list[Evaluation] = field(default_factory=list)
    learning_rate: float | None = None
    grad_norm: float | None = None
    memory_peak: int | None = None
    memory_now: int | None = None
    tokens_seen: int = 0
    """Of the steps up to this one: what a resumed run does again counts once."""
    pace: Pace = field(default_factory=Pace)
    elapsed: float = 0.0
    """Seconds in which a worker was at it; the time between two workers does not count."""
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """How long each phase took, or takes so far."""
    loading: float = 0.0
    """Seconds that the newest worker took to load its model."""
    checkpoint_seconds: list[float] = field(default_factory=list)
    samples: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The newest `sample` event of each prompt by its number; `first` is what the model wrote at first."""
    sample_seconds: float = 0.0
    """Spent on answers that were written at evaluations."""
    checkpoint: int | None = None
    """Step of the newest verified checkpoint."""
    preflight: dict[str, Any] = field(default_factory=dict)
    """What the newest worker found before its first step: memory predicted and probed, disk needed and free."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    started: float | None = None
    updated: float | None = None
    last_step_time: float | None = None
    after: tuple[float, float] | None = None
    """Once the training is over: seconds that what follows it was to take, and `elapsed` when that began."""
    end: dict[str, Any] | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    """Gauges from the newest heartbeat."""
    sequence: int = 0
    _clock: float | None = None
    """The newest event's time by the clock that nobody sets."""
    _after_step: bool = False
    """Whether the last thing done was a step."""
    _until_step: float = 0.0
    """`elapsed` at the last step."""
    _load_began: float | None = None
    """`elapsed` then, until it is over."""
    _until_work: float = 0.0
    """`elapsed` at the last step, evaluation or checkpoint."""

    def apply(self, event: Event) -> None:
        """Take in one event. Unknown fields and kinds are ignored; nothing a log may hold raises."""
        kind, number = event["kind"], event["seq"]
        self.sequence = number if number > self.sequence else self.sequence
        moment = number_of(event.get("time"))
        if moment is not None:
            clock = number_of(event.get("monotonic"))
            self._pass_time(moment, clock, begins=kind == "phase" and event.get("name") == "load")
        handler = _HANDLERS.get(kind)
        if handler is not None:
            try:
                handler(self, event)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                return

    def _pass_time(self, moment: float, clock: float | None, *, begins: bool) -> None:
        """By the clock that stands while the machine sleeps and that nobody sets, where a log has it."""
        if self.updated is not None and not begins:
            spent = moment - self.updated if clock is None or self._clock is None else clock - self._clock
            if spent > 0:
                self.elapsed += spent
                self.phase_seconds[self.phase] = self.phase_seconds.get(self.phase, 0.0) + spent
        self.updated, self._clock = moment, clock

    def _on_run(self, event: Event) -> None:
        self.info = {k: v for k, v in event.items() if k not in OF_EVERY}
        self.status = "running"
        self.end = None
        self.started = self.started if self.started is not None else number_of(event.get("time"))
        self.total_steps = count_of(event.get("total_steps")) or self.total_steps
        self._go_back_to(count_of(event.get("resumed_from")))
        self.pace.clear()
        self.after = None
        self._after_step = False

    def _go_back_to(self, step: int) -> None:
        """Forget what a resumed run will do again."""
        self.step = min(self.step, step)
        self.losses.cut(step)
        self.tokens_seen = int(self.losses.tokens[-1]) if self.losses else 0
        self.evaluations = [e for e in self.evaluations if e.split != "validation" or e.step <= step]

    def _on_phase(self, event: Event) -> None:
        if event["name"] == "load" and self.status in FINISHED:  # a new worker goes on with a run that had ended
            self.status, self.end = "starting", None
        self.phase = str(event["name"])
        if self.phase == "load":  # first the libraries, then the model
            self._load_began = self.elapsed
        elif self._load_began is not None:
            self.loading, self._load_began = self.elapsed - self._load_began, None
        self.phase_done = count_of(event.get("done"))
        self.phase_total = count_of(event.get("total"))
        self.phase_unit = str(event.get("unit") or "")
        self.phase_limit = number_of(event.get("limit"))
        if self.phase == "train" and self.phase_total:
            self.total_steps = self.phase_total
        if self.phase in AFTERWARDS and self.step and self.after is None:
            self.after = afterwards(self), self.elapsed

    def _on_preflight(self, event: Event) -> None:
        self.preflight = {k: v for k, v in event.items() if k not in OF_EVERY}
        self._on_memory(event.get("probed"))

    def _on_step(self, event: Event) -> None:
        step, seconds, tokens = int(event["step"]), number_of(event.get("seconds")), count_of(event.get("tokens"))
        moment = number_of(event.get("time"))
        if step <= self.step:  # done again
            self._go_back_to(step - 1)
        self.tokens_seen += tokens
        loss = number_of(event.get("loss"))
        if loss is not None:
            self.losses.add(step, loss, self.tokens_seen, self.elapsed)
        self.step = step
        self.phase = "train"
        self.epoch = number_of(event.get("epoch")) or self.epoch
        self.learning_rate = number_of(event.get("learning_rate"))
        self.grad_norm = number_of(event.get("grad_norm"))
        self._on_memory(event.get("memory"))
        if seconds is not None:
            whole = max(self.elapsed - self._until_step, seconds) if self._after_step else seconds
            self.pace.add(seconds, whole, tokens)
        self.last_step_time, self._until_step, self._until_work = moment, self.elapsed, self.elapsed
        self._after_step = True

    def _on_evaluation(self, event: Event) -> None:
        self._after_step, self._until_work = False, self.elapsed
        metrics = {str(k): n for k, v in event["metrics"].items() if (n := number_of(v)) is not None}
        self.evaluations.append(Evaluation(count_of(event.get("step")), str(event["split"]), metrics, float(event["time"])))

    def _on_checkpoint(self, event: Event) -> None:
        self.checkpoint = int(event["step"])
        self._after_step, self._until_work = False, self.elapsed
        if (seconds := number_of(event.get("seconds"))) is not None:
            self.checkpoint_seconds.append(seconds)

    def _on_sample(self, event: Event) -> None:
        number = count_of(event.get("number"))
        if number < MOST_SAMPLES:
            known = self.samples.get(number)
            first = known["first"] if known and known.get("prompt") == event.get("prompt") else event.get("answer")
            self.samples[number] = {**event, "first": first}
        if event.get("split") == "learning":
            self.sample_seconds += number_of(event.get("seconds")) or 0.0

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(event)
        del self.warnings[:-MOST_KEPT]

    def _on_recovery(self, event: Event) -> None:
        self.recoveries.append(event)
        del self.recoveries[:-MOST_KEPT]

    def _on_heartbeat(self, event: Event) -> None:
        self.machine = dict(event.get("machine") or {})
        self._on_memory(self.machine.get("memory"))

    def _on_memory(self, value: Any) -> None:
        number = number_of(value)
        if number is not None:
            self.memory_now = now = int(number) if number > 0 else 0
            if self.memory_peak is None or now > self.memory_peak:
                self.memory_peak = now

    def _on_end(self, event: Event) -> None:
        self.end = event
        status = event.get("status")
        self.status = status if isinstance(status, str) and status in FINISHED else "failed"  # type: ignore[assignment]

    def scores(self, split: str) -> dict[str, float] | None:
        """The newest metrics of that split."""
        return next((e.metrics for e in reversed(self.evaluations) if e.split == split), None)

    @property
    def tokens_per_second(self) -> float | None:
        """Real tokens, padding not counted, over the last steps."""
        return self.pace.tokens_per_second

    @property
    def seconds_per_step(self) -> float | None:
        """Of the last steps, without what lies between them."""
        return self.pace.seconds_per_step

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the run ends or pauses; `None` before the first steps."""
        return seconds_left(self)

    @property
    def may_end_sooner(self) -> bool:
        """Whether early stopping may still end the training before its last step: the time left is that of all steps."""
        stops = self.info.get("stops_early") is True and not self.info.get("stops_at")
        return stops and self.after is None and self.step < self.total_steps

    @property
    def since_work(self) -> float:
        """Seconds since the last step, evaluation or checkpoint was done."""
        return self.elapsed - self._until_work

    @property
    def measuring(self) -> bool:
        """Whether this worker took too few steps yet to go by them, and there are more."""
        return self.after is None and self.pace.count < PROBED


_HANDLERS: dict[str, Callable[[RunState, Event], None]] = {
    kind: handler for kind in KINDS if (handler := vars(RunState).get(f"_on_{kind}")) is not None
}


def fold(events: Iterable[Event]) -> RunState:
    """The state after all of `events`."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state
