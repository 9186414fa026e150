"""Set-up's facts as text."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from engine.inspection.layouts import nameable
from engine.tables.table import JOINS
from tui import keys
from tui.cells import fitted, one_line, padded
from tui.i18n import _, plural
from tui.observations import TASKS, columns_of, conflicts, model_words, of_data, task_name
from tui.views_candidate import NAMES
from tui.words import number, sign, size

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection
    from recommender.facts import DataFacts
    from recommender.recommendation import Candidate, Caution
    from tui.draft import Draft

MOST_CLASSES = 12


def draft_line(draft: "Draft") -> Content:
    """A draft among others: `demo · support-train.csv · LoRA`."""
    names = [fitted(one_line(name.rstrip("/").rsplit("/", 1)[-1]), 28) for name in (draft.model, draft.data)]
    method = NAMES.get(draft.method, "")
    parts = [names[0] or _("no model yet"), names[1] or _("no data yet"), *([method] if method else [])]
    return Content(f" {sign('·')} ".join(parts))


def model_facts(model: "ModelInspection") -> Content:
    """Family, parameters, layers, positions, size."""
    facts = model.facts
    family, *more = model_words(facts)
    parts = [
        family,
        one_line(facts.architecture, 50) if facts.architecture else None,
        *more,
        size(facts.weights_bytes) if facts.weights_bytes else None,
        None if model.weights_here else _("not downloaded yet"),
    ]
    return Content.assemble(_ok(), f" {sign('·')} ".join(p for p in parts if p))


def data_facts(data: "DataInspection") -> Content:
    """Rows, what they are for, and tokens, on one line."""
    facts = data.facts
    tokens = ""
    if facts.tokens_p50 is not None and facts.tokens_p95 is not None:
        about = "" if facts.tokens_origin == "measured" else "~"
        middle, most = f"{about}{number(facts.tokens_p50)}", f"{about}{number(facts.tokens_p95)}"
        tokens = f" {sign('·')} " + _("tokens: median {p50}, 95% ≤ {p95}").format(p50=middle, p95=most)
    classes = plural("{n} class", "{n} classes", facts.classes or 0).format(n=facts.classes)
    what = classes if facts.classes else task_name(facts)
    rows = plural("{n} row", "{n} rows", facts.rows or 0).format(n=number(facts.rows))
    return Content.assemble(_ok(), f"{rows} {sign('·')} {what}{tokens}")


def findings(data: "DataInspection", cut: "Caution | None", longer: int | None, width: int) -> Content:
    """What the rows are taken for and what is odd about them, with the key that would change it; in `width` cells."""
    facts, leave = data.facts, keys.name("conflicts", "x")
    another = _("{key} another task").format(key=keys.name("task", "t"))
    others = _("{key} others").format(key=keys.name("columns", "c"))
    named = {_(role): one_line(name, 30) for role, name in columns_of(facts).items()}
    columns = ", ".join(name if role == name else f"{role}: {name}" for role, name in named.items())
    lines = [
        _keyed(_ok(), _("task: {task}").format(task=task_name(facts)), another, width),
        _keyed(_ok(), _("columns {columns}").format(columns=columns), others, width),
    ]
    form = " ".join(filter(None, (facts.format, facts.encoding if facts.encoding not in (None, "utf-8", "utf-8-sig") else None)))
    if form:
        lines.append(Content.assemble(_ok(), _("read as {format}").format(format=one_line(form, 60))))
    lines += [Content.assemble(_ok(), _lines_of(class_counts(data), width))] if facts.labels else []
    odd = list(of_data(facts))
    if data.drop_conflicts:
        said = _("rows that contradict others are left out")
        lines.append(_keyed(_ok(), said, _("{key} takes them").format(key=leave), width))
    elif facts.conflict_share:
        sentence = conflicts(facts)
        odd.remove(sentence)
        lines.append(_keyed(("! ", "bold $text-warning"), sentence, _("{key} leaves them out").format(key=leave), width))
    if data.confidence < 0.8:
        odd.append(_("the columns are a guess: check them"))
    lines += [_odd(sentence) for sentence in odd]
    if cut is not None:
        fix = _("{key} reads up to {n}").format(key=keys.name("longer", "l"), n=number(longer)) if longer is not None else ""
        lines.append(_keyed(("! ", "bold $text-warning"), one_line(cut.text, 300), fix, width))
    return Content("\n").join(_hanging(part, width) for line in lines for part in line.split("\n"))


CUT = ("truncated", "long_texts", "long_documents", "long_documents_half", "shortened")
"""Warnings that rows are not read to their end."""


def whole_length(facts: "DataFacts", cut: "Caution | None", reads: int | None) -> int | None:
    """A length at which fewer rows would be cut, of those the model can read; `None` where there is none."""
    if cut is None or cut.code != "truncated" or facts.tokens_max is None:
        return None
    longest = math.ceil(facts.tokens_max / 8) * 8
    wanted = min(longest, reads) if reads is not None else longest
    return wanted if wanted > cut.facts["length"] else None


def tasks_to_pick() -> list[tuple[str, Content]]:
    """All tasks, in words."""
    return [(name, Content(words)) for name, words in TASKS.items()]


def columns_to_pick(facts: "DataFacts") -> list[tuple[str, Content]]:
    """The roles that columns play in these rows, with the column of each; and what a person may name that keeps rows together."""
    roles = {**nameable(columns_of(facts)), "group": (facts.columns or {}).get("group", _("none"))}
    return [(role, Content(f"{_(role)}: {one_line(name, 60)}")) for role, name in roles.items()]


def columns_for(role: str, data: "DataInspection") -> list[tuple[str, Content]]:
    """What may stand for a role: each column, and for the text two of them as one, where more than one holds text."""
    columns = list(data.columns)
    shown = [(name, Content(one_line(name, 60))) for name in columns]
    texts = [odd.column for odd in data.facts.suspicious_columns if odd.why == "text"]
    chosen = data.facts.text_column
    if role == "group":
        return [*shown, ("", Content(_("none")))]
    if role != "text" or chosen not in columns:
        return shown
    pairs = [sorted((other, chosen), key=columns.index) for other in texts if other in columns and JOINS not in other + chosen]
    words = [_("{names}, a line each").format(names=" + ".join(one_line(name, 25) for name in pair)) for pair in pairs]
    return [*((JOINS.join(pair), Content(line)) for pair, line in zip(pairs, words, strict=True)), *shown]


def names_of(names: list[str]) -> str:
    """What a path could become, on one line."""
    shown = f" {sign('·')} ".join(one_line(n, 30) for n in names[:12])
    return shown + (_(" and {n} more").format(n=len(names) - 12) if len(names) > 12 else "")


def memory_line(candidates: "Sequence[Candidate]", *, whole: bool) -> Content:
    """Whether the three methods fit, on one line; `whole` once model and data are both known.

    Bytes stand there only where a trace has counted them: a formula is off by up to a factor, and where that decides says `?`.
    """
    parts, free = [], candidates[0].memory.available
    for c in candidates:
        counted = c.memory.counted
        mark = ("?", "$text-warning") if c.memory.near else (sign("✓"), "$text-success") if c.fits else (sign("✗"), "$text-error")
        parts.append(Content.assemble((NAMES[c.method], "bold"), " ", mark, f" ~{size(c.memory.predicted)}" if counted else ""))
    known = all(c.memory.counted for c in candidates)
    words = _("of {size} free") if known else _("{size} free; figures come with the plan")
    if any(c.memory.near for c in candidates):
        words = _("{size} free; ? is close, the plan tells")
    head = _("Memory") if whole else _("So far")
    return Content.assemble(f"{head}  ", Content("  ").join(parts), f"  {words.format(size=size(free))}")


def _ok() -> tuple[str, str]:
    return (f"{sign('✓')} ", "bold $text-success")


def _hanging(line: Content, width: int) -> Content:
    """What does not fit into `width` cells stands below the words, not below the mark in front of them."""
    return Content("\n  ").join(line.wrap(max(width - 2, 20))) if line.cell_length > width else line


def _odd(sentence: str) -> Content:
    return Content.assemble(("! ", "bold $text-warning"), (sentence, "$text-warning"))


def _keyed(mark: tuple[str, str], text: str, keys: str, width: int) -> Content:
    """A line with the key that would change it; below it where the two do not fit beside each other."""
    gap = "   " if cell_len(f"{mark[0]}{text}   {keys}") <= width else "\n  "
    return Content.assemble(mark, text, (f"{gap}{keys}" if keys else "", "$text-accent"))


def class_counts(data: "DataInspection") -> list[str]:
    """`account: 100`, the largest first, and how many more there are."""
    pairs = sorted(zip(data.facts.labels or (), data.facts.label_counts or (), strict=False), key=lambda p: -p[1])
    shown = [f"{one_line(label, 24)}: {number(count)}" for label, count in pairs[:MOST_CLASSES]]
    return shown + ([_("{n} more").format(n=len(pairs) - MOST_CLASSES)] if len(pairs) > MOST_CLASSES else [])


def _lines_of(parts: list[str], width: int) -> str:
    """The parts one after another, none across two lines: a label says nothing without its count."""
    lines, dot = [""], f" {sign('·')} "
    for part in parts:
        longer = f"{lines[-1]}{dot if lines[-1] else ''}{part}"
        if lines[-1] and cell_len(longer) > width - cell_len(_ok()[0]):
            lines.append(part)
        else:
            lines[-1] = longer
    return f"\n{' ' * cell_len(_ok()[0])}".join(lines)


def held_out_facts(data: "DataInspection") -> Content:
    """How many rows the score stands on."""
    rows = _("{n} rows, scored before and after, never trained on").format(n=number(data.facts.eval_rows))
    return Content.assemble(_ok(), rows)


def preview_lines(data: "DataInspection", width: int) -> Content:
    """Label and text of the first rows, a line each; where text is written, the answer below its prompt."""
    from recommender.facts import CLASSIFYING

    if data.facts.task not in (None, *CLASSIFYING):
        pairs = [Content.assemble(one_line(p, width), (f"\n  {sign('→')} {one_line(a, width)}" if a else "", "$text-muted"))
                 for p, a in data.preview]  # fmt: skip
        return Content("\n").join(pairs)
    labels = [one_line(label, 20) for _, label in data.preview]
    column = max(map(cell_len, labels), default=0)
    lines = [
        Content.assemble((f"{padded(label, column)}  ", "$text-accent"), one_line(text, max(width - column - 2, 10)))
        for label, (text, _label) in zip(labels, data.preview, strict=True)
    ]
    return Content("\n").join(lines)
