"""What a person who watches a run should know of it: what the worker warned of, and what its numbers say."""

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from tui import keys
from tui.endings import ending
from tui.error_words import warning_words
from tui.i18n import _, plural
from tui.views_run import best
from tui.words import LIVE, duration, number, real, size

if TYPE_CHECKING:
    from engine.state import RunState
    from recommender.plan import Plan

SILENT_SECONDS = 20.0
"""Heartbeats come every two; a worker that says nothing for so long hangs, or its machine sleeps."""
SLOW_STEP = 10.0
"""Times the usual duration of a step, after which it is remarkable."""
NEARLY_FULL = 0.95
LITTLE_DISK = 1_000_000_000
ENDED_BADLY = ("failed", "refused", "dead")
LATE, LATE_SECONDS = 1.5, 300.0
"""Times the predicted duration, and seconds beyond it, from which on a run is slower than predicted: of two minutes nobody plans
their day anew."""


class Advice(NamedTuple):
    """One sentence."""

    text: str
    style: str
    """A colour of the theme, or empty."""


def advice(state: "RunState", plan: "Plan | None", now: float) -> list[Advice]:
    """The most pressing first; never empty."""
    found = [Advice(f"! {ending(state)}", "$text-error")] if state.status in ENDED_BADLY else []
    found += [Advice(f"! {text}", "$text-warning") for text in _pressing(state, now)]
    found += [Advice(f"! {text}", "$text-warning") for text in _told(state.warnings, 5)]
    found += [Advice(text, "") for text in _told(state.recoveries, 3)]
    found += [Advice(text, style) for text, style in _learning(state, plan)]
    return found or [Advice(ending(state) or _("Nothing to do: all is well."), "")]


def _told(events: list[dict[str, Any]], most: int) -> list[str]:
    """The newest sentences, each once. There may be a thousand events, and saying one in Chinese takes a millisecond or two."""
    texts: dict[str, None] = {}
    for event in {str(e.get("text")): e for e in reversed(events)}.values():
        if text := warning_words(event):
            texts[text] = None
        if len(texts) == most:
            break
    return list(texts)


def _pressing(state: "RunState", now: float) -> list[str]:
    """What is wrong at this moment."""
    if state.status != "running":
        return []
    found = []
    silent = now - state.updated if state.updated is not None else 0.0
    usual = state.seconds_per_step
    if silent > SILENT_SECONDS:
        words = _("The worker has reported nothing for {time}; it may be stuck. {key} stops it.")
        found.append(words.format(time=duration(silent), key=keys.name("stop", "x")))
    elif usual is not None and state.phase == "train" and state.last_step_time is not None:
        waited = now - state.last_step_time
        if waited > max(SLOW_STEP * usual, SILENT_SECONDS):
            words = _("No step for {time}; one usually takes {usual}.")
            found.append(words.format(time=duration(waited), usual=duration(usual)))
    available, held = real(state.info.get("memory_available")), state.memory_now
    if available and held and held > NEARLY_FULL * available:
        words = _("Memory is nearly full: {held} of {all}. If it runs out, micro-batches get smaller and nothing is lost.")
        found.append(words.format(held=size(held), all=size(available)))
    disk = real(state.machine.get("disk_free"))
    if disk is not None and disk < LITTLE_DISK:
        found.append(_("Only {size} of disk is free; the next checkpoint may not fit.").format(size=size(disk)))
    said, left = real(state.info.get("predicted_seconds")), state.seconds_left
    whole_run = state.elapsed + left if left is not None else 0.0
    if said and whole_run > max(LATE * said, said + LATE_SECONDS) and state.elapsed > 60:
        words = _("Slower than predicted: about {time} in all instead of {said}.")
        found.append(words.format(time=duration(whole_run), said=duration(said)))
    return found


def _learning(state: "RunState", plan: "Plan | None") -> list[tuple[str, str]]:
    """What the evaluations say about overfitting."""
    losses = [(e.step, e.metrics["loss"]) for e in state.evaluations if e.split == "validation" and "loss" in e.metrics]
    if len(losses) < 2:
        return []
    lowest = min(range(len(losses)), key=lambda i: losses[i][1])
    since = len(losses) - 1 - lowest
    if since == 0:
        return [(_("The evaluation loss still falls: no sign of overfitting."), "$text-success")]
    words = plural(
        "The evaluation loss has not improved for {n} evaluation; its lowest was at step {step}.",
        "The evaluation loss has not improved for {n} evaluations; its lowest was at step {step}.",
        since,
    )
    found = [words.format(n=since, step=number(losses[lowest][0]))]
    if since >= 2 and losses[-1][1] > losses[lowest][1] * 1.05 and _train_loss_fell(state, losses[lowest][0]):
        found.append(_("Training and evaluation loss move apart: the model begins to overfit."))
    if plan is not None and state.status in LIVE:
        top = best(state, plan.metric)
        kept = _("The best checkpoint (step {step}) is kept").format(step=number(top[0])) if top else ""
        early = plural(
            "early stopping ends the run after {n} evaluation without gain",
            "early stopping ends the run after {n} evaluations without gain",
            plan.patience,
        ).format(n=plan.patience)
        found.append(f"{'; '.join(p for p in (kept, early if plan.early_stopping else '') if p)}.")
    return [(" ".join(found), "$text-warning" if since >= 2 else "")]


def _train_loss_fell(state: "RunState", since: int) -> bool:
    """Whether the training loss after that step is lower than before it, on the mean of as many steps."""
    steps, losses = state.losses.steps, state.losses.losses
    at = bisect_right(steps, since)
    after = len(losses) - at
    part = min(at, after, 200)
    return part >= 5 and sum(losses[-part:]) < sum(losses[at - part : at])
