"""The report as text. A report file is read from disk, so nothing about its shape is trusted."""

from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text
from textual.content import Content

from engine.metrics.measures import MEASURES
from tui import judged, keys
from tui.cells import flush_right, one_line, padded
from tui.error_words import in_words
from tui.i18n import _, plural
from tui.views_advice import hanging_list
from tui.views_candidate import NAMES
from tui.words import against_advice, amount, computing_words, duration, metric, number, real, short_name, sign, size

SPLITS = (
    ("before", _("untouched model")),
    ("majority", _("constant answer")),
    ("probe", _("linear probe")),
    ("after", _("after training")),
)


def get(content: Any, *path: str) -> Any:
    """The value at that path, or `None`."""
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def headline(report: dict[str, Any], *, roomy: bool = True) -> Content:
    """Name, method, how long; where there is little room the name is without the time of its start."""
    method = NAMES.get(str(report.get("method")), one_line(report.get("method"), 20))
    took = duration(real(get(report, "seconds", "total")))
    parts = [f"{sign('✓')} {_('done in {time}').format(time=took)}", method]
    parts += [_("stopped early: no more gain")] if report.get("stopped_early") else []
    name = one_line(report.get("name"), 60)
    return Content.assemble((name if roomy else short_name(name), "bold"), *(f" · {part}" for part in parts))


WIDE_CELLS, NARROW_CELLS = 48, 27
"""Of the columns of scores, on a terminal of 110 columns and on one of 80."""


ROOMY_COST, NARROW_COST = (8, 10, 10), (6, 8, 7)
"""Of the columns of what a run cost: name, predicted, actual. The narrow ones leave room for the mark of what went beyond."""


def scores(report: dict[str, Any], *, roomy: bool = True) -> Content:
    """Before and after on the same rows, with the baselines between; gains in one metric or, where there is room, in two."""
    lines: list[Content] = []
    found = {words: score for split, words in SPLITS if isinstance(score := get(report, "scores", split), dict)}
    names = judged.shown(found.values())
    widths = {n: max(cell_len(judged.words(n)), 7, *(len(metric(real(s.get(n)))) for s in found.values())) + 1 for n in names}
    blocks = _beside_each_other(widths, WIDE_CELLS if roomy else NARROW_CELLS)
    for part in blocks[:-1] if blocks[-1] == ["loss"] and len(blocks) > 1 and not roomy else blocks:  # gains matter more
        lines.append(Content.styled(f"{'':<16}" + "".join(flush_right(judged.words(n), widths[n]) for n in part), "$text-muted"))
        for words, score in found.items():
            values = "".join(f"{metric(real(score.get(n))):>{widths[n]}}" for n in part)
            lines.append(Content.styled(f"{padded(words, 16)}{values}", "bold" if words == SPLITS[-1][1] else ""))
    told = [n for n in names if n != "loss"][: 2 if roomy else 1] or names
    gains = [_gain(report, split, words, told) for split, words in SPLITS if isinstance(get(report, "gains", split), dict)]
    if gains and told:
        falls = judged.falls(told[0])
        if roomy:
            title = _("Difference, 95% interval") if falls else _("Gain of the trained model, 95% interval")
            heads = padded(_("against the") if falls else _("over the"), 16) + "".join(padded(judged.unit(n), 21) for n in told)
            lines += [Content(""), Content.styled(title, "bold")]
            lines.append(Content.styled(heads.rstrip(), "$text-muted"))
        else:  # so that all gains have room
            title = _("Difference from ({unit}, 95% interval)") if falls else _("Gain over ({unit}, 95% interval)")
            lines.append(Content.styled(title.format(unit=judged.unit(told[0])), "bold"))
        lines += gains
        if any("!" in gain.plain for gain in gains):
            lines.append(Content.styled(_("! it contains zero: not shown to differ"), "$text-warning"))
    return Content("\n").join(lines)


def _beside_each_other(widths: dict[str, int], cells: int) -> list[list[str]]:
    """The names in as many rows as it takes for their columns to fit."""
    rows: list[list[str]] = [[]]
    for name in widths:
        if rows[-1] and sum(widths[n] for n in (*rows[-1], name)) > cells:
            rows.append([])
        rows[-1].append(name)
    return rows


def scores_title(report: dict[str, Any]) -> str:
    """Which rows they are of."""
    rows = _("{n} held-out rows").format(n=number(real(get(report, "rows", "held_out"))))
    return f"{_('before and after')} {sign('·')} {rows}"


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
        parts.append((f"{words_of:<20} ", "$text-warning" if unsure else ""))
    return Content.assemble(padded(words, 16), *parts).rstrip()


def statements(report: dict[str, Any]) -> Table:
    """What the report says in sentences, and its warnings."""
    table = hanging_list()
    lines = {str(t): "!" for name in ("left_out", "warnings") for t in report.get(name) or []}
    lines |= {against_advice(str(t)): "!" for t in report.get("overrides") or []}
    for text, mark in [*((str(t), sign("·")) for t in report.get("statements") or []), *lines.items()]:
        table.add_row(Text(mark), Text(one_line(in_words(text), 500)))
    return table


def of_group(report: dict[str, Any]) -> Table:
    """What came of the pilot or comparison that the run belongs to, from that one's report."""
    table = hanging_list()
    name, winner = one_line(report.get("name"), 100), one_line(report.get("winner_name"), 60)
    heading = _("The pilot chose {winner}.") if winner else _("Of the comparison it belongs to:")
    table.add_row("", Text(heading.format(winner=winner), "bold"))
    for text in report.get("statements") or []:
        table.add_row(Text(sign("·")), Text(one_line(in_words(str(text)), 500)))
    table.add_row("", Text(_("All of it: loracle report {name}").format(name=name)))
    table.add_row("", "")
    return table


def cost(report: dict[str, Any], *, roomy: bool = True) -> Content:
    """What was promised, and what it took."""
    widths = ROOMY_COST if roomy else NARROW_COST
    name, predicted_cells, actual_cells = widths
    heads = flush_right(_("predicted"), name + predicted_cells) + flush_right(_("actual"), actual_cells)
    lines = [Content.styled(heads, "$text-muted")]
    said, real_memory = (real(get(report, "memory", n)) for n in ("predicted", "peak"))
    expected, total = (real(get(report, "seconds", n)) for n in ("predicted", "total"))
    lines.append(_against(_("memory"), (size(said), size(real_memory)), said, real_memory, widths))
    lines.append(_against(_("time"), (duration(expected), duration(total)), expected, total, widths))
    if any("!" in line.plain for line in lines):
        lines.append(Content.styled(_("! times what was predicted"), "$text-warning"))
    if (tried := real(get(report, "memory", "probed"))) is not None:
        lines.append(Content(_("tried {size} before the first step").format(size=size(tried))))
    trained, whole = real(report.get("trained_parameters")), real(report.get("parameters"))
    part = _(" of {n}").format(n=amount(whole)) if whole else ""
    steps, best = number(real(report.get("steps"))), number(real(report.get("best_step")))
    lines.append(Content(_("trained {n}{whole} parameters").format(n=amount(trained), whole=part)))
    took = plural("{steps} step, best at step {best}", "{steps} steps, best at step {best}", real(report.get("steps")) or 0)
    lines.append(Content(took.format(steps=steps, best=best)))
    if (saved := real(report.get("model_bytes"))) is not None:
        lines.append(Content(_("saved {size}").format(size=size(saved))))
    lines += [Content(words) for words in computing_words(report.get("computing"))]
    recoveries = report.get("recoveries")
    texts = recoveries if isinstance(recoveries, list) else []
    lines += [Content(f"! {one_line(get(r, 'text') or r, 300)}") for r in texts]
    return Content("\n").join(lines)


def _against(
    name: str, words: tuple[str, str], planned: float | None, found: float | None, widths: tuple[int, int, int]
) -> Content:
    """One line; more than half beyond the promise is marked."""
    over = planned is not None and found is not None and found > 1.5 * planned > 0
    times = found / planned if over and found and planned else 0.0
    mark = f" !{times:.1f}x" if 0 < times < 10 else f" !{number(times)}x" if times else ""
    first, said, was = widths
    return Content.assemble(f"{padded(name, first)}{words[0]:>{said}}{words[1]:>{was}}", (mark, "$text-warning"))


def samples(report: dict[str, Any]) -> Table | Content:
    """What the model wrote before and after, under each prompt; nothing where nothing was written."""
    found = report.get("samples")
    if not isinstance(found, list) or not found:
        return Content("")
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=6)
    table.add_column(overflow="fold", ratio=1)
    table.add_row("", Text(_("Sample answers"), "bold"))
    for sample in found:
        for name, words, style in (("prompt", _("prompt"), "bold"), ("before", _("before"), "dim"), ("after", _("after"), "")):
            said = get(sample, name)
            text = "" if said is None else one_line(said, 500) or _("(nothing)")
            table.add_row(Text(words, style="dim"), Text(text, style=style))
    return table


def where(report: dict[str, Any], folder: str, spare: int, *, merged: bool = False) -> Content:
    """The folder and what is in it; bytes of checkpoints beside it are `spare`, and `merged` says whether a merge is."""
    adapter = report.get("method") in ("lora", "qlora")
    kind = _("an adapter for peft that names its base") if adapter else _("a whole transformers model")
    said = [_("It holds {kind}, the tokenizer and README.md with the lines that load it.").format(kind=kind)]
    if merged:
        said.append(_("merged/ beside it holds a model that needs no peft."))
    elif adapter:
        said.append(_("{key} merges it into its base.").format(key=keys.name("merge", "M")))
    said += [_("{size} in checkpoints/ beside it are no longer needed.").format(size=size(spare))] if spare else []
    return Content.assemble(f"\n{one_line(folder, 400)}\n", ("\n".join(said), "$text-muted"))
