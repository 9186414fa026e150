"""The report as text. A report file is read from disk, so nothing about its shape is trusted."""

from typing import Any

from rich.table import Table
from rich.text import Text
from textual.content import Content

from engine.metrics.measures import MEASURES
from engine.text import one_line
from tui import judged
from tui.views_advice import NAMES, list_of
from tui.words import duration, metric, number, sign, size

SPLITS = (("before", "untouched model"), ("majority", "constant answer"), ("probe", "linear probe"), ("after", "after training"))
MOST_CLASSES = 20


def get(content: Any, *path: str) -> Any:
    """The value at that path, or `None`."""
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def real(value: Any) -> float | None:
    """A number, or `None`."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def headline(report: dict[str, Any]) -> Content:
    """Name, method, how long."""
    method = NAMES.get(str(report.get("method")), one_line(report.get("method"), 20))
    took = duration(real(get(report, "seconds", "total")))
    early = " · stopped early: no more gain" if report.get("stopped_early") else ""
    return Content.assemble((one_line(report.get("name"), 60), "bold"), f" · {sign('✓')} done in {took} · {method}{early}")


def scores(report: dict[str, Any]) -> Content:
    """Before and after on the same rows, with the baselines between."""
    rows = real(get(report, "rows", "held_out"))
    lines = [Content.styled(f"Before and after, {number(rows)} held-out rows", "bold")]
    names = judged.shown(get(report, "scores", split) for split, _ in SPLITS)
    lines.append(Content.styled(f"{'':<18}" + "".join(f"{judged.words(n):>11}" for n in names), "dim"))
    for split, words in SPLITS:
        found = get(report, "scores", split)
        if not isinstance(found, dict):
            continue
        values = "".join(f"{metric(real(found.get(n))):>11}" for n in names)
        style = "bold $text-success" if split == "after" else ""
        lines.append(Content.styled(f"{words:<18}{values}", style))
    told = [n for n in names if n != "loss"][:2] or names
    gains = [_gain(report, split, words, told) for split, words in SPLITS if isinstance(get(report, "gains", split), dict)]
    if gains:
        lines += [Content(""), Content.styled("Gain of the trained model, 95% interval", "bold")]
        lines += [Content.styled(f"{'over the':<16}" + "".join(f"{judged.words(n):<21}" for n in told), "dim").rstrip(), *gains]
        if any("!" in gain.plain for gain in gains):
            lines.append(Content.styled("! the interval contains zero: not shown to differ", "$text-warning"))
    return Content("\n").join(lines)


def _gain(report: dict[str, Any], split: str, words: str, told: list[str]) -> Content:
    parts = []
    for name in told:
        gain, low, high = (real(get(report, "gains", split, name, k)) for k in ("gain", "low", "high"))
        if gain is None or low is None or high is None:
            parts.append((f"{metric(None):<21}", "dim"))
            continue
        unsure = low <= 0 <= high
        told_as = MEASURES[name].difference
        words_of = f"{told_as(gain)} ({told_as(low)} {told_as(high)}){'!' if unsure else ''}"
        parts.append((f"{words_of:<21}", "$text-warning" if unsure else ""))
    return Content.assemble(f"{words:<16}", *parts).rstrip()


def statements(report: dict[str, Any]) -> Table:
    """What the report says in sentences, and its warnings."""
    table = list_of("What this means")
    lines = {str(t): "!" for name in ("left_out", "warnings") for t in report.get(name) or []}
    for text, mark in [*((str(t), sign("·")) for t in report.get("statements") or []), *lines.items()]:
        table.add_row(Text(mark), Text(one_line(text, 500)))
    return table


def cost(report: dict[str, Any]) -> Content:
    """Predicted against real."""
    lines = [Content.styled("Predicted and real", "bold")]
    lines.append(Content.styled(f"{'':<10}{'predicted':>12}{'tried':>12}{'real':>12}", "dim"))
    memory = [size(real(get(report, "memory", n))) for n in ("predicted", "probed", "peak")]
    seconds = [duration(real(get(report, "seconds", n))) for n in ("predicted", "total")]
    lines.append(Content(f"{'memory':<10}{memory[0]:>12}{memory[1]:>12}{memory[2]:>12}"))
    lines.append(Content(f"{'time':<10}{seconds[0]:>12}{'':>12}{seconds[1]:>12}"))
    trained, whole = real(report.get("trained_parameters")), real(report.get("parameters"))
    part = f" of {number(whole)}" if whole else ""
    steps, best = number(real(report.get("steps"))), number(real(report.get("best_step")))
    lines.append(Content(f"trained {number(trained)}{part} parameters, {steps} steps, best at step {best}"))
    lines += [Content(f"! {one_line(get(r, 'text') or r, 300)}") for r in report.get("recoveries") or []]
    return Content("\n").join(lines)


def per_class(report: dict[str, Any]) -> Content:
    """Precision, recall and F1 of every class, the worst first."""
    found = [c for c in get(report, "scores", "after", "per_class") or [] if isinstance(c, dict)]
    if not found:
        return Content("")
    found.sort(key=lambda c: real(c.get("f1")) or 0.0)
    lines = [Content.styled("Per class, the weakest first", "bold")]
    lines.append(Content.styled(f"{'class':<20}{'precision':>10}{'recall':>8}{'F1':>8}{'rows':>7}", "dim"))
    for c in found[:MOST_CLASSES]:
        values = [metric(real(c.get(n))) for n in ("precision", "recall", "f1")]
        rows = number(real(c.get("rows")))
        lines.append(Content(f"{one_line(c.get('label'), 18):<20}{values[0]:>10}{values[1]:>8}{values[2]:>8}{rows:>7}"))
    if len(found) > MOST_CLASSES:
        lines.append(Content(f"and {len(found) - MOST_CLASSES} better ones"))
    return Content("\n").join(lines)


def confusion(report: dict[str, Any]) -> Content:
    """The matrix where it is small enough, else the pairs most often mixed up."""
    matrix, labels = get(report, "scores", "after", "confusion"), report.get("labels")
    if not (isinstance(matrix, list) and isinstance(labels, list) and all(isinstance(r, list) for r in matrix)):
        return Content("")
    names = [one_line(x, 12) for x in labels]
    lines = [Content.styled("True class down, given class across", "bold")]
    if len(names) <= 8:
        lines.append(Content.styled(" " * 13 + "".join(f"{n[:6]:>7}" for n in names), "dim"))
        for i, row in enumerate(matrix[: len(names)]):
            cells = [_cell(real(v), i == j) for j, v in enumerate(row[: len(names)])]
            lines.append(Content.assemble(f"{names[i]:<13}", *cells))
        return Content("\n").join(lines)
    pairs = [(real(v) or 0.0, i, j) for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j and v]
    lines = [Content.styled("Most often mixed up", "bold")]
    for count, i, j in sorted(pairs, reverse=True)[:10]:
        if i < len(names) and j < len(names):
            lines.append(Content(f"{names[i]} taken for {names[j]}: {number(count)}"))
    return Content("\n").join(lines)


def _cell(value: float | None, right: bool) -> tuple[str, str]:
    return f"{number(value):>7}", "bold $text-success" if right else "" if value else "dim"


def samples(report: dict[str, Any]) -> Table | Content:
    """What the model wrote before and after, under each prompt; nothing where nothing was written."""
    found = report.get("samples")
    if not isinstance(found, list) or not found:
        return Content("")
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=6)
    table.add_column(overflow="fold", ratio=1)
    table.add_row("", Text("Sample answers", "bold"))
    for sample in found:
        for name, style in (("prompt", "bold"), ("before", "dim"), ("after", "")):
            table.add_row(Text(name, style="dim"), Text(one_line(get(sample, name) or "", 500), style=style))
    return table


def where(report: dict[str, Any], folder: str) -> Content:
    """The folder and what is in it."""
    adapter = report.get("method") in ("lora", "qlora")
    kind = "an adapter for peft that names its base" if adapter else "a whole transformers model"
    return Content.assemble(
        ("Where it is", "bold"),
        f"\n{one_line(folder, 400)}\n",
        (f"It holds {kind}, the tokenizer and README.md with the lines that load it. y copies the path.", "dim"),
    )
