"""Bars drawn with characters: progress, and memory against what is free. Letters carry the meaning, colour repeats it."""

from textual.content import Content

from recommender.language import marked
from tui.words import unicode_terminal

PARTS: tuple[tuple[str, str, str], ...] = (
    ("W", marked("weights"), "$text-primary"),
    ("O", marked("optimizer"), "$text-warning"),
    ("G", marked("gradients"), "$text-secondary"),
    ("A", marked("activations"), "$text-success"),
    ("L", marked("logits"), "$text-accent"),
    ("R", marked("runtime"), "dim"),
)
"""Letter, name in `Memory.parts`, colour."""


def progress_bar(share: float, width: int) -> Content:
    """A bar of `width` cells, filled to `share`."""
    full, empty = ("━", "─") if unicode_terminal() else ("#", "-")
    width = max(width, 1)
    cells = round(min(max(share, 0.0), 1.0) * width)
    return Content.assemble((full * cells, "$primary"), (empty * (width - cells), "dim"))


def candidate_bar(parts: dict[str, int], predicted: int, available: int, width: int) -> Content:
    """Predicted memory by part, one letter each, on a scale that shows the limit `|`."""
    scale = max(predicted, available, 1) / max(width - 1, 1)
    limit = min(round(available / scale), width - 1)
    known = sum(parts.values())
    margin = predicted / known if known else 1.0  # the prediction includes a margin that no part owns
    letters: list[tuple[str, str]] = []
    reached = 0.0
    for letter, name, style in PARTS:
        reached += parts.get(name, 0) * margin / scale
        letters += [(letter, style)] * (min(round(reached), width - 1) - len(letters))
    letters += [("." if not unicode_terminal() else "·", "dim")] * (width - 1 - len(letters))
    letters.insert(limit, ("|", "bold"))
    return Content.assemble(*letters)


def gauge_bar(now: int | None, peak: int | None, predicted: int | None, available: float | None, width: int) -> Content:
    """Memory of a live run: `#` used now, `+` up to the peak, `|` where the prediction stands."""
    scale = max(available or 0, predicted or 0, peak or 0, 1) / max(width, 1)
    used = min(round((now or 0) / scale), width)
    top = min(max(round((peak or 0) / scale), used), width)
    full, before, empty = ("█", "▒", "·") if unicode_terminal() else ("#", "+", ".")
    if not (available or predicted):  # nothing to measure it against yet: 0.4 of 20 GB filled the whole bar
        return Content.styled(empty * width, "dim")
    bar = Content.assemble((full * used, "$primary"), (before * (top - used), "$warning"), (empty * (width - top), "dim"))
    if not predicted or width < 1:
        return bar
    mark = min(round(predicted / scale), width - 1)
    return Content.assemble(bar[:mark], ("|", "bold"), bar[mark + 1 :])
