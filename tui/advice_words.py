"""What the app and the terminal both say of a recommendation. Imports nothing heavy at module level."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tui.error_words import in_words
from tui.i18n import _

if TYPE_CHECKING:
    from recommender.recommendation import Caution, Recommendation

STAGES: dict[str, str] = {
    "gates": _("Gates: is this worth training at all?"),
    "candidates": _("Candidates: what each method would take"),
    "constraints": _("Constraints: what can run here"),
    "dominance": _("Dominance: what another method makes pointless"),
    "points": _("Points: what speaks for and against"),
    "verdict": _("Verdict"),
    "settings": _("Settings"),
}
"""Headings of the stages of a decision."""


def cautions(found: "Iterable[Caution]") -> list[str]:
    """Their sentences; what was found out about the machine in the reader's language."""
    return [c.text.replace(problem, in_words(problem)) if (problem := c.facts.get("problem")) else c.text for c in found]


def no_method(advice: "Recommendation") -> str:
    """Why no method is recommended, in one sentence: for the verdicts `not_yet` and `does_not_fit`."""
    if advice.verdict == "not_yet":
        return _("Not yet: fine-tuning now would be a wasted run.")
    late = any(c.fits and c.removed_by == "over_time_budget" for c in advice.candidates)
    return _("Nothing finishes in the time you allow.") if late else _("Nothing fits on this machine with what is free now.")
