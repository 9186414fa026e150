"""The reports of comparisons and pilots as text for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from engine.metrics.measures import MEASURES
from engine.text import one_line
from tui import judged
from tui.error_words import in_words
from tui.i18n import _
from tui.show import listed
from tui.show_table import headed_table
from tui.words import amount, duration, metric, number, rate, sign, size


def report(content: Mapping[str, Any], console: Console) -> None:
    """What a comparison or a pilot brought."""
    console.print()
    if content.get("kind") == "compare":
        _comparison(content, console)
    else:
        _pilot(content, console)


def _comparison(content: Mapping[str, Any], console: Console) -> None:
    seeds = content.get("seeds_scored") or content.get("seeds") or []  # of a seed whose run failed nothing is in the means
    with_seeds = _(", means of seeds {seeds}").format(seeds=", ".join(map(str, seeds))) if len(seeds) > 1 else ""
    in_folds = _(" in {n} folds").format(n=content["folds"]) if content.get("folds") else ""
    words = _("{name}: on {rows} held-out rows")
    heading = words.format(name=one_line(content.get("name")), rows=number(content.get("held_out"))) + in_folds + with_seeds
    console.print(Text(heading, style="bold"))
    rows = content.get("methods") or []
    _side_by_side(rows, content.get("best"), content.get("metric"), console)
    listed(console, "", [in_words(str(s)) for s in content.get("statements") or []])
    console.print()
    for name, words in (("probe", _("Linear probe")), ("majority", _("Constant answer"))):
        score = (content.get("baselines") or {}).get(name)
        if score:
            console.print(Text(f"{words}: {judged.in_line(score)}"))
    for row in rows:
        for key, cause in (row.get("failed") or {}).items():
            words = _("! {name} failed: {why}")
            console.print(Text(words.format(name=one_line(key), why=in_words(one_line(cause, 400)))))
    console.print(Text(_("Same budget: {words}").format(words=in_words(one_line(content.get("budget"), 500))), style="dim"))


def _side_by_side(rows: Sequence[Mapping[str, Any]], best: str | None, chosen_by: str | None, console: Console) -> None:
    """A column a method, so that three fit on 80 columns: quality with 95% intervals, then what it cost."""
    table = headed_table()
    table.add_column("", no_wrap=True)
    for row in rows:
        ahead = (row.get("key") or row.get("method")) == best
        table.add_column(Text(one_line(row.get("name"), 60)), justify="right", style="bold" if ahead else "")

    def line(name: str, cell: Callable[[Mapping[str, Any]], str], *, style: str = "") -> None:
        cells = [cell(row) for row in rows]
        if any(cells):
            table.add_row(Text(name), *(Text(c or sign("–")) for c in cells), style=style)

    def interval(score: Mapping[str, Any] | None, scale: float = 1, sort: str = ".3f") -> str:
        words = _("{low} to {high}")
        return words.format(low=f"{scale * score['low']:{sort}}", high=f"{scale * score['high']:{sort}}") if score else ""

    within = f"  {_('95% interval')}"
    for name in judged.shown(rows):
        line(judged.words(name), lambda row, n=name: metric(row[n]["mean"]) if n in row else "")  # type: ignore[misc]
        line(within, lambda row, n=name: interval(row.get(n)), style="dim")  # type: ignore[misc]
    if chosen_by in MEASURES:
        scale, sort = (100.0, "+.1f") if MEASURES[chosen_by].points else (1.0, "+.3f")
        if sum(chosen_by in row for row in rows) > 1:  # one alone is not behind itself
            line(
                _("{metric} against the best").format(metric=judged.words(chosen_by)),
                lambda row: _behind(row, chosen_by, scale, sort),
            )
            line(within, lambda row: interval((row.get(chosen_by) or {}).get("difference"), scale, sort), style="dim")
        line(f"  {_('sd over seeds')}", lambda row: _deviation(row.get(chosen_by), scale), style="dim")
    line(_("training loss"), lambda row: _fit(row, "training_loss"))
    line(_("validation loss"), lambda row: _fit(row, "validation_loss"))
    line(f"  {_('gap (overfitting)')}", lambda row: _fit(row, "gap"), style="dim")
    line(_("learning rate"), lambda row: rate(row.get("learning_rate")))
    line(_("best step"), _best_step)
    line(_("time per run"), lambda row: duration(row["seconds"]) if row.get("done") else "")
    line(_("peak memory"), lambda row: size(row["memory_peak"]) if row.get("done") else "")
    line(_("trained parameters"), lambda row: amount(row["trained_parameters"]) if row.get("done") else "")
    line(_("saved size"), lambda row: size(row["model_bytes"]) if row.get("done") else "")
    console.print(table)


def _best_step(row: Mapping[str, Any]) -> str:
    words = _("{step} of {all}")
    return words.format(step=number(row["best_step"]), all=number(row["total_steps"])) if row.get("done") else ""


def _behind(row: Mapping[str, Any], chosen_by: str, scale: float, sort: str) -> str:
    return f"{scale * row[chosen_by]['difference']['mean']:{sort}}" if chosen_by in row else ""


def _deviation(score: Mapping[str, Any] | None, scale: float) -> str:
    return f"{scale * score['sd']:.3g}" if score and score.get("sd") is not None else ""


def _fit(row: Mapping[str, Any], name: str) -> str:
    fit = row.get("fit")
    return metric(fit[name]) if fit else ""


def _pilot(content: Mapping[str, Any], console: Console) -> None:
    console.print(Text(one_line(content.get("name")), style="bold"))
    for stage in content.get("stages") or []:
        table = headed_table()
        table.add_column(_("after {n} steps").format(n=stage["step"]))
        for column in (_("rate"), _("loss"), _("behind (± std. error)"), judged.words(content.get("metric") or "metric"), ""):
            table.add_column(column, justify="right", no_wrap=True)
        for score in stage["scores"]:
            gap = "" if score["gap"] is None else f"{score['gap']:+.4f} (±{score['gap_error']:.4f})"
            cells = [rate(score["learning_rate"]), f"{score['loss']:.4f}", gap, metric(score["metric"])]
            table.add_row(Text(one_line(score["name"], 60)), *cells, _("dropped") if score["dropped"] else "")
        console.print(table)
    if content.get("mode") == "folds":
        _side_by_side(content.get("methods") or [], content.get("winner"), content.get("metric"), console)
    listed(console, "", [in_words(str(s)) for s in content.get("statements") or []])
    console.print()
    if content.get("winner_name"):
        went = _("{name} went on to the end: loracle report {run}")
        if content.get("mode") == "folds":
            went = _("{name} was trained once more, on the usual split: loracle report {run}")
        if not content.get("complete"):
            went = _("{name} was the winner, and failed when it went on: loracle report {run}")
        console.print(Text(went.format(name=one_line(content["winner_name"]), run=content.get("run"))))
    if content.get("seconds_not_continued"):
        words = _("The slices that were not continued took {time}.")
        console.print(Text(words.format(time=duration(content["seconds_not_continued"])), style="dim"))
    console.print(Text(in_words(one_line(content.get("trust"), 1000)), style="dim"))
