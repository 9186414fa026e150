"""A live run as text: every function takes the state and returns what to show."""

from typing import TYPE_CHECKING, Any

from textual.content import Content

from engine.metrics.measures import MEASURES
from engine.state import STEPPING
from engine.text import one_line
from tui import judged
from tui.cells import fitted_name, flush_right, padded
from tui.i18n import _
from tui.views_candidate import NAMES
from tui.widgets.bars import gauge_bar, progress_bar
from tui.words import (
    LIVE,
    PHASES,
    amount,
    clock,
    duration,
    left_words,
    metric,
    number,
    phase_words,
    rate,
    real,
    seconds_ago,
    sign,
    size,
    status_with_sign,
    unicode_terminal,
)

if TYPE_CHECKING:
    from engine.state import RunState

UNITS = {"rows": _("rows"), "steps": _("steps"), "answers": _("answers"), "tokens": _("tokens")}
TREND_STEPS = 50
SHORT_NAME = 24
"""Cells of a name where there is little room: what the run does stands behind it."""


def headline(name: str, state: "RunState", *, roomy: bool = True) -> Content:
    """Name and phase, or how it ended; where there is little room without the method and the time in the name."""
    words = phase_words(state) if state.status in LIVE else status_with_sign(state.status)
    method = NAMES.get(str(state.info.get("method")), "") if roomy or state.status not in LIVE else ""
    epochs = real(state.info.get("epochs"))
    epoch = _("epoch {now}/{all}").format(now=f"{state.epoch:.1f}", all=f"{epochs:g}") if state.epoch and epochs else ""
    parts = [words, *(p for p in (epoch if state.status == "running" else "", method) if p)]
    shown = one_line(name, 60) if roomy else fitted_name(name, SHORT_NAME)
    return Content.assemble((shown, "bold"), *(f" {sign('·')} {part}" for part in parts))


def time_left(state: "RunState", now: float) -> Content:
    """How long it takes and when it ends, at most where early stopping may end it sooner; before the first steps what the plan
    said, and in them that it is being measured."""
    if state.status not in LIVE:
        return Content(_("took {time}").format(time=duration(state.elapsed)) if state.elapsed > 0 else "")
    left = state.seconds_left
    if left is None:
        said = real(state.info.get("predicted_seconds"))
        return Content(_("predicted: about {time}").format(time=duration(said)) if said else "")
    return Content(left_words(state, left, now))


def progress(state: "RunState", width: int) -> Content:
    """Bar, steps, percent; outside the training the phase's own progress."""
    if state.phase in STEPPING or not state.phase_total or state.status not in LIVE:
        done, total, unit = state.step, state.total_steps, _("step")
    else:
        done, total, unit = state.phase_done, state.phase_total, UNITS.get(state.phase_unit, one_line(state.phase_unit, 12))
    share = done / total if total else 0.0
    words = f" {unit} {number(done)}/{number(total)} {100 * share:3.0f}%" if total else " "
    if state.status == "done" and done < total:
        share, words = 1.0, f" {unit} {number(done)}/{number(total)}, {_('stopped early')}"
    return Content.assemble(progress_bar(share, width - Content(words).cell_length), words)


def phases(state: "RunState", width: int) -> Content:
    """What was done and how long it took, what is being done, what is still to come; the first fall away if it is too much."""
    parts = []
    here = "train" if state.phase in (*STEPPING, "pause") else state.phase
    shown = {name: phase for name, phase in PHASES.items() if phase.short}
    now = list(shown).index(here) if here in shown else -1
    for n, (name, phase) in enumerate(shown.items()):
        spent = state.phase_seconds.get(name)
        if name == "train" and spent is not None:
            spent += state.phase_seconds.get("evaluate", 0.0)
        if state.status in LIVE and name == here:
            parts.append((f"{sign('▶')} {phase.short} {duration(spent)}", "bold"))
        elif spent is not None:
            parts.append((f"{sign('✓')} {phase.short} {duration(spent)}", "$text-muted"))
        elif n > now and phase.always and state.status in LIVE:
            parts.append((f"{sign('○')} {phase.short}", "$text-disabled"))
    said = Content("  ").join(Content.styled(*part) for part in parts)
    while said.cell_length > width and len(parts) > 1:
        parts = parts[1:]
        said = Content("  ").join([Content(sign("…")), *(Content.styled(*part) for part in parts)])
    return said


LABEL_CELLS = 12
"""Of what stands before a number of this moment: as long as the names of metrics, and a blank."""


def metrics(state: "RunState", metric_name: str, *, roomy: bool) -> Content:
    """The numbers of this moment; all metrics where there is room, else the one that chooses the best checkpoint."""
    validation = [e for e in state.evaluations if e.split == "validation"]
    last = validation[-1] if validation else None
    scores: dict[str, float] = last.metrics if last is not None else {}
    top = best(state, metric_name)
    loss = state.losses[-1][1] if state.losses else None
    measured = [n for n in judged.shown([scores]) if n != "loss"] or [metric_name]
    if not roomy and metric_name in measured:
        measured = [metric_name]
    at = "  " + _("at {step}").format(step=number(last.step)) if last is not None else ""
    per_step = duration(state.seconds_per_step)
    tokens = f"{amount(state.tokens_per_second)} tok/s" if state.tokens_per_second is not None else sign("–")
    rows = [
        (_("loss"), metric(loss) + _trend(state)),
        (_("eval loss"), metric(scores.get("loss")) + at),
        *((judged.words(n), metric(scores.get(n))) for n in measured if n != "loss"),
        (_("best"), f"{metric(top[1])}  " + _("at {step}").format(step=number(top[0])) if top else sign("–")),
        (_("lr"), rate(state.learning_rate)),
        (_("grad norm"), metric(state.grad_norm)),
        (_("speed"), tokens),
        (_("per step"), per_step),
    ]
    if roomy:
        rows.append((_("seen"), f"{amount(state.tokens_seen)} tok"))
        rows.append((_("saved at"), number(state.checkpoint)))
    return Content("\n").join(_labelled(label, value) for label, value in rows)


def _trend(state: "RunState") -> str:
    """Whether the loss falls, over as many steps as tell more than noise."""
    losses = state.losses.losses
    if len(losses) < 10 or not unicode_terminal():
        return ""
    half = min(len(losses) // 2, TREND_STEPS)
    earlier, latest = sum(losses[-2 * half : -half]), sum(losses[-half:])
    return "  " + ("↓" if latest < earlier else "↑")


def last_step(state: "RunState", now: float) -> Content:
    """How long ago the last step ended, so that a hang is seen. Apart from `metrics`: it alone changes all the time."""
    live = state.status == "running"
    return _labelled(_("last step"), seconds_ago(state.last_step_time, now) if live else clock(state.last_step_time))


def _labelled(label: str, value: str) -> Content:
    return Content.assemble((padded(label, LABEL_CELLS), "$text-muted"), value)


def best(state: "RunState", name: str) -> tuple[int, float] | None:
    """Step and value of the best evaluation by that metric."""
    pairs = [(e.step, e.metrics[name]) for e in state.evaluations if e.split == "validation" and name in e.metrics]
    if not pairs:
        return None
    measure = MEASURES.get(name)
    return (max if measure is None or measure.higher_is_better else min)(pairs, key=lambda p: p[1])


def machine(state: "RunState", predicted: int | None, width: int, height: int) -> Content:
    """Memory now, at its peak and as predicted, against what was free; load; disk. Two lines, or more where they fit.

    Once it has ended nothing is so now.
    """
    available, live = real(state.info.get("memory_available")), state.status in LIVE
    sizes = [_("now {size}").format(size=size(state.memory_now))] if live else []
    sizes += [_("peak {size}").format(size=size(state.memory_peak))]
    sizes += [_("predicted {size}").format(size=size(predicted))] if predicted else []
    free = [_("of {size} free at the start").format(size=size(available))] if available else []
    load = (f" {sign('·')} ".join(_loads(state.machine)) or _("no gauges yet")) if live else ""
    low = height < 4
    cells = max(width - 9 - (Content(load).cell_length + 2 if low else 0), 8)
    bar = gauge_bar(state.memory_now if live else None, state.memory_peak, predicted, available, min(cells, 60))
    first = Content.assemble((padded(_("memory"), 9), "$text-muted"), bar, f"  {load}" if low else "")
    if low:
        return Content("\n").join([first, Content(f" {sign('·')} ".join([*sizes, *free]))])
    return Content("\n").join([first, *(Content(line) for line in (f" {sign('·')} ".join(sizes), *free, load) if line)])


def _loads(gauges: dict[str, Any]) -> list[str]:
    named = (("cpu", "cpu", "%"), ("gpu", "gpu", "%"), ("temperature", _("gpu at"), " °C"))
    loads = [f"{words} {value:.0f}{unit}" for name, words, unit in named if (value := real(gauges.get(name))) is not None]
    disk = real(gauges.get("disk_free"))
    return loads if disk is None else [*loads, _("disk {size} free").format(size=size(disk))]


def evaluation_losses(state: "RunState") -> list[tuple[float, float]]:
    """(step, loss) of the evaluations during training."""
    return [(float(e.step), e.metrics["loss"]) for e in state.evaluations if e.split == "validation" and "loss" in e.metrics]


def last_step_of(state: "RunState") -> float | None:
    """The step that the run ends with: as planned while it goes on, else the one it came to; `None` before it is known."""
    if state.status in LIVE:
        return float(state.total_steps) if state.total_steps else None
    return state.losses.steps[-1] if len(state.losses) else None


def evaluations(state: "RunState", metric_name: str, width: int) -> Content:
    """The evaluations, the newest first, a line each, with as many metrics as `width` cells hold."""
    found = [e for e in state.evaluations if e.split == "validation"]
    top = best(state, metric_name)
    measured = [n for n in judged.shown(e.metrics for e in found) or [metric_name] if n != "loss"]
    if (fit := max((width - 16) // 11, 1)) < len(measured):
        measured = sorted(measured, key=lambda n: n != metric_name)[:fit]
    heads = "".join(f" {flush_right(judged.words(n), 10)}" for n in measured)
    lines = [Content.styled(f"{flush_right(_('step'), 7)} {flush_right(_('loss'), 8)}{heads}", "$text-muted")]
    for e in reversed(found):
        mark = sign("●") if top and e.step == top[0] else ""  # in front: behind two metrics there is no cell left for it
        scores = "".join(f" {metric(e.metrics.get(n)):>10}" for n in measured)
        lines.append(Content(f"{mark}{number(e.step):>{7 - len(mark)}} {metric(e.metrics.get('loss')):>8}{scores}"))
    if not found:
        none = state.info.get("evaluations") == 0
        coming = _("the first one comes during training") if state.status in LIVE else _("none: it ended before the first one")
        words = _("none: there are no validation rows") if none else coming
        lines.append(Content.styled(words, "$text-muted"))
    return Content("\n").join(lines)
