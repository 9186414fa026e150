"""Set-up's facts as text."""

from typing import TYPE_CHECKING

from textual.content import Content

from engine.text import one_line
from tui.observations import of_data, task_name
from tui.words import amount, number, sign, size

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection

MOST_CLASSES = 12


def model_facts(model: "ModelInspection") -> Content:
    """Family, parameters, layers, positions."""
    facts = model.facts
    parts = [
        facts.family or "family not known",
        one_line(facts.architecture, 50) if facts.architecture else None,
        f"{amount(facts.parameters)} parameters",
        f"{facts.layers} layers" if facts.layers else None,
        f"up to {number(facts.max_positions)} tokens" if facts.max_positions else None,
        size(facts.weights_bytes) if facts.weights_bytes else None,
    ]
    return Content.assemble((f"{sign('✓')} ", "bold $text-success"), " · ".join(p for p in parts if p))


def data_facts(data: "DataInspection") -> Content:
    """Rows, classes, columns, tokens, and what to know about repeats."""
    from engine.planning import TRAINED_TASKS

    facts = data.facts
    tokens = ""
    if facts.tokens_p50 is not None and facts.tokens_p95 is not None:
        about = "" if facts.tokens_origin == "measured" else "about "
        tokens = f" · tokens p50 {about}{number(facts.tokens_p50)}, p95 {about}{number(facts.tokens_p95)}"
    what = f"{facts.classes} classes" if facts.classes else task_name(facts)
    lines = [Content.assemble((f"{sign('✓')} ", "bold $text-success"), f"{number(facts.rows)} rows · {what}{tokens}")]
    lines += [Content(class_counts(data))] if facts.labels else []
    warnings = of_data(facts)
    if facts.task not in (None, *TRAINED_TASKS):
        warnings.append("this version recommends for such rows and does not train on them yet")
    if data.confidence < 0.8:
        warnings.append("the columns are a guess: check them below")
    lines += [Content.assemble(("! ", "bold $text-warning"), (w, "$text-warning")) for w in warnings]
    return Content("\n").join(lines)


def class_counts(data: "DataInspection") -> str:
    """`account 100 · billing 100`, the largest first."""
    pairs = sorted(zip(data.facts.labels or (), data.facts.label_counts or (), strict=False), key=lambda p: -p[1])
    shown = " · ".join(f"{one_line(label, 24)} {number(count)}" for label, count in pairs[:MOST_CLASSES])
    return shown + (f" · and {len(pairs) - MOST_CLASSES} more" if len(pairs) > MOST_CLASSES else "")


def held_out_facts(data: "DataInspection") -> Content:
    """How many rows the score stands on."""
    rows = f"{number(data.facts.eval_rows)} rows, scored before and after, never trained on"
    return Content.assemble((f"{sign('✓')} ", "bold $text-success"), rows)


def preview_lines(data: "DataInspection", width: int) -> Content:
    """Label and text of the first rows, a line each; where text is written, the answer below its prompt."""
    from recommender.facts import CLASSIFYING

    if data.facts.task not in (None, *CLASSIFYING):
        pairs = [Content.assemble(one_line(p, width), (f"\n  {sign('→')} {one_line(a, width)}" if a else "", "$text-muted"))
                 for p, a in data.preview]  # fmt: skip
        return Content("\n").join(pairs)
    column = min(max((len(one_line(label, 20)) for _, label in data.preview), default=0), 20)
    lines = [
        Content.assemble((f"{one_line(label, 20):<{column}}  ", "$text-accent"), one_line(text, max(width - column - 2, 10)))
        for text, label in data.preview
    ]
    return Content("\n").join(lines)
