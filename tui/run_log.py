"""Events as lines of a log: what a person wants to have been told, steps only now and then."""

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.text import clean, one_line
from tui import judged
from tui.error_words import in_words, warning_words
from tui.i18n import _
from tui.words import at_time, metric, phase_word, preflight_words, real, status_word

if TYPE_CHECKING:
    from engine.events import Event

MOST_LINES = 2_000
STEP_SECONDS = 5.0
"""The log gets a line about steps at most this often."""
STYLES = ("muted", "good", "warning", "error", "end")
SPLIT_WORDS = {
    "validation": _("evaluation"),
    "before": _("untouched model"),
    "after": _("trained model"),
    "probe": _("linear probe"),
    "majority": _("constant answer"),
    "generic_before": _("untouched model on generic text"),
    "generic_after": _("trained model on generic text"),
}


class LogLine(NamedTuple):
    """One line, made safe."""

    clock: str
    """Wall-clock time, or empty."""
    text: str
    style: str = ""
    """One of `STYLES`, or empty."""

    def __str__(self) -> str:
        return f"{self.clock}  {self.text}" if self.clock else self.text


class RunLog:
    """The newest lines of a run, made from its events."""

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque(maxlen=MOST_LINES)
        self._last_step = 0.0
        self._last_text = ""

    def take(self, event: "Event") -> LogLine | None:
        """The line of an event, which is kept too; `None` where the log does not show it."""
        when = real(event.get("time")) or 0.0
        if event["kind"] == "step":
            if 0 <= when - self._last_step < STEP_SECONDS:
                return None
            self._last_step = when
        try:
            found = event_line(event)
        except (KeyError, TypeError, ValueError):  # a log may hold anything
            return None
        if found is None or found[0] == self._last_text:
            return None
        self._last_text = found[0]
        line = LogLine(at_time(when, "%H:%M:%S"), *found)
        self.lines.append(line)
        return line


def printed(text: str) -> list[LogLine]:
    """What the worker and its libraries printed, as lines."""
    return [LogLine("", clean(line, 1_000)) for line in text.splitlines()]


def event_line(event: "Event") -> tuple[str, str] | None:
    """What the log says of an event, and its colour; `None` for what the log does not show."""
    match event["kind"]:
        case "run":
            return _run_line(event), ""
        case "phase" if not event.get("done") and event.get("name") != "evaluate":
            return phase_word(one_line(event.get("name"), 40)), ""
        case "step":
            numbers = f"{_('loss')} {_short(event.get('loss'))}  {_('grad')} {_short(event.get('grad_norm'))}"
            return f"{_('step')} {one_line(event.get('step'), 12)}  {numbers}", "muted"
        case "evaluation":
            return _evaluation_line(event), "good"
        case "checkpoint":
            best = event.get("best")
            said = _("checkpoint at step {step} saved (best so far)") if best else _("checkpoint at step {step} saved")
            return said.format(step=one_line(event.get("step"), 12)), ""
        case "stopped_early":
            return _("stopped early: no more gain"), ""
        case "sample" if event.get("split") not in ("validation", "learning"):  # those of every evaluation have a pane
            return f"{_('sample')}: {one_line(event.get('prompt'), 60)} → {one_line(event.get('answer'), 60)}", ""
        case "preflight":
            return preflight_words(event), ""
        case "warning":
            return f"! {warning_words(event)}", "warning"
        case "recovery":
            return f"! {warning_words(event) or _('recovered')}", "warning"
        case "end":
            cause, cure = (in_words(one_line(event.get(part) or "", 400)) for part in ("cause", "cure"))
            if cause and cure and not cause.endswith((".", "。")):
                cause = _("{cause}.").format(cause=cause)
            said = f"{cause} {cure}".strip()
            return f"{status_word(one_line(event.get('status'), 20))}{f': {said}' if said else ''}", "end"
    return None


def _run_line(event: dict[str, Any]) -> str:
    resumed = event.get("resumed_from")
    where = _(" on {device}").format(device=one_line(event.get("device"), 40)) if event.get("device") else ""
    how = f" ({in_words(one_line(event['resume'], 300))})" if event.get("resume") else ""
    if resumed is None:
        return _("the worker runs") + where
    return _("resumed from step {step}").format(step=one_line(resumed, 12)) + how + where


def _evaluation_line(event: dict[str, Any]) -> str:
    found = event.get("metrics")
    scores: dict[str, Any] = found if isinstance(found, dict) else {}
    shown = [f"{judged.words(name)} {_short(scores.get(name))}" for name in judged.shown([scores])]
    split = str(event.get("split"))
    at = _(" at step {step}") if split == "validation" else "" if split.startswith("generic") else _(" on the held-out rows")
    at = at.format(step=one_line(event.get("step"), 12))
    return f"{SPLIT_WORDS.get(split, one_line(split, 20))}{at}: {', '.join(shown)}"


def _short(value: Any) -> str:
    return metric(float(value)) if isinstance(value, int | float) else metric(None)
