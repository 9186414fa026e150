"""The reports of comparisons and pilots as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.text import one_line
from tui.show import listed
from tui.words import amount, duration, metric, number, rate, sign, size


def report(content: Mapping[str, Any], console: Console) -> None:
    """What a comparison or a pilot brought."""
    console.print()
    if content.get("kind") == "compare":
        _comparison(content, console)
    else:
        _pilot(content, console)


def _comparison(content: Mapping[str, Any], console: Console) -> None:
    seeds = content.get("seeds") or []
    with_seeds = f", means of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    in_folds = f" in {content['folds']} folds" if content.get("folds") else ""
    heading = f"{one_line(content.get('name'))}: on {number(content.get('held_out'))} held-out rows{in_folds}{with_seeds}"
    console.print(Text(heading, style="bold"))
    rows = content.get("methods") or []
    _quality(rows, content.get("best"), content.get("metric"), console)
    _costs(rows, console)
    listed(console, "", [str(s) for s in content.get("statements") or []])
    for row in rows:
        for key, cause in (row.get("failed") or {}).items():
            console.print(Text(f"! {one_line(key)} failed: {one_line(cause, 400)}"))
    console.print(Text(f"Same budget: {one_line(content.get('budget'), 500)}", style="dim"))


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _quality(rows: Sequence[Mapping[str, Any]], best: str | None, chosen_by: str | None, console: Console) -> None:
    """Scores with 95% intervals, and the difference to the best."""
    table = _table("accuracy", "macro-F1", "loss", "to the best", "learning rate")
    for row in rows:
        key = row.get("key") or row.get("method")
        style = "bold" if key == best else ""
        cells = [Text(_spread(row.get(m)), style=style) for m in ("accuracy", "macro_f1", "loss")]
        apart = (row.get(chosen_by or "") or {}).get("difference")
        behind = "" if key == best or not apart else _apart(apart, points=chosen_by != "loss")
        table.add_row(Text(one_line(row.get("name"), 60), style=style), *cells, Text(behind), rate(row.get("learning_rate")))
    console.print(table)


def _spread(score: Mapping[str, Any] | None) -> str:
    if not score:
        return sign("–")
    seeds = f", sd {score['sd']:.3f}" if score.get("sd") is not None else ""
    return f"{metric(score['mean'])} ({score['low']:.3f} to {score['high']:.3f}{seeds})"


def _apart(d: Mapping[str, float], *, points: bool) -> str:
    scale, digits = (100, 1) if points else (1, 3)
    mean, low, high = (scale * d[k] for k in ("mean", "low", "high"))
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _costs(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Time, memory, sizes, and how much better the model knows the rows it was trained on."""
    table = _table("time a run", "peak memory", "trained", "saved", "best step", "training loss", "validation loss", "gap")
    for row in rows:
        name = Text(one_line(row.get("name"), 60))
        if not row.get("done"):
            table.add_row(name, *[sign("–")] * 8)
            continue
        fit = row.get("fit") or {}
        table.add_row(
            name,
            duration(row.get("seconds")),
            size(row.get("memory_peak")),
            amount(row.get("trained_parameters")),
            size(row.get("model_bytes")),
            f"{number(row.get('best_step'))}/{number(row.get('total_steps'))}",
            *(metric(fit.get(k)) for k in ("training_loss", "validation_loss", "gap")),
        )
    console.print()
    console.print(table)


def _pilot(content: Mapping[str, Any], console: Console) -> None:
    console.print(Text(one_line(content.get("name")), style="bold"))
    for stage in content.get("stages") or []:
        table = _table("learning rate", "validation loss", "behind (± standard error)", "macro-F1")
        table.add_column("")
        for score in stage["scores"]:
            gap = "" if score["gap"] is None else f"{score['gap']:+.4f} (±{score['gap_error']:.4f})"
            table.add_row(
                Text(one_line(score["name"], 60)), rate(score["learning_rate"]), f"{score['loss']:.4f}", gap,
                metric(score["macro_f1"]), Text(f"dropped: {score['dropped']}" if score["dropped"] else ""),
            )  # fmt: skip
        console.print(Text(f"After {stage['step']} steps", style="dim"))
        console.print(table)
    if content.get("mode") == "folds":
        _quality(content.get("methods") or [], content.get("winner"), content.get("metric"), console)
    listed(console, "", [str(s) for s in content.get("statements") or []])
    if content.get("winner_name"):
        went = "was trained on all rows" if content.get("mode") == "folds" else "went on to its end"
        unfinished = "" if content.get("complete") else " but failed"
        console.print(Text(f"{one_line(content['winner_name'])} {went}{unfinished}: loracle report {content.get('run')}"))
    if content.get("seconds_not_continued"):
        console.print(Text(f"The slices that were not continued took {duration(content['seconds_not_continued'])}.", style="dim"))
    console.print(Text(one_line(content.get("trust"), 1000), style="dim"))
