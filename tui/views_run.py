"""A live run as text: every function takes the state and returns what to show."""

import time
from typing import TYPE_CHECKING, Any

from textual.content import Content

from engine.metrics.measures import MEASURES
from engine.text import one_line
from tui import judged
from tui.widgets.bars import gauge_bar, progress_bar
from tui.words import (
    amount,
    clock,
    duration,
    metric,
    number,
    phase_words,
    rate,
    seconds_ago,
    sign,
    size,
    status_with_sign,
    unicode_terminal,
)

if TYPE_CHECKING:
    from engine.events import Event
    from engine.state import RunState

SPLIT_WORDS = {
    "validation": "evaluation",
    "before": "untouched model",
    "after": "trained model",
    "probe": "linear probe",
    "majority": "constant answer",
}


def headline(name: str, state: "RunState") -> Content:
    """Name and phase, or how it ended."""
    words = phase_words(state) if state.status in ("running", "starting") else status_with_sign(state.status)
    return Content.assemble((one_line(name, 60), "bold"), f" · {words}")


def time_left(state: "RunState", now: float | None = None) -> Content:
    """How long it takes and when it ends."""
    if state.status not in ("running", "starting"):
        spent = (state.updated or 0) - (state.started or 0)
        return Content(f"took {duration(spent)}" if state.started and spent > 0 else "")
    left = state.seconds_left
    if left is None:
        return Content("")
    return Content(f"about {duration(left)} left · ends {clock((now or time.time()) + left)}")


def progress(state: "RunState", width: int) -> Content:
    """Bar, steps, percent; before the first step the phase's own progress."""
    if state.phase == "train" or not state.phase_total or state.status == "done":
        done, total, unit = state.step, state.total_steps, "step"
    else:
        done, total, unit = state.phase_done, state.phase_total, one_line(state.phase_unit, 12)
    share = done / total if total else 0.0
    epochs = _number(state.info.get("epochs"))
    epoch = f" epoch {state.epoch:.1f}/{epochs:g}" if unit == "step" and state.epoch and epochs else ""
    words = f" {unit} {number(done)}/{number(total)} {100 * share:3.0f}%{epoch}" if total else " "
    return Content.assemble(progress_bar(share, width - len(words)), words)


def metrics(state: "RunState", metric_name: str) -> Content:
    """The numbers of this moment."""
    validation = [e for e in state.evaluations if e.split == "validation"]
    last = validation[-1] if validation else None
    scores: dict[str, float] = last.metrics if last is not None else {}
    best = _best(state, metric_name)
    loss = state.losses[-1][1] if state.losses else None
    measured = [n for n in judged.shown([scores]) if n != "loss"] or [metric_name]
    trend = ""
    if len(state.losses) >= 10:
        earlier = sum(x for _, x in state.losses[-10:-5]) / 5
        latest = sum(x for _, x in state.losses[-5:]) / 5
        trend = ("  " + ("↓" if latest < earlier else "↑")) if unicode_terminal() else ""
    at = f"  at {number(last.step)}" if last is not None else ""
    per_step = f"{duration(state.seconds_per_step)}" if state.seconds_per_step is not None else sign("–")
    tokens = f"{amount(state.tokens_per_second)} tok/s" if state.tokens_per_second is not None else sign("–")
    rows = (
        ("loss", metric(loss) + trend),
        ("eval loss", metric(scores.get("loss")) + at),
        *((judged.words(n), metric(scores.get(n))) for n in measured),
        ("best", f"{metric(best[1])} at {number(best[0])}" if best else sign("–")),
        ("lr", rate(state.learning_rate)),
        ("grad norm", metric(state.grad_norm)),
        ("speed", tokens),
        ("a step", per_step),
    )
    return Content("\n").join(_labelled(label, value) for label, value in rows)


def last_step(state: "RunState", now: float | None = None) -> Content:
    """How long ago the last step ended, so that a hang is seen. Apart from `metrics`: it alone changes all the time."""
    live = state.status == "running"
    return _labelled("last step", seconds_ago(state.last_step_time, now) if live else clock(state.last_step_time))


def _labelled(label: str, value: str) -> Content:
    return Content.assemble((f"{label:<10}", "dim"), value)


def _best(state: "RunState", name: str) -> tuple[int, float] | None:
    pairs = [(e.step, e.metrics[name]) for e in state.evaluations if e.split == "validation" and name in e.metrics]
    if not pairs:
        return None
    measure = MEASURES.get(name)
    return (max if measure is None or measure.higher_is_better else min)(pairs, key=lambda p: p[1])


def machine(state: "RunState", predicted: int | None, width: int, height: int) -> Content:
    """Memory now, at its peak and as predicted, against what was free; load; disk. Two lines, or three where they fit."""
    available = _integer(state.info.get("memory_available"))
    sizes = [f"now {size(state.memory_now)}", f"peak {size(state.memory_peak)}"]
    sizes.append(f"predicted {size(predicted)}" if predicted else "no prediction")
    free = [f"of {size(available)} free at the start"] if available else []
    load = " · ".join(_loads(state.machine)) or "no gauges yet"
    low = height < 3
    cells = max(width - 9 - (len(load) + 2 if low else 0), 8)
    bar = gauge_bar(state.memory_now, state.memory_peak, predicted, available, min(cells, 60))
    first = Content.assemble(("memory   ", "dim"), bar, f"  {load}" if low else "")
    if low:
        return Content("\n").join([first, Content(" · ".join([*sizes, *free]))])
    return Content("\n").join([first, *(Content(line) for line in (" · ".join(sizes), *free, "", load))])


def _loads(gauges: dict[str, Any]) -> list[str]:
    named = (("cpu", "cpu", "%"), ("gpu", "gpu", "%"), ("temperature", "gpu at", " °C"))
    loads = [f"{words} {value:.0f}{unit}" for name, words, unit in named if (value := _number(gauges.get(name))) is not None]
    disk = _number(gauges.get("disk_free"))
    return loads if disk is None else [*loads, f"disk {size(disk)} free"]


def evaluation_losses(state: "RunState") -> list[tuple[float, float]]:
    """(step, loss) of the evaluations during training."""
    return [(float(e.step), e.metrics["loss"]) for e in state.evaluations if e.split == "validation" and "loss" in e.metrics]


def evaluations(state: "RunState", metric_name: str) -> Content:
    """The last evaluations, a line each."""
    found = [e for e in state.evaluations if e.split == "validation"]
    best = _best(state, metric_name)
    measured = [n for n in judged.shown(e.metrics for e in found) if n != "loss"] or [metric_name]
    heads = "".join(f" {judged.words(n):>9}" for n in measured)
    lines = [Content.styled(f"{'step':>6} {'loss':>8}{heads}", "dim")]
    for e in found[-5:]:
        mark = f"  {sign('●')} best" if best and e.step == best[0] else ""
        scores = "".join(f" {metric(e.metrics.get(n)):>9}" for n in measured)
        lines.append(Content(f"{number(e.step):>6} {metric(e.metrics.get('loss')):>8}{scores}{mark}"))
    if not found:
        none = state.info.get("evaluations") == 0
        words = "none: no rows were set aside to choose by" if none else "the first one comes during training"
        lines.append(Content.styled(words, "dim"))
    return Content("\n").join(lines)


def event_line(event: "Event") -> tuple[str, str] | None:
    """What the log says of an event, and its colour; `None` for what the log does not show."""
    match event["kind"]:
        case "run":
            resumed = event.get("resumed_from")
            where = f" on {one_line(event.get('device'), 40)}" if event.get("device") else ""
            how = f" ({one_line(event['resume'], 120)})" if event.get("resume") else ""
            words = f"resumed from step {one_line(resumed, 12)}{how}" if resumed is not None else "the worker runs"
            return words + where, ""
        case "phase" if not event.get("done"):
            from tui.words import PHASE_WORDS

            return PHASE_WORDS.get(str(event.get("name")), one_line(event.get("name"), 40)), ""
        case "step":
            numbers = f"loss {_short(event.get('loss'))}  grad {_short(event.get('grad_norm'))}"
            return f"step {one_line(event.get('step'), 12)}  {numbers}", "dim"
        case "evaluation":
            return _evaluation_line(event), "bold"
        case "checkpoint":
            best = " (best so far)" if event.get("best") else ""
            return f"checkpoint at step {one_line(event.get('step'), 12)} saved{best}", ""
        case "warning":
            return f"! {one_line(event.get('text'), 400)}", "yellow"
        case "recovery":
            return f"! {one_line(event.get('text') or 'recovered', 400)}", "yellow"
        case "end":
            cause = f": {one_line(event['cause'], 400)}" if event.get("cause") else ""
            cure = f"; {one_line(event['cure'], 400)}" if event.get("cure") else ""
            return f"{one_line(event.get('status'), 20)}{cause}{cure}", "bold"
    return None


def _evaluation_line(event: dict[str, Any]) -> str:
    found = event.get("metrics")
    scores: dict[str, Any] = found if isinstance(found, dict) else {}
    shown = [f"{judged.words(name)} {_short(scores.get(name))}" for name in judged.shown([scores])]
    split = str(event.get("split"))
    at = f" at step {one_line(event.get('step'), 12)}" if split == "validation" else " on the held-out rows"
    return f"{SPLIT_WORDS.get(split, one_line(split, 20))}{at}: {', '.join(shown)}"


def _short(value: Any) -> str:
    return metric(float(value)) if isinstance(value, int | float) else metric(None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None
