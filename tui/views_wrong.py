"""Where a model is still wrong, as text: confusions, the worst rows, the weakest classes."""

from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from tui.cells import flush_right, one_line, padded
from tui.i18n import _
from tui.views_result import get
from tui.words import metric, number, real, sign

MOST_CLASSES = 20
MOST_PAIRS = 10
MOST_ROWS = 20
SMALL = 8
"""Classes whose whole matrix fits."""
MATRIX_CELLS = 66
"""What a pane of 120 columns has for it; names of classes are cut to it."""


def confusion(report: dict[str, Any]) -> Content:
    """The pairs most often mixed up, and the matrix where it is small enough."""
    matrix, labels = get(report, "scores", "after", "confusion"), report.get("labels")
    if not (isinstance(matrix, list) and isinstance(labels, list) and all(isinstance(r, list) for r in matrix)):
        return Content("")
    names = [one_line(x, 24) for x in labels]
    wrong = [(real(v) or 0.0, i, j) for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j and v]
    wrong = [w for w in wrong if w[1] < len(names) and w[2] < len(names)]
    whole = sum(count for count, _i, _j in wrong)
    if not whole:
        return Content.styled(_("No held-out row was answered wrong."), "$text-success")
    head = _("Most often mixed up, of {n} errors").format(n=number(whole))
    lines = [Content.styled(head, "bold")]
    for count, i, j in sorted(wrong, reverse=True)[:MOST_PAIRS]:
        words = _("{true} mistaken for {given}").format(true=names[i], given=names[j])
        lines.append(Content.assemble((f"{number(count):>5}  ", "bold"), words))
    if len(names) <= SMALL:
        lines += [Content(""), *_matrix(matrix, names)]
    return Content("\n").join([*lines, Content("")])


def _matrix(matrix: list[list[Any]], names: list[str]) -> Iterable[Content]:
    yield Content.styled(_("Rows: true class; columns: predicted class"), "bold")
    longest = min(max(cell_len(n) for n in names), 12)
    first, width = longest + 1, max(min(longest + 1, (MATRIX_CELLS - longest - 1) // len(names)), 7)
    heads = (flush_right(_cut(n, width - 1), width) for n in names)
    yield Content.styled(" " * first + "".join(heads), "$text-muted")
    for i, row in enumerate(matrix[: len(names)]):
        cells = [_cell(real(v), width, i == j) for j, v in enumerate(row[: len(names)])]
        yield Content.assemble(padded(_cut(names[i], longest), first), *cells)


def _cut(name: str, cells: int) -> str:
    return name if cell_len(name) <= cells else set_cell_size(name, cells).rstrip()


def _cell(value: float | None, width: int, right: bool) -> tuple[str, str]:
    return f"{number(value):>{width}}", "bold $text-success" if right else "" if value else "$text-disabled"


def worst(report: dict[str, Any]) -> Content:
    """The rows it is surest of and wrong about."""
    found = report.get("worst")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    if not rows:
        return Content("")
    lines = [Content.styled(_("The worst rows"), "bold")]
    other = _("row {row} · true {wanted}, predicted {said}")
    if get(report, "scores", "after", "reward_accuracy") is not None:
        other = _("row {row} · chosen: {wanted}, but it prefers: {said}")
    for row in rows[:MOST_ROWS]:
        loss = metric(real(row.get("loss")))
        written = row.get("wanted") is None
        head = _("row {row} · loss {loss}") if written else other
        words = head.format(row=one_line(row.get("row"), 12), loss=loss, wanted=one_line(row.get("wanted"), 60),
                            said=one_line(row.get("said"), 60) or _("(nothing)")).replace("·", sign("·"))  # fmt: skip
        lines += [Content.styled(words, "$text-warning"), Content(f"  {one_line(row.get('text'), 300)}")]
    return Content("\n").join([*lines, Content("")])


def per_class(report: dict[str, Any]) -> Content:
    """Precision, recall and F1 of every class, the worst first."""
    found = [c for c in get(report, "scores", "after", "per_class") or [] if isinstance(c, dict)]
    if not found:
        return Content("")
    found.sort(key=lambda c: (not real(c.get("rows")), real(c.get("f1")) or 0.0))
    lines = [Content.styled(_("Per class, the weakest first"), "bold")]
    counted = _("spans") if "span_f1" in get(report, "scores", "after") else _("rows")
    columns = ((_("precision"), 10), (_("recall"), 8), ("F1", 8), (counted, 7))
    head = padded(_("class"), 20) + "".join(flush_right(*column) for column in columns)
    lines.append(Content.styled(head, "$text-muted"))
    for c in found[:MOST_CLASSES]:
        rows = number(real(c.get("rows")))
        # Of a class without a held-out row nothing is known.
        values = [metric(real(c.get(n)) if real(c.get("rows")) else None) for n in ("precision", "recall", "f1")]
        lines.append(Content(f"{padded(one_line(c.get('label'), 18), 20)}{values[0]:>10}{values[1]:>8}{values[2]:>8}{rows:>7}"))
    if len(found) > MOST_CLASSES:
        lines.append(Content(_("and {n} better ones").format(n=len(found) - MOST_CLASSES)))
    return Content("\n").join(lines)
