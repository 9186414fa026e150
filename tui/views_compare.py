"""Runs beside one another, as text."""

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from engine.metrics.measures import MEASURES
from engine.text import one_line
from tui import judged
from tui.cells import fitted_name, padded
from tui.i18n import _
from tui.views_result import get
from tui.words import amount, clock, duration, metric, number, real, short_name, sign, size, status_with_sign

if TYPE_CHECKING:
    from tui.comparing import Compared, Comparison

NAMES = 16
"""Cells of the names on the left, at least."""
NARROWEST, WIDEST = 13, 26
BESIDE_NAMES = 19
"""Cells of letter, time and state in the legend."""
INTERVAL = 22
"""Cells that a score with both ends of its interval takes."""
WHY_NOT = {
    "not_scored": _("No intervals: fewer than two of these runs have kept their answers on held-out rows."),
    "other_rows": _("No intervals: these runs were not scored on the same held-out rows."),
}
STYLES = ("$text-accent", "$text-primary", "$third-curve", "$text-error")
"""Of the letters, as the curves are drawn."""


def legend(made: "Comparison", width: int) -> Content:
    """Which letter is which run, in `width` cells; runs of one data set have one name, so when they began is told too."""
    lines = []
    names = [fitted_name(c.run.name, max(width - BESIDE_NAMES, 8)) for c in made.runs]
    longest = max(map(cell_len, names), default=0)
    begun = [clock(c.state.started) for c in made.runs]
    for n, c in enumerate(made.runs):
        said = f"{padded(names[n], longest)} {padded(begun[n], max(map(len, begun)))} {status_with_sign(c.state.status)}"
        lines.append(Content.assemble((f"{c.letter} ", f"bold {STYLES[n]}"), said))
    return Content("\n").join(lines)


def columns(made: "Comparison", width: int, names: int = NAMES) -> int:
    """Cells of one run's column where the whole table has `width`, of which the names take `names`."""
    return min(max((width - names) // max(len(made.runs), 1), NARROWEST), WIDEST)


def settings(made: "Comparison", width: int) -> Content:
    """Only what differs."""
    if not made.settings:
        return Content(_("All settings are the same."))
    longest = max(cell_len(name) for name, _values in made.settings) + 1
    names = max(min(longest, width - NARROWEST * len(made.runs)), NAMES)
    column = columns(made, width, names)
    rows = (_row(name, [_tail(value, column) for value in values], column, names) for name, values in made.settings)
    return Content("\n").join([_heads(made, column, names), *rows])


def _tail(value: str, column: int) -> str:
    """The end of a long value: of paths it is the telling part."""
    clean = one_line(value, 400) or sign("–")
    return clean if len(clean) < column else sign("…") + clean[-(column - 5) :]


def _heads(made: "Comparison", column: int, names: int = NAMES) -> Content:
    runs = [f"{c.letter} {padded(one_line(short_name(c.run.path.name), column - 4), column - 2)}" for c in made.runs]
    return Content.assemble(" " * names, *zip(runs, STYLES, strict=False))


def results(made: "Comparison", width: int) -> Content:
    """Scores with intervals, and what each run cost."""
    column = columns(made, width)
    lines = [_heads(made, column)]

    def add(name: str, values: list[str]) -> None:
        lines.append(_row(name, values, column))

    def probes() -> None:  # what any of them must beat
        found = [_probe(c, column) for c in made.runs]
        if any(found):
            add(_("linear probe"), [words or sign("–") for words in found])

    if made.intervals:
        names = [n for n in MEASURES if all(n in made.intervals.get(c.letter, {n: 0}) for c in made.runs)]
        for name in names:
            add(judged.words(name), [_interval(made, c.letter, name, column) for c in made.runs])
        probes()
        lines += [Content(""), *_differences(made)]
    else:
        names = judged.shown(get(c.report, "scores", "after") for c in made.runs)
        for name in names:
            add(judged.words(name), [metric(real(get(c.report, "scores", "after", name))) for c in made.runs])
        probes()
        lines.append(Content.styled(WHY_NOT.get(made.why_not, ""), "$text-warning"))
    lines.append(Content(""))
    add(_("time"), [duration(real(get(c.report, "seconds", "total")) or c.state.elapsed) for c in made.runs])
    add(_("peak memory"), [size(real(get(c.report, "memory", "peak")) or c.state.memory_peak) for c in made.runs])
    add(_("trained"), [amount(real(c.report.get("trained_parameters"))) for c in made.runs])
    add(_("saved"), [size(real(c.report.get("model_bytes"))) for c in made.runs])
    add(_("steps"), [f"{number(c.state.step)}/{number(c.state.total_steps)}" for c in made.runs])
    return Content("\n").join(lines)


def _row(name: str, values: list[str], column: int, names: int = NAMES) -> Content:
    label = one_line(name, names - 1)
    return Content.assemble((padded(label, names), "$text-muted"), "".join(padded(v, column) for v in values).rstrip())


def _probe(compared: "Compared", column: int) -> str:
    """What the linear probe scored in the metric that decides; empty where none was fitted."""
    name = compared.plan.metric if compared.plan is not None else ""
    score = real(get(compared.report, "scores", "probe", name))
    if score is None:
        return ""
    words = f"{metric(score)} {judged.words(name)}"
    return words if cell_len(words) < column else metric(score)


def _interval(made: "Comparison", letter: str, name: str, column: int) -> str:
    found = made.intervals.get(letter, {}).get(name)
    if not isinstance(found, dict):
        return sign("–")
    if column < INTERVAL:
        return f"{metric(found['mean'])} ±{(found['high'] - found['low']) / 2:.2f}"
    return f"{metric(found['mean'])} ({metric(found['low'])} {metric(found['high'])})"


def _differences(made: "Comparison") -> list[Content]:
    """Who is ahead, and whether that may be chance."""
    best = made.best
    metric_name = next((c.plan.metric for c in made.runs if c.plan is not None), "")
    if best is None or metric_name not in MEASURES:
        return []
    measure = MEASURES[metric_name]
    lines = []
    for c in made.runs:
        found = made.intervals.get(c.letter, {}).get(metric_name)
        if c.letter == best or not isinstance(found, dict):
            continue
        d = found["difference"]
        apart = d["low"] > 0 or d["high"] < 0
        words = _("{letter} against {best}: {gain} {metric} (95% interval {low} to {high})")
        said = words.format(
            letter=c.letter,
            best=best,
            gain=measure.difference(d["mean"]) + (_(" points of") if measure.points else ""),
            metric=judged.words(metric_name),
            low=measure.difference(d["low"]),
            high=measure.difference(d["high"]),
        )
        verdict = _(", which is worse") if apart else _("; it contains zero: not shown to differ")
        lines.append(Content.styled(f"{said}{verdict}.", "" if apart else "$text-warning"))
    return lines
